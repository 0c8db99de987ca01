"""Joins the windows of motion: continues the past, blends, and returns to the portrait's pose."""

import math

import jax
import jax.numpy as jnp

from gesture_jax.array_types import MotionSequence
from gesture_jax.inference.motion_scales import smooth_step
from gesture_jax.media.rates import FPS

# Time over which the running mean of motion is taken, and the share of it that each window undoes.
# The share is per window and not per second, as each window adds to the drift, and a stream has
# seven times as many windows.
_DRIFT_SEC, RETURNED = 2.0, 0.7


def cost(
    candidates: MotionSequence,
    prior: jax.Array,
    ahead: jax.Array,
    *,
    scale: jax.Array | float = 1.0,
) -> jax.Array:
    """Compares the beginning of candidates with the end of the last window.

    Args:
      candidates: [n, t, d].
      prior: [p, d], the last kept frames of the window before.
      ahead: [blend, d], its frames after these.
      scale: [d], the usual size of each feature.

    Returns:
      [n], the sum of the mean absolute differences of positions and of velocities.
    """
    first = candidates[:, : len(ahead)]
    last = prior[-1:]
    velocity = lambda frames: jnp.diff(frames, axis=-2, prepend=jnp.broadcast_to(
        last, (*frames.shape[:-2], *last.shape)
    ))  # fmt: skip
    error = lambda one, other: jnp.abs((one - other) / scale).mean(axis=(-2, -1))
    return error(first, ahead) + error(velocity(first), velocity(ahead))


def continue_from(past: jax.Array, windows: jax.Array) -> jax.Array:
    """Moves windows so that they begin where the past was heading.

    Portraits of strangers have an appearance that training did not show. The network mistakes it
    for another pose, so that each of its windows begins at the same offset from the past.

    Args:
      past: [p, d], the frames before.
      windows: [n, t, d].
    """
    last, before = past[-1], past[-min(2, len(past))]
    return windows + (2.0 * last - before - windows[:, :1])


def update_drift(drift: jax.Array, windows: jax.Array, hop: int) -> jax.Array:
    """Updates the running mean of motion, [d], by each of several windows: [n, d]."""
    share = 1.0 - math.exp(-hop / (_DRIFT_SEC * FPS))
    return drift + share * (windows[:, :hop].mean(axis=-2) - drift)


def return_to_rest(windows: jax.Array, drifts: jax.Array, hop: int) -> jax.Array:
    """Moves windows, which are relative to the portrait's pose, back to it by a share of the drift.

    In training the portrait is any frame of a clip. A network that is given a past away from that
    pose therefore takes it for the usual pose of this person and continues from there, so that the
    errors of windows would add up over minutes. Gestures themselves have a small mean.

    Args:
      windows: [n, t, d].
      drifts: [n, d].
      hop: number of frames over which the move builds up.
    """
    progress = smooth_step(jnp.minimum((jnp.arange(windows.shape[-2]) + 1.0) / hop, 1.0))
    return windows - RETURNED * progress[:, None] * drifts[:, None]


def fade(ahead: jax.Array, window: jax.Array, *, blend: int, memory: float = 0.0) -> jax.Array:
    """Fades from the frames ahead into a window.

    Args:
      ahead: [a, d], what earlier windows predicted for the first frames of this one.
      window: [t, d].
      blend: number of frames over which the window fades in.
      memory: share of the earlier windows in all frames that they predicted. Each frame is then an
        average over windows, as in the temporal ensemble of ACT (Zhao et al. 2023), which takes
        the trembling out of short hops.
    """
    count = len(ahead)
    weight = smooth_step(jnp.minimum((jnp.arange(count) + 1.0) / (blend + 1.0), 1.0))
    weight = jnp.minimum(weight, 1.0 - memory)[:, None]
    return window.at[:count].set((1.0 - weight) * ahead + weight * window[:count])
