"""Losses of pictures by hand, and the gradients that each side gets from the sum of both losses."""

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gesture_jax.models.vgg import VGG, VGG19
from gesture_jax.ops import image as image_ops
from gesture_jax.training import losses

pytestmark = pytest.mark.usefixtures("quickly_compiled")

_RANDOM = np.random.default_rng(0)
_BLANK = np.zeros((1, 16, 16, 3), np.float32)


@pytest.fixture(scope="module")
def variables():
    """The variables of an untrained VGG-19."""
    return jax.jit(VGG(VGG19).init)(jax.random.key(0), jnp.zeros((1, 16, 16, 3)))


def test_pixel_loss_covers_all_scales():
    assert float(losses.pyramid_l1(_BLANK + 0.5, _BLANK, num_levels=3)) == pytest.approx(0.5)
    checks = _BLANK + (np.indices((16, 16)).sum(0) % 2)[..., None] - 0.5
    # A checkerboard is grey at half the scale.
    assert float(losses.pyramid_l1(checks, _BLANK, num_levels=2)) == pytest.approx(0.25)
    levels = image_ops.pyramid(checks, num_levels=3)
    assert [level.shape[1] for level in levels] == [16, 8, 4]


def test_equal_weights_change_nothing():
    one, other = _RANDOM.random((2, 3, 16, 8, 3), np.float32)
    plain = float(losses.pyramid_l1(one, other, num_levels=3))
    for weight in (1.0, 7.0):
        weights = np.full((3, 16, 8, 1), weight, np.float32)
        weighted = float(losses.pyramid_l1(one, other, num_levels=3, weights=weights))
        assert weighted == pytest.approx(plain, rel=1e-6)


def test_weights_scale_the_pixels():
    image, weights = _BLANK.copy(), np.ones((1, 16, 16, 1), np.float32)
    image[:, :8] = 0.6  # The upper half is off by 0.6, and counts thrice.
    weights[:, :8] = 3.0
    weighted = losses.pyramid_l1(image, _BLANK, num_levels=3, weights=weights)
    assert float(weighted) == pytest.approx(0.6 * 3 / 4, rel=1e-6)
    weights[:, :8] = 0.0
    assert float(losses.pyramid_l1(image, _BLANK, num_levels=3, weights=weights)) == 0.0


def test_no_weight_at_all_is_no_loss():
    value_and_grad = jax.value_and_grad(
        lambda x: losses.pyramid_l1(x, _BLANK, num_levels=2, weights=0 * _BLANK[..., :1])
    )
    value, gradient = value_and_grad(_BLANK + 0.5)
    assert float(value) == 0.0 and not np.any(gradient)


def test_equal_pictures_look_equal(variables):
    one, other = _RANDOM.random((2, 2, 32, 32, 3), np.float32)
    distance = lambda *pictures: float(
        losses.pyramid_perceptual(variables, *pictures, num_levels=2)
    )
    assert distance(one, one) == 0.0 and distance(one, other) > 0.0


def test_scales_too_small_for_vgg_are_left_out(variables):
    one, other = _RANDOM.random((2, 1, 32, 32, 3), np.float32)
    seen, wanted = (
        float(losses.pyramid_perceptual(variables, one, other, num_levels=n)) for n in (2, 5)
    )
    assert seen == pytest.approx(wanted)


def test_blocks_add_up(variables):
    one, other = _RANDOM.random((2, 1, 16, 16, 3), np.float32)
    by_count = [
        float(losses.pyramid_perceptual(variables, one, other, num_levels=1, num_blocks=n))
        for n in range(1, 6)
    ]
    assert all(np.diff(by_count) > 0)
    default = float(losses.pyramid_perceptual(variables, one, other, num_levels=1))
    assert default == by_count[-1]


def test_the_target_of_the_perceptual_loss_is_a_constant(variables):
    one, other = _RANDOM.random((2, 1, 16, 16, 3), np.float32)
    loss = lambda *pictures: losses.pyramid_perceptual(
        variables, *pictures, num_levels=1, num_blocks=1
    )
    ours, theirs = jax.grad(loss, argnums=(0, 1))(one, other)
    assert np.any(ours) and not np.any(theirs)


def test_hinges_by_hand():
    real, fake = jnp.array([[2.0, 0.5]]), jnp.array([[-3.0, 0.0, 1.0]])
    # Real: 0 and 0.5; fake: 0, 1 and 2.
    assert float(losses.hinge_discriminator(real, fake)) == pytest.approx(0.25 + 1.0)
    assert float(losses.hinge_generator(fake)) == pytest.approx(2.0 / 3.0)


def test_confident_discriminator_has_no_gradient():
    gradients = jax.grad(losses.hinge_discriminator, argnums=(0, 1))
    real, fake = gradients(jnp.array([1.5, 0.0]), jnp.array([-1.5, 0.0]))
    np.testing.assert_allclose(real, [0.0, -0.5])
    np.testing.assert_allclose(fake, [0.0, 0.5])


def test_feature_layers_have_equal_weights():
    fake = [jnp.zeros((1, 8, 8, 4)), jnp.ones((1, 2, 2, 16))]
    real = [jnp.ones((1, 8, 8, 4)), jnp.full((1, 2, 2, 16), 4.0)]
    assert float(losses.feature_matching(fake, real)) == pytest.approx((1.0 + 3.0) / 2)
    assert float(losses.feature_matching(real, real)) == 0.0
    ours, theirs = jax.grad(losses.feature_matching, argnums=(0, 1))(fake, real)
    assert all(np.any(x) for x in ours) and not any(np.any(x) for x in theirs)


class _Judge(nn.Module):
    @nn.compact
    def __call__(self, x):
        hidden = nn.tanh(nn.Dense(4, name="hidden")(x))
        return nn.Dense(1, name="out")(hidden), [hidden]


def test_one_pass_over_the_sum_gives_each_side_its_own_gradient():
    real, seed = _RANDOM.standard_normal((2, 8, 3)).astype(np.float32)
    judge, drawer = _Judge(), nn.Dense(3)
    params = {
        "generator": jax.jit(drawer.init)(jax.random.key(0), seed)["params"],
        "discriminator": jax.jit(judge.init)(jax.random.key(1), real)["params"],
    }
    draw = lambda params: drawer.apply({"params": params["generator"]}, seed)
    see = lambda params, x: judge.apply({"params": params["discriminator"]}, x)

    def generator_loss(params):
        logits, features = see(params, draw(params))
        matching = losses.feature_matching(features, see(params, real)[1])
        return losses.hinge_generator(logits) + 10.0 * matching

    def discriminator_loss(params):
        return losses.hinge_discriminator(see(params, real)[0], see(params, draw(params))[0])

    def total(params):
        constant = jax.lax.stop_gradient(params)
        ours = generator_loss({**params, "discriminator": constant["discriminator"]})
        return ours + discriminator_loss({**params, "generator": constant["generator"]})

    grads = jax.grad(total)(params)
    for side, loss in (("generator", generator_loss), ("discriminator", discriminator_loss)):
        alone = jax.grad(loss)(params)[side]
        assert any(np.any(leaf) for leaf in jax.tree.leaves(alone))
        chex.assert_trees_all_close(grads[side], alone, rtol=1e-5, atol=1e-7)
