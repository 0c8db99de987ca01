"""Checks the values of a config before a run makes anything: a typing error would cost hours.

The configs of this installation, `configs/stage1.py` and `configs/stage2.py`, say which keys exist
and of which type their values are. Names of samplers and the like, and values that have to fit
together, are checked by the code that uses them.
"""

import dataclasses
import fnmatch
import functools
import json
from typing import Any, NamedTuple

import flax
from ml_collections import ConfigDict

from gesture_jax import presets, renamed_keys
from gesture_jax.errors import InputError
from gesture_jax.models.build import NETWORKS
from gesture_jax.ops import remat

_STAGES = "stage1", "stage2"
_MAX = 10**9
# Bounds of numbers, inclusive, and the keys that have them; the first pattern that matches a key
# counts. This table stays because most of these bounds are known to no other code: Optax, JAX and
# NumPy accept a negative learning rate or a share of 3, and a width of a billion fills the memory
# before anything can refuse it. Keys without a pattern need no entry: their numbers are from 0 to
# `_MAX`, whole where the default is.
_BOUNDS = (
    ((-1, 2**16), "mesh.*"),
    ((0, 2**31 - 1), "seed"),
    ((1, _MAX), "num_steps log_every_steps checkpoint_every_steps keep_checkpoints"),
    ((1, 2**16), "batch_size accumulate_steps"),
    ((0, 10**7), "fgd_steps"),
    ((0, 10**6), "feature_dim"),
    ((0, 10**5), "speech_dim data.procedural_clips"),
    ((0, 1024), "data.num_workers"),
    ((1, 10**4), "data.eval_frames_per_clip"),
    ((1, 10**5), "data.procedural_identities *.num_steps"),
    ((1, 10**6), "data.window_stride"),
    ((0.2, 600.0), "data.procedural_clip_sec"),
    ((0, 64), "model.num_*_blocks model.num_speech_layers"),
    ((1, 8), "model.num_downs discriminator.num_levels loss.pyramid_levels"),
    ((1, 5), "loss.perceptual_blocks"),
    ((4, 2048), "model.resolution"),
    ((12, 10**4), "model.window"),
    ((1, 1000), "model.num_bins model.num_prior"),
    ((1, 128), "model.num_layers"),
    ((1, 256), "model.num_heads"),
    ((1, 2**17), "model.feedforward"),
    ((0.0, 0.99), "model.dropout"),
    ((1, 2**14), "model.* discriminator.*"),
    ((1, 1024), "*schedule.candidates"),
    ((1, 10**4), "*schedule.hop"),
    ((0, 10**4), "*schedule.*"),
    ((0.0, 1.0), "data.augment* loss.*_dropout sampler.eta optim.final_fraction optim.ema_decay"),
    ((0.0, 0.99999), "optim.b1 optim.b2"),
    ((0.0, 10.0), "optim.learning_rate optim.weight_decay"),
    ((1e-9, 1e9), "optim.clip_norm"),
    ((0.0, 1e30), "optim.max_grad_norm"),
    ((0.01, 1000.0), "loss.timestep_power"),
    ((0.0, 1e6), "sampler.clip"),
    ((0.0, 3600.0), "control.rest_sec"),
    ((0.0, 100.0), "loss.prior_* sampler.guidance control.*"),
)
_CHOICES = {"dtype": {"float32", "bfloat16"}, "remat": {*remat.POLICIES}}
_KINDS = {bool: "true or false", str: "a text", tuple: "a tuple"}
# Generation reads these keys and sections of a saved stage 2, so that they have to be there. Keys
# that only training reads may be missing, as older runs lack those that were added since.
_NEEDED = {
    "preset", "stage1_workdir", "stage1_step", "motion_space", "relative", "feature_dim",
    "speech_dim", "speakers", "data.features", "wavlm_sha256", "model", "process",
}  # fmt: skip
# Sections of defaults of generation; a key that a saved stage 2 lacks has the value of `paper`.
_GENERATION = "sampler", "schedule", "stream_schedule", "control"


class _Rule(NamedTuple):
    """The type of a value, that of `default`, and the bounds of a number."""

    default: Any
    low: float
    high: float


def check(config: ConfigDict) -> None:
    """Checks each value of a stage's config.

    Raises:
      InputError: for the first key that is unknown, or whose value has another type or is out of
        range.
    """
    flat = _flatten(config.to_dict())
    stage = flat.get("stage")
    if stage not in _STAGES:
        raise InputError(f"stage is {stage!r}; it has to be one of {', '.join(_STAGES)}")
    rules = _rules(stage)
    for key, value in flat.items():
        # The discriminator's optimizer has the keys of the other one, and its values where it lacks
        # one.
        rule = rules.get(key.replace("optim.discriminator.", "optim."))
        if rule is None:
            raise InputError(f"{key} is no part of a config")
        _check_value(key, value, rule)


def parse(text: str) -> ConfigDict:
    """Returns the config that a run has saved as JSON.

    Raises:
      InputError: as `check`, or for a stage 2 that lacks a key.
      Exception: of several types, where the text is not the JSON of a config.
    """
    saved = _lists_to_tuples(renamed_keys.upgrade(json.loads(text)))
    if not isinstance(saved, dict):
        raise InputError("it is not a JSON object")
    if saved.get("stage") == "stage2":
        _complete(saved)
    config = ConfigDict(saved)
    check(config)
    config.model  # noqa: B018
    return config


def _complete(saved: dict[str, Any]) -> None:
    """Fills in defaults of generation; raises InputError where another needed key is missing."""
    for section in _GENERATION:
        given = saved.get(section, {})
        if isinstance(given, dict):  # Otherwise `check` refuses it.
            saved[section] = _load("stage2")[section] | given
    flat = _flatten(saved)
    for key in _rules("stage2"):
        if key not in flat and (key in _NEEDED or key.split(".")[0] in _NEEDED):
            raise InputError(f"{key} is missing")


def _lists_to_tuples(value: Any) -> Any:
    """Converts the lists of JSON: attributes of a Flax module have to be hashable."""
    if isinstance(value, dict):
        return {key: _lists_to_tuples(item) for key, item in value.items()}
    return tuple(map(_lists_to_tuples, value)) if isinstance(value, list) else value


@functools.cache
def _load(stage: str) -> dict[str, Any]:
    return presets.load(presets.find_installed(f"configs/{stage}.py")).to_dict()


@functools.cache
def _rules(stage: str) -> dict[str, _Rule]:
    """Returns a rule for each key of a stage."""
    defaults: dict[str, Any] = {}
    for name in _STAGES:  # Their optimizers have the same keys, of which each names some.
        defaults |= _flatten({"optim": _load(name)["optim"]})
    if stage == "stage1":  # The config names those of one network.
        for network in NETWORKS.values():
            defaults |= {f"model.{f.name}": f.default for f in dataclasses.fields(network)}
    defaults |= _flatten(_load(stage))
    known = {key: x for key, x in defaults.items() if isinstance(x, int | float | str | tuple)}
    return {key: _Rule(default, *_find_bounds(key, default)) for key, default in known.items()}


def _find_bounds(key: str, default: Any) -> tuple[float, float]:
    for bounds, patterns in _BOUNDS:
        if any(fnmatch.fnmatchcase(key, pattern) for pattern in patterns.split()):
            return bounds
    return 0, _MAX


def _flatten(config: dict[str, Any]) -> dict[str, Any]:
    return flax.traverse_util.flatten_dict(config, sep=".")


def _check_value(key: str, value: Any, rule: _Rule) -> None:
    if key in _CHOICES:
        if value not in _CHOICES[key]:
            names = ", ".join(sorted(_CHOICES[key]))
            raise InputError(f"{key} is {value!r}; it has to be one of {names}")
        return
    kind = type(rule.default)
    if kind in _KINDS:
        if not isinstance(value, kind):
            raise InputError(f"{key} is {value!r}; it has to be {_KINDS[kind]}")
        return
    is_number = isinstance(value, kind | int) and not isinstance(value, bool)
    if not is_number or not rule.low <= value <= rule.high:  # NaN is not.
        name = "a whole number" if kind is int else "a number"
        bounds = f"from {rule.low:g} to {rule.high:g}"
        raise InputError(f"{key} is {value!r}; it has to be {name} {bounds}")
