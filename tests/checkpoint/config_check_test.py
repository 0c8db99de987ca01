"""Configs are checked key by key; those of older runs are completed."""

import json

import pytest

from configs import stage1, stage2
from gesture_jax.checkpoint import config_check
from gesture_jax.errors import InputError


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("sampler.guidance", -1.0, "sampler.guidance is -1.0; it has to be a number from 0 to 100"),
        ("optim.b1", 1.0, "optim.b1 is 1.0; it has to be a number from 0 to 0.99999"),
        ("fgd_steps", -1, "fgd_steps is -1; it has to be a whole number from 0 to 1e+07"),
        # Nothing but their defaults says what these may be.
        ("loss.velocity", float("nan"), "loss.velocity is nan; it has to be a number from 0 to 1e"),
        ("optim.warmup_steps", -1, "optim.warmup_steps is -1; it has to be a whole number from 0"),
        ("relative", 1, "relative is 1; it has to be true or false"),
        ("motion_space", 3, "motion_space is 3; it has to be a text"),
        ("dtype", "float16", "dtype is 'float16'; it has to be one of bfloat16, float32"),
        ("loss.more", 1.0, "loss.more is no part of a config"),
        ("stage", "stage3", "stage is 'stage3'; it has to be one of stage1, stage2"),
    ],
)
def test_wrong_values_are_named(key, value, sentence):
    config = json.loads(stage2.get_config().to_json_best_effort())
    *sections, name = key.split(".")
    section = config
    for each in sections:
        section = section[each]
    section[name] = value
    with pytest.raises(InputError) as error:
        config_check.parse(json.dumps(config))
    assert str(error.value).startswith(sentence)


def test_each_network_of_stage_1_may_have_its_own_keys():
    config = stage1.get_config("photo")
    with config.model.unlocked():
        config.model.max_width = 64  # Of another network than this preset's.
        config_check.check(config)
        config.model.depth = 64
    with pytest.raises(InputError, match=r"model\.depth is no part of a config"):
        config_check.check(config)


def test_what_older_runs_lack_is_filled_in_or_not_needed():
    saved = stage2.get_config("demo").to_dict()
    del saved["control"]["rest_sec"], saved["schedule"], saved["loss"], saved["training_bounds"]
    config = config_check.parse(json.dumps(saved))
    assert config.control.rest_sec == 0.0
    assert config.schedule.to_dict() == stage2.get_config("paper").schedule.to_dict()
    assert "loss" not in config and "training_bounds" not in config


@pytest.mark.parametrize("key", ["motion_space", "speakers", "model", "data"])
def test_what_generation_reads_has_to_be_there(key):
    saved = stage2.get_config("demo").to_dict()
    del saved[key]
    with pytest.raises(InputError, match=rf"{key}.* is missing"):
        config_check.parse(json.dumps(saved))


def test_other_json_is_refused():
    with pytest.raises(InputError, match="not a JSON object"):
        config_check.parse("[]")
