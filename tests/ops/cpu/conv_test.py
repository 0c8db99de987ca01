"""The choice between Winograd's and XLA's convolutions on CPUs, and its gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from gesture_jax.ops.conv import conv_general_dilated
from gesture_jax.ops.cpu import conv

_DIMENSIONS = ("NHWC", "HWIO", "NHWC")


def _random(*shape):
    return jnp.asarray(np.random.default_rng(sum(shape)).standard_normal(shape), jnp.float32)


def _plain(x, kernel, padding=1):
    pads = [(padding, padding)] * 2
    return lax.conv_general_dilated(x, kernel, (1, 1), pads, dimension_numbers=_DIMENSIONS)


@pytest.mark.parametrize(("size", "padding"), [(3, 1), (2, 1)])
def test_large_convolutions_keep_value_and_gradients(size, padding):
    x, kernel = _random(4, 49, 48, 64), _random(size, size, 64, {2: 224, 3: 96}[size])
    fast = lambda x, kernel: conv.convolve(x, kernel, padding)
    made, pull = jax.vjp(jax.jit(fast), x, kernel)
    expected, pull_plain = jax.vjp(lambda *args: _plain(*args, padding), x, kernel)
    np.testing.assert_allclose(made, expected, atol=2e-5 * float(jnp.abs(expected).max()))
    cotangent = _random(*expected.shape)
    for ours, theirs in zip(pull(cotangent), pull_plain(cotangent), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-5 * float(jnp.abs(theirs).max()))


def test_use_xla_conv_leaves_all_convolutions_to_xla():
    large = jax.ShapeDtypeStruct((4, 64, 64, 64), "f4"), jax.ShapeDtypeStruct((3, 3, 64, 512), "f4")
    convolve = lambda x, kernel: conv_general_dilated(
        x, kernel, (1, 1), [(1, 1), (1, 1)], dimension_numbers=_DIMENSIONS
    )
    products = lambda function: jax.jit(function).lower(*large).as_text().count("dot_general")
    assert products(conv.use_xla_conv(convolve)) == 0 < products(convolve)
