"""Rematerialisation changes no gradient, and saves memory."""

import chex
import flax.linen as nn
import jax
import numpy as np
import pytest

from gesture_jax.models.blocks import ConvBlock, ResBlock
from gesture_jax.models.transformer import SpeechLayer
from gesture_jax.ops import remat
from gesture_jax.ops.flops import count_flops

pytestmark = pytest.mark.usefixtures("quickly_compiled")


class _Pictures(nn.Module):
    @nn.compact
    def __call__(self, x):
        for index in range(3):
            x = ResBlock(16, name=f"res{index}")(x)
        return ConvBlock(8, 2, resize="up", name="up")(x)


class _Tokens(nn.Module):
    @nn.compact
    def __call__(self, x):
        sizes = dict(latent=x.shape[-1], feedforward=32, num_heads=2, dropout=0.0, dtype=x.dtype)
        for index in range(3):
            x = SpeechLayer(**sizes, name=f"layer{index}")(x, train=False)
        return x


@pytest.fixture(scope="module", params=["pictures", "tokens"])
def losses(request):
    """The loss of a small network as a function of its variables and input, by policy."""
    model, shape = {
        "pictures": (_Pictures(), (2, 8, 8, 16)), "tokens": (_Tokens(), (2, 12, 16)),
    }[request.param]  # fmt: skip
    x = np.random.default_rng(0).standard_normal(shape, np.float32)
    variables = jax.jit(model.init)(jax.random.key(0), x)
    loss = lambda variables, x: (model.apply(variables, x) ** 2).mean()
    made = {policy: remat.checkpoint(loss, policy) for policy in remat.POLICIES}
    return made, variables, x


@pytest.mark.parametrize("policy", ["cheap", "blocks"])
def test_the_gradient_is_the_same(losses, policy):
    made, *inputs = losses
    expected, found = (jax.jit(jax.grad(made[name]))(*inputs) for name in ("none", policy))
    chex.assert_trees_all_close(found, expected, rtol=1e-4, atol=1e-6)


def test_saving_memory_costs_operations(losses):
    made, *inputs = losses
    kept, work = [], []
    for loss in made.values():
        _, backward = jax.vjp(loss, *inputs)
        kept.append(sum(leaf.nbytes for leaf in jax.tree.leaves(backward)))
        work.append(count_flops(jax.grad(loss), *inputs))
    assert kept[0] > kept[1] > kept[2]
    assert work[0] <= work[1] < work[2]
