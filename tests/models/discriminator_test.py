"""The discriminator and its separate optimizer."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from ml_collections import ConfigDict

from gesture_jax.models.discriminator import PatchDiscriminator
from gesture_jax.training import losses, optim

pytestmark = pytest.mark.usefixtures("quickly_compiled")

_SMALL = {"width": 8, "max_width": 16}
_OPTIM = {
    "learning_rate": 1e-3,
    "b1": 0.5,
    "b2": 0.999,
    "weight_decay": 0.01,
    "warmup_steps": 1,
    "final_fraction": 0.1,
    "clip_norm": 1.0,
}
_RATES = {"learning_rate": 4e-3, "b1": 0.0, "b2": 0.9}


@pytest.mark.parametrize(
    "size, levels, patches",
    [((32, 32), 4, (2, 2)), ((64, 48), 4, (4, 3)), ((256, 256), 3, (32, 32))],
)
def test_there_is_one_logit_per_patch(size, levels, patches):
    model = PatchDiscriminator(num_levels=levels)
    image = jax.ShapeDtypeStruct((2, *size, 3), jnp.float32)
    (logits, features), _ = jax.eval_shape(model.init_with_output, jax.random.key(0), image)
    assert logits.shape == (2, *patches) and logits.dtype == jnp.float32
    assert [x.shape[-1] for x in features] == [64, 128, 256, 512][:levels]
    assert [x.shape[1] for x in features] == [size[0] >> n for n in range(1, levels + 1)]


def test_the_width_is_limited_and_there_are_only_parameters():
    model = PatchDiscriminator(**_SMALL)
    variables = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    assert set(variables) == {"params"}
    assert variables["params"]["conv4"]["kernel"].shape == (4, 4, 16, 16)


def test_parameters_stay_float32_when_it_computes_in_bfloat16():
    model = PatchDiscriminator(**_SMALL, dtype=jnp.bfloat16)
    image = jnp.zeros((1, 32, 32, 3))
    (logits, features), variables = jax.eval_shape(model.init_with_output, jax.random.key(0), image)
    assert logits.dtype == jnp.float32 and features[0].dtype == jnp.bfloat16
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(variables))


def test_examples_do_not_affect_each_other():
    model = PatchDiscriminator(**_SMALL)
    image = np.random.default_rng(0).random((3, 32, 32, 3), np.float32)
    variables = jax.jit(model.init)(jax.random.key(0), image)
    apply = jax.jit(model.apply)
    together, _ = apply(variables, image)
    alone, _ = apply(variables, image[1:2])
    np.testing.assert_allclose(together[1], alone[0], atol=1e-5)


def test_it_learns_to_tell_noise_from_stripes():
    random = np.random.default_rng(0)
    real = np.broadcast_to((np.arange(32) // 4 % 2)[:, None, None], (4, 32, 32, 3))
    real, fake = real.astype(np.float32), random.random((4, 32, 32, 3), np.float32)
    model = PatchDiscriminator(**_SMALL)
    params = jax.jit(model.init)(jax.random.key(0), real)["params"]
    optimizer = optax.adam(2e-3)
    see = lambda params, x: model.apply({"params": params}, x)[0]

    @jax.jit
    def step(params, state):
        loss = lambda params: losses.hinge_discriminator(see(params, real), see(params, fake))
        value, grads = jax.value_and_grad(loss)(params)
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state, value

    state, values = optimizer.init(params), []
    for _ in range(30):
        params, state, value = step(params, state)
        values.append(float(value))
    assert values[-1] < 0.1 < 1.0 < values[0]
    assert see(params, real).min() > 0 > see(params, fake).max()


def _tree(seed):
    random = np.random.default_rng(seed)
    draw = lambda *shape: random.standard_normal(shape).astype(np.float32)
    return {
        "decoder": {"conv": {"kernel": draw(3, 4), "bias": draw(4)}},
        "extractor": {"discriminator": draw(5)},  # Only top-level names count.
        "discriminator": {"conv": {"kernel": 50.0 * draw(3, 2)}},
    }


def _updates(config, pick=lambda tree: tree):
    """Takes a few steps with different gradients, so that Adam does not hide the clipping."""
    optimizer = optim.make_optimizer(config, num_steps=10)
    params, updates = pick(_tree(0)), []
    state = optimizer.init(params)
    for seed in range(1, 5):
        change, state = optimizer.update(pick(_tree(seed)), state, params)
        params = optax.apply_updates(params, change)
        updates.append(change)
    return updates


def _without(tree):
    return {key: value for key, value in tree.items() if key != "discriminator"}


def test_both_sides_are_optimized_independently():
    """Each has its own learning rate and clips by its own norm."""
    together = _updates(ConfigDict({**_OPTIM, "discriminator": _RATES}))
    ours = _updates(ConfigDict(_OPTIM), _without)
    theirs = _updates(
        ConfigDict({**_OPTIM, **_RATES}), lambda tree: {"discriminator": tree["discriminator"]}
    )
    for both, one, other in zip(together, ours, theirs, strict=True):
        chex.assert_trees_all_equal(both, {**one, **other})
    joint = _updates(ConfigDict(_OPTIM))
    assert not np.allclose(
        joint[-1]["decoder"]["conv"]["bias"], ours[-1]["decoder"]["conv"]["bias"]
    )


def test_the_first_updates_equal_the_learning_rates():
    """Adam's first step equals the learning rate for any gradient."""
    settings = {**_OPTIM, "weight_decay": 0.0}
    updates = _updates(ConfigDict({**settings, "discriminator": _RATES}))
    # The first step of the warm-up has a learning rate of zero.
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(updates[0]))
    constant = ConfigDict({**settings, "warmup_steps": 0, "final_fraction": 1.0})
    constant.discriminator = _RATES
    first = _updates(constant)[0]
    np.testing.assert_allclose(np.abs(first["extractor"]["discriminator"]), 1e-3, rtol=1e-3)
    np.testing.assert_allclose(np.abs(first["discriminator"]["conv"]["kernel"]), 4e-3, rtol=1e-3)


def test_a_tree_without_a_discriminator_works():
    with_rates = _updates(ConfigDict({**_OPTIM, "discriminator": _RATES}), _without)
    chex.assert_trees_all_equal(with_rates, _updates(ConfigDict(_OPTIM), _without))
