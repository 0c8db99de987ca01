"""Convolutions made fast are convolutions still: against XLA's own, in float64 where it counts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from gesture_jax.models import blocks
from gesture_jax.ops import conv, image
from gesture_jax.ops.cpu import winograd

_DIMENSIONS = ("NHWC", "HWIO", "NHWC")


def _random(*shape):
    return jnp.asarray(np.random.default_rng(sum(shape)).standard_normal(shape), jnp.float32)


def _plain(x, kernel, padding=1):
    pads = [(padding, padding)] * 2
    return lax.conv_general_dilated(x, kernel, (1, 1), pads, dimension_numbers=_DIMENSIONS)


@pytest.mark.parametrize(
    "shape", [(2, 8, 12, 3), (1, 7, 5, 2), (1, 1, 2, 1), (1, 4, 3, 4)], ids=str
)
@pytest.mark.parametrize(("size", "padding"), [(3, 1), (2, 1), (2, 0), (3, 0), (3, 2)])
def test_winograd_is_the_convolution(shape, size, padding):
    if min(shape[1:3]) + 2 * padding < size:
        pytest.skip("no output at all")
    x, kernel = _random(*shape), _random(size, size, shape[-1], 5)
    made = winograd.convolve(x, kernel, padding=padding)
    expected = _plain(x, kernel, padding)
    assert made.shape == expected.shape
    np.testing.assert_allclose(made, expected, atol=2e-5 * float(jnp.abs(expected).max()))


@pytest.mark.parametrize("shape", [(2, 8, 12, 3), (1, 7, 5, 2), (1, 2, 2, 1)], ids=str)
@pytest.mark.parametrize(("size", "padding"), [(3, 1), (2, 1)])
def test_winograd_has_the_gradient_of_the_convolution(shape, size, padding):
    x, kernel = _random(*shape), _random(size, size, shape[-1], 5)
    expected, pull = jax.vjp(lambda kernel: _plain(x, kernel, padding), kernel)
    cotangent = _random(*expected.shape)
    made = winograd.kernel_gradient(x, cotangent, size=size, padding=padding)
    (wanted,) = pull(cotangent)
    np.testing.assert_allclose(made, wanted, atol=2e-5 * float(jnp.abs(wanted).max()))


def test_of_wide_maps_the_error_is_that_of_rounding():
    x, kernel = _random(1, 16, 16, 256), _random(3, 3, 256, 64)
    made = np.asarray(winograd.convolve(x, kernel, padding=1), np.float64)
    with jax.enable_x64():
        exact = np.asarray(_plain(jnp.asarray(x, jnp.float64), jnp.asarray(kernel, jnp.float64)))
    assert np.abs(made - exact).max() < 2e-5 * np.abs(exact).max()


@pytest.mark.parametrize(("size", "padding"), [(3, 1), (2, 1)])
def test_large_ones_keep_value_and_gradients(size, padding):
    x, kernel = _random(4, 49, 48, 64), _random(size, size, 64, {2: 224, 3: 96}[size])
    fast = lambda x, kernel: conv.conv_general_dilated(
        x, kernel, (1, 1), [(padding, padding)] * 2, dimension_numbers=_DIMENSIONS
    )
    made, pull = jax.vjp(jax.jit(fast), x, kernel)
    expected, pull_plain = jax.vjp(lambda *args: _plain(*args, padding), x, kernel)
    np.testing.assert_allclose(made, expected, atol=2e-5 * float(jnp.abs(expected).max()))
    cotangent = _random(*expected.shape)
    for ours, theirs in zip(pull(cotangent), pull_plain(cotangent), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-5 * float(jnp.abs(theirs).max()))


def test_what_has_no_faster_way_is_left_to_xla():
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


def test_of_what_is_said_to_be_plain_xla_makes_all_convolutions():
    large = jax.ShapeDtypeStruct((4, 64, 64, 64), "f4"), jax.ShapeDtypeStruct((3, 3, 64, 512), "f4")
    convolve = lambda x, kernel: conv.conv_general_dilated(
        x, kernel, (1, 1), [(1, 1), (1, 1)], dimension_numbers=_DIMENSIONS
    )
    products = lambda function: jax.jit(function).lower(*large).as_text().count("dot_general")
    assert products(conv.use_xla_conv(convolve)) == 0 < products(convolve)


def _of_upsampled_and_plain(*shape):
    """The layer, the same on the enlarged map, variables of both, and a map."""
    x = _random(*shape)
    layer = blocks.conv(64, 3, name=None, upsample=True)
    plain = blocks.conv(64, 3, name=None)
    enlarged = lambda variables, x: plain.apply(variables, image.upsample_nearest(x))
    variables = jax.jit(plain.init)(jax.random.key(0), x)
    return jax.jit(layer.apply), jax.jit(enlarged), variables, x


@pytest.mark.parametrize("shape", [(2, 13, 12, 16), (1, 1, 2, 3), (8, 32, 32, 64)], ids=str)
def test_of_an_upsampled_map_it_makes_the_same(shape):
    layer, enlarged, variables, x = _of_upsampled_and_plain(*shape)
    np.testing.assert_allclose(layer(variables, x), enlarged(variables, x), atol=1e-4)


def test_of_an_upsampled_map_gradients_are_the_same():
    layer, enlarged, variables, x = _of_upsampled_and_plain(2, 13, 12, 16)
    slope = lambda function: jax.jit(
        jax.grad(lambda *args: jnp.sin(function(*args)).sum(), argnums=(0, 1))
    )
    close = lambda a, b: np.testing.assert_allclose(a, b, atol=1e-3)
    jax.tree.map(close, slope(layer)(variables, x), slope(enlarged)(variables, x))


def test_of_an_upsampled_map_numbers_stay_of_their_type():
    layer, _, variables, x = _of_upsampled_and_plain(2, 13, 12, 16)
    half = blocks.conv(64, 3, name=None, upsample=True, dtype=jnp.bfloat16)
    made = jax.jit(half.apply)(variables, x)
    assert made.dtype == jnp.bfloat16
    np.testing.assert_allclose(made.astype(jnp.float32), layer(variables, x), atol=0.05)
