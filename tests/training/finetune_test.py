"""Fine-tuning starts from the averaged weights of a trained run and takes nothing else from it."""

import jax
import numpy as np
import pytest

from gesture_jax.checkpoint import checkpoints
from gesture_jax.errors import InputError
from gesture_jax.models.build import build_model
from gesture_jax.models.motion_space import MotionSpace
from gesture_jax.training import finetune, loop, optim, stage1
from tests import tiny

pytestmark = pytest.mark.usefixtures("quickly_compiled")


def _config1(**changes):
    return tiny.stage1(**{"loss.adversarial": 0.0} | changes)


def _config2(**changes):
    return tiny.stage2("", **{"feature_dim": 39, "speech_dim": 35} | changes)


def _abstract(config):
    objective = loop.OBJECTIVES[config.stage](config)
    params, model_state = jax.eval_shape(objective.init, jax.random.key(0))
    return {"params": params, **model_state}


@pytest.fixture(scope="module")
def donors(tmp_path_factory):
    """Workdirs with random weights: stage 1 without and with a discriminator, and stage 2."""
    root, random = tmp_path_factory.mktemp("donors"), np.random.default_rng(0)
    configs = {
        "plain": _config1(),
        "playing": _config1(**{"loss.adversarial": 1.0}),
        "stage2": _config2(),
    }
    for name, config in configs.items():
        fill = lambda shape: 0.1 * random.normal(size=shape)
        tiny.save(root / name, config, _abstract(config), fill)
    checkpoints.pack(root / "plain", root / "plain.safetensors", half=False)
    return root


def _load(config, path):
    config.init_from = str(path)
    return finetune.load(config, _abstract(config))


def _equal(one, other):
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


def test_packed_weights_load_like_a_workdir(donors):
    path, config = donors / "plain", _config1()
    saved, _ = checkpoints.load_variables(path, _abstract(config))
    for donor_path in (path, donors / "plain.safetensors"):
        loaded = _load(config, donor_path)
        assert loaded.keys() == {"params"} and _equal(loaded["params"], saved["params"])


def test_everything_but_the_weights_is_new(donors):
    """Parameters and their average are the loaded ones; the optimiser state is the initial one."""
    config = _config2()
    start, task = _load(config, donors / "stage2"), loop.OBJECTIVES["stage2"](config)
    optimizer = optim.make_optimizer(config.optim, num_steps=1)
    create = lambda start: loop.create_state(task, optimizer, seed=0, start=start)
    state = jax.jit(create)(start)
    assert int(state.step) == 0
    assert _equal(state.params, start["params"]) and _equal(state.ema_params, start["params"])
    assert _equal(state.opt_state, jax.jit(optimizer.init)(start["params"]))
    # The statistics come from the new data.
    assert start.keys() == {"params"}
    assert _equal(state.model_state, jax.jit(task.init)(jax.random.key(1))[1])


@pytest.mark.parametrize(
    ("name", "adversarial", "taken"),
    [("playing", 1.0, True), ("playing", 0.0, False), ("plain", 1.0, False)],
)
def test_a_discriminator_is_loaded_if_both_runs_have_one(donors, name, adversarial, taken):
    params = _load(_config1(**{"loss.adversarial": adversarial}), donors / name)["params"]
    assert (optim.DISCRIMINATOR in params) == taken


@pytest.mark.parametrize(
    ("name", "config", "sentence"),
    [
        ("plain", _config1(**{"model.width": 32}), "model.width is 64 there and 32 here"),
        (
            "plain",
            _config1(**{"model.warp_kind": "flow"}),
            "warp_kind is 'volume' there",
        ),
        (
            "playing",
            _config1(**{"discriminator.width": 16, "loss.adversarial": 1.0}),
            "discriminator.width is 8 there and 16 here",
        ),
        ("stage2", _config2(motion_space="matrix"), "motion_space is 'angles' there and 'matrix'"),
        ("stage2", _config2(speech_dim=99), "speech_dim is 35 there and 99 here"),
        ("stage2", _config1(), "a checkpoint of stage2, but stage1 is wanted"),
        ("nobody", _config1(), "no stage1 checkpoint here"),
    ],
)
def test_other_networks_are_refused_with_the_key_that_differs(donors, name, config, sentence):
    with pytest.raises(InputError, match=rf"{name}: .*{sentence}"):
        _load(config, donors / name)


@pytest.mark.parametrize("frozen", [("extractor",), ()])
def test_a_frozen_extractor_keeps_its_step_and_its_reading_of_poses(donors, tmp_path, frozen):
    """Without it, the motion changes, so that neither fits."""
    dim = MotionSpace("angles", build_model(**_config1().model).motion_dim).dim
    reading = np.random.default_rng(1).standard_normal((dim, 20)).astype(np.float32)
    file = tmp_path / "a.safetensors"
    checkpoints.pack(donors / "plain", file, half=False, pose_reading=reading)
    config = _config1(**{"optim.frozen_parts": frozen, "init_from": str(file)})
    stage1._keep_extractor(config)
    assert config.num_pose_values == (20 if frozen else 0)
    assert config.motion_step == (checkpoints.motion_step(file) if frozen else 0)
    loaded = _load(config, file)
    assert ("pose_reading" in loaded) == bool(frozen)
    if frozen:
        np.testing.assert_array_equal(loaded["pose_reading"]["matrix"], reading)


def test_keys_that_change_no_weights_may_differ(donors):
    changes = {"model.dropout": 0.5, "loss.velocity": 3.0, "process.num_steps": 50}
    assert _load(_config2(**changes), donors / "stage2")
