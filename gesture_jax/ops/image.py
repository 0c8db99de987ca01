"""Resizing of image batches, the ways that the networks need it, and masks of boxes.

What resizes takes `[*b, h, w, c]` and keeps the dtype.
"""

import jax
import jax.numpy as jnp
import numpy as np

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


def enlarge(x: FeatureMap, size: int) -> FeatureMap:
    """A square map bilinearly at a larger size, `[*b, size, size, c]`; its border goes on.

    The same as `jax.image.resize`, which multiplies by dense matrices: here each row and column is
    read from its two neighbours, for maps that are enlarged to full pictures.
    """
    for axis in (x.ndim - 3, x.ndim - 2):
        side = x.shape[axis]
        index = np.clip((np.arange(size) + 0.5) * side / size - 0.5, 0.0, side - 1.0)
        low = np.minimum(index.astype(np.int32), side - 2)
        shape = [size if each == axis else 1 for each in range(x.ndim)]
        share = jnp.asarray((index - low).reshape(shape), x.dtype)
        take = lambda which, axis=axis, x=x: jnp.take(x, which, axis=axis, mode="clip")
        x = (1.0 - share) * take(low) + share * take(low + 1)
    return x


def box_blur(x: FeatureMap, size: int) -> FeatureMap:
    """The mean over a square of `size` pixels around each pixel; what lies outside counts as 0.

    An even square reaches one pixel further down and to the right, as `"SAME"` padding has it.
    """
    for axis in (x.ndim - 3, x.ndim - 2):
        window = [size if each == axis else 1 for each in range(x.ndim)]
        x = jax.lax.reduce_window(x, 0.0, jax.lax.add, window, (1,) * x.ndim, "SAME")
    return x / size**2


def fold(x: FeatureMap, factor: int) -> FeatureMap:
    """Blocks of factor x factor pixels to channels: `[*b, h/f, w/f, f f c]`."""
    *lead, height, width, channels = x.shape
    blocks = x.reshape(*lead, height // factor, factor, width // factor, factor, channels)
    blocks = jnp.moveaxis(blocks, -4, -3)
    return blocks.reshape(*lead, height // factor, width // factor, factor**2 * channels)


def unfold(x: FeatureMap, factor: int) -> FeatureMap:
    """The inverse of `fold`, channels to pixels: `[*b, f h, f w, c / f^2]`."""
    *lead, height, width, channels = x.shape
    blocks = x.reshape(*lead, height, width, factor, factor, channels // factor**2)
    blocks = jnp.moveaxis(blocks, -4, -3)
    return blocks.reshape(*lead, height * factor, width * factor, channels // factor**2)


def box_mask(boxes: jax.Array, *, height: int, width: int) -> FeatureMap:
    """1 on the pixels whose centres lie in one of the boxes, 0 on the others.

    Args:
      boxes: [*b, r, 4], `r` boxes of (left, top, right, bottom) in pixels, from the picture's top
        left corner; the centre of row i, column j lies at (j + 0.5, i + 0.5). Boxes without an
        area, such as zeros, cover nothing.
      height: of the picture in pixels.
      width: likewise.

    Returns:
      [*b, h, w, 1] float32.
    """
    left, top, right, bottom = jnp.moveaxis(jnp.asarray(boxes)[..., None], -2, 0)
    x, y = jnp.arange(width) + 0.5, jnp.arange(height) + 0.5
    columns, rows = (left <= x) & (x < right), (top <= y) & (y < bottom)
    inside = rows[..., :, None] & columns[..., None, :]
    return inside.any(axis=-3)[..., None].astype(jnp.float32)


def cut_squares(x: FeatureMap, centres: jax.Array, *, size: int) -> FeatureMap:
    """Squares around points, moved into the picture where they would leave it.

    Args:
      x: [b, h, w, c].
      centres: [b, k, 2], (x, y) in pixels.
      size: side of the squares in pixels.

    Returns:
      [b k, size, size, c].
    """
    height, width, channels = x.shape[1:]
    last = jnp.array([width - size, height - size])
    corners = jnp.clip(jnp.round(centres - size / 2).astype(jnp.int32), 0, last)

    def cut(picture, corner):
        return jax.lax.dynamic_slice(picture, (corner[1], corner[0], 0), (size, size, channels))

    squares = jax.vmap(lambda picture, those: jax.vmap(lambda one: cut(picture, one))(those))
    return squares(x, corners).reshape(-1, size, size, channels)


def read_points(x: jax.Array, points: jax.Array) -> jax.Array:
    """Reads a map at points, bilinearly; outside, its border goes on.

    Args:
      x: [h, w, *rest].
      points: [k, 2], (x, y) in units where the map reaches from -1 to 1.

    Returns:
      [k, *rest].
    """
    height, width = x.shape[:2]
    weights = [
        _hat_weights(points[:, 1], height),
        _hat_weights(points[:, 0], width),
    ]
    return jnp.einsum("kh,kw,hw...->k...", *weights, x)


def _hat_weights(position: jax.Array, size: int) -> jax.Array:
    """[k, size]: how much each cell counts at places in [-1, 1]."""
    index = jnp.clip(((position + 1.0) * size - 1.0) / 2.0, 0.0, size - 1.0)
    return jnp.maximum(1.0 - jnp.abs(index[:, None] - jnp.arange(size)), 0.0)
