"""What a long run tells about itself, and how it is told to stop."""

import contextlib
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator

import jax
from jax.experimental import multihost_utils

from gesture_jax.files import as_path, is_remote, write_beside

_COMPILED = "/jax/core/compile/backend_compile_duration"
_HEARTBEAT_SEC = 5.0
# A bucket lets the training wait for it.
_REMOTE_HEARTBEAT_SEC = 30.0


@contextlib.contextmanager
def until_terminated() -> Iterator[Callable[[int], bool]]:
    """Gives `stop(step)`: whether SIGTERM has come; all processes of a run hear the same.

    Inside the block SIGTERM ends nothing by itself. Of several processes each asks after every
    step, and JAX's own handler, which is there already, lets them agree on the step to stop at.
    """
    if jax.process_count() > 1:
        yield multihost_utils.reached_preemption_sync_point
        return
    if threading.current_thread() is not threading.main_thread():  # Only that one hears signals.
        yield lambda step: False
        return
    told = threading.Event()
    before = signal.signal(signal.SIGTERM, lambda *_: told.set())
    try:
        yield lambda step: told.is_set()
    finally:
        signal.signal(signal.SIGTERM, before)


class Watch:
    """Measures a training loop: steps a second, how long it waits for data, what it compiles.

    `WORKDIR/heartbeat.json` holds step and time of a run that is alive, renewed every few seconds:
    whoever watches from outside restarts a run whose heart has stopped.
    """

    def __init__(self, workdir: str | os.PathLike, *, batch_size: int, active: bool = True):
        """Of several processes one is `active`, and writes."""
        self._path = as_path(workdir) / "heartbeat.json"
        self._every_sec = _REMOTE_HEARTBEAT_SEC if is_remote(self._path) else _HEARTBEAT_SEC
        self._batch_size, self._active = batch_size, active
        self._start, self._waited, self._steps = time.monotonic(), 0.0, 0
        self._last_beat = -float("inf")
        self._num_compiled, self._late, self._warm = 0, 0, False
        jax.monitoring.register_event_duration_secs_listener(self._hear)

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Around what waits for data."""
        start = time.monotonic()
        yield
        self._waited += time.monotonic() - start

    @contextlib.contextmanager
    def stepping(self, step: int) -> Iterator[None]:
        """Around a step: counts it, beats, and warns where any but the first compiles something."""
        before = self._num_compiled
        yield
        if self._warm and self._num_compiled > before:
            self._late += self._num_compiled - before
            print(
                f"step {step}: compiled again, as shapes or shardings of state or batch have "
                "changed; each time costs as much as the first",
                file=sys.stderr,
            )
        self._warm = True
        self._steps += 1
        self._beat(step)

    def _beat(self, step: int) -> None:
        now = time.monotonic()
        if self._active and now - self._last_beat >= self._every_sec:
            self._last_beat = now
            beat = {"step": step, "time": time.time(), "pid": os.getpid()}
            with write_beside(self._path) as beside:
                beside.write_text(json.dumps(beat))

    def _hear(self, event: str, duration: float, **_) -> None:
        del duration
        self._num_compiled += event == _COMPILED

    def close(self) -> None:
        """Listens no longer."""
        jax.monitoring.unregister_event_duration_listener(self._hear)

    def read(self) -> dict[str, float]:
        """Rates since the last reading; the input share is the part of the time spent waiting."""
        now = time.monotonic()
        seconds = max(now - self._start, 1e-9)
        rates = {
            "time/steps_per_sec": self._steps / seconds,
            "time/examples_per_sec": self._steps * self._batch_size / seconds,
            "time/input_share": self._waited / seconds,
            "time/late_compilations": float(self._late),
        }
        self._start, self._waited, self._steps = now, 0.0, 0
        return rates
