"""Resizing of image batches, the ways that the networks need it.

All functions take `[*b, h, w, c]` and keep the dtype.
"""

import jax.numpy as jnp

from gesture_jax.array_types import FeatureMap


def upsample_nearest(x: FeatureMap) -> FeatureMap:
    """Repeats every pixel twice along rows and columns: `[*b, 2h, 2w, c]`."""
    return jnp.repeat(jnp.repeat(x, 2, axis=-3), 2, axis=-2)


def downsample_nearest(x: FeatureMap) -> FeatureMap:
    """Keeps the even rows and columns: `[*b, h/2, w/2, c]`."""
    return x[..., ::2, ::2, :]


def average_pool(x: FeatureMap) -> FeatureMap:
    """The mean of every 2x2 block: `[*b, h/2, w/2, c]`; `h` and `w` must be even."""
    *lead, height, width, channels = x.shape
    blocks = x.reshape(*lead, height // 2, 2, width // 2, 2, channels)
    return blocks.mean(axis=(-4, -2))


def pyramid(x: FeatureMap, *, num_levels: int) -> list[FeatureMap]:
    """The image at scales 1, 1/2, 1/4, ...: `num_levels` maps, the finest first."""
    levels = [x]
    for _ in range(num_levels - 1):
        levels.append(average_pool(levels[-1]))
    return levels
