"""LPIPS (Zhang et al. 2018, https://arxiv.org/abs/1801.03924), a distance of network features.

Two networks share the scaling of pictures and the formula: `alexnet` (v0.1) and the shift-tolerant
`vgg` (ST-LPIPS, Ghildyal and Liu 2022, https://arxiv.org/abs/2207.13686).
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

# The scaling layer of LPIPS, for pictures in [-1, 1]; ImageNet's mean and deviation.
_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
_EPSILON = 1e-10


def standardise(image: jax.Array) -> jax.Array:
    """Scales pictures [b, h, w, 3] in [0, 1] to the range of networks trained on ImageNet."""
    return (2.0 * image - 1.0 - jnp.array(_SHIFT)) / jnp.array(_SCALE)


def lpips_distance(
    ours: Sequence[jax.Array],
    theirs: Sequence[jax.Array],
    heads: Sequence[jax.Array],
    mask: jax.Array | None = None,
) -> jax.Array:
    """Computes LPIPS from the features of pictures.

    Features are normalised to unit length over their channels. Their squared difference is weighted
    by the heads, averaged over the picture, and summed over the blocks.

    Args:
      ours: features of pictures, for each block [b, h', w', c].
      theirs: features of the pictures to compare with.
      heads: for each block [c], weights of its channels.
      mask: [b, h, w, 1], 1 where a difference counts and 0 elsewhere, or None if it counts
        everywhere. It is resized to each block; the receptive fields extend beyond its border.

    Returns:
      [b], 0 for equal pictures; NaN if nothing counts.
    """
    total = 0.0
    for one, other, head in zip(ours, theirs, heads, strict=True):
        difference = jnp.square(_unit(one) - _unit(other))
        total = total + _mean(difference @ head, mask)
    return total


def _mean(values: jax.Array, mask: jax.Array | None) -> jax.Array:
    if mask is None:
        return values.mean(axis=(1, 2))
    weights = jax.image.resize(mask[..., 0], values.shape, "linear")
    count = weights.sum(axis=(1, 2))
    return jnp.where(count > 0, (values * weights).sum(axis=(1, 2)) / count, jnp.nan)


def _unit(x: jax.Array) -> jax.Array:
    # The gradient of the length has to stay finite where all features are zero.
    squares = jnp.sum(jnp.square(x), axis=-1, keepdims=True)
    length = jnp.sqrt(jnp.where(squares > 0, squares, 1.0)) * (squares > 0)
    return x / (length + _EPSILON)
