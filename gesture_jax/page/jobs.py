"""Runs the work of a request in a thread, reports its progress, and cancels it."""

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
    """The visitor has cancelled the work or closed the page."""


@dataclasses.dataclass(frozen=True)
class Progress:
    """The progress of a job.

    Attributes:
      done: number of frames that are ready.
      total: number of all frames, if it is known.
      seconds_left: an estimate, once there is one.
    """

    done: int = 0
    total: int | None = None
    seconds_left: float | None = None


@dataclasses.dataclass(frozen=True)
class Finished(Generic[T]):
    """The end of a job, with its result."""

    result: T


def follow(job: Callable[[Watch], T], stop: threading.Event) -> Iterator[Progress | Finished[T]]:
    """Runs a job in a thread of its own.

    Args:
      job: takes the `Watch` that its frames have to pass through.
      stop: ends the job at its next frame; it is also set when this iterator is closed.

    Yields:
      Progress, four times a second; in the end the job's result.

    Raises:
      Cancelled: where the job was stopped.
      Exception: the error that the job raised.
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
    """Counts the frames of a job, and cancels it."""

    def __init__(self, stop: threading.Event):
        self._stop, self.progress = stop, Progress()

    def watch(self, frames: Iterator[np.ndarray], total: int | None) -> Iterator[np.ndarray]:
        """See `pipeline.Watch`."""
        self.progress = Progress(0, total)
        began = None
        for done, frame in enumerate(frames, start=1):
            if self._stop.is_set():
                raise Cancelled
            # The first frame waits for compilation, so that its time does not count.
            began = began or time.monotonic()
            self.progress = Progress(done, total, _seconds_left(done, total, began))
            yield frame


def _seconds_left(done: int, total: int | None, began: float) -> float | None:
    if total is None or done < 2:
        return None
    return (time.monotonic() - began) / (done - 1) * max(total - done, 0)
