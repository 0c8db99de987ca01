"""The warps: a volume sampled where a field of 3x3 matrices and one translation say.

`deviation_warp` is the reference's, in three dimensions; `exact_deviation_warp` the same without
its half cell of misfit. `flow_warp` reads the same field as a plain displacement of each cell: the
exact identity where it is zero, and easier to learn by far.
"""

import functools
import itertools

import jax
import jax.numpy as jnp

from gesture_jax.array_types import FeatureMap


def deviation_warp(volume: FeatureMap, field: jax.Array, translation: jax.Array) -> FeatureMap:
    """Samples V at (I + M) g + t, trilinearly, zero outside.

    The channels of V are the depth axis of the volume. g is the grid point, (x, y, z) along width,
    height and depth, each from -1 to 1 inclusive; yet a position p in [-1, 1] reads index
    ((p + 1) N - 1) / 2. So a zero field is not quite the identity: that is the reference's
    arithmetic (reference 2.6), kept for its weights.

    Args:
      volume: [b, h, w, d].
      field: [b, h, w, 3, 3], the deviation M of each cell, the same at all depths.
      translation: [b, 3], t.

    Returns:
      [b, h, w, d], of the volume's dtype.
    """
    # Example by example, so that an example's samples are read from its own volume only: a gather
    # over the whole batch would make a sharded program fetch all volumes to every device.
    return jax.vmap(functools.partial(_warp_one, exact=False))(volume, field, translation)


def exact_deviation_warp(
    volume: FeatureMap, field: jax.Array, translation: jax.Array
) -> FeatureMap:
    """`deviation_warp`, but the identity where field and translation are zero.

    A position p reads index (p + 1) (N - 1) / 2, so that -1 and 1 are the first and last cells'
    centres.
    """
    return jax.vmap(functools.partial(_warp_one, exact=True))(volume, field, translation)


def flow_warp(volume: FeatureMap, field: jax.Array, translation: jax.Array) -> FeatureMap:
    """Samples V, all channels alike, at (x, y) + M[:2, 2] + t[:2], bilinearly; the border goes on.

    Args:
      volume: [b, h, w, d].
      field: [b, h, w, 3, 3]; the last column of M is the displacement, in units where the frame
        reaches from -1 to 1.
      translation: [b, 3], t.

    Returns:
      [b, h, w, d], of the volume's dtype.
    """
    return jax.vmap(_flow_one)(volume, field, translation)


def _flow_one(volume: jax.Array, field: jax.Array, translation: jax.Array) -> jax.Array:
    height, width, _ = volume.shape
    shift = field[..., 2].astype(jnp.float32) + translation
    x, y = jnp.linspace(-1.0, 1.0, width), jnp.linspace(-1.0, 1.0, height)
    x_low, x_high, x_part = _between(x[None, :] + shift[..., 0], width)
    y_low, y_high, y_part = _between(y[:, None] + shift[..., 1], height)
    read = lambda y, x: volume.at[y, x].get(mode="promise_in_bounds")
    upper = read(y_low, x_low) * (1.0 - x_part) + read(y_low, x_high) * x_part
    lower = read(y_high, x_low) * (1.0 - x_part) + read(y_high, x_high) * x_part
    return (upper * (1.0 - y_part) + lower * y_part).astype(volume.dtype)


def _between(position: jax.Array, size: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Neighbours of a position in [-1, 1] among `size` cells, and how far between them it lies."""
    index = jnp.clip((position + 1.0) / 2.0 * (size - 1), 0.0, size - 1)
    low = jnp.minimum(jnp.floor(index), size - 2).astype(jnp.int32)
    return low, low + 1, (index - low)[..., None]


def _warp_one(
    volume: jax.Array, field: jax.Array, translation: jax.Array, *, exact: bool
) -> jax.Array:
    height, width, depth = volume.shape
    positions = _positions((height, width, depth), field, translation)
    sizes = width, height, depth
    cells = (_cell(p, n, exact=exact) for p, n in zip(positions, sizes, strict=True))
    low, fraction = zip(*cells, strict=True)
    # One cell of zeros all around stands for everything outside.
    padded = jnp.pad(volume, 1)
    flat = padded.ravel()
    warped = 0.0
    for corner in itertools.product((0, 1), repeat=3):
        x, y, z = (index + c for index, c in zip(low, corner, strict=True))
        weight = 1.0
        for part, c in zip(fraction, corner, strict=True):
            weight = weight * (part if c else 1.0 - part)
        value = flat.at[(y * (width + 2) + x) * (depth + 2) + z].get(mode="promise_in_bounds")
        warped = warped + weight * value
    return warped.astype(volume.dtype)


def _positions(shape, field: jax.Array, translation: jax.Array) -> list[jax.Array]:
    """x, y and z in [-1, 1] of every sample, each [h, w, d].

    Along the depth of a cell they lie on a straight line, so a base and a step a cell are enough.
    """
    height, width, depth = shape
    x = jnp.linspace(-1.0, 1.0, width)[None, :]
    y = jnp.linspace(-1.0, 1.0, height)[:, None]
    z = jnp.linspace(-1.0, 1.0, depth)
    matrix = field.astype(jnp.float32) + jnp.eye(3)
    base = matrix[..., 0] * x[..., None] + matrix[..., 1] * y[..., None] + translation
    step = matrix[..., 2]
    return [base[..., axis, None] + step[..., axis, None] * z for axis in range(3)]


def _cell(position: jax.Array, size: int, *, exact: bool) -> tuple[jax.Array, jax.Array]:
    """Index of the lower neighbour in the padded axis, and how far beyond it the position lies."""
    inclusive = (position + 1.0) * (size - 1.0) / 2.0
    index = inclusive if exact else ((position + 1.0) * size - 1.0) / 2.0
    index = jnp.clip(index, -1.0, size)
    low = jnp.minimum(jnp.floor(index), size - 1)
    return low.astype(jnp.int32) + 1, index - low
