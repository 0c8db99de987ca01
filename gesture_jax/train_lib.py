"""The one training loop, for every stage.

A task (`stage1.Stage1`, `stage2.Stage2`) knows its data, networks and losses; the loop knows
steps, keys, shards, checkpoints, logging and evaluation. A run is a function of config and data:
the keys of step n come from `fold_in(seed, n)`, so a resumed run repeats them without storing them.
"""

import collections
import contextlib
import pathlib
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from ml_collections import ConfigDict
from tqdm import tqdm

from gesture_jax import checkpoints, optim, sharding, stage1, stage2
from gesture_jax.data import images
from gesture_jax.errors import InputError
from gesture_jax.writer import MetricsWriter

Batch = dict[str, np.ndarray]
Metrics = dict[str, jax.Array]
TASKS = {"stage1": stage1.Stage1, "stage2": stage2.Stage2}

# What may change between a run and its resumption; all else is part of the experiment.
_MAY_CHANGE = {
    "num_steps", "log_every_steps", "eval_every_steps", "checkpoint_every_steps",
    "keep_checkpoints", "optim.max_grad_norm",
}  # fmt: skip


class Task(Protocol):
    """What a stage supplies.

    `frozen` holds networks that the step reads and never trains; `model_state` is saved with the
    parameters but not trained by gradient; `variables` are `{"params": ..., **model_state}`.
    """

    frozen: Any

    def train_batches(self) -> Iterator[Batch]:
        """Endless; a Grain iterator, whose position is saved with the state."""

    def test_batches(self) -> Iterable[Batch]:
        """One pass over the test split; `mask` is 0 on padding."""

    def init(self, key: jax.Array) -> tuple[Any, Any]:
        """Parameters and model state."""

    def loss(self, params, model_state, frozen, batch: Batch, key: jax.Array, step: jax.Array):
        """`(loss, (metrics, model_state))`; `step` is how many steps were made before this one.

        A metric by the name of a weight in `config.loss` is that term of the loss, unweighted.
        """

    def evaluate(self, variables, frozen, batch: Batch, key: jax.Array) -> Metrics:
        """One value an example, `[b]`, for each metric; NaN where an example has none.

        What has more axes is no metric, but what `summarise` makes metrics of.
        """

    def summarise(self, tables: dict[str, np.ndarray]) -> dict[str, float]:
        """Metrics of the whole test split, from what `evaluate` gave of more axes, `[n, *]`."""

    def draw_samples(self, variables, batch: Batch, key: jax.Array) -> np.ndarray:
        """A sheet of pictures, `[h, w, 3]` uint8."""


@flax.struct.dataclass
class TrainState:
    """Everything that a step changes, and a checkpoint holds beside the position in the data."""

    step: jax.Array
    params: Any
    ema_params: Any
    model_state: Any
    opt_state: Any

    @property
    def variables(self) -> dict[str, Any]:
        """The averaged weights, as evaluation and inference use them."""
        return {"params": self.ema_params, **self.model_state}


def train(config: ConfigDict, workdir: str) -> TrainState:
    """Trains the stage that `config.stage` names, from the newest checkpoint in `workdir` if any.

    Args:
      config: from `configs/stage1.py` or `configs/stage2.py`.
      workdir: gets `config.json`, `metrics.jsonl`, `checkpoints/`, `samples/`, `tensorboard/`.

    Returns:
      The final state.

    Raises:
      InputError: for missing data, a config that does not fit the checkpoint, and the like.
      FloatingPointError: when the loss is not finite, or the gradient's norm is above
        `config.optim.max_grad_norm` (0: any will do).
    """
    mesh = sharding.make_mesh(batch_size=config.batch_size)
    task = TASKS[config.stage](config, workdir)  # Fills in what the config leaves to the data.
    _check_resumable(config, workdir)
    if sharding.is_first_process():
        checkpoints.write_config(workdir, config)
    batches = task.train_batches()
    optimizer = optim.make_optimizer(config.optim, num_steps=config.num_steps)
    checkpointer = checkpoints.Checkpointer(workdir, keep=config.keep_checkpoints)
    try:
        state = _create_or_restore(config, task, optimizer, mesh, checkpointer, batches)
        step_fn = make_step(task, optimizer, ema_decay=config.optim.ema_decay, mesh=mesh)
        return _run(config, workdir, task, state, batches, step_fn, mesh, checkpointer)
    except FloatingPointError as error:
        checkpointer.wait()
        saved = checkpointer.latest_step
        kept = f"the checkpoint of step {saved} is whole" if saved else "nothing was saved yet"
        raise FloatingPointError(
            f"{workdir}: {error}; {kept}; try a lower --config.optim.learning_rate"
        ) from None
    finally:
        checkpointer.close()
        batches.close()


def make_step(
    task: Task, optimizer: optax.GradientTransformation, *, ema_decay: float, mesh: Mesh
) -> Callable[..., tuple[TrainState, Metrics]]:
    """The compiled `step(state, frozen, batch, key) -> (state, metrics)`; it donates the state."""

    def step(state: TrainState, frozen, batch, base_key):
        key = jax.random.fold_in(base_key, state.step)
        grad_fn = jax.value_and_grad(task.loss, has_aux=True)
        (loss, (metrics, model_state)), grads = grad_fn(
            state.params, state.model_state, frozen, batch, key, state.step
        )
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        ema_params = optim.update_ema(state.ema_params, params, state.step, decay=ema_decay)
        metrics = {"loss": loss, "grad_norm": optax.tree.norm(grads), **metrics}
        return TrainState(state.step + 1, params, ema_params, model_state, opt_state), metrics

    replicated = sharding.replicated(mesh)
    return jax.jit(step, donate_argnums=0, out_shardings=(replicated, replicated))


def create_state(task: Task, optimizer: optax.GradientTransformation, *, seed: int) -> TrainState:
    """The state before the first step."""
    params, model_state = task.init(jax.random.key(seed))
    ema_params = jax.tree.map(jnp.copy, params)
    opt_state = optimizer.init(params)
    return TrainState(jnp.zeros((), jnp.int32), params, ema_params, model_state, opt_state)


def _create_or_restore(config, task, optimizer, mesh, checkpointer, batches) -> TrainState:
    create = lambda: create_state(task, optimizer, seed=config.seed)
    replicated = sharding.replicated(mesh)
    if checkpointer.latest_step is None:
        return jax.jit(create, out_shardings=replicated)()
    abstract = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=replicated),
        jax.eval_shape(create),
    )
    return checkpointer.restore(abstract, batches)


def _run(config, workdir, task, state, batches, step_fn, mesh, checkpointer) -> TrainState:
    first = int(state.step)
    make_key = lambda: jax.random.key(config.seed + 1)
    base_key = jax.jit(make_key, out_shardings=sharding.replicated(mesh))()
    frozen = sharding.replicate(task.frozen, mesh)
    evaluator = _Evaluator(task, frozen, base_key, pathlib.Path(workdir))
    pending: tuple[int, Metrics] | None = None
    with (
        contextlib.closing(
            MetricsWriter(workdir, step=first, active=sharding.is_first_process())
        ) as writer,
        _progress_bar(config, first) as progress,
    ):
        for step in range(first + 1, config.num_steps + 1):
            batch = sharding.shard_batch(next(batches), mesh)
            state, metrics = step_fn(state, frozen, batch, base_key)
            progress.update()
            if pending:  # One step late, so that fetching never makes the device wait.
                _log(writer, progress, config, *pending)
                pending = None
            if _due(step, config.log_every_steps, config.num_steps):
                pending = step, metrics
            evaluate = _due(step, config.eval_every_steps, config.num_steps)
            save = _due(step, config.checkpoint_every_steps, config.num_steps)
            if evaluate or save:
                _check(config, step, metrics)
            if evaluate:
                evaluator.run(step, state, writer, progress)
            if save:
                checkpointer.save(step, state, batches)
        if pending:
            _log(writer, progress, config, *pending)
    return state


class _Evaluator:
    """Averages of `task.evaluate` over the test split, and a sheet of pictures.

    An average is over the examples that have a value; one that no example has is left out.
    """

    def __init__(self, task: Task, frozen: Any, key: jax.Array, workdir: pathlib.Path):
        self._task, self._frozen, self._key = task, frozen, key
        self._samples = workdir / "samples"
        self._evaluate = jax.jit(task.evaluate)

    def run(self, step: int, state: TrainState, writer: MetricsWriter, progress: tqdm) -> None:
        totals, counts = collections.Counter(), collections.Counter()
        tables, first_batch = collections.defaultdict(list), None
        for batch in self._task.test_batches():
            first_batch = first_batch or batch
            values = self._evaluate(state.variables, self._frozen, batch, self._key)
            for name, value in jax.device_get(values).items():
                if value.ndim > 1:
                    tables[name].append(value[batch["mask"] > 0])
                    continue
                defined = (batch["mask"] > 0) & ~np.isnan(value)
                totals[name] += float(value[defined].sum())
                counts[name] += int(defined.sum())
        means = {name: totals[name] / count for name, count in counts.items() if count}
        means |= self._task.summarise({k: np.concatenate(v) for k, v in tables.items()})
        means = {f"test/{name}": value for name, value in means.items()}
        writer.write_scalars(step, means)
        # All processes draw, as the state may lie on all; one writes.
        sheet = self._task.draw_samples(state.variables, first_batch, self._key)
        if not sharding.is_first_process():
            return
        progress.write(f"step {step}: " + _sentence(means), file=sys.stderr)
        self._samples.mkdir(parents=True, exist_ok=True)
        images.write_image(self._samples / f"step_{step:07d}.png", sheet)
        writer.write_image(step, "samples", sheet)


def _log(writer: MetricsWriter, progress: tqdm, config, step: int, metrics: Metrics) -> None:
    scalars = _check(config, step, metrics)
    writer.write_scalars(step, scalars)
    progress.set_postfix_str(_sentence({"loss": scalars["loss"]}), refresh=False)


def _check(config: ConfigDict, step: int, metrics: Metrics) -> dict[str, float]:
    """The metrics, fetched; refuses what is not finite, and gradients that run away."""
    values = {name: float(value) for name, value in jax.device_get(metrics).items()}
    broken = {name: value for name, value in values.items() if not np.isfinite(value)}
    if broken:
        raise FloatingPointError(f"not finite at step {step}: {_sentence(broken)}")
    norm, limit = values["grad_norm"], config.optim.get("max_grad_norm", 0)
    if limit and norm > limit:
        raise FloatingPointError(
            f"gradient norm {norm:.4g} at step {step} is above optim.max_grad_norm, {limit:g}"
            + _largest_term(config, values)
        )
    return values


def _largest_term(config: ConfigDict, values: dict[str, float]) -> str:
    terms = {name: config.loss[name] * values[name] for name in config.loss if name in values}
    if not terms:
        return ""
    name = max(terms, key=lambda name: abs(terms[name]))
    return f"; the largest term of the loss is {_sentence({name: terms[name]})}"


def _check_resumable(config: ConfigDict, workdir: str) -> None:
    """Refuses to go on with a run under a config that contradicts its own."""
    if not (pathlib.Path(workdir) / "checkpoints").exists():
        return
    saved = checkpoints.read_config(workdir, stage=config.stage)
    ours, theirs = _flatten(config), _flatten(saved)
    keys = sorted(key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key))
    keys = [key for key in keys if key not in _MAY_CHANGE]
    if keys:
        raise InputError(
            f"{workdir}: was trained with another config ({', '.join(keys)}); "
            "choose another --workdir, or the values in its config.json"
        )


def _flatten(config: ConfigDict) -> dict[str, Any]:
    return flax.traverse_util.flatten_dict(config.to_dict(), sep=".")


def _due(step: int, every: int, last: int) -> bool:
    return step % every == 0 or step == last


def _progress_bar(config: ConfigDict, first: int) -> tqdm:
    return tqdm(
        total=config.num_steps,
        initial=first,
        unit="step",
        desc=config.stage,
        disable=not sharding.is_first_process(),
        # A log file wants a line now and then, a terminal a moving bar.
        mininterval=0.5 if sys.stderr.isatty() else 20,
        dynamic_ncols=True,
    )


def _sentence(values: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in values.items())
