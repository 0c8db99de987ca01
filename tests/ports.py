"""Free ports for the servers and processes that tests start."""

import contextlib
import itertools
import os
import socket

# Operating systems give outgoing connections ports from 32768 on: a free port from there may be in
# use again before the server has bound it. Each process starts its search at a port of its own.
_FIRST, _COUNT = 10_000, 20_000
_counter = itertools.count(os.getpid() * 37)


def free_port() -> int:
    """Returns a port of this machine on which no server listens."""
    for number in itertools.islice(_counter, _COUNT):
        port = _FIRST + number % _COUNT
        with socket.socket() as free, contextlib.suppress(OSError):
            free.bind(("127.0.0.1", port))
            return port
    raise OSError("no port is free")
