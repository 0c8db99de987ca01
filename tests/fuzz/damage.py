"""Helpers for tests of hostile input: mutations, the number of examples, a limit of memory.

`GESTURE_JAX_TEST_FUZZ=20` runs twenty times as many examples of each test.
"""

import contextlib
import os
import pathlib
import resource
import warnings
from collections.abc import Callable, Iterator
from random import Random

import av
import hypothesis
import hypothesis.strategies as st

from gesture_jax.errors import InputError

_TIMES = float(os.environ.get("GESTURE_JAX_TEST_FUZZ", "1"))
_MOST_BYTES = 1 << 30
_ODD = [
    0,
    1,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0xFFFF,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**40,
    2**63,
    2**64 - 1,
]
_WORDS = [b"9" * 9, b"-1", b"NaN", b"1e999", b"null", b'"', b"{}", b"[]", b"\0" * 8, b"\xff" * 8]


def examples(count: int):
    """Settings for `count` examples, which are the same in every run."""
    return hypothesis.settings(
        max_examples=max(1, round(count * _TIMES)),
        derandomize=_TIMES <= 1,
        database=None,
        deadline=None,
        suppress_health_check=list(hypothesis.HealthCheck),
        phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
    )


mutations = st.integers(0, 2**64 - 1)
"""Seeds of `mutate`; drawing single edits by Hypothesis would take longer than the tests."""


def mutate(content: bytes, seed: int) -> bytes:
    """Changes a file's content, mostly once: bytes, a number, a word or the length."""
    random = Random(seed)
    for _ in range(random.choice([1, 1, 1, 2, 4])):
        start = random.randint(0, len(content))
        some = random.randbytes(random.randrange(16))
        width, order = random.choice([1, 2, 4, 8]), random.choice(["little", "big"])
        number = (random.choice(_ODD) % 256**width).to_bytes(width, order)
        new, count = random.choice([
            (random.randbytes(1), 1),
            (number, width),
            (some, 0),
            (b"", len(some)),
            (some, len(some)),
            (random.choice(_WORDS), random.choice([0, 1, 4])),
            (content[start // 2 :][:32], 0),
            (b"", len(content)),
        ])  # fmt: skip
        content = content[:start] + new + content[start + count :]
    return content


def outcome(read: Callable[[pathlib.Path], object], path: pathlib.Path) -> str:
    """Returns "read" or "refused"; fails for any other error, also for a lack of memory."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            read(path)
    except InputError as error:
        assert "\n" not in str(error)
        while error is not None:
            # FFmpeg raises this for sizes that it does not even try to allocate.
            ours = isinstance(error, MemoryError) and not isinstance(error, av.FFmpegError)
            assert not ours, "memory was allocated for more data than the file has"
            error = error.__cause__ or error.__context__
        return "refused"
    return "read"


@contextlib.contextmanager
def little_memory() -> Iterator[None]:
    """Limits the process to 1 GB more than it uses now."""
    before = resource.getrlimit(resource.RLIMIT_DATA)
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[5])
    most = pages * resource.getpagesize() + _MOST_BYTES
    resource.setrlimit(resource.RLIMIT_DATA, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)
