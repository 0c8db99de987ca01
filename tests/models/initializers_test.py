"""The initializers equal Flax's, and are traced once per shape."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gesture_jax.models.initializers import dense, lecun_normal

pytestmark = pytest.mark.usefixtures("quickly_compiled")


@pytest.mark.parametrize("shape", [(5, 7), (3, 3, 4, 6)])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_values_equal_those_of_flax(shape, dtype):
    key = jax.random.key(0)
    found = lecun_normal(key, shape, dtype)
    expected = nn.initializers.lecun_normal()(key, shape, dtype)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, expected)


def test_a_dense_layer_starts_like_flaxs():
    x = jnp.ones((2, 5))
    ours, theirs = (jax.jit(layer(7).init)(jax.random.key(0), x) for layer in (dense, nn.Dense))
    assert jax.tree.all(jax.tree.map(lambda a, b: (a == b).all(), ours, theirs))


def test_a_shape_is_traced_once():
    inner = lambda: jax.make_jaxpr(lambda key: lecun_normal(key, (5, 7), jnp.float32))(
        jax.random.key(0)
    ).eqns[0].params["jaxpr"]  # fmt: skip
    assert inner() is inner()
