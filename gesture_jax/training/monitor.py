"""Measures of a running training: rates, waiting for data, compilations, and a heartbeat file."""

import contextlib
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax

from gesture_jax.ops.flops import count_flops
from gesture_jax.parallel.hardware import find_chip, peak_memory
from gesture_jax.storage.files import as_path, is_remote, write_beside

_COMPILED = "/jax/core/compile/backend_compile_duration"
_HEARTBEAT_SEC = 5.0
# Longer, since the training waits while the file is written to a bucket.
_REMOTE_HEARTBEAT_SEC = 30.0
# Warns where the run waits for data for more than this share of the time.
_SLOW_INPUT = 0.5


class TrainingMonitor:
    """Measures a training loop: its rates, how long it waits for data, what it compiles.

    Rates cover only the steps themselves. They exclude steps that compile something, everything
    before the first step, and time spent inside `paused`.

    `WORKDIR/heartbeat.json` holds the step and time of a live run and is renewed every few seconds,
    so that a supervisor can restart a run that has stopped renewing it.
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
        """Starts to count compilations.

        Args:
          workdir: of the run.
          batch_size: number of examples in a step, over all processes.
          active: whether this process writes files and warnings; one of several processes does.
          profile_steps: first and last step of a trace by JAX's profiler, in `workdir/profile`.
          patience_sec: how long a batch may take before the user is warned.
        """
        self._path = as_path(workdir) / "heartbeat.json"
        self._every_sec = _REMOTE_HEARTBEAT_SEC if is_remote(self._path) else _HEARTBEAT_SEC
        self._batch_size, self._active, self._patience_sec = batch_size, active, patience_sec
        self._start, self._waited, self._paused = time.monotonic(), 0.0, 0.0
        # The last step that `read` covered, and later steps that are excluded from the rates.
        self._read_step, self._excluded = 0, set[int]()
        self._last_beat = -float("inf")
        self._num_compiled, self._num_recompiled, self._warm = 0, 0, False
        self._flops = 0
        self._profile_steps, self._tracing = profile_steps or (None, None), False
        self._warned_of_slow_input = False
        jax.monitoring.register_event_duration_secs_listener(self._count_compilation)

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Measures the wait for a batch; warns while it lasts longer than `patience_sec`."""
        start = time.monotonic()
        stalled = threading.Timer(self._patience_sec, self._warn_of_stall)
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
                self._warn(f"data came after {seconds:.0f} s")

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Excludes a block from the rates; the steps before it must be finished on the device."""
        start = time.monotonic()
        try:
            yield
        finally:
            self._paused += time.monotonic() - start

    def step(self, step: int, step_fn: Callable, *args) -> Any:
        """Runs step number `step` and returns `step_fn(*args)`.

        Renews the heartbeat, starts and ends the profiler's trace, and warns where any step but the
        first compiles something.
        """
        first, last = self._profile_steps
        if not self._warm:
            self._read_step = step - 1
            self._flops = count_flops(step_fn, *args)
        if step == first:
            with self.paused():
                jax.profiler.start_trace(self._path.parent / "profile")
            self._tracing = True
        result = self._run(step, step_fn, args)
        if step == last:
            jax.block_until_ready(result)
            with self.paused():
                self._end_trace()
        if not self._warm:
            self._start, self._paused, self._warm = time.monotonic(), 0.0, True
        self._beat(step)
        return result

    def _run(self, step: int, step_fn: Callable, args: tuple) -> Any:
        """Runs a step; one that compiles something is excluded from the rates."""
        before, start = self._num_compiled, time.monotonic()
        result = step_fn(*args)
        compiled = self._num_compiled - before
        if compiled or not self._warm:
            jax.block_until_ready(result)
            self._excluded.add(step)
            self._paused += time.monotonic() - start
        if compiled and self._warm:
            self._num_recompiled += compiled
            self._warn(
                f"step {step}: compiled again, as shapes or shardings of state or batch have "
                "changed; each time costs as much as the first"
            )
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

    def _count_compilation(self, event: str, duration: float, **_) -> None:
        del duration
        self._num_compiled += event == _COMPILED

    def _warn_of_stall(self) -> None:
        self._warn(
            f"the input has stalled: no batch for {self._patience_sec:.0f} s; the run waits for "
            "the disk or the network that holds the dataset, not for the device"
        )

    def _warn(self, sentence: str) -> None:
        if self._active:
            print(sentence, file=sys.stderr, flush=True)

    def close(self) -> None:
        """Stops counting compilations, and ends a trace that is still running."""
        self._end_trace()
        jax.monitoring.unregister_event_duration_listener(self._count_compilation)

    def read(self, step: int) -> dict[str, float]:
        """Returns the measurements since the last call, by names under `time/` and `memory/`.

        `flops_per_sec` counts the operations of the networks on all devices, and `mfu` is their
        share of the devices' peak, where that is known. Rates are missing where all steps since the
        last call are excluded.

        Args:
          step: the last step that is finished.
        """
        now = time.monotonic()
        seconds = max(now - self._start - self._paused, 1e-9)
        steps = len(set(range(self._read_step + 1, step + 1)) - self._excluded)
        measured = {"time/late_compilations": float(self._num_recompiled)}
        if steps:
            measured |= self._rates(steps / seconds) | {"time/input_share": self._waited / seconds}
            self._warn_of_slow_input(self._waited / seconds, seconds)
        self._start, self._waited, self._paused, self._read_step = now, 0.0, 0.0, step
        self._excluded = {each for each in self._excluded if each > step}
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

    def _warn_of_slow_input(self, share: float, seconds: float) -> None:
        if share > _SLOW_INPUT and seconds > _HEARTBEAT_SEC and not self._warned_of_slow_input:
            self._warned_of_slow_input = True
            self._warn(
                f"{share:.0%} of the time goes by waiting for data; more processes read faster: "
                "stop the run, and start it again with a larger --config.data.num_workers"
            )
