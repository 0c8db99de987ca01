"""Fine-tuning begins with the averaged weights of a trained run, and with nothing else of it."""

import shutil

import jax
import numpy as np
import pytest

from gesture_jax import checkpoints, donor, optim, train_lib
from gesture_jax.errors import InputError
from tests import tiny

pytestmark = pytest.mark.usefixtures("quickly_compiled")
_STILL = {"optim.learning_rate": 0.0, "optim.discriminator.learning_rate": 0.0}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Both stages, two steps each, the second of stage 1 in the game; their folder and states."""
    root = tmp_path_factory.mktemp("trained")
    changes = {"num_steps": 2, "loss.adversarial_start": 1}
    first = train_lib.train(tiny.stage1(**changes), str(root / "stage1"))
    second = train_lib.train(tiny.stage2(root / "stage1", num_steps=2), str(root / "stage2"))
    checkpoints.pack(root / "stage1", root / "stage1.safetensors", half=False)
    return root, first, second


def _config1(trained, donor="stage1", **changes):
    root = trained[0]
    changes = {"data.path": str(root / "stage1" / "dataset"), "num_steps": 1} | changes
    return tiny.stage1(init_from=str(root / donor), **changes)


def _config2(trained, **changes):
    root = trained[0]
    return tiny.stage2(root / "stage1", init_from=str(root / "stage2"), num_steps=1, **changes)


def _equal(one, other):
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("name", ["stage1", "stage1.safetensors"])
def test_stage_1_begins_with_the_average(trained, tmp_path, name):
    """And with the donor's discriminator, as both play; a step of no length shows it."""
    state = train_lib.train(_config1(trained, name, **_STILL), str(tmp_path))
    assert _equal(state.params, trained[1].ema_params)
    assert not _equal(trained[1].params, trained[1].ema_params)
    counts = [x for x in jax.tree.leaves(state.opt_state) if x.dtype == np.int32]
    assert counts and all(count == 1 for count in counts)


def test_stage_2_begins_with_the_average_and_its_own_statistics(trained, tmp_path):
    state = train_lib.train(_config2(trained, **{"optim.learning_rate": 0.0}), str(tmp_path))
    assert _equal(state.params, trained[2].ema_params)
    fresh = train_lib.TASKS["stage2"](tiny.stage2(trained[0] / "stage1"), "")
    assert _equal(state.model_state, fresh.init(jax.random.key(0))[1])


def _start(config, workdir):
    task = train_lib.TASKS[config.stage](config, str(workdir))
    params, model_state = jax.eval_shape(task.init, jax.random.key(0))
    return donor.load(config, {"params": params, **model_state})


@pytest.mark.parametrize(("ours", "theirs"), [(0.0, 1.0), (1.0, 0.0)])
def test_a_discriminator_of_one_side_is_left_alone(trained, tmp_path, ours, theirs):
    shutil.copytree(trained[0] / "stage1", tmp_path / "stage1")
    config = checkpoints.read_config(tmp_path / "stage1", stage="stage1")
    config.loss.adversarial = theirs
    checkpoints.write_config(tmp_path / "stage1", config)
    new = _config1(trained, **{"loss.adversarial": ours})
    new.init_from = str(tmp_path / "stage1")
    assert optim.DISCRIMINATOR not in _start(new, tmp_path)["params"]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"model.width": 32}, "model.width is 64 there and 32 here"),
        ({"model.warp_kind": "flow"}, "model.warp_kind is 'volume' there and 'flow' here"),
        ({"discriminator.width": 16}, "discriminator.width is 8 there and 16 here"),
    ],
)
def test_other_networks_of_stage_1_are_refused(trained, tmp_path, changes, sentence):
    with pytest.raises(InputError, match=rf"stage1: has other networks, .*{sentence}"):
        train_lib.train(_config1(trained, **changes), str(tmp_path))
    assert not [*tmp_path.iterdir()]  # So that the corrected command begins anew.


def test_other_networks_of_stage_2_are_refused(trained, tmp_path):
    with pytest.raises(InputError, match="motion_space is 'angles' there and 'matrix' here"):
        _start(_config2(trained, motion_space="matrix"), tmp_path)
    with pytest.raises(InputError, match="checkpoint of stage1, but stage2 is wanted"):
        config = _config2(trained)
        config.init_from = str(trained[0] / "stage1")
        _start(config, tmp_path)
    _start(_config2(trained, **{"model.dropout": 0.5}), tmp_path)  # Weights mean the same.


def test_a_resumed_run_is_the_same_to_the_bit_and_needs_no_donor(trained, tmp_path):
    shutil.copytree(trained[0] / "stage1", tmp_path / "donor")
    config = _config1(trained, num_steps=4, checkpoint_every_steps=2)
    config.init_from = str(tmp_path / "donor")
    straight = train_lib.train(config.copy_and_resolve_references(), str(tmp_path / "run"))
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "4")
    shutil.rmtree(tmp_path / "donor")
    resumed = train_lib.train(config, str(tmp_path / "run"))
    assert int(resumed.step) == 4 and _equal(resumed, straight)
