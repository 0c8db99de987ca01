"""Winograd's algorithm against XLA's convolutions, in float64 where rounding counts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

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


def test_the_error_on_wide_maps_is_rounding():
    x, kernel = _random(1, 16, 16, 256), _random(3, 3, 256, 64)
    made = np.asarray(winograd.convolve(x, kernel, padding=1), np.float64)
    with jax.enable_x64():
        exact = np.asarray(_plain(jnp.asarray(x, jnp.float64), jnp.asarray(kernel, jnp.float64)))
    assert np.abs(made - exact).max() < 2e-5 * np.abs(exact).max()
