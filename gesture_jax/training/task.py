"""The two protocols that a stage implements, and the train state that goes through them."""

from collections.abc import Iterable, Iterator
from typing import Any, Protocol

import flax
import jax
import numpy as np

Batch = dict[str, np.ndarray]
Metrics = dict[str, jax.Array]


class Objective(Protocol):
    """The part of a stage that needs no data: enough to compile and run a training step.

    `frozen` holds networks that the step reads but never trains. `model_state` is saved with the
    parameters, but not trained by gradient.
    """

    def init(self, key: jax.Array) -> tuple[Any, Any]:
        """Returns parameters and model state."""

    def draw(self, key: jax.Array, batch: Batch) -> Batch:
        """Draws the random numbers that the loss needs, one row per example.

        They join the batch before it is split, so that an example gets the same numbers whichever
        part of the batch it is in.
        """

    def loss(self, params, model_state, frozen, batch: Batch, key: jax.Array, step: jax.Array):
        """Returns `(loss, (metrics, model_state))`; `step` counts the steps before this one.

        A metric with the name of a weight in `config.loss` is that term of the loss, unweighted.
        """


class Task(Objective, Protocol):
    """A whole stage, with its data; `variables` are `{"params": ..., **model_state}`."""

    frozen: Any

    def train_batches(self) -> Iterator[Batch]:
        """Returns an endless Grain iterator, whose position is saved with the state."""

    def test_batches(self) -> Iterable[Batch]:
        """Iterates once over the test split; `mask` is 0 on padding."""

    def evaluate(self, variables, frozen, batch: Batch, key: jax.Array) -> Metrics:
        """Returns one value per example, `[b]`, for each metric; NaN where it is undefined.

        Arrays with more axes are no metrics; `summarise` gets them for the whole split.
        """

    def summarise(self, tables: dict[str, np.ndarray]) -> dict[str, float]:
        """Computes metrics of the whole test split from the `[n, *]` arrays of `evaluate`."""

    def draw_samples(self, variables, batch: Batch, key: jax.Array) -> np.ndarray:
        """Draws a sheet of example pictures, `[h, w, 3]` uint8."""


@flax.struct.dataclass
class TrainState:
    """Everything that a step changes. A checkpoint holds it and the position in the data."""

    step: jax.Array
    params: Any
    ema_params: Any
    model_state: Any
    opt_state: Any

    @property
    def variables(self) -> dict[str, Any]:
        """The averaged weights, which evaluation and inference use."""
        return {"params": self.ema_params, **self.model_state}
