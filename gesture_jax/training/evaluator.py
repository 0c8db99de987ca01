"""Evaluation on the test split during training, with a sheet of example pictures."""

import collections
import pathlib
import sys
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from tqdm import tqdm

from gesture_jax.media import images
from gesture_jax.parallel import processes, sharding
from gesture_jax.training.metrics_writer import MetricsWriter
from gesture_jax.training.step_metrics import format_metrics
from gesture_jax.training.task import Task, TrainState


class Evaluator:
    """Averages `task.evaluate` over the test split, and draws a sheet of pictures.

    An average covers the examples for which the metric is defined. A metric that is defined for no
    example is left out.
    """

    def __init__(self, task: Task, frozen: Any, key: jax.Array, workdir: pathlib.Path, mesh: Mesh):
        """Pictures are written to `workdir/samples`."""
        self._task, self._frozen, self._key = task, frozen, key
        self._samples = workdir / "samples"
        everywhere = sharding.replicated(mesh)
        self._evaluate = jax.jit(task.evaluate, out_shardings=everywhere)
        self._gather = jax.jit(lambda variables: variables, out_shardings=everywhere)

    def run(self, step: int, state: TrainState, writer: MetricsWriter, progress: tqdm) -> None:
        """Writes the metrics `test/*` and the pictures of a step."""
        variables = self._gather(state.variables)
        metrics, first_batch = self._measure(variables)
        writer.write_scalars(step, metrics)
        # All processes draw, since the state may be sharded over all of them; the first one writes.
        sheet = self._task.draw_samples(variables, first_batch, self._key)
        if not processes.is_first_process():
            return
        progress.write(f"step {step}: {format_metrics(metrics)}", file=sys.stderr)
        images.write_image(self._samples / f"step_{step:07d}.png", sheet)
        writer.write_image(step, "samples", sheet)

    def _measure(self, variables: Any) -> tuple[dict[str, float], Any]:
        """Returns the metrics of the test split, and its first batch."""
        totals, counts = collections.Counter(), collections.Counter()
        tables, first_batch = collections.defaultdict(list), None
        for batch in self._task.test_batches():
            first_batch = first_batch or batch
            values = self._evaluate(variables, self._frozen, batch, self._key)
            for name, value in jax.device_get(values).items():
                if value.ndim > 1:
                    tables[name].append(value[batch["mask"] > 0])
                    continue
                defined = (batch["mask"] > 0) & ~np.isnan(value)
                totals[name] += float(value[defined].sum())
                counts[name] += int(defined.sum())
        means = {name: totals[name] / count for name, count in counts.items() if count}
        means |= self._task.summarise({k: np.concatenate(v) for k, v in tables.items()})
        return {f"test/{name}": value for name, value in means.items()}, first_batch
