"""The networks' convolutions, against XLA's own."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from gesture_jax.models import blocks
from gesture_jax.ops import conv, image

_DIMENSIONS = ("NHWC", "HWIO", "NHWC")


def _random(*shape):
    return jnp.asarray(np.random.default_rng(sum(shape)).standard_normal(shape), jnp.float32)


def test_convolutions_without_a_faster_method_are_xlas():
    x, kernel = _random(1, 9, 9, 4), _random(3, 3, 4, 4)
    options = {"dimension_numbers": _DIMENSIONS}
    cases = [
        dict(window_strides=(2, 2), padding="SAME"),
        dict(window_strides=(1, 1), padding=[(0, 2), (1, 1)]),
        dict(window_strides=(1, 1), padding="VALID", rhs_dilation=(2, 2)),
    ]
    for case in cases:
        made = conv.conv_general_dilated(x, kernel, **case, **options)
        expected = lax.conv_general_dilated(x, kernel, **case, **options)
        np.testing.assert_array_equal(made, expected)


def _upsampled_and_plain(*shape):
    """The layer, the same on the enlarged map, variables of both, and a map."""
    x = _random(*shape)
    layer = blocks.conv(64, 3, name=None, upsample=True)
    plain = blocks.conv(64, 3, name=None)
    enlarged = lambda variables, x: plain.apply(variables, image.upsample_nearest(x))
    variables = jax.jit(plain.init)(jax.random.key(0), x)
    return jax.jit(layer.apply), jax.jit(enlarged), variables, x


@pytest.mark.parametrize("shape", [(2, 13, 12, 16), (1, 1, 2, 3), (8, 32, 32, 64)], ids=str)
def test_upsampled_convolution_equals_the_convolution_of_the_enlarged_map(shape):
    layer, enlarged, variables, x = _upsampled_and_plain(*shape)
    np.testing.assert_allclose(layer(variables, x), enlarged(variables, x), atol=1e-4)


def test_upsampled_convolution_has_the_same_gradients():
    layer, enlarged, variables, x = _upsampled_and_plain(2, 13, 12, 16)
    slope = lambda function: jax.jit(
        jax.grad(lambda *args: jnp.sin(function(*args)).sum(), argnums=(0, 1))
    )
    gradients = slope(layer)(variables, x), slope(enlarged)(variables, x)
    chex.assert_trees_all_close(*gradients, atol=1e-3)


def test_upsampled_convolution_keeps_the_dtype():
    layer, _, variables, x = _upsampled_and_plain(2, 13, 12, 16)
    half = blocks.conv(64, 3, name=None, upsample=True, dtype=jnp.bfloat16)
    made = jax.jit(half.apply)(variables, x)
    assert made.dtype == jnp.bfloat16
    np.testing.assert_allclose(made.astype(jnp.float32), layer(variables, x), atol=0.05)
