"""The training loop of every stage.

A task (`stage1.Stage1`, `stage2.Stage2`) holds the data, networks and losses of a stage. The loop
runs the steps and takes care of random keys, sharding, checkpoints, logging and evaluation. A run
is a function of config and data: the key of step n is `fold_in(key, n)` for a key made from the
seed, so that a resumed run uses the same keys without storing them.
"""

import contextlib
import sys
from collections.abc import Callable, Iterator

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict
from tqdm import tqdm

from gesture_jax.checkpoint import checkpoints, config_check
from gesture_jax.errors import InputError, Stopped
from gesture_jax.parallel import processes, sharding
from gesture_jax.storage.files import alone_in, as_path, expand_home, naming_full_disk
from gesture_jax.storage.output_paths import check_outputs
from gesture_jax.training import finetune, optim, resumption, stage1, stage2, step_metrics
from gesture_jax.training.evaluator import Evaluator
from gesture_jax.training.metrics_writer import MetricsWriter
from gesture_jax.training.monitor import TrainingMonitor
from gesture_jax.training.step import create_state, make_step
from gesture_jax.training.step_metrics import StepLog
from gesture_jax.training.stopping import stop_on_signal
from gesture_jax.training.task import TrainState

TASKS = {"stage1": stage1.Stage1, "stage2": stage2.Stage2}
# The parts of the tasks that need no data, for those who only compile a step.
OBJECTIVES = {"stage1": stage1.Objective, "stage2": stage2.Objective}


def train(
    config: ConfigDict, workdir: str, *, profile_steps: tuple[int, int] | None = None
) -> TrainState:
    """Trains the stage `config.stage`, from the newest checkpoint in `workdir` if there is one.

    Args:
      config: from `configs/stage1.py` or `configs/stage2.py`.
      workdir: gets `config.json`, `metrics.jsonl`, `checkpoints/`, `samples/`, `tensorboard/` and,
        for stage 2, `fgd.npz`.
      profile_steps: first and last step that JAX's profiler traces, into `workdir/profile`.

    Returns:
      The final state.

    Raises:
      Stopped: after SIGTERM, SIGHUP or Ctrl-C, once the state is saved.
      InputError: for missing data, a config that does not fit the checkpoint, another run in the
        same workdir, and similar mistakes.
      FloatingPointError: where a metric is not finite, or the gradient's norm is above
        `config.optim.max_grad_norm` (0 turns this check off).
    """
    config_check.check(config)
    checkpoints.check_writable(workdir)
    _expand_paths(config)
    check_outputs({"--workdir": workdir}, {"--config.data.path": config.data.path})
    mesh = _make_mesh(config)
    with _alone_in(workdir), naming_full_disk(workdir):
        return _train(config, workdir, mesh, profile_steps)


@contextlib.contextmanager
def _alone_in(workdir: str) -> Iterator[None]:
    """Refuses a second run in a workdir; the first of several processes holds the lock."""
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
    task = TASKS[config.stage](config, workdir)  # Sets the config's values that depend on the data.
    resumption.check_resumable(config, workdir)
    start = finetune.load_init_params(config, task.init, workdir)
    if processes.is_first_process():
        checkpoints.write_config(workdir, config)
    batches = task.train_batches()
    optimizer = optim.make_optimizer(config.optim, num_steps=config.num_steps)
    checkpointer = checkpoints.Checkpointer(workdir, keep=config.keep_checkpoints)
    try:
        state = _create_or_restore(config, task, optimizer, mesh, checkpointer, batches, start)
        del start  # Frees its memory.
        step_fn = make_step(
            task,
            optimizer,
            ema_decay=config.optim.ema_decay,
            mesh=mesh,
            num_parts=config.accumulate_steps,
            policy=config.get("remat", "none"),
        )
        monitor = TrainingMonitor(
            workdir,
            batch_size=config.batch_size,
            active=processes.is_first_process(),
            profile_steps=profile_steps,
        )
        with contextlib.closing(monitor):
            return _run(config, workdir, task, state, batches, step_fn, mesh, checkpointer, monitor)
    except FloatingPointError as error:
        raise _explain_divergence(error, workdir, checkpointer) from None
    finally:
        checkpointer.close()
        batches.close()


def _explain_divergence(
    error: FloatingPointError, workdir: str, checkpointer: checkpoints.Checkpointer
) -> FloatingPointError:
    checkpointer.wait()
    saved = checkpointer.latest_step
    kept = f"the checkpoint of step {saved} is whole" if saved else "nothing was saved yet"
    anew = f" in another --workdir with --config.init_from={workdir}" if saved else ""
    return FloatingPointError(
        f"{workdir}: {error}; {kept}; try a lower --config.optim.learning_rate{anew}"
    )


def _expand_paths(config: ConfigDict) -> None:
    """Replaces `~` in the config's paths by the home folder."""
    known = resumption.flatten(config)
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


def _create_or_restore(config, task, optimizer, mesh, checkpointer, batches, start) -> TrainState:
    create = lambda start=None: create_state(task, optimizer, seed=config.seed, start=start)
    shardings = sharding.state_shardings(jax.eval_shape(create), mesh)
    if checkpointer.latest_step is None:
        return jax.jit(create, out_shardings=shardings)(sharding.replicate(start, mesh))
    return checkpointer.restore(sharding.abstract(create, shardings), batches)


def _run(
    config, workdir, task, state, batches, step_fn: Callable, mesh, checkpointer, monitor
) -> TrainState:
    first = int(state.step)
    make_key = lambda: jax.random.key(config.seed + 1)
    base_key = jax.jit(make_key, out_shardings=sharding.replicated(mesh))()
    frozen = sharding.replicate(task.frozen, mesh)
    evaluator = Evaluator(task, frozen, base_key, as_path(workdir), mesh)
    with (
        contextlib.closing(
            MetricsWriter(workdir, step=first, active=processes.is_first_process())
        ) as writer,
        _progress_bar(config, first) as progress,
        stop_on_signal() as stop,
    ):
        log = StepLog(config, writer, progress, monitor)
        for step in range(first + 1, config.num_steps + 1):
            with monitor.waiting():
                batch = sharding.shard_batch(next(batches), mesh)
            state, metrics = monitor.step(step, step_fn, state, frozen, batch, base_key)
            sharding.settle(state, mesh)
            progress.update()
            log.flush()  # One step late, so that fetching never makes the device wait.
            if _is_due(step, config.log_every_steps, config.num_steps):
                log.hold(step, metrics)
            if _is_due(step, config.eval_every_steps, config.num_steps):
                log.flush()
                step_metrics.fetch(config, step, metrics)
                with monitor.paused():
                    evaluator.run(step, state, writer, progress)
            stopped = stop(step) if step < config.num_steps else 0
            if stopped or _is_due(step, config.checkpoint_every_steps, config.num_steps):
                log.flush()  # All metrics before a checkpoint are on disk when it is saved.
                writer.flush()
                step_metrics.fetch(config, step, metrics)
                with monitor.paused():
                    checkpointer.save(step, state, batches)
            if stopped:
                checkpointer.wait()
                raise Stopped(
                    f"{workdir}: stopped at step {step} of {config.num_steps}, which is saved; the "
                    "same command resumes from it",
                    stopped,
                )
    return state


def _is_due(step: int, every: int, last: int) -> bool:
    """Returns whether a step is the last one or a multiple of `every`; never where that is 0."""
    return every > 0 and (step % every == 0 or step == last)


def _progress_bar(config: ConfigDict, first: int) -> tqdm:
    return tqdm(
        total=config.num_steps,
        initial=first,
        unit="step",
        desc=config.stage,
        disable=not processes.is_first_process(),
        # A log file gets a line now and then, a terminal gets a moving bar.
        mininterval=0.5 if sys.stderr.isatty() else 20,
        dynamic_ncols=True,
    )
