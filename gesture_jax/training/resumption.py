"""Checks that a config continues the run in a workdir, and does not begin another experiment."""

from typing import Any

import flax
from ml_collections import ConfigDict

from gesture_jax.checkpoint import checkpoints
from gesture_jax.errors import InputError

# Keys that may change between a run and its resumption; all others belong to the experiment.
_MAY_CHANGE = {
    "num_steps", "log_every_steps", "eval_every_steps", "checkpoint_every_steps",
    "keep_checkpoints", "accumulate_steps", "remat", "mesh.data", "mesh.fsdp",
    "optim.max_grad_norm",
    # They change how data are read, but no batch.
    "data.num_workers", "data.cache", "data.extract_missing",
    "shoulders", "data.joint_names",  # Read from the data, which older versions did not do.
    "data.sha256",  # Has a check of its own.
    "data.features",  # Where it is empty, those of the data are taken.
    "data.procedural_voices",  # Where it is empty, the first run has chosen.
}  # fmt: skip
# Paths of the data. They may change too where `data.sha256` identifies the content.
_DATA_PATHS = {"data.path", "stage1_workdir"}
# Keys that older configs lack, and the values that correspond to the older behaviour.
_ADDED = {
    "dtype": "float32", "init_from": "", "remat": "none",
    "data.augment_views": 0.0, "data.joint_names": (), "data.on_device": False,
    "data.procedural_features": "baseline",
    "training_bounds": False, "num_lips": 0, "num_pose_values": 0, "motion_step": 0,
    "optim.frozen_parts": (), "loss.lips": 1.0,
    **{
        f"loss.{term}": 0.0
        for term in (
            "perceptual_regions", "warped_regions", "mouth", "warped", "drawn", "joints",
            "mask_smoothness", "prior_drift", "portrait_dropout",
        )
    },
}  # fmt: skip


def check_resumable(config: ConfigDict, workdir: str) -> None:
    """Compares a config with that of the run in `workdir`, if it has saved a checkpoint.

    Raises:
      InputError: where the run was trained with another config or on other data.
    """
    if not checkpoints.is_saved(workdir):
        return
    new = flatten(config)
    old = _read_flat(config, workdir, new)
    may_change = _MAY_CHANGE
    if old.get("data.sha256"):  # Older versions did not save it.
        may_change = _MAY_CHANGE | _DATA_PATHS
        if old["data.sha256"] != new["data.sha256"]:
            raise InputError(
                f"{workdir}: was trained on other data than {config.data.path}; choose another "
                "--workdir, or pass the path of the same data as --config.data.path"
            )
    changed = {key for key in new.keys() | old.keys() if new.get(key) != old.get(key)}
    if changed - may_change:
        raise InputError(
            f"{workdir}: was trained with another config "
            f"({', '.join(sorted(changed - may_change))}); "
            "choose another --workdir, or the values in its config.json"
        )


def _read_flat(config: ConfigDict, workdir: str, new: dict[str, Any]) -> dict[str, Any]:
    """Reads the saved config, with values for the keys that it lacks."""
    added = {key: value for key, value in _ADDED.items() if key in new}  # Some are of one stage.
    old = added | flatten(checkpoints.read_config(workdir, stage=config.stage))
    if "loss.region_weight" in old:  # In older versions it applied to the mouth too.
        old.setdefault("loss.mouth_weight", old["loss.region_weight"])
    return old


def flatten(config: ConfigDict) -> dict[str, Any]:
    """Returns the values of a config by their dotted keys."""
    return flax.traverse_util.flatten_dict(config.to_dict(), sep=".")
