"""Local servers that emulate the buckets of Google and Amazon for the real client libraries."""

import atexit
import contextlib
import functools
import os
import urllib.request
from collections.abc import Iterator

import fsspec
from gcp_storage_emulator.server import create_server
from moto.server import ThreadedMotoServer


@contextlib.contextmanager
def gs() -> Iterator[str]:
    """Yields the address of an empty bucket, for gcsfs, TensorStore and Google's own library."""
    server = create_server("127.0.0.1", 0, in_memory=True, default_bucket="bucket")
    server.start()
    url = f"http://127.0.0.1:{server._api._httpd.server_address[1]}"
    os.environ |= {
        "STORAGE_EMULATOR_HOST": url,
        "TENSORSTORE_GCS_HTTP_URL": url,
        "GOOGLE_AUTH_TOKEN_FOR_TESTING": "nobody",
        "GOOGLE_CLOUD_PROJECT": "nothing",
        "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",  # It needs a service that is not emulated.
    }
    try:
        yield "gs://bucket"
    finally:
        server.stop()


@contextlib.contextmanager
def s3() -> Iterator[str]:
    """Yields the address of an empty bucket, for s3fs."""
    url = _serve_s3()
    urllib.request.urlopen(urllib.request.Request(f"{url}/moto-api/reset", method="POST")).close()
    fsspec.filesystem("s3").invalidate_cache()
    fsspec.filesystem("s3").mkdir("bucket")
    yield "s3://bucket"


@functools.cache
def _serve_s3() -> str:
    """Starts one server per process, as the clients keep its address."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    atexit.register(server.stop)
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    os.environ |= {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "nobody",
        "AWS_SECRET_ACCESS_KEY": "nothing",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    return url
