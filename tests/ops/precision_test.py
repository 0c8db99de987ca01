"""Inference computes in full float32, also on devices that use fewer bits by default."""

import re

import jax
import jax.numpy as jnp
import pytest

from benchmarks import ahead
from configs import stage1, stage2
from gesture_jax.ops.precision import float32_matmuls

_PRODUCTS = re.compile(r"(?:stablehlo\.dot_general|stablehlo\.convolution).*")


def _rounded(lowered: jax.stages.Lowered) -> list[str]:
    """Those products of a program that a device may compute with fewer bits."""
    products = _PRODUCTS.findall(lowered.as_text())
    assert products
    return [product for product in products if product.count("HIGHEST") != 2]


def test_products_are_exact_inside_of_the_decorator_only():
    matmul, square = lambda x: x @ x, jnp.eye(3)
    assert not _rounded(jax.jit(float32_matmuls(matmul)).lower(square))
    assert len(_rounded(jax.jit(matmul).lower(square))) == 1
    assert jax.config.jax_default_matmul_precision is None


@pytest.mark.parametrize("part", ["render", "sample"])
def test_inference_is_exact(part):
    module = stage1 if part == "render" else stage2
    program = getattr(ahead, part)(module.get_config("smoke"), jax.devices()[0], 2)
    assert not _rounded(program.lower())
