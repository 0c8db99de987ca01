"""How a process ends when it is told to."""

import signal
import sys
import types


def end_in_order() -> None:
    """SIGTERM and SIGHUP leave `with` blocks as Ctrl-C does, so that no temporary files stay."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) == signal.SIG_DFL:  # `nohup` ignores SIGHUP.
            signal.signal(number, _leave)


def _leave(number: int, frame: types.FrameType | None) -> None:
    signal.signal(number, signal.SIG_IGN)  # `timeout` sends it twice.
    sys.exit(128 + number)
