"""Builds the network, the diffusion process and the sampling of a stage-2 config.

It is separate from the training task, so that generating imports nothing from training.
"""

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from gesture_jax.diffusion.process import GaussianProcess
from gesture_jax.diffusion.samplers import make_sampler
from gesture_jax.models.denoiser import MotionDenoiser, Sampling
from gesture_jax.models.motion_space import BOUNDS, MotionSpace, Statistics
from gesture_jax.parallel.aot_cache import cached_jit


def build(config: ConfigDict) -> tuple[MotionSpace, MotionDenoiser]:
    """Builds the motion space and the network of a stage-2 config with known sizes."""
    num_lips = config.get("num_lips", 0)  # Older runs lack it.
    space = MotionSpace(config.motion_space, config.feature_dim, config.relative, num_lips)
    model = MotionDenoiser(
        motion_dim=space.dim,
        speech_dim=config.speech_dim,
        num_speakers=len(config.speakers),
        portrait=config.relative,
        **config.model,
    )
    return space, model


def make_process(config: ConfigDict) -> GaussianProcess:
    """Builds the diffusion process of a stage-2 config."""
    return GaussianProcess(**config.process)


def make_sampling(config: ConfigDict) -> Sampling:
    """Builds the sampling of a stage-2 config.

    Raises:
      InputError: for an unknown sampler or values out of range.
    """
    sampler = config.sampler
    return Sampling(
        make_sampler(
            sampler.name, num_steps=sampler.num_steps, eta=sampler.eta, clip=sampler.clip or None
        ),
        guidance=sampler.guidance,
        interval=tuple(sampler.interval),
    )


def abstract_variables(config: ConfigDict) -> dict:
    """Returns the shapes of the variables of a stage-2 checkpoint without computing them."""
    space, model = build(config)
    params = cached_jit(blank_params, model).shapes()
    motion = jax.ShapeDtypeStruct((space.dim,), jnp.float32)
    speech = jax.ShapeDtypeStruct((config.speech_dim,), jnp.float32)
    radius = jax.ShapeDtypeStruct((1,), jnp.float32)
    statistics = Statistics(
        motion_mean=motion,
        motion_std=motion,
        motion_reach=motion,
        motion_radius=radius,
        pose_std=motion,
        pose_reach=motion,
        pose_radius=radius,
        speech_mean=speech,
        speech_std=speech,
    )
    if space.num_lips:
        lip_motion = jax.ShapeDtypeStruct((space.num_lips, space.body_dim), jnp.float32)
        statistics["lip_motion"] = lip_motion
    if not config.get("training_bounds", False):  # Older runs lack it.
        statistics = {name: x for name, x in statistics.items() if name not in BOUNDS}
    return {"params": params, "statistics": statistics}


def blank_params(model: MotionDenoiser) -> dict:
    """Returns zeros for all parameters; once they are traced, their shapes are found quickly."""
    shapes = jax.eval_shape(model.init_variables, jax.random.key(0))["params"]
    return jax.tree.map(jnp.zeros_like, shapes)
