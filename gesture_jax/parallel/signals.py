"""How a process ends when it is told to."""

import contextlib
import os
import signal
import sys
import types
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TextIO


def end_in_order() -> None:
    """SIGTERM and SIGHUP leave `with` blocks as Ctrl-C does, so that no temporary files stay."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) == signal.SIG_DFL:  # `nohup` ignores SIGHUP.
            signal.signal(number, _leave)


def _leave(number: int, frame: types.FrameType | None) -> None:
    signal.signal(number, signal.SIG_IGN)  # `timeout` sends it twice.
    sys.exit(128 + number)


@contextlib.contextmanager
def handling(
    numbers: Iterable[int], handler: Callable[[int, types.FrameType | None], None]
) -> Iterator[None]:
    """Inside the block `handler` gets these signals, save those that the process ignores."""
    before = {number: signal.getsignal(number) for number in numbers}
    before = {number: own for number, own in before.items() if own != signal.SIG_IGN}
    for number in before:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number, own in before.items():
            signal.signal(number, own)


def say(sentence: str) -> None:
    """Tells a sentence on stderr from within a handler, which may have interrupted a `print`."""
    with contextlib.suppress(OSError):
        os.write(2, f"\n{sentence}\n".encode())


class Unfailing:
    """A stream that drops what cannot be written, as where the terminal or the pipe is gone.

    Else a run whose output goes to `tee`, which Ctrl-C ends as well, fails before it has saved.
    """

    def __init__(self, stream: TextIO):
        """Writes to `stream`, whose other attributes it has."""
        self._stream = stream

    def write(self, text: str) -> int:
        """Writes, or drops, the text."""
        with contextlib.suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Writes, or drops, what is buffered."""
        with contextlib.suppress(OSError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
