"""Where fine-tuning begins: the averaged weights of a trained run of the same networks.

The optimiser and its schedule are new. Of stage 2 the statistics are those of the new data: they
bring a person's motion and voice to unit size, as they did with the people of the donor's.
"""

import os
from collections.abc import Callable, Mapping
from typing import Any

import flax
import jax
from ml_collections import ConfigDict

from gesture_jax.checkpoint import checkpoints
from gesture_jax.errors import InputError
from gesture_jax.training.optim import DISCRIMINATOR

# By stage, the collections that are taken over, and what of a config makes the networks; `model.`
# stands for all below it.
_TAKEN = {"stage1": ("params", "batch_stats"), "stage2": ("params",)}
_SAME = {
    "stage1": ("model.",),
    "stage2": (
        "model.", "motion_space", "relative", "standardise", "feature_dim", "speech_dim",
        "speakers", "data.features", "wavlm_sha256",
    ),
}  # fmt: skip
# What does not change what weights mean.
_FREE = {"model.dropout"}


def load_init_params(
    config: ConfigDict, init: Callable[[jax.Array], tuple[Any, Any]], workdir: str | os.PathLike
) -> dict[str, Any]:
    """What `load` gives, of a run that makes its variables by `init`; nothing where `init_from` is
    empty, or the run has a checkpoint of its own in `workdir`.
    """
    if not config.get("init_from") or checkpoints.is_saved(workdir):
        return {}
    params, model_state = jax.eval_shape(init, jax.random.key(0))
    return load(config, {"params": params, **model_state})


def load(config: ConfigDict, abstract_variables: Mapping[str, Any]) -> dict[str, Any]:
    """What a run begins with instead of random weights.

    Args:
      config: of the run, whose `init_from` is the donor: a workdir, or what was packed of one.
      abstract_variables: shapes of what the run trains and keeps, `params` and further collections.

    Returns:
      Variables, parts of `abstract_variables`. The discriminator of stage 1 is among them where
      both play.

    Raises:
      InputError: where the donor cannot be read, is of the other stage, or has other networks.
    """
    theirs = checkpoints.read_config(config.init_from, stage=config.stage)
    wanted = {name: x for name, x in abstract_variables.items() if name in _TAKEN[config.stage]}
    same = _SAME[config.stage]
    if DISCRIMINATOR in wanted["params"]:
        if theirs.get("loss", {}).get("adversarial"):
            same += ("discriminator.",)
        else:
            wanted["params"] = {k: x for k, x in wanted["params"].items() if k != DISCRIMINATOR}
    _check_same(config, theirs, same)
    variables, _ = checkpoints.load_variables(config.init_from, wanted)
    return variables


def _check_same(config: ConfigDict, theirs: ConfigDict, keys: tuple[str, ...]) -> None:
    flat = lambda tree: flax.traverse_util.flatten_dict(tree.to_dict(), sep=".")
    new, old = flat(config), flat(theirs)
    # Converted weights tell no more than their shapes, which are looked at when they are loaded.
    known = sorted(key for key in new.keys() & old.keys() - _FREE if key.startswith(keys))
    differ = [key for key in known if new[key] != old[key]]
    if differ:
        told = ", ".join(f"{key} is {old[key]!r} there and {new[key]!r} here" for key in differ)
        raise InputError(
            f"{config.init_from}: has other networks, which this run cannot begin from: {told}; "
            "give it the same values, or another init_from"
        )
