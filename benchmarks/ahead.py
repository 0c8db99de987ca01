"""Programs on abstract arrays, which can be compiled without devices, data or memory.

These are the package's own programs: the training step of `training.loop`, rendering as in
`Animator`, and sampling as in `WindowSampler`.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from jax.sharding import Mesh, SingleDeviceSharding
from ml_collections import ConfigDict

from benchmarks import compiled
from gesture_jax import presets
from gesture_jax.errors import InputError
from gesture_jax.inference import windows
from gesture_jax.inference.programs import abstract_variables, render_batch
from gesture_jax.models import motion_model
from gesture_jax.models.build import build_model
from gesture_jax.models.denoiser import MotionDenoiser
from gesture_jax.parallel import sharding
from gesture_jax.training import loop, optim


class Program(NamedTuple):
    """A function to compile, its abstract arguments, and the learned ones among these."""

    function: Any
    arguments: tuple
    state: Any

    def lower(self) -> jax.stages.Lowered:
        """Returns the lowered program, ready for compilation."""
        return self.function.lower(*self.arguments)


def make_objective(config: ConfigDict) -> Any:
    """Makes a stage without data; sizes that depend on data are those of the preset's stage 1."""
    if config.stage == "stage2" and not config.feature_dim:
        stage1 = presets.load(f"configs/stage1.py:{config.preset}")
        config.feature_dim = build_model(**stage1.model).motion_dim
        config.speech_dim = MotionDenoiser.speech_dim
    return loop.OBJECTIVES[config.stage](config)


def abstract_state(config: ConfigDict, mesh: Mesh) -> loop.TrainState:
    """Returns shapes and shardings of the state from which training starts."""
    create = _creator(config)
    return sharding.abstract(create, sharding.state_shardings(jax.eval_shape(create), mesh))


def create_state(config: ConfigDict, abstract: loop.TrainState) -> loop.TrainState:
    """Creates that state, with the shardings that `abstract_state` returns."""
    where = jax.tree.map(lambda leaf: leaf.sharding, abstract)
    return jax.jit(_creator(config), out_shardings=where)()


def train_step(config: ConfigDict, devices: Sequence[Any], batch_size: int) -> Program:
    """Makes the training step for a batch that is split over all devices.

    Raises:
      InputError: if the batch or the config's mesh does not fit the devices.
    """
    part_size = batch_size // config.accumulate_steps
    mesh = sharding.make_mesh(config.mesh.to_dict(), batch_size=part_size, devices=devices)
    objective = make_objective(config)
    state = abstract_state(config, mesh)
    step = loop.make_step(
        objective,
        _optimizer(config),
        ema_decay=config.optim.ema_decay,
        mesh=mesh,
        num_parts=config.accumulate_steps,
        policy=config.remat,
    )
    frozen = sharding.place(objective.abstract_frozen(), sharding.replicated(mesh))
    key = sharding.place(_abstract_key(), sharding.replicated(mesh))
    batch = sharding.place(objective.abstract_batch(batch_size), sharding.batch_sharding(mesh))
    return Program(step, (state, frozen, batch, key), state)


def running_step(config: ConfigDict, program: Program) -> tuple[Callable, compiled.Report]:
    """Returns a function that runs the step on a random batch, and the compiler's report on it.

    Args:
      config: the config from which `program` was made.
      program: made by `train_step`.
    """
    step = program.lower().compile()
    random = np.random.default_rng(0)
    _, frozen, batch, key = program.arguments
    # Integers, such as speaker numbers, all become 0.
    draw = lambda one: jax.device_put(random.random(one.shape).astype(one.dtype), one.sharding)
    frozen, batch = jax.tree.map(draw, (frozen, batch))
    key = jax.device_put(jax.random.key(0), key.sharding)
    state = create_state(config, program.state)

    def run():
        nonlocal state
        state, metrics = step(state, frozen, batch, key)
        return metrics

    return run, compiled.read(step)


def render(config: ConfigDict, device: Any, batch_size: int) -> Program:
    """Makes the program that renders a batch of frames of one portrait on one device.

    Raises:
      InputError: for a config of stage 2.
    """
    _check_stage(config, "stage1", "render")
    model = build_model(**config.model)
    variables = abstract_variables(model)
    resolution = config.model.resolution
    picture = jax.ShapeDtypeStruct((1, resolution, resolution, 3), "f4")
    encode = lambda variables, picture: model.apply(variables, picture, method="encode_source")
    source = jax.eval_shape(encode, variables, picture)
    motion = jax.ShapeDtypeStruct((batch_size, model.motion_dim), "f4")
    arguments = sharding.place((variables, source, motion), SingleDeviceSharding(device))
    return Program(jax.jit(render_batch, static_argnums=0), (model, *arguments), arguments[0])


def sample(config: ConfigDict, device: Any, candidates: int) -> Program:
    """Makes the program that samples a window of motion on one device.

    The window is the best of some candidates, with the schedule for whole recordings.

    Raises:
      InputError: for a config of stage 1.
    """
    _check_stage(config, "stage2", "sample")
    objective = make_objective(config)
    model, space = objective.model, objective.space
    pace = windows.WindowSchedule(**{**config.schedule, "candidates": candidates})
    variables = motion_model.abstract_variables(config)
    vectors = lambda *shape: jax.ShapeDtypeStruct((*shape, space.dim), "f4")
    heading = windows.WindowState(
        vectors(), vectors(model.num_prior), vectors(pace.blend), vectors()
    )
    speech = jax.ShapeDtypeStruct((model.window, config.speech_dim), "f4")
    scalar = jax.ShapeDtypeStruct((), "f4")
    steps = objective.sampling.sampler.steps(objective.process, padded=True)
    arguments = (variables, _abstract_key(), heading, speech, None, scalar, steps, scalar, scalar)
    arguments = sharding.place(arguments, SingleDeviceSharding(device))
    static = (model, space, objective.process, pace, objective.sampling.interval, None)
    next_window = jax.jit(windows.next_window, static_argnums=range(len(static)))
    return Program(next_window, (*static, *arguments), arguments[0])


def bytes_a_device(tree: Any) -> int:
    """Returns how many bytes of abstract arrays with shardings each device holds."""
    size = lambda leaf: leaf.dtype.itemsize * math.prod(leaf.sharding.shard_shape(leaf.shape))
    return sum(size(leaf) for leaf in jax.tree.leaves(tree))


def _abstract_key() -> jax.ShapeDtypeStruct:
    return jax.eval_shape(lambda: jax.random.key(0))


def _creator(config: ConfigDict) -> Callable[[], loop.TrainState]:
    objective, optimizer = make_objective(config), _optimizer(config)
    return lambda: loop.create_state(objective, optimizer, seed=config.seed)


def _optimizer(config: ConfigDict) -> optax.GradientTransformation:
    return optim.make_optimizer(config.optim, num_steps=config.num_steps)


def _check_stage(config: ConfigDict, stage: str, part: str) -> None:
    if config.stage != stage:
        raise InputError(f"--part={part} needs a config of {stage}, not of {config.stage}")
