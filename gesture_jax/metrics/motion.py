"""Measures of motion that need no joints."""

import jax
import jax.numpy as jnp
import numpy as np

from gesture_jax.array_types import MotionSequence

_SMOOTHING_FRAMES = 2.0


def speed(motion: MotionSequence) -> jax.Array:
    """How fast a motion sequence moves, smoothed by a Gaussian of 80 ms.

    Args:
      motion: [*b, t, d], features of comparable scale.

    Returns:
      [*b, t - 1], root mean square over the features of the change from frame to frame.
    """
    rate = jnp.sqrt(jnp.square(jnp.diff(motion, axis=-2)).mean(axis=-1))
    offsets = np.arange(-6, 7)
    kernel = np.exp(-0.5 * (offsets / _SMOOTHING_FRAMES) ** 2)
    smooth = jnp.vectorize(lambda x: jnp.convolve(x, kernel, mode="same"), signature="(t)->(t)")
    # Near the ends the kernel loses weight; what is left is made to sum to one.
    return smooth(rate) / smooth(jnp.ones_like(rate))


def speed_error(generated: MotionSequence, real: MotionSequence) -> jax.Array:
    """Distance between two speed curves, relative to the real one: 1 for no motion at all.

    Speech says when and how strongly people move, far less where to; so the comparison is of when
    and how strongly. Mean absolute difference of `speed` over the mean real speed.

    Args:
      generated: [*b, t, d].
      real: the same.

    Returns:
      [*b].
    """
    real_speed = speed(real)
    difference = jnp.abs(speed(generated) - real_speed).mean(axis=-1)
    return difference / jnp.maximum(real_speed.mean(axis=-1), 1e-8)


def speed_correlation(generated: MotionSequence, real: MotionSequence) -> jax.Array:
    """Do both move at the same moments? Pearson's correlation of the two speed curves.

    1 for the same timing, about 0 for motion that follows other speech, 0 for no motion at all.

    Args:
      generated: [*b, t, d].
      real: the same.

    Returns:
      [*b].
    """
    curves = [speed(motion) for motion in (generated, real)]
    one, other = (curve - curve.mean(axis=-1, keepdims=True) for curve in curves)
    norm = jnp.sqrt(jnp.square(one).sum(axis=-1) * jnp.square(other).sum(axis=-1))
    return (one * other).sum(axis=-1) / jnp.maximum(norm, 1e-8)
