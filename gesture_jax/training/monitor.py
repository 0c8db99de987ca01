"""What a long run tells about itself, and how it is told to stop."""

import contextlib
import json
import os
import signal
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator
from typing import Any

import jax
from jax.experimental import multihost_utils

from gesture_jax.ops.count import count_flops
from gesture_jax.parallel import signals
from gesture_jax.parallel.hardware import find_chip, peak_memory
from gesture_jax.storage.files import as_path, is_remote, write_beside

_COMPILED = "/jax/core/compile/backend_compile_duration"
_HEARTBEAT_SEC = 5.0
# A bucket lets the training wait for it.
_REMOTE_HEARTBEAT_SEC = 30.0
# Of the time that goes by waiting for data, the share that is told of.
_SLOW_INPUT = 0.5
_TOLD_TO_STOP = "told to stop: saves after this step; Ctrl-C from now on ends at once, unsaved"


@contextlib.contextmanager
def until_told_to_stop() -> Iterator[Callable[[int], int]]:
    """Gives `stop(step)`: the signal that says to stop, or 0; all processes of a run hear the same.

    Inside the block the first SIGTERM, SIGHUP or Ctrl-C ends nothing by itself. After it, Ctrl-C
    ends this process at once. Of several processes each asks after every step, and JAX's own
    handler of SIGTERM, which is there already, lets them agree on the step to stop at.
    """
    told: list[int] = []
    is_shared = jax.process_count() > 1

    def hear(number: int, frame: types.FrameType | None) -> None:
        if not told:
            signals.say(_TOLD_TO_STOP)
            if signal.getsignal(signal.SIGINT) == hear:  # Else it is ignored.
                signal.signal(signal.SIGINT, signal.SIG_DFL)
        told.append(number)
        if is_shared:
            signal.raise_signal(signal.SIGTERM)

    def stop(step: int) -> int:
        if is_shared:
            return signal.SIGTERM if multihost_utils.reached_preemption_sync_point(step) else 0
        return told[0] if told else 0

    heard = [signal.SIGINT, signal.SIGHUP] + [signal.SIGTERM] * (not is_shared)
    if threading.current_thread() is not threading.main_thread():  # Only that one hears signals.
        heard = []
    with signals.handling(heard, hear):
        yield stop


class Watch:
    """Measures a training loop: its rates, how long it waits for data, what it compiles.

    Rates are those of steps alone: steps that compile something, what comes before the first of
    them, and what is done inside `paused` are left out.

    `WORKDIR/heartbeat.json` holds step and time of a run that is alive, renewed every few seconds:
    whoever watches from outside restarts a run whose heart has stopped.
    """

    def __init__(
        self,
        workdir: str | os.PathLike,
        *,
        batch_size: int,
        active: bool = True,
        profile_steps: tuple[int, int] | None = None,
        patience_sec: float = 60.0,
    ):
        """Of several processes one is `active`, and writes.

        Args:
          workdir: of the run.
          batch_size: examples of a step, of all processes together.
          active: whether this process writes.
          profile_steps: first and last step of a trace by JAX's profiler, in `workdir/profile`.
          patience_sec: how long a batch may take before the user is told.
        """
        self._path = as_path(workdir) / "heartbeat.json"
        self._every_sec = _REMOTE_HEARTBEAT_SEC if is_remote(self._path) else _HEARTBEAT_SEC
        self._batch_size, self._active, self._patience_sec = batch_size, active, patience_sec
        self._start, self._waited, self._paused = time.monotonic(), 0.0, 0.0
        # The last step that was read, and later ones that no rate counts.
        self._read_step, self._left_out = 0, set[int]()
        self._last_beat = -float("inf")
        self._num_compiled, self._late, self._warm = 0, 0, False
        self._flops = 0
        self._profile_steps, self._tracing = profile_steps or (None, None), False
        self._slow_input_told = False
        jax.monitoring.register_event_duration_secs_listener(self._hear)

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Around what waits for data; tells of it when it takes long, while it still does."""
        start = time.monotonic()
        stalled = threading.Timer(self._patience_sec, self._tell_stall)
        stalled.daemon = True
        stalled.start()
        try:
            yield
        finally:
            stalled.cancel()
            seconds = time.monotonic() - start
            if self._warm:
                self._waited += seconds
            if seconds > self._patience_sec:
                self._tell(f"data came after {seconds:.0f} s")

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Around what is no part of a step; the steps before have to be finished by then."""
        start = time.monotonic()
        try:
            yield
        finally:
            self._paused += time.monotonic() - start

    def step(self, step: int, step_fn: Callable, *args) -> Any:
        """`step_fn(*args)`, which is step number `step`: counted, and traced where that is wanted.

        Beats, and warns where any step but the first compiles something.
        """
        first, last = self._profile_steps
        if not self._warm:
            self._read_step = step - 1
            self._flops = count_flops(step_fn, *args)
        if step == first:
            with self.paused():
                jax.profiler.start_trace(self._path.parent / "profile")
            self._tracing = True
        before, start = self._num_compiled, time.monotonic()
        result = step_fn(*args)
        compiled = self._num_compiled - before
        if compiled or not self._warm:
            jax.block_until_ready(result)
            self._left_out.add(step)
            self._paused += time.monotonic() - start
        if compiled and self._warm:
            self._late += compiled
            self._tell(
                f"step {step}: compiled again, as shapes or shardings of state or batch have "
                "changed; each time costs as much as the first"
            )
        if step == last:
            jax.block_until_ready(result)
            with self.paused():
                self._end_trace()
        if not self._warm:
            self._start, self._paused, self._warm = time.monotonic(), 0.0, True
        self._beat(step)
        return result

    def _end_trace(self) -> None:
        if self._tracing:
            jax.profiler.stop_trace()
        self._tracing = False

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

    def _tell_stall(self) -> None:
        self._tell(
            f"the input has stalled: no batch for {self._patience_sec:.0f} s; the run waits for "
            "the disk or the network that holds the dataset, not for the device"
        )

    def _tell(self, sentence: str) -> None:
        if self._active:
            print(sentence, file=sys.stderr, flush=True)

    def close(self) -> None:
        """Listens no longer, and writes a trace that was begun."""
        self._end_trace()
        jax.monitoring.unregister_event_duration_listener(self._hear)

    def read(self, step: int) -> dict[str, float]:
        """What was measured since the last reading, by names under `time/` and `memory/`.

        `flops_per_sec` counts the operations of the networks, all devices together, and `mfu` is
        their share of the peak of these devices, where it is known. Rates are missing where no step
        counts.

        Args:
          step: the last one that is finished.
        """
        now = time.monotonic()
        seconds = max(now - self._start - self._paused, 1e-9)
        steps = len(set(range(self._read_step + 1, step + 1)) - self._left_out)
        measured = {"time/late_compilations": float(self._late)}
        if steps:
            measured |= self._rates(steps / seconds) | {"time/input_share": self._waited / seconds}
            self._tell_slow_input(self._waited / seconds, seconds)
        self._start, self._waited, self._paused, self._read_step = now, 0.0, 0.0, step
        self._left_out = {each for each in self._left_out if each > step}
        return measured | {f"memory/{name}_gib": size for name, size in peak_memory().items()}

    def _rates(self, steps_per_sec: float) -> dict[str, float]:
        rates = {
            "time/steps_per_sec": steps_per_sec,
            "time/examples_per_sec": steps_per_sec * self._batch_size,
            "time/flops_per_sec": steps_per_sec * self._flops,
        }
        chip = find_chip(jax.devices()[0].device_kind)
        if chip:
            rates["time/mfu"] = rates["time/flops_per_sec"] / (chip.flops * jax.device_count())
        return rates

    def _tell_slow_input(self, share: float, seconds: float) -> None:
        if share > _SLOW_INPUT and seconds > _HEARTBEAT_SEC and not self._slow_input_told:
            self._slow_input_told = True
            self._tell(
                f"{share:.0%} of the time goes by waiting for data; more processes read faster: "
                "stop the run, and start it again with a larger --config.data.num_workers"
            )
