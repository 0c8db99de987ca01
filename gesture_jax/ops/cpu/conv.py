"""Which convolutions use Winograd's algorithm on CPUs, and their gradients.

XLA's convolutions suit GPUs and TPUs. On a CPU they reach two thirds of the speed of matrix
products, and their gradients by the kernel a fifth. Winograd's algorithm renders a frame of `paper`
3.1 times as fast and runs a training step of it 12 times as fast (benchmarks/README.md,
"Convolutions on a CPU"). That is why we keep convolutions of our own. Each of them takes one to two
seconds to compile, so XLA's are used for small convolutions, and in programs that run only once:
see `use_xla_conv`.
"""

import contextvars
import functools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple, ParamSpec, TypeVar

import chex
import jax
import jax.numpy as jnp
from jax import lax

from gesture_jax.array_types import FeatureMap
from gesture_jax.ops.cpu import winograd

_DIMENSIONS = ("NHWC", "HWIO", "NHWC")


class Minimum(NamedTuple):
    """The smallest convolution that uses Winograd's algorithm.

    Attributes:
      products: multiplications of the plain algorithm.
      channels: the fewer of input and output channels.
    """

    products: float
    channels: int


# Measured: with 30 million products in both, `demo`'s training step takes 0.090 s and 83 s to
# compile; so it takes 0.073 s and 62 s; with 500 million, 0.098 s and 39 s. On large maps of 48
# channels Winograd saves a fifth of the time: a frame of `photo` takes 7 % less.
_FORWARD_MINIMA = Minimum(products=100e6, channels=64), Minimum(products=300e6, channels=48)
_GRADIENT_MINIMA = (Minimum(products=30e6, channels=32),)
_xla_only = contextvars.ContextVar("xla_only", default=False)
P, T = ParamSpec("P"), TypeVar("T")


def use_xla_conv(function: Callable[P, T]) -> Callable[P, T]:
    """Makes the convolutions of a function XLA's own on CPUs too, when it is traced.

    This is for a function that runs once, or that is traced for its shapes alone: Winograd's
    algorithm takes seconds to compile.
    """

    @functools.wraps(function)
    def with_xla_conv(*args: P.args, **kwargs: P.kwargs) -> T:
        token = _xla_only.set(True)
        try:
            return function(*args, **kwargs)
        finally:
            _xla_only.reset(token)

    return with_xla_conv


def uses_xla_conv() -> bool:
    """Whether the function that is being traced is to have XLA's convolutions."""
    return _xla_only.get()


def find_uniform_padding(
    x, kernel, window_strides, padding, *,
    lhs_dilation=None, rhs_dilation=None, dimension_numbers=None, feature_group_count=1,
    precision=None,
) -> int | None:  # fmt: skip
    """The padding for `convolve` that gives this `lax.conv_general_dilated`.

    Returns:
      The number of zeros on each side; None where `convolve` does not apply and XLA's convolution
      has to be used: for other kernels than 2x2 and 3x3, strides, dilations, groups, dtypes other
      than float32, or inside `use_xla_conv`.
    """
    del dimension_numbers  # Flax always passes the same order.
    steps = {*window_strides, *(lhs_dilation or ()), *(rhs_dilation or ())}
    usual = steps == {1} and feature_group_count == 1 and precision is None
    if uses_xla_conv() or not usual or kernel.ndim != 4 or x.dtype != jnp.float32:
        return None
    return find_equal_sides(kernel, padding) if kernel.shape[:2] in ((2, 2), (3, 3)) else None


def find_equal_sides(kernel: jax.Array, padding) -> int | None:
    """The number of zeros on each side at stride 1; None where sides differ."""
    if isinstance(padding, str):
        padding = lax.padtype_to_pads((8, 8), kernel.shape[:2], (1, 1), padding)
    counts = {count for pair in padding for count in pair}
    return counts.pop() if len(counts) == 1 else None


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def convolve(x: FeatureMap, kernel: jax.Array, padding: int) -> FeatureMap:
    """A convolution of stride 1, by the faster algorithm; arguments as of `winograd.convolve`."""
    chex.assert_rank([x, kernel], 4)
    chex.assert_axis_dimension(kernel, 2, x.shape[3])
    chex.assert_type([x, kernel], float)
    methods = (functools.partial(each, padding=padding) for each in (winograd.convolve, _xla))
    return _choose(x, kernel, _FORWARD_MINIMA, *methods)(x, kernel)


def _forward(x, kernel, padding):
    return convolve(x, kernel, padding), (x, kernel)


def _backward(padding, inputs, cotangent):
    x, kernel = inputs
    size = kernel.shape[0]
    turned = jnp.swapaxes(jnp.flip(kernel, axis=(0, 1)), 2, 3)
    by_input = convolve(cotangent, turned, size - 1 - padding)
    methods = (
        functools.partial(each, size=size, padding=padding)
        for each in (winograd.kernel_gradient, _xla_kernel_gradient)
    )
    return by_input, _choose(x, kernel, _GRADIENT_MINIMA, *methods)(x, cotangent)


convolve.defvjp(_forward, _backward)


def _choose(
    x: jax.Array,
    kernel: jax.Array,
    minima: Sequence[Minimum],
    on_cpu: Callable,
    elsewhere: Callable,
) -> Callable:
    """`on_cpu` on a CPU for a convolution that reaches one of the minima; else `elsewhere`."""
    products, channels = math.prod(x.shape[:3]) * kernel.size, min(kernel.shape[2:])
    if not any(products >= each.products and channels >= each.channels for each in minima):
        return elsewhere
    return functools.partial(lax.platform_dependent, cpu=on_cpu, default=elsewhere)


def _xla(x, kernel, *, padding: int):
    pads = [(padding, padding)] * 2
    return lax.conv_general_dilated(x, kernel, (1, 1), pads, dimension_numbers=_DIMENSIONS)


def _xla_kernel_gradient(x, cotangent, *, size: int, padding: int):
    shape = (size, size, x.shape[-1], cotangent.shape[-1])
    by_kernel = jax.linear_transpose(
        lambda kernel: _xla(x, kernel, padding=padding), jax.ShapeDtypeStruct(shape, x.dtype)
    )
    return by_kernel(cotangent)[0]
