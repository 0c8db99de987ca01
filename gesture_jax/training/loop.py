"""The one training loop, for every stage.

A task (`stage1.Stage1`, `stage2.Stage2`) knows its data, networks and losses; the loop knows
steps, keys, shards, checkpoints, logging and evaluation. A run is a function of config and data:
the keys of step n come from `fold_in(seed, n)`, so a resumed run repeats them without storing them.
"""

import collections
import contextlib
import pathlib
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from ml_collections import ConfigDict
from tqdm import tqdm

from gesture_jax.checkpoint import checkpoints, config_check
from gesture_jax.errors import InputError, Stopped
from gesture_jax.media import images
from gesture_jax.ops import remat
from gesture_jax.parallel import processes, sharding
from gesture_jax.storage.files import (
    alone_in,
    as_path,
    check_outputs,
    expand_home,
    naming_full_disk,
)
from gesture_jax.training import finetune, optim, stage1, stage2
from gesture_jax.training.metrics_writer import MetricsWriter
from gesture_jax.training.monitor import Watch, until_told_to_stop

Batch = dict[str, np.ndarray]
Metrics = dict[str, jax.Array]
TASKS = {"stage1": stage1.Stage1, "stage2": stage2.Stage2}
# What of a task needs no data: enough to make a step and to compile it.
OBJECTIVES = {"stage1": stage1.Objective, "stage2": stage2.Objective}

# What may change between a run and its resumption; all else is part of the experiment.
_MAY_CHANGE = {
    "num_steps", "log_every_steps", "eval_every_steps", "checkpoint_every_steps",
    "keep_checkpoints", "accumulate_steps", "remat", "mesh.data", "mesh.fsdp",
    "optim.max_grad_norm",
    # How data are read, of which none changes a batch.
    "data.num_workers", "data.cache", "data.extract_missing",
    "shoulders", "data.joint_names",  # Read off the data, which older runs did not.
}  # fmt: skip


# Where the data lie, which says nothing once a run knows their content, `data.sha256`.
_DATA_PLACES = {"data.path", "stage1_workdir"}

# Keys that older configs lack, and what held without them.
_ADDED = {
    "dtype": "float32", "init_from": "", "remat": "none",
    "data.augment_views": 0.0, "data.joint_names": (), "data.on_device": False,
    "training_bounds": False,
    **{
        f"loss.{term}": 0.0
        for term in (
            "perceptual_regions", "warped_regions", "mouth", "warped", "drawn", "joints", "masks",
            "prior_drift", "portrait_dropout",
        )
    },
}  # fmt: skip


class Objective(Protocol):
    """What a stage supplies for a step, which needs no data.

    `frozen` holds networks that the step reads and never trains; `model_state` is saved with the
    parameters but not trained by gradient.
    """

    def init(self, key: jax.Array) -> tuple[Any, Any]:
        """Parameters and model state."""

    def draw(self, key: jax.Array, batch: Batch) -> Batch:
        """What the loss wants of chance, a row an example, beside the batch itself.

        So it does not matter to an example which part of a batch it is in.
        """

    def loss(self, params, model_state, frozen, batch: Batch, key: jax.Array, step: jax.Array):
        """`(loss, (metrics, model_state))`; `step` is how many steps were made before this one.

        A metric by the name of a weight in `config.loss` is that term of the loss, unweighted.
        """


class Task(Objective, Protocol):
    """What a stage supplies for a run; `variables` are `{"params": ..., **model_state}`."""

    frozen: Any

    def train_batches(self) -> Iterator[Batch]:
        """Endless; a Grain iterator, whose position is saved with the state."""

    def test_batches(self) -> Iterable[Batch]:
        """One pass over the test split; `mask` is 0 on padding."""

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


def train(
    config: ConfigDict, workdir: str, *, profile_steps: tuple[int, int] | None = None
) -> TrainState:
    """Trains the stage that `config.stage` names, from the newest checkpoint in `workdir` if any.

    Args:
      config: from `configs/stage1.py` or `configs/stage2.py`.
      workdir: gets `config.json`, `metrics.jsonl`, `checkpoints/`, `samples/`, `tensorboard/`, and
        of stage 2 `fgd.npz`.
      profile_steps: first and last step of which JAX's profiler keeps a trace, in
        `workdir/profile`.

    Returns:
      The final state.

    Raises:
      Stopped: after SIGTERM, SIGHUP or Ctrl-C, once all is saved.
      InputError: for missing data, a config that does not fit the checkpoint, another run in the
        same workdir, and the like.
      FloatingPointError: when the loss is not finite, or the gradient's norm is above
        `config.optim.max_grad_norm` (0: any will do).
    """
    config_check.check(config)
    _expand_places(config)
    check_outputs({"--workdir": workdir}, {"--config.data.path": config.data.path})
    mesh = _make_mesh(config)
    with _alone_in(workdir), naming_full_disk(workdir):
        return _train(config, workdir, mesh, profile_steps)


@contextlib.contextmanager
def _alone_in(workdir: str) -> Iterator[None]:
    """Refuses a second run in a workdir; of several processes the first one holds the lock."""
    busy = f"{workdir}: another training is running here; wait for it, or choose another --workdir"
    is_free = True
    with contextlib.ExitStack() as held:
        if processes.is_first_process():
            try:
                held.enter_context(alone_in(as_path(workdir), busy=busy))
            except InputError:
                is_free = False
        if not processes.first_process_says(is_free):
            raise InputError(busy)
        yield


def _train(
    config: ConfigDict, workdir: str, mesh: Mesh, profile_steps: tuple[int, int] | None
) -> TrainState:
    task = TASKS[config.stage](config, workdir)  # Fills in what the config leaves to the data.
    _check_resumable(config, workdir)
    start = finetune.load_init_params(config, task.init, workdir)
    if processes.is_first_process():
        checkpoints.write_config(workdir, config)
    batches = task.train_batches()
    optimizer = optim.make_optimizer(config.optim, num_steps=config.num_steps)
    checkpointer = checkpoints.Checkpointer(workdir, keep=config.keep_checkpoints)
    try:
        state = _create_or_restore(config, task, optimizer, mesh, checkpointer, batches, start)
        del start  # Or the donor would stay in memory.
        step_fn = make_step(
            task,
            optimizer,
            ema_decay=config.optim.ema_decay,
            mesh=mesh,
            num_parts=config.accumulate_steps,
            policy=config.get("remat", "none"),
        )
        watch = Watch(
            workdir,
            batch_size=config.batch_size,
            active=processes.is_first_process(),
            profile_steps=profile_steps,
        )
        with contextlib.closing(watch):
            return _run(config, workdir, task, state, batches, step_fn, mesh, checkpointer, watch)
    except FloatingPointError as error:
        checkpointer.wait()
        saved = checkpointer.latest_step
        kept = f"the checkpoint of step {saved} is whole" if saved else "nothing was saved yet"
        anew = f" in another --workdir with --config.init_from={workdir}" if saved else ""
        raise FloatingPointError(
            f"{workdir}: {error}; {kept}; try a lower --config.optim.learning_rate{anew}"
        ) from None
    finally:
        checkpointer.close()
        batches.close()


def _expand_places(config: ConfigDict) -> None:
    known = _flatten(config)
    config.update_from_flattened_dict(
        {key: expand_home(known[key]) for key in checkpoints.PLACES if key in known}
    )


def _make_mesh(config: ConfigDict) -> Mesh:
    if config.accumulate_steps < 1 or config.batch_size % config.accumulate_steps:
        raise InputError(
            f"accumulate_steps {config.accumulate_steps} does not divide batch_size "
            f"{config.batch_size}; choose a divisor of it"
        )
    part_size = config.batch_size // config.accumulate_steps
    return sharding.make_mesh(config.mesh.to_dict(), batch_size=part_size)


def make_step(
    task: Objective,
    optimizer: optax.GradientTransformation,
    *,
    ema_decay: float,
    mesh: Mesh,
    num_parts: int = 1,
    policy: str = "none",
) -> Callable[..., tuple[TrainState, Metrics]]:
    """The compiled `step(state, frozen, batch, key) -> (state, metrics)`; it donates the state.

    The gradient is the mean of those of `num_parts` of the batch, computed one after another;
    `policy` is one of `remat.POLICIES`.
    """

    def step(state: TrainState, frozen, batch, base_key):
        key = jax.random.fold_in(base_key, state.step)
        (grads, metrics), model_state = _gradients(
            task, state, frozen, {**batch, **task.draw(key, batch)}, key, mesh, num_parts, policy
        )
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        ema_params = optim.update_ema(state.ema_params, params, state.step, decay=ema_decay)
        metrics = {"grad_norm": optax.tree.norm(grads), **metrics}
        state = TrainState(state.step + 1, params, ema_params, model_state, opt_state)
        return sharding.scatter(state, mesh), sharding.gather(metrics, mesh)

    return jax.jit(step, donate_argnums=0)


def _gradients(task, state, frozen, batch, key, mesh, num_parts, policy):
    """`(gradients, metrics), model state`: means over the parts of a batch, rows k, k + n, ..."""
    grad_fn = jax.value_and_grad(remat.checkpoint(task.loss, policy), has_aux=True)
    # At rest the state lies in pieces; the networks see whole parameters, so that the compiler has
    # no reason to gather pictures instead.
    params = sharding.gather(state.params, mesh)

    def look(model_state, part, key):
        (loss, (metrics, model_state)), grads = grad_fn(
            params, sharding.gather(model_state, mesh), frozen, part, key, state.step
        )
        return (sharding.scatter(grads, mesh), {"loss": loss, **metrics}), model_state

    if num_parts == 1:
        return look(state.model_state, batch, key)

    def add(carry, part):
        total, model_state = carry
        number, rows = part
        found, model_state = look(model_state, rows, jax.random.fold_in(key, number))
        return (jax.tree.map(jnp.add, total, found), model_state), None

    parts = jnp.arange(num_parts), sharding.split_batch(batch, num_parts, mesh)
    shapes, _ = jax.eval_shape(look, state.model_state, jax.tree.map(lambda x: x[0], parts[1]), key)
    nothing = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    (total, model_state), _ = jax.lax.scan(add, (nothing, state.model_state), parts)
    return jax.tree.map(lambda sum_: sum_ / num_parts, total), model_state


def create_state(
    task: Objective,
    optimizer: optax.GradientTransformation,
    *,
    seed: int,
    start: Mapping[str, Any] | None = None,
) -> TrainState:
    """The state before the first step; `start` has variables to begin with, others are random."""
    params, model_state = task.init(jax.random.key(seed))
    start = dict(start or {})
    params = {**params, **start.pop("params", {})}
    model_state = {**model_state, **start}
    ema_params = jax.tree.map(jnp.copy, params)
    opt_state = optimizer.init(params)
    return TrainState(jnp.zeros((), jnp.int32), params, ema_params, model_state, opt_state)


def _create_or_restore(config, task, optimizer, mesh, checkpointer, batches, start) -> TrainState:
    create = lambda start=None: create_state(task, optimizer, seed=config.seed, start=start)
    shardings = sharding.state_shardings(jax.eval_shape(create), mesh)
    if checkpointer.latest_step is None:
        return jax.jit(create, out_shardings=shardings)(sharding.replicate(start, mesh))
    return checkpointer.restore(sharding.abstract(create, shardings), batches)


def _run(config, workdir, task, state, batches, step_fn, mesh, checkpointer, watch) -> TrainState:
    first = int(state.step)
    make_key = lambda: jax.random.key(config.seed + 1)
    base_key = jax.jit(make_key, out_shardings=sharding.replicated(mesh))()
    frozen = sharding.replicate(task.frozen, mesh)
    evaluator = _Evaluator(task, frozen, base_key, as_path(workdir), mesh)
    with (
        contextlib.closing(
            MetricsWriter(workdir, step=first, active=processes.is_first_process())
        ) as writer,
        _progress_bar(config, first) as progress,
        until_told_to_stop() as stop,
    ):
        log = _Log(config, writer, progress, watch)
        for step in range(first + 1, config.num_steps + 1):
            with watch.waiting():
                batch = sharding.shard_batch(next(batches), mesh)
            state, metrics = watch.step(step, step_fn, state, frozen, batch, base_key)
            sharding.settle(state, mesh)
            progress.update()
            log.flush()  # One step late, so that fetching never makes the device wait.
            if _due(step, config.log_every_steps, config.num_steps):
                log.hold(step, metrics)
            if _due(step, config.eval_every_steps, config.num_steps):
                log.flush()
                _check(config, step, metrics)
                with watch.paused():
                    evaluator.run(step, state, writer, progress)
            stopped = stop(step) if step < config.num_steps else 0
            if stopped or _due(step, config.checkpoint_every_steps, config.num_steps):
                log.flush()  # What a checkpoint has behind it is on record.
                writer.flush()
                _check(config, step, metrics)
                with watch.paused():
                    checkpointer.save(step, state, batches)
            if stopped:
                checkpointer.wait()
                raise Stopped(
                    f"{workdir}: told to stop; step {step} of {config.num_steps} is saved, and the "
                    "same command goes on from it",
                    stopped,
                )
    return state


class _Log:
    """Metrics of one step on their way to the writer, held while the device computes them."""

    def __init__(self, config: ConfigDict, writer: MetricsWriter, progress: tqdm, watch: Watch):
        self._config, self._writer, self._progress = config, writer, progress
        self._watch = watch
        self._held: tuple[int, Metrics] | None = None

    def hold(self, step: int, metrics: Metrics) -> None:
        self._held = step, metrics

    def flush(self) -> None:
        """Writes what is held, if anything; refuses what is not finite."""
        if self._held is None:
            return
        (step, metrics), self._held = self._held, None
        scalars = _check(self._config, step, metrics)  # From here on that step is finished.
        self._writer.write_scalars(step, scalars | self._watch.read(step))
        self._progress.set_postfix_str(_sentence({"loss": scalars["loss"]}), refresh=False)


class _Evaluator:
    """Averages of `task.evaluate` over the test split, and a sheet of pictures.

    An average is over the examples that have a value; one that no example has is left out.
    """

    def __init__(self, task: Task, frozen: Any, key: jax.Array, workdir: pathlib.Path, mesh: Mesh):
        self._task, self._frozen, self._key = task, frozen, key
        self._samples = workdir / "samples"
        everywhere = sharding.replicated(mesh)
        self._evaluate = jax.jit(task.evaluate, out_shardings=everywhere)
        self._gather = jax.jit(lambda variables: variables, out_shardings=everywhere)

    def run(self, step: int, state: TrainState, writer: MetricsWriter, progress: tqdm) -> None:
        totals, counts = collections.Counter(), collections.Counter()
        tables, first_batch = collections.defaultdict(list), None
        variables = self._gather(state.variables)
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
        means = {f"test/{name}": value for name, value in means.items()}
        writer.write_scalars(step, means)
        # All processes draw, as the state may lie on all; one writes.
        sheet = self._task.draw_samples(variables, first_batch, self._key)
        if not processes.is_first_process():
            return
        progress.write(f"step {step}: " + _sentence(means), file=sys.stderr)
        images.write_image(self._samples / f"step_{step:07d}.png", sheet)
        writer.write_image(step, "samples", sheet)


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
    if not checkpoints.is_saved(workdir):
        return
    saved = checkpoints.read_config(workdir, stage=config.stage)
    ours = _flatten(config)
    added = {key: value for key, value in _ADDED.items() if key in ours}  # Some are of one stage.
    theirs = added | _flatten(saved)
    if "loss.region_weight" in theirs:  # It once stood for both.
        theirs.setdefault("loss.mouth_weight", theirs["loss.region_weight"])
    keys = sorted(key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key))
    may_change = _MAY_CHANGE | {"data.sha256"}
    if known := theirs.get("data.sha256"):  # Older runs did not write it down.
        may_change |= _DATA_PLACES
        if known != ours["data.sha256"]:
            raise InputError(
                f"{workdir}: was trained on other data than {config.data.path}; choose another "
                "--workdir, or pass the place of the same data as --config.data.path"
            )
    keys = [key for key in keys if key not in may_change]
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
        disable=not processes.is_first_process(),
        # A log file wants a line now and then, a terminal a moving bar.
        mininterval=0.5 if sys.stderr.isatty() else 20,
        dynamic_ncols=True,
    )


def _sentence(values: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in values.items())
