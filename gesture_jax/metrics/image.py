"""PSNR and SSIM between pictures."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from gesture_jax.array_types import Array, Image, PixelWeights, typechecked

_WINDOW_PX = 11
_WINDOW = np.exp(-0.5 * np.square((np.arange(_WINDOW_PX) - _WINDOW_PX // 2) / 1.5))
_WINDOW = (_WINDOW / _WINDOW.sum()).tolist()  # Plain numbers leave float32 as it is.
# The constants of SSIM for pictures in [0, 1].
_C1, _C2 = 0.01**2, 0.03**2


@typechecked
def psnr(image: Image, target: Image, mask: PixelWeights | None = None) -> Float[Array, "*b"]:
    """Peak signal-to-noise ratio in dB, one value for each picture.

    10 log10(1 / MSE), with the mean over pixels and channels; 100 where the MSE is below 1e-10.

    Args:
      image: [*b, h, w, 3] in [0, 1].
      target: the same.
      mask: [*b, h, w, 1], 1 on the pixels that count and 0 on the others; all count by default.

    Returns:
      [*b]; NaN where no pixel counts.
    """
    _check_pictures(image, target, mask)
    squares = jnp.square(image - target).mean(axis=-1, keepdims=True)
    weights = jnp.ones_like(squares) if mask is None else mask
    count = weights.sum(axis=(-3, -2, -1))
    mse = (squares * weights).sum(axis=(-3, -2, -1)) / jnp.maximum(count, 1.0)
    return jnp.where(count > 0, -10.0 * jnp.log10(jnp.maximum(mse, 1e-10)), jnp.nan)


@typechecked
def ssim(image: Image, target: Image, mask: PixelWeights | None = None) -> Float[Array, "*b"]:
    """Structural similarity (Wang et al. 2004), one value for each picture; 1 for equal ones.

    It uses the authors' Gaussian window of 11 pixels, wherever that lies inside the picture, and
    averages over the channels.

    Args:
      image: [*b, h, w, 3] in [0, 1], 11 pixels or more a side.
      target: the same.
      mask: [*b, h, w, 1], 1 where the window's centre counts, else 0; all count by default.

    Returns:
      [*b]; NaN where no window's centre counts.

    Raises:
      ValueError: for smaller pictures.
    """
    _check_pictures(image, target, mask)
    if min(image.shape[-3:-1]) < _WINDOW_PX:
        raise ValueError(f"SSIM needs {_WINDOW_PX} pixels or more a side, not {image.shape[-3:-1]}")
    mean_x, mean_y, variance_x, variance_y, covariance = _moments(image, target)
    brightness = (2 * mean_x * mean_y + _C1) / (mean_x * mean_x + mean_y * mean_y + _C1)
    structure = (2 * covariance + _C2) / (variance_x + variance_y + _C2)
    similarity = (brightness * structure).mean(axis=-1, keepdims=True)
    if mask is None:
        return similarity.mean(axis=(-3, -2, -1))
    border = _WINDOW_PX // 2
    weights = mask[..., border:-border, border:-border, :]
    count = weights.sum(axis=(-3, -2, -1))
    total = (similarity * weights).sum(axis=(-3, -2, -1))
    return jnp.where(count > 0, total / jnp.maximum(count, 1.0), jnp.nan)


def _check_pictures(image: Image, target: Image, mask: PixelWeights | None) -> None:
    chex.assert_shape(image, (..., None, None, 3))
    chex.assert_equal_shape([image, target])
    chex.assert_type([image, target], float)
    if mask is not None:
        chex.assert_shape(mask, (*image.shape[:-1], 1))
        chex.assert_type(mask, float)


def _moments(x: jax.Array, y: jax.Array) -> tuple[jax.Array, ...]:
    """Means, variances and covariance in the window at each pixel, [*b, h - 10, w - 10, c] each.

    It applies the law of total variance, first along rows and then along columns: in float32,
    E[x^2] - E[x]^2 would lose the small variance of flat regions. It sums shifted maps, because
    some devices round convolutions to bfloat16.
    """
    variance_x = variance_y = covariance = jnp.zeros_like(x)
    for axis in (x.ndim - 3, x.ndim - 2):
        xs, ys = _shifted(x, axis), _shifted(y, axis)
        x, y = _average(xs), _average(ys)
        xs, ys = [shifted - x for shifted in xs], [shifted - y for shifted in ys]
        variance_x = _average(_products(xs, xs, _shifted(variance_x, axis)))
        variance_y = _average(_products(ys, ys, _shifted(variance_y, axis)))
        covariance = _average(_products(xs, ys, _shifted(covariance, axis)))
    return x, y, variance_x, variance_y, covariance


def _shifted(x: jax.Array, axis: int) -> list[jax.Array]:
    length = x.shape[axis] - _WINDOW_PX + 1
    return [
        jax.lax.slice_in_dim(x, start, start + length, axis=axis) for start in range(_WINDOW_PX)
    ]


def _average(shifted: list[jax.Array]) -> jax.Array:
    return sum(weight * x for weight, x in zip(_WINDOW, shifted, strict=True))


def _products(xs: list[jax.Array], ys: list[jax.Array], within: list[jax.Array]) -> list[jax.Array]:
    return [x * y + inner for x, y, inner in zip(xs, ys, within, strict=True)]
