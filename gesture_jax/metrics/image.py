"""Measures of paired pictures."""

import jax
import jax.numpy as jnp

from gesture_jax.array_types import Image


def psnr(image: Image, target: Image) -> jax.Array:
    """Peak signal-to-noise ratio in dB, one value a picture.

    10 log10(1 / MSE), the mean over all pixels and channels; 100 where the MSE is below 1e-10.

    Args:
      image: [*b, h, w, 3] in [0, 1].
      target: the same.

    Returns:
      [*b].
    """
    mse = jnp.square(image - target).mean(axis=(-3, -2, -1))
    return -10.0 * jnp.log10(jnp.maximum(mse, 1e-10))
