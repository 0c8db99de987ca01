"""Fine-tuning: a run that starts from the averaged weights of a trained one with the same networks.

The optimiser and its schedule start anew. Stage 2 uses the statistics of the new data, which scale
the new person's motion and voice to unit size, as the old ones did for the people in the old data.
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

# By stage: the collections of variables that are loaded.
_LOADED = {"stage1": ("params", "batch_stats", "pose_reading"), "stage2": ("params",)}
# By stage: the config keys that determine the networks; `model.` stands for all keys below it.
_SAME = {
    "stage1": ("model.",),
    "stage2": (
        "model.", "motion_space", "relative", "standardise", "feature_dim", "num_lips",
        "speech_dim",
        "speakers", "data.features", "wavlm_sha256",
    ),
}  # fmt: skip
# Keys among them that may differ, as they do not change the meaning of the weights.
_MAY_DIFFER = {"model.dropout"}


def load_init_params(
    config: ConfigDict, init: Callable[[jax.Array], tuple[Any, Any]], workdir: str | os.PathLike
) -> dict[str, Any]:
    """Returns the variables that a run starts from instead of random ones; see `load`.

    Args:
      config: of the run.
      init: initialises the variables of the run.
      workdir: of the run.

    Returns:
      Nothing where `config.init_from` is empty, or `workdir` holds a checkpoint already.
    """
    if not config.get("init_from") or checkpoints.is_saved(workdir):
        return {}
    params, model_state = jax.eval_shape(init, jax.random.key(0))
    return load(config, {"params": params, **model_state})


def load(config: ConfigDict, abstract_variables: Mapping[str, Any]) -> dict[str, Any]:
    """Loads the variables of `config.init_from`, a workdir or a packed file.

    Args:
      config: of the new run.
      abstract_variables: shapes of the new run's `params` and further collections.

    Returns:
      Some of `abstract_variables`. The discriminator of stage 1 is among them where both runs use
      one.

    Raises:
      InputError: where `init_from` cannot be read, is of the other stage, or has other networks.
    """
    old_config = checkpoints.read_config(config.init_from, stage=config.stage)
    wanted = {name: x for name, x in abstract_variables.items() if name in _LOADED[config.stage]}
    same = _SAME[config.stage]
    if DISCRIMINATOR in wanted["params"]:
        if old_config.get("loss", {}).get("adversarial"):
            same += ("discriminator.",)
        else:
            wanted["params"] = {k: x for k, x in wanted["params"].items() if k != DISCRIMINATOR}
    _check_same(config, old_config, same)
    variables, _ = checkpoints.load_variables(config.init_from, wanted, stage=config.stage)
    return variables


def _check_same(config: ConfigDict, old_config: ConfigDict, keys: tuple[str, ...]) -> None:
    flat = lambda tree: flax.traverse_util.flatten_dict(tree.to_dict(), sep=".")
    new, old = flat(config), flat(old_config)
    # Configs of converted weights have few keys; the shapes are checked when they are loaded.
    known = sorted(key for key in new.keys() & old.keys() - _MAY_DIFFER if key.startswith(keys))
    differ = [key for key in known if new[key] != old[key]]
    if differ:
        listed = ", ".join(f"{key} is {old[key]!r} there and {new[key]!r} here" for key in differ)
        raise InputError(
            f"{config.init_from}: has other networks, which this run cannot begin from: {listed}; "
            "give it the same values, or another init_from"
        )
