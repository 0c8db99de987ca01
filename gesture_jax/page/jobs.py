"""Work that a page waits for: done aside, told of while it goes on, and stopped when asked."""

import concurrent.futures
import dataclasses
import threading
import time
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

import numpy as np

from gesture_jax.inference.pipeline import Watch

T = TypeVar("T")
_POLL_SEC = 0.25


class Cancelled(Exception):
    """The user, or the end of the visit, stopped the work."""


@dataclasses.dataclass(frozen=True)
class Progress:
    """How far work is.

    Attributes:
      done: frames that are ready.
      total: of how many, if that is known.
      seconds_left: about so long, once that can be told.
    """

    done: int = 0
    total: int | None = None
    seconds_left: float | None = None


@dataclasses.dataclass(frozen=True)
class Finished(Generic[T]):
    """The end of work, with what came of it."""

    result: T


def follow(job: Callable[[Watch], T], stop: threading.Event) -> Iterator[Progress | Finished[T]]:
    """Does a job in a thread of its own.

    Args:
      job: given the `Watch` that its frames have to pass through.
      stop: ends the job at its next frame; set also where nobody follows any longer.

    Yields:
      Progress, four times a second; at last what the job returned.

    Raises:
      Cancelled: where it was stopped.
      Exception: what the job raised.
    """
    counter = _Counter(stop)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        future = pool.submit(job, counter.watch)
        try:
            while not concurrent.futures.wait([future], timeout=_POLL_SEC).done:
                yield counter.progress
        finally:
            stop.set()
        yield Finished(future.result())


class _Counter:
    """Counts frames on their way, and stops them."""

    def __init__(self, stop: threading.Event):
        self._stop, self.progress = stop, Progress()

    def watch(self, frames: Iterator[np.ndarray], total: int | None) -> Iterator[np.ndarray]:
        """See `jobs.Watch`."""
        self.progress = Progress(0, total)
        began = None
        for done, frame in enumerate(frames, start=1):
            if self._stop.is_set():
                raise Cancelled
            # The first frame waits for networks to be compiled, which tells nothing of others.
            began = began or time.monotonic()
            self.progress = Progress(done, total, _seconds_left(done, total, began))
            yield frame


def _seconds_left(done: int, total: int | None, began: float) -> float | None:
    if total is None or done < 2:
        return None
    return (time.monotonic() - began) / (done - 1) * max(total - done, 0)
