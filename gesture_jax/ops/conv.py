"""The convolutions of the networks: XLA's own, and on CPUs faster ones that make the same.

XLA's suit TPUs and GPUs. On a CPU they reach two thirds of what matrix products reach, and their
gradient by the kernel a fifth (benchmarks/README.md), so that Winograd's algorithm is taken there.
Small ones are left to XLA: they would not repay the time that it takes to compile more.

Both functions stand for `lax.conv_general_dilated` in `nn.Conv`, by its attribute of that name.
"""

import contextvars
import functools
import math
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from gesture_jax.array_types import FeatureMap
from gesture_jax.ops import image, remat
from gesture_jax.ops.cpu import winograd

_DIMENSIONS = ("NHWC", "HWIO", "NHWC")
# From how many products on, and of how many channels at least, Winograd's algorithm is taken on
# CPUs. It gains most in gradients by the kernel; smaller ones would not repay their compilation.
_CONVOLUTION = 100e6, 64
_GRADIENT = 30e6, 32
# Of how many pixels at least a map is enlarged without being made: of fewer, to put four kernels
# together moves more bytes than it spares products.
_ENLARGED = 256
# What a 3x3 kernel on a map of twice the size does with a row of the small one: at even places it
# reads the row before and its own, at odd ones its own and the next.
_PHASES = np.array([[1, 0, 0], [0, 1, 1], [1, 1, 0], [0, 0, 1]], np.float32)
_xla_only = contextvars.ContextVar("plain", default=False)
P, T = ParamSpec("P"), TypeVar("T")


def use_xla_conv(function: Callable[P, T]) -> Callable[P, T]:
    """`function`, to be traced, whose convolutions are XLA's own on CPUs too.

    For what runs once, or is traced for its shapes alone: the faster ones take seconds to compile.
    """

    @functools.wraps(function)
    def plainly(*args: P.args, **kwargs: P.kwargs) -> T:
        token = _xla_only.set(True)
        try:
            return function(*args, **kwargs)
        finally:
            _xla_only.reset(token)

    return plainly


def uses_xla_conv() -> bool:
    """Whether what is traced now is to have XLA's convolutions."""
    return _xla_only.get()


def conv_general_dilated(x: jax.Array, kernel: jax.Array, window_strides, padding, **options):
    """`lax.conv_general_dilated` by the fastest way that the device has."""
    zeros = _zeros_all_around(x, kernel, window_strides, padding, **options)
    if zeros is None:
        made = lax.conv_general_dilated(x, kernel, window_strides, padding, **options)
    else:
        made = _convolve(x, kernel, zeros)
    return remat.product(made)


def of_upsampled(x: FeatureMap, kernel: jax.Array, window_strides, padding, **options):
    """The same of a map enlarged to twice its size by the nearest neighbour.

    A 3x3 kernel sees two rows and two columns of the small map at each place, so that four kernels
    of 2x2, one for even and odd rows and columns, do with 16 products instead of 36, and the large
    map is never made. But for the smallest maps, whose kernels are larger than they are.

    Args:
      x: [b, h, w, c].
      kernel: [3, 3, c, o].
      window_strides: all one, as are dilations.
      padding: one zero all around the enlarged map.
      **options: of `lax.conv_general_dilated`; no groups.

    Returns:
      [b, 2h, 2w, o].
    """
    if kernel.shape[:2] != (3, 3) or _uniform(kernel, padding) != 1:
        raise ValueError(f"a 3x3 kernel padded by one is needed, not {kernel.shape}, {padding}")
    if math.prod(x.shape[:3]) < _ENLARGED:
        wide = image.upsample_nearest(x)
        return conv_general_dilated(wide, kernel, window_strides, padding, **options)
    taps = winograd.both_ways(_PHASES, kernel)
    places = [(row, column) for row in (0, 1) for column in (0, 1)]
    of_all = lambda p, q: jnp.concatenate([taps[2 * i + p][2 * j + q] for i, j in places], axis=-1)
    kernels = jnp.stack([jnp.stack([of_all(p, q) for q in (0, 1)]) for p in (0, 1)])
    all_four = conv_general_dilated(x, kernels, window_strides, [(1, 1), (1, 1)], **options)
    batch, height, width, _ = x.shape
    # Even places look back and odd ones ahead, so that what lies at i of an odd phase is i - 1's.
    parts = [
        part[:, row : row + height, column : column + width]
        for part, (row, column) in zip(jnp.split(all_four, 4, axis=-1), places, strict=True)
    ]
    rows = [jnp.stack(parts[:2], axis=3), jnp.stack(parts[2:], axis=3)]
    return jnp.stack(rows, axis=2).reshape(batch, 2 * height, 2 * width, -1)


def _zeros_all_around(
    x, kernel, window_strides, padding, *,
    lhs_dilation=None, rhs_dilation=None, dimension_numbers=None, feature_group_count=1,
    precision=None,
) -> int | None:  # fmt: skip
    """The padding of a convolution that has faster ways; None where there are none."""
    del dimension_numbers  # Of Flax, which has one order only.
    steps = {*window_strides, *(lhs_dilation or ()), *(rhs_dilation or ())}
    usual = steps == {1} and feature_group_count == 1 and precision is None
    if uses_xla_conv() or not usual or kernel.ndim != 4 or x.dtype != jnp.float32:
        return None
    return _uniform(kernel, padding) if kernel.shape[:2] in ((2, 2), (3, 3)) else None


def _uniform(kernel: jax.Array, padding) -> int | None:
    """Zeros on each side where they are equally many; stride 1."""
    if isinstance(padding, str):
        padding = lax.padtype_to_pads((8, 8), kernel.shape[:2], (1, 1), padding)
    counts = {count for pair in padding for count in pair}
    return counts.pop() if len(counts) == 1 else None


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _convolve(x: FeatureMap, kernel: jax.Array, padding: int) -> FeatureMap:
    """See `winograd.convolve`."""
    ways = (functools.partial(way, padding=padding) for way in (winograd.convolve, _xla))
    return _by_size(x, kernel, _CONVOLUTION, *ways)(x, kernel)


def _forward(x, kernel, padding):
    return _convolve(x, kernel, padding), (x, kernel)


def _backward(padding, inputs, cotangent):
    x, kernel = inputs
    size = kernel.shape[0]
    turned = jnp.swapaxes(jnp.flip(kernel, axis=(0, 1)), 2, 3)
    by_input = _convolve(cotangent, turned, size - 1 - padding)
    ways = (
        functools.partial(way, size=size, padding=padding)
        for way in (winograd.kernel_gradient, _xla_kernel_gradient)
    )
    return by_input, _by_size(x, kernel, _GRADIENT, *ways)(x, cotangent)


_convolve.defvjp(_forward, _backward)


def _by_size(
    x: jax.Array, kernel: jax.Array, least: tuple[float, int], fast: Callable, plain: Callable
) -> Callable:
    """`fast` on a CPU, where products and channels are as many as `least`; else `use_xla_conv`."""
    products, channels = math.prod(x.shape[:3]) * kernel.size, min(kernel.shape[2:])
    if products < least[0] or channels < least[1]:
        return plain
    return functools.partial(lax.platform_dependent, cpu=fast, default=plain)


def _xla(x, kernel, *, padding: int):
    pads = [(padding, padding)] * 2
    return lax.conv_general_dilated(x, kernel, (1, 1), pads, dimension_numbers=_DIMENSIONS)


def _xla_kernel_gradient(x, cotangent, *, size: int, padding: int):
    shape = (size, size, x.shape[-1], cotangent.shape[-1])
    by_kernel = jax.linear_transpose(
        lambda kernel: _xla(x, kernel, padding=padding), jax.ShapeDtypeStruct(shape, x.dtype)
    )
    return by_kernel(cotangent)[0]
