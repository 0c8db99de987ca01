"""Signal handling: orderly exits, temporary handlers, and messages from within them."""

import contextlib
import os
import signal
import sys
import types
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TextIO


def end_in_order() -> None:
    """Makes SIGTERM and SIGHUP leave `with` blocks like Ctrl-C, so that no temporary files stay."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if (
            signal.getsignal(number) == signal.SIG_DFL
        ):  # `nohup` ignores SIGHUP, and so does this process then.
            signal.signal(number, _leave)


def _leave(number: int, frame: types.FrameType | None) -> None:
    signal.signal(number, signal.SIG_IGN)  # `timeout` sends the signal twice.
    sys.exit(128 + number)


@contextlib.contextmanager
def handling(
    numbers: Iterable[int], handler: Callable[[int, types.FrameType | None], None]
) -> Iterator[None]:
    """Passes these signals to `handler` inside the block, except those that the process ignores."""
    previous = {number: signal.getsignal(number) for number in numbers}
    previous = {number: old for number, old in previous.items() if old != signal.SIG_IGN}
    for number in previous:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number, old in previous.items():
            signal.signal(number, old)


def say(sentence: str) -> None:
    """Prints a sentence to stderr from a handler, which may have interrupted a `print`."""
    with contextlib.suppress(OSError):
        os.write(2, f"\n{sentence}\n".encode())


class Unfailing:
    """A stream that drops text that cannot be written because the terminal or the pipe is gone.

    Otherwise a run whose output goes to `tee`, which Ctrl-C ends, too, would fail before it saves.
    """

    def __init__(self, stream: TextIO):
        """Wraps `stream`, whose other attributes are available unchanged."""
        self._stream = stream

    def write(self, text: str) -> int:
        """Writes or drops the text."""
        with contextlib.suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Writes or drops buffered text."""
        with contextlib.suppress(OSError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
