"""Checkpoints: what is in a workdir, how it is saved, resumed, read; only this file knows Orbax.

A workdir holds `config.json` and `checkpoints/STEP/{state,data}`: the train state and the position
in the data, always of the same step. Inference reads `ema_params` and `model_state` alone.
"""

import contextlib
import errno
import json
import os
import pathlib
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from ml_collections import ConfigDict
from orbax.checkpoint import v1 as ocp

from gesture_jax import config_check, processes
from gesture_jax.data.pipeline import BatchIterator
from gesture_jax.errors import InputError
from gesture_jax.files import absolute, as_path, write_beside
from gesture_jax.step_folders import StepFolders, readable, saved_steps

_STATE = "state"
_DATA = "data"
_FINGERPRINTS = "fingerprints"
# What Orbax, and what is below it, raise of files that are cut short or changed.
_DAMAGE = (ValueError, LookupError, TypeError, OSError, RuntimeError)


class Checkpointer:
    """Saves and resumes one training run.

    With each checkpoint goes a fingerprint of every array, by which a damaged one is known.
    """

    def __init__(self, workdir: str | os.PathLike, *, keep: int):
        """Keeps the newest `keep` checkpoints below `workdir`."""
        self._path = _directory(workdir)
        self._folders = StepFolders(self._path)
        if self._folders.is_mirrored and jax.process_count() > 1:
            raise InputError(
                f"{workdir}: several processes save their checkpoints to gs:// or to a disk that "
                "all see; one process alone does so here"
            )
        self._orbax = ocp.training.Checkpointer(
            self._folders.local,
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
        save = self._orbax.save_checkpointables_async(
            step, saved, custom_metadata={_FINGERPRINTS: _fingerprints(saved)}
        )
        self._pending = self._folders.after(save)

    def restore(self, abstract_state: Any, batches: BatchIterator) -> Any:
        """The newest whole state on the shardings of `abstract_state`; `batches` at its place.

        Newer checkpoints that are damaged are moved to `WORKDIR/damaged`, and told of on stderr.

        Raises:
          InputError: where no checkpoint is whole.
        """
        abstract = {_STATE: abstract_state, _DATA: _as_arrays(batches.get_state())}
        damaged: dict[int, str] = {}
        for step in sorted((saved.step for saved in self._orbax.checkpoints), reverse=True):
            try:
                loaded = self._load(step, abstract)
            except _DAMAGE as error:
                damaged[step] = _first_line(error)
                continue
            self._set_aside(damaged, instead=step)
            batches.set_state(jax.tree.map(int, loaded[_DATA]))
            return loaded[_STATE]
        reasons = "; ".join(f"step {step}: {reason}" for step, reason in damaged.items())
        raise InputError(f"{self._path}: no checkpoint is whole, or none fits: {reasons}")

    def _load(self, step: int, abstract: Any) -> Any:
        """Raises one of `_DAMAGE` where what is read is not what was saved."""
        loaded = self._orbax.load_checkpointables(step, abstract)
        _check_fingerprints(self._folders.local / str(step), loaded)
        return loaded

    def _set_aside(self, damaged: Mapping[int, str], *, instead: int) -> None:
        for step, reason in damaged.items():
            print(
                f"{self._path / str(step)}: damaged ({reason}); moved to {self._path.parent}/"
                f"damaged, going on from step {instead}",
                file=sys.stderr,
            )
            if processes.is_first_process():
                name = f"{step}-{time.strftime('%Y%m%dT%H%M%S')}"
                self._folders.set_aside(step, self._path.parent / "damaged" / name)
        if damaged:
            multihost_utils.sync_global_devices("damaged")
            self._orbax.reload()

    def wait(self) -> None:
        """Returns once the save under way, if any, is on disk.

        Raises:
          OSError: where the disk is full; checkpoints from before are whole.
        """
        pending, self._pending = self._pending, None
        if pending is not None:
            with self._told_of_full_disk():
                pending.result()

    def close(self) -> None:
        """Waits, then lets go of the directory."""
        self.wait()
        with self._told_of_full_disk():
            self._orbax.close()
            self._folders.close()

    @contextlib.contextmanager
    def _told_of_full_disk(self) -> Iterator[None]:
        """Tensorstore and Orbax have an error of their own each for what is an OSError."""
        try:
            yield
        except (ValueError, OSError) as error:
            if os.strerror(errno.ENOSPC) not in str(error):
                raise
            raise OSError(errno.ENOSPC, "no space left", str(self._path)) from error


def _fingerprints(tree: Any) -> dict[str, int]:
    """A number for each array, by its name; any change of one of its numbers changes it."""
    # A device would see 32 of the 64 bits of a position in the data.
    halve = lambda x: np.ravel(x).view(np.uint32) if x.dtype == np.int64 else x
    arrays = jax.tree.leaves_with_path(tree)
    return {_name(key): int(_fingerprint(halve(array))) for key, array in arrays}


@jax.jit
def _fingerprint(array: jax.Array) -> jax.Array:
    """Sum of the hashes of all places and what is there, modulo 2^32: the same however it lies."""
    array = array.astype(jnp.uint8) if array.dtype == bool else array
    bits = jax.lax.bitcast_convert_type(array, f"uint{8 * array.dtype.itemsize}").astype(jnp.uint32)
    place = jnp.zeros(array.shape, jnp.uint32)
    for axis, length in enumerate(array.shape):
        place = place * np.uint32(length) + jax.lax.broadcasted_iota(jnp.uint32, array.shape, axis)
    mixed = bits ^ (place * np.uint32(0x9E3779B1))
    # Steps of MurmurHash3, each of which loses nothing: no two values at a place look alike.
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35), (16, 1)):
        mixed = (mixed ^ (mixed >> shift)) * np.uint32(factor)
    return mixed.sum(dtype=jnp.uint32)


def _check_fingerprints(path: pathlib.Path, loaded: Any) -> None:
    """Raises ValueError where arrays are not those that were saved; checkpoints from before
    fingerprints are let be.
    """
    saved = json.loads((path / "_CHECKPOINT_METADATA").read_text())["custom_metadata"]
    if not saved:
        return
    found = _fingerprints(loaded)
    wrong = [name for name, number in found.items() if saved[_FINGERPRINTS].get(name) != number]
    if wrong:
        raise ValueError(f"{len(wrong)} of {len(found)} arrays have changed, first {wrong[0]}")


def _name(key: tuple) -> str:
    return jax.tree_util.keystr(key, simple=True, separator="/")


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:200]


def write_config(workdir: str | os.PathLike, config: ConfigDict) -> None:
    """Writes `config.json`, beside first, then renamed."""
    with write_beside(as_path(workdir) / "config.json") as beside:
        beside.write_text(json.dumps(config.to_dict(), indent=2, sort_keys=True) + "\n")


def read_config(workdir: str | os.PathLike, *, stage: str) -> ConfigDict:
    """The config of a trained or converted `stage` ("stage1" or "stage2").

    Raises:
      InputError: where the workdir has no readable config, or that of the other stage.
    """
    path = as_path(workdir) / "config.json"
    if not path.exists():
        raise InputError(
            f"{workdir}: no {stage} checkpoint here (config.json is missing); give the --workdir "
            f"of `python -m gesture_jax.train --config=configs/{stage}.py`"
        )
    try:
        config = ConfigDict(_lists_to_tuples(json.loads(path.read_text())))
        if config.stage == "stage2":
            config_check.check_complete(config)
        config_check.check(config)  # Converted weights of stage 1 have little to tell.
        config.model  # noqa: B018
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{path}: not a config of gesture_jax ({error})") from None
    if config.stage != stage:
        raise InputError(
            f"{workdir}: this is a checkpoint of {config.stage}, but {stage} is wanted"
        )
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
    folders = StepFolders(_directory(workdir), fetch=False)
    ocp.save_checkpointables(folders.local / "0", {_STATE: state}, overwrite=True)
    folders.replace(0)
    folders.close()


def newest_step(workdir: str | os.PathLike) -> int:
    """The step of the newest checkpoint, 0 for converted weights.

    Raises:
      InputError: where there is no checkpoint.
    """
    steps = saved_steps(_directory(workdir))
    if not steps:
        raise InputError(f"{workdir}: no checkpoint was saved here yet; train for longer first")
    return max(steps)


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
    try:
        folder = readable(path)
        with context:
            _check_shapes(folder, abstract, name=path)
            loaded = ocp.load_checkpointables(folder, {_STATE: abstract})
        _check_fingerprints(folder, loaded)
    except InputError:
        raise
    except _DAMAGE as error:
        raise InputError(
            f"{path}: this checkpoint is damaged ({_first_line(error)}); train on for a while, "
            "which starts from the newest whole one, or move it away"
        ) from error
    state = loaded[_STATE]
    return {"params": state["ema_params"], **state["model_state"]}, step


def _check_shapes(folder: pathlib.Path, abstract: Any, *, name: pathlib.Path) -> None:
    """Names what a saved state lacks or holds in another shape."""
    saved = ocp.metadata(folder).metadata
    found = {_name(key): tuple(leaf.shape) for key, leaf in jax.tree.leaves_with_path(saved)}
    wanted = {_name(key): leaf.shape for key, leaf in jax.tree.leaves_with_path(abstract)}
    wrong = [name for name, shape in wanted.items() if found.get(name) != shape]
    if wrong:
        raise InputError(
            f"{name}: does not fit its config.json: {len(wrong)} of {len(wanted)} arrays are "
            f"missing or of another shape, the first being {wrong[0]} "
            f"({found.get(wrong[0], 'missing')}, wanted {wanted[wrong[0]]})"
        )


def _as_arrays(position: Mapping[str, int]) -> dict[str, np.ndarray]:
    return {name: np.asarray(number, np.int64) for name, number in position.items()}


def _directory(workdir: str | os.PathLike) -> pathlib.Path:
    return absolute(workdir) / "checkpoints"
