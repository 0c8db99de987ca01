"""The metrics of training steps: fetched one step late, checked, written to the log."""

import jax
import numpy as np
from ml_collections import ConfigDict
from tqdm import tqdm

from gesture_jax.training.metrics_writer import MetricsWriter
from gesture_jax.training.monitor import TrainingMonitor
from gesture_jax.training.task import Metrics


class StepLog:
    """Holds the metrics of one step while the device computes them, then writes them."""

    def __init__(
        self, config: ConfigDict, writer: MetricsWriter, progress: tqdm, monitor: TrainingMonitor
    ):
        """Adds the rates of `monitor` to the metrics; `progress` shows the loss."""
        self._config, self._writer, self._progress = config, writer, progress
        self._monitor = monitor
        self._held: tuple[int, Metrics] | None = None

    def hold(self, step: int, metrics: Metrics) -> None:
        """Keeps the metrics of a step for the next `flush`."""
        self._held = step, metrics

    def flush(self) -> None:
        """Writes the metrics that are held, if any; raises FloatingPointError as `fetch` does."""
        if self._held is None:
            return
        (step, metrics), self._held = self._held, None
        scalars = fetch(self._config, step, metrics)  # After this the step is finished.
        self._writer.write_scalars(step, scalars | self._monitor.read(step))
        self._progress.set_postfix_str(format_metrics({"loss": scalars["loss"]}), refresh=False)


def fetch(config: ConfigDict, step: int, metrics: Metrics) -> dict[str, float]:
    """Fetches the metrics of a step from the device.

    Raises:
      FloatingPointError: where a metric is not finite, or the gradient's norm is above
        `config.optim.max_grad_norm`.
    """
    values = {name: float(value) for name, value in jax.device_get(metrics).items()}
    broken = {name: value for name, value in values.items() if not np.isfinite(value)}
    if broken:
        raise FloatingPointError(f"not finite at step {step}: {format_metrics(broken)}")
    norm, limit = values["grad_norm"], config.optim.get("max_grad_norm", 0)
    if limit and norm > limit:
        raise FloatingPointError(
            f"gradient norm {norm:.4g} at step {step} is above optim.max_grad_norm, {limit:g}"
            + _describe_largest_term(config, values)
        )
    return values


def _describe_largest_term(config: ConfigDict, values: dict[str, float]) -> str:
    terms = {name: config.loss[name] * values[name] for name in config.loss if name in values}
    if not terms:
        return ""
    name = max(terms, key=lambda name: abs(terms[name]))
    return f"; the largest term of the loss is {format_metrics({name: terms[name]})}"


def format_metrics(values: dict[str, float]) -> str:
    """Formats metrics for people: "loss 1.234, psnr 20.1"."""
    return ", ".join(f"{name} {value:.4g}" for name, value in values.items())
