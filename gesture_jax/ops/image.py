"""Resizing of image batches, as the networks need it, masks of boxes, and cut-outs.

Functions that resize take `[*b, h, w, c]` and keep the dtype.
"""

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from gesture_jax.array_types import Array, FeatureMap, typechecked


@typechecked
def upsample_nearest(x: FeatureMap) -> Float[Array, "*b 2*h 2*w c"]:
    """Repeats every pixel twice along rows and columns: `[*b, 2h, 2w, c]`."""
    _check_map(x)
    return jnp.repeat(jnp.repeat(x, 2, axis=-3), 2, axis=-2)


@typechecked
def downsample_nearest(x: FeatureMap) -> Float[Array, "*b (h+1)//2 (w+1)//2 c"]:
    """Keeps the even rows and columns: `[*b, h/2, w/2, c]`."""
    _check_map(x)
    return x[..., ::2, ::2, :]


@typechecked
def average_pool(x: FeatureMap) -> Float[Array, "*b h//2 w//2 c"]:
    """The mean of every 2x2 block: `[*b, h/2, w/2, c]`; `h` and `w` must be even."""
    _check_map(x)
    *lead, height, width, channels = x.shape
    blocks = x.reshape(*lead, height // 2, 2, width // 2, 2, channels)
    return blocks.mean(axis=(-4, -2))


@typechecked
def pyramid(x: FeatureMap, *, num_levels: int) -> list[Float[Array, "*b _ _ c"]]:
    """The image at scales 1, 1/2, 1/4, ...: `num_levels` maps, the finest first."""
    _check_map(x)
    levels = [x]
    for _ in range(num_levels - 1):
        levels.append(average_pool(levels[-1]))
    return levels


@typechecked
def enlarge(x: FeatureMap, size: int) -> Float[Array, "*b {size} {size} c"]:
    """A square map, bilinearly interpolated to `[*b, size, size, c]`; its border extends outwards.

    Equals `jax.image.resize`, which multiplies by dense matrices. This reads each row and column
    from its two neighbours instead, which suits maps that grow to full pictures.
    """
    _check_map(x)
    for axis in (x.ndim - 3, x.ndim - 2):
        side = x.shape[axis]
        if side == size:
            continue
        index = np.clip((np.arange(size) + 0.5) * side / size - 0.5, 0.0, side - 1.0)
        low = np.minimum(index.astype(np.int32), side - 2)
        shape = [size if each == axis else 1 for each in range(x.ndim)]
        share = jnp.asarray((index - low).reshape(shape), x.dtype)
        take = lambda which, axis=axis, x=x: jnp.take(x, which, axis=axis, mode="clip")
        x = (1.0 - share) * take(low) + share * take(low + 1)
    return x


@typechecked
def box_blur(x: FeatureMap, size: int) -> FeatureMap:
    """The mean over a square of `size` pixels around each pixel; pixels outside count as 0.

    An even square reaches one pixel further down and to the right, like `"SAME"` padding.
    """
    _check_map(x)
    for axis in (x.ndim - 3, x.ndim - 2):
        window = [size if each == axis else 1 for each in range(x.ndim)]
        x = jax.lax.reduce_window(x, 0.0, jax.lax.add, window, (1,) * x.ndim, "SAME")
    return x / size**2


@typechecked
def fold(x: FeatureMap, factor: int) -> Float[Array, "*b h//{factor} w//{factor} _"]:
    """Space to depth: blocks of factor x factor pixels to channels, `[*b, h/f, w/f, f f c]`."""
    _check_map(x)
    *lead, height, width, channels = x.shape
    blocks = x.reshape(*lead, height // factor, factor, width // factor, factor, channels)
    blocks = jnp.moveaxis(blocks, -4, -3)
    return blocks.reshape(*lead, height // factor, width // factor, factor**2 * channels)


@typechecked
def unfold(x: FeatureMap, factor: int) -> Float[Array, "*b {factor}*h {factor}*w _"]:
    """Depth to space, the inverse of `fold`: `[*b, f h, f w, c / f^2]`."""
    _check_map(x)
    *lead, height, width, channels = x.shape
    blocks = x.reshape(*lead, height, width, factor, factor, channels // factor**2)
    blocks = jnp.moveaxis(blocks, -4, -3)
    return blocks.reshape(*lead, height * factor, width * factor, channels // factor**2)


@typechecked
def box_mask(
    boxes: Float[Array, "*b r 4"], *, height: int, width: int
) -> Float[Array, "*b {height} {width} 1"]:
    """1 on the pixels whose centres lie in one of the boxes, 0 on the others.

    Args:
      boxes: [*b, r, 4], `r` boxes of (left, top, right, bottom) in pixels, from the picture's top
        left corner; the centre of row i, column j lies at (j + 0.5, i + 0.5). Boxes without an
        area, such as zeros, cover nothing.
      height: of the picture in pixels.
      width: of the picture in pixels.

    Returns:
      [*b, h, w, 1] float32.
    """
    chex.assert_shape(boxes, (..., None, 4))
    chex.assert_type(boxes, float)
    left, top, right, bottom = jnp.moveaxis(jnp.asarray(boxes)[..., None], -2, 0)
    x, y = jnp.arange(width) + 0.5, jnp.arange(height) + 0.5
    columns, rows = (left <= x) & (x < right), (top <= y) & (y < bottom)
    inside = rows[..., :, None] & columns[..., None, :]
    return inside.any(axis=-3)[..., None].astype(jnp.float32)


@typechecked
def cut_squares(
    x: Float[Array, "b h w c"], centres: Float[Array, "b k 2"], *, size: int
) -> Float[Array, "b*k {size} {size} c"]:
    """Squares around points; a square that would leave the picture is moved back into it.

    Args:
      x: [b, h, w, c].
      centres: [b, k, 2], (x, y) in pixels.
      size: side of the squares in pixels.

    Returns:
      [b k, size, size, c].
    """
    chex.assert_rank(x, 4)
    chex.assert_shape(centres, (len(x), None, 2))
    chex.assert_type([x, centres], float)
    height, width, channels = x.shape[1:]
    last = jnp.array([width - size, height - size])
    corners = jnp.clip(jnp.round(centres - size / 2).astype(jnp.int32), 0, last)

    def cut(picture, corner):
        return jax.lax.dynamic_slice(picture, (corner[1], corner[0], 0), (size, size, channels))

    cut_all = jax.vmap(jax.vmap(cut, in_axes=(None, 0)))
    return cut_all(x, corners).reshape(-1, size, size, channels)


@typechecked
def read_points(x: Float[Array, "h w *r"], points: Float[Array, "k 2"]) -> Float[Array, "k *r"]:
    """Reads a map at points, bilinearly; beyond its border it keeps the border's values.

    Args:
      x: [h, w, *rest].
      points: [k, 2], (x, y) in units where the map reaches from -1 to 1.

    Returns:
      [k, *rest].
    """
    chex.assert_shape(x, (None, None, ...))
    chex.assert_shape(points, (None, 2))
    chex.assert_type([x, points], float)
    height, width = x.shape[:2]
    weights = [
        _hat_weights(points[:, 1], height),
        _hat_weights(points[:, 0], width),
    ]
    return jnp.einsum("kh,kw,hw...->k...", *weights, x)


def _check_map(x: FeatureMap) -> None:
    chex.assert_shape(x, (..., None, None, None))
    chex.assert_type(x, float)


def _hat_weights(position: jax.Array, size: int) -> jax.Array:
    """[k, size]: how much each cell counts at positions in [-1, 1]."""
    index = jnp.clip(((position + 1.0) * size - 1.0) / 2.0, 0.0, size - 1.0)
    return jnp.maximum(1.0 - jnp.abs(index[:, None] - jnp.arange(size)), 0.0)
