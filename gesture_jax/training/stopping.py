"""Stopping a training by a signal, after the state is saved."""

import contextlib
import signal
import threading
import types
from collections.abc import Callable, Iterator

import jax
from jax.experimental import multihost_utils

from gesture_jax.parallel import signals

_NOTICE = "stopping: the state is saved after this step; Ctrl-C again ends at once, unsaved"


@contextlib.contextmanager
def stop_on_signal() -> Iterator[Callable[[int], int]]:
    """Yields `stop(step)`, which returns the signal that asked this run to stop, or 0.

    Inside the block the first SIGTERM, SIGHUP or Ctrl-C does not end the process; `stop` reports it
    after the step. After that, Ctrl-C ends the process at once. With several processes, each one
    must call `stop` after every step: JAX's own SIGTERM handler then lets all of them agree on the
    step to stop at.
    """
    received: list[int] = []
    is_shared = jax.process_count() > 1

    def handle(number: int, frame: types.FrameType | None) -> None:
        if not received:
            if signal.getsignal(signal.SIGINT) == handle:  # Otherwise it is ignored.
                signal.signal(signal.SIGINT, signal.SIG_DFL)
            signals.say(_NOTICE)  # Comes last, as Ctrl-C must work once it can be read.
        received.append(number)
        if is_shared:
            signal.raise_signal(signal.SIGTERM)

    def stop(step: int) -> int:
        if is_shared:
            return signal.SIGTERM if multihost_utils.reached_preemption_sync_point(step) else 0
        return received[0] if received else 0

    handled = [signal.SIGINT, signal.SIGHUP] + [signal.SIGTERM] * (not is_shared)
    if threading.current_thread() is not threading.main_thread():  # Only it can handle signals.
        handled = []
    with signals.handling(handled, handle):
        yield stop
