"""What is shown to users is computed in full float32, on devices too that would rather not."""

import re

import jax
import jax.numpy as jnp
import pytest

from benchmarks import ahead
from configs import stage1, stage2
from gesture_jax.ops.precision import float32_matmuls

_PRODUCTS = re.compile(r"(?:stablehlo\.dot_general|stablehlo\.convolution).*")


def _rounded(lowered: jax.stages.Lowered) -> list[str]:
    """The products of a program that a device may take with fewer bits, of all that it has."""
    products = _PRODUCTS.findall(lowered.as_text())
    assert products
    return [product for product in products if product.count("HIGHEST") != 2]


def test_products_are_exact_where_it_is_said_and_nowhere_else():
    matmul, square = lambda x: x @ x, jnp.eye(3)
    assert not _rounded(jax.jit(float32_matmuls(matmul)).lower(square))
    assert len(_rounded(jax.jit(matmul).lower(square))) == 1
    assert jax.config.jax_default_matmul_precision is None


@pytest.mark.parametrize("part", ["render", "sample"])
def test_inference_is_exact(part):
    module = stage1 if part == "render" else stage2
    program = getattr(ahead, part)(module.get_config("smoke"), jax.devices()[0], 2)
    assert not _rounded(program.lower())
