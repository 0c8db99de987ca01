"""Checkpoints: what is in a workdir, how it is saved, resumed, read; only this file knows Orbax.

A workdir holds `config.json` and `checkpoints/STEP/{state,data}`: the train state and the position
in the data, always of the same step. Inference reads `ema_params` and `model_state` alone.
"""

import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict
from orbax.checkpoint import v1 as ocp

from gesture_jax.data.files import write_beside
from gesture_jax.data.pipeline import BatchIterator
from gesture_jax.errors import InputError

_STATE = "state"
_DATA = "data"


class Checkpointer:
    """Saves and resumes one training run."""

    def __init__(self, workdir: str | os.PathLike, *, keep: int):
        """Keeps the newest `keep` checkpoints below `workdir`."""
        self._orbax = ocp.training.Checkpointer(
            _directory(workdir),
            # The loop decides when to save; the newest few stay.
            save_decision_policy=ocp.training.save_decision_policies.FixedIntervalPolicy(1),
            preservation_policy=ocp.training.preservation_policies.LatestN(keep),
            cleanup_tmp_directories=True,
        )
        self._pending = None

    @property
    def latest_step(self) -> int | None:
        """The newest saved step, None where nothing was saved."""
        return None if self._orbax.latest is None else self._orbax.latest.step

    def save(self, step: int, state: Any, batches: BatchIterator) -> None:
        """Starts to save state and position in the data; waits only for the save before."""
        self.wait()
        saved = {_STATE: state, _DATA: _as_arrays(batches.get_state())}
        self._pending = self._orbax.save_checkpointables_async(step, saved)

    def restore(self, abstract_state: Any, batches: BatchIterator) -> Any:
        """The newest state on the shardings of `abstract_state`; moves `batches` to its place."""
        abstract = {_STATE: abstract_state, _DATA: _as_arrays(batches.get_state())}
        loaded = self._orbax.load_checkpointables(None, abstract)
        batches.set_state(jax.tree.map(int, loaded[_DATA]))
        return loaded[_STATE]

    def wait(self) -> None:
        """Returns once the save under way, if any, is on disk."""
        if self._pending is not None:
            self._pending.result()
            self._pending = None

    def close(self) -> None:
        """Waits, then lets go of the directory."""
        self.wait()
        self._orbax.close()


def write_config(workdir: str | os.PathLike, config: ConfigDict) -> None:
    """Writes `config.json`, beside first, then renamed."""
    with write_beside(pathlib.Path(workdir) / "config.json") as beside:
        beside.write_text(json.dumps(config.to_dict(), indent=2, sort_keys=True) + "\n")


def read_config(workdir: str | os.PathLike, *, stage: str) -> ConfigDict:
    """The config of a trained or converted `stage` ("stage1" or "stage2").

    Raises:
      InputError: where the workdir has no readable config, or that of the other stage.
    """
    path = pathlib.Path(workdir) / "config.json"
    if not path.exists():
        raise InputError(
            f"{workdir}: no {stage} checkpoint here (config.json is missing); give the --workdir "
            f"of `python -m gesture_jax.train --config=configs/{stage}.py`"
        )
    try:
        config = ConfigDict(_lists_to_tuples(json.loads(path.read_text())))
        found = config.stage
    except (ValueError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: not a config of gesture_jax ({error})") from None
    if found != stage:
        raise InputError(f"{workdir}: this is a checkpoint of {found}, but {stage} is wanted")
    return config


def _lists_to_tuples(value: Any) -> Any:
    """JSON knows no tuples, but a Flax module's attributes have to be hashable."""
    if isinstance(value, dict):
        return {key: _lists_to_tuples(item) for key, item in value.items()}
    return tuple(map(_lists_to_tuples, value)) if isinstance(value, list) else value


def save_variables(workdir: str | os.PathLike, variables: Mapping[str, Any]) -> None:
    """Writes converted weights as the checkpoint of step 0 of a workdir, ready for inference.

    Args:
      workdir: where `load_variables` will read.
      variables: Flax variables: `params` and further collections.
    """
    collections = dict(variables)
    state = {"ema_params": collections.pop("params"), "model_state": collections}
    ocp.save_checkpointables(_directory(workdir) / "0", {_STATE: state}, overwrite=True)


def newest_step(workdir: str | os.PathLike) -> int:
    """The step of the newest checkpoint, 0 for converted weights.

    Raises:
      InputError: where there is no checkpoint.
    """
    names = [path.name for path in _directory(workdir).glob("*") if path.name.isdigit()]
    if not names:
        raise InputError(f"{workdir}: no checkpoint was saved here yet; train for longer first")
    return max(map(int, names))


def load_variables(
    workdir: str | os.PathLike, abstract_variables: Mapping[str, Any]
) -> tuple[dict[str, Any], int]:
    """The newest averaged weights of a workdir, and their step.

    Args:
      workdir: of a training run, or of `gesture_jax.convert`.
      abstract_variables: tree of `jax.ShapeDtypeStruct` to load into.

    Raises:
      InputError: where there is no checkpoint or it does not fit `abstract_variables`.
    """
    step = newest_step(workdir)
    path = _directory(workdir) / str(step)
    device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    collections = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device),
        dict(abstract_variables),
    )
    abstract = {"ema_params": collections.pop("params"), "model_state": collections}
    context = ocp.Context()
    context.pytree_options.loading.partial_load = True
    # One of several processes reads for itself, and waits for no other.
    context.multiprocessing_options.primary_host = jax.process_index()
    context.multiprocessing_options.active_processes = {jax.process_index()}
    with context:
        _check_shapes(path, abstract)
        state = ocp.load_checkpointables(path, {_STATE: abstract})[_STATE]
    return {"params": state["ema_params"], **state["model_state"]}, step


def _check_shapes(path: pathlib.Path, abstract: Any) -> None:
    """Names what a saved state lacks or holds in another shape."""
    saved = ocp.metadata(path).metadata
    found = {
        jax.tree_util.keystr(key, simple=True, separator="/"): tuple(leaf.shape)
        for key, leaf in jax.tree.leaves_with_path(saved)
    }
    wanted = {
        jax.tree_util.keystr(key, simple=True, separator="/"): leaf.shape
        for key, leaf in jax.tree.leaves_with_path(abstract)
    }
    wrong = [name for name, shape in wanted.items() if found.get(name) != shape]
    if wrong:
        raise InputError(
            f"{path}: does not fit its config.json: {len(wrong)} of {len(wanted)} arrays are "
            f"missing or of another shape, the first being {wrong[0]} "
            f"({found.get(wrong[0], 'missing')}, wanted {wanted[wrong[0]]})"
        )


def _as_arrays(position: Mapping[str, int]) -> dict[str, np.ndarray]:
    return {name: np.asarray(number, np.int64) for name, number in position.items()}


def _directory(workdir: str | os.PathLike) -> pathlib.Path:
    return pathlib.Path(workdir).absolute() / "checkpoints"
