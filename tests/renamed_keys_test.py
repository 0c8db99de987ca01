"""Old names of config keys and flags work for one version."""

import json

import pytest

from configs import stage2 as stage2_config
from gesture_jax import presets, renamed_keys
from gesture_jax.checkpoint import checkpoints, config_check
from gesture_jax.errors import InputError
from gesture_jax.training import loop
from tests import in_process, tiny


def _use_old_keys(workdir):
    """Rewrites a config.json as an older version had it."""
    path = workdir / "config.json"
    config = json.loads(path.read_text())
    for old, new in renamed_keys.KEYS.items():
        *sections, new_name = new.split(".")
        parent = config
        for section in sections:
            parent = parent[section]
        if new_name in parent:
            parent[old.rpartition(".")[2]] = parent.pop(new_name)
    path.write_text(json.dumps(config))


def _train(tmp_path, *overrides):
    """Runs `train` until it misses its stage 1 or its data; gives its lines on stderr."""
    config = "--config=configs/stage2.py:smoke"
    code, stderr = in_process.run("train", config, *overrides, f"--workdir={tmp_path / 'run'}")
    assert code == 2
    return stderr.splitlines()


def test_old_keys_on_the_command_line_give_a_notice(tmp_path):
    *notices, error = _train(
        tmp_path, "--config.pace.hop=3", "--config.loss.time_power=2.0", "--config.speaker_manners"
    )
    assert notices == [
        "--config.pace.hop is now --config.schedule.hop; the old name still works in this version",
        "--config.loss.time_power is now --config.loss.timestep_power; "
        "the old name still works in this version",
        "--config.speaker_manners is now --config.speaker_conditioning; "
        "the old name still works in this version",
    ]
    assert "--config.stage1_workdir" in error


def test_old_keys_on_the_command_line_set_the_new_ones(tmp_path):
    assert _train(tmp_path, "--config.schedule.hop=0")[-1].startswith("error: schedule.hop is 0;")
    assert _train(tmp_path, "--config.pace.hop=0")[-1].startswith("error: schedule.hop is 0;")


@pytest.mark.parametrize("override", ["--config.pace_=1", "--config.loss.pace=1"])
def test_other_keys_are_not_renamed(tmp_path, override):
    (error,) = _train(tmp_path, override)
    assert error.startswith("error: no such value in the config")


def test_old_flags_give_a_notice(tmp_path):
    code, stderr = in_process.run(
        "prepare", "--procedural=1", "--crop_px=4", "--nosplit_ends", "--split_ends",
        f"--out={tmp_path / 'data'}",
    )  # fmt: skip
    assert code == 2
    assert stderr.splitlines() == [
        f"--{old} is now --{new}; the old name still works in this version"
        for old, new in (
            ("crop_px", "border_px"),
            ("nosplit_ends", "nosplit_within_clips"),
            ("split_ends", "split_within_clips"),
        )
    ] + ["error: --split_within_clips is for recordings; drawn clips are not cut"]


@pytest.mark.parametrize("change", ["config.pace = {'hop': 0}", "config.update(pace={'hop': 0})"])
def test_a_users_config_file_with_old_keys_works(tmp_path, change):
    path = tmp_path / "mine.py"
    path.write_text(
        "from gesture_jax import presets\n"
        "def get_config():\n"
        "    config = presets.load('configs/stage2.py:smoke')\n"
        f"    {change}\n"
        "    return config\n"
    )
    code, stderr = in_process.run("train", f"--config={path}", f"--workdir={tmp_path / 'run'}")
    notice, error = stderr.splitlines()
    assert code == 2 and notice.startswith("--config.pace is now --config.schedule;")
    assert error.startswith("error: schedule.hop is 0;")


def test_a_config_of_old_keys_becomes_todays(tmp_path):
    for path in ("configs/stage1.py:photo", "configs/stage2.py"):
        config = presets.load(path)
        checkpoints.write_config(tmp_path, config)
        _use_old_keys(tmp_path)
        old = json.loads((tmp_path / "config.json").read_text())
        assert old != json.loads(json.dumps(config.to_dict()))
        assert checkpoints.read_config(tmp_path, stage=config.stage) == config


def test_todays_configs_are_left_alone():
    config = stage2_config.get_config("photo")
    assert renamed_keys.upgrade_config(config) is config
    assert renamed_keys.upgrade(config.to_dict()) == config.to_dict()


@pytest.mark.parametrize("tree", [None, 3, [], {"pace": 1, "schedule": {"hop": 2}}, {"model": []}])
def test_damaged_configs_raise_nothing_unforeseen(tree):
    upgraded = renamed_keys.upgrade(tree)
    if isinstance(tree, dict):
        assert "pace" not in upgraded


def test_every_new_key_is_a_key():
    known = config_check._rules("stage1").keys() | config_check._rules("stage2").keys()
    for old, new in renamed_keys.KEYS.items():
        assert any(key == new or key.startswith(f"{new}.") for key in known)
        assert not any(key == old or key.startswith(f"{old}.") for key in known)


@pytest.mark.usefixtures("quickly_compiled")
def test_a_run_with_old_keys_is_resumed(tmp_path, capsys):
    changes = {"eval_every_steps": 100, "loss.adversarial": 0.0}
    loop.train(tiny.stage1(num_steps=1, **changes), str(tmp_path))
    _use_old_keys(tmp_path)
    assert int(loop.train(tiny.stage1(num_steps=2, **changes), str(tmp_path)).step) == 2
    assert "is now" not in capsys.readouterr().err
    changes["model.warp_feature_width"] = 16
    _use_old_keys(tmp_path)
    with pytest.raises(InputError, match=r"another config \(model\.warp_feature_width\)"):
        loop.train(tiny.stage1(num_steps=3, **changes), str(tmp_path))
