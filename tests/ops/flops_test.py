"""Counted operations, against the sums of convolutions of ones."""

import itertools

import jax
import jax.numpy as jnp
import pytest

from gesture_jax.ops.flops import count_flops


def _ones(*shape):
    return jnp.ones(shape)


def test_matrix_products_and_loops_by_hand():
    a, b = _ones(3, 5), _ones(5, 7)
    assert count_flops(jnp.matmul, a, b) == 2 * 3 * 5 * 7
    assert count_flops(jax.jit(jnp.matmul), a, b) == 2 * 3 * 5 * 7
    assert count_flops(jax.checkpoint(jnp.matmul), a, b) == 2 * 3 * 5 * 7
    # The product, and one for each of both gradients.
    both = jax.value_and_grad(lambda a, b: jnp.sin(a @ b).sum(), argnums=(0, 1))
    assert count_flops(both, a, b) == 3 * 2 * 3 * 5 * 7
    repeat = lambda a, b: jax.lax.scan(lambda x, _: (x @ b @ b.T, None), a, length=4)
    assert count_flops(repeat, a, b) == 4 * 2 * 2 * 3 * 5 * 7
    either = lambda a: jax.lax.cond(a.sum() > 0, lambda a: a @ b, lambda a: a[:, :1] @ b[:1], a)
    assert count_flops(either, a) == 2 * 3 * 5 * 7
    assert count_flops(jnp.exp, a) == 0


def test_unused_results_cost_nothing():
    a, b = _ones(3, 5), _ones(5, 7)
    assert count_flops(lambda a, b: (a @ b, a)[1], a, b) == 0
    one = lambda a, b: jax.vjp(jax.jit(jnp.matmul), a, b)[1](_ones(3, 7))[0]
    assert count_flops(one, a, b) == 2 * 3 * 5 * 7


_STRIDES = (1, 2), (3, 1)
_PADDINGS = ((0, 0), (0, 0)), ((1, 1), (1, 1)), ((2, 1), (0, 3))
_DILATIONS = (1, 1), (2, 3)


@pytest.mark.parametrize(
    ("strides", "padding", "holes", "spread", "groups"),
    [*itertools.product(_STRIDES, _PADDINGS, _DILATIONS, _DILATIONS, [1, 2])],
)
def test_products_of_a_convolution_are_counted(strides, padding, holes, spread, groups):
    """Each product of ones is one, so the sum of the result is the number of products."""
    options = {"dimension_numbers": ("NHWC", "HWIO", "NHWC"), "feature_group_count": groups}
    convolve = lambda image, kernel: jax.lax.conv_general_dilated(
        image, kernel, strides, padding, lhs_dilation=holes, rhs_dilation=spread, **options
    )
    image, kernel = _ones(2, 9, 8, 4), _ones(3, 2, 4 // groups, 6)
    assert count_flops(convolve, image, kernel) == 2 * int(convolve(image, kernel).sum())


@pytest.mark.parametrize("stride", [1, 2])
def test_a_gradient_costs_as_many_products_as_the_convolution(stride):
    """Each product of the convolution appears once in either gradient."""
    convolve = lambda image, kernel: jax.lax.conv_general_dilated(
        image, kernel, (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    forward, backward = jax.vjp(convolve, _ones(2, 8, 8, 3), _ones(3, 3, 3, 5))
    assert count_flops(backward, forward) == 2 * 2 * int(forward.sum())
