"""Checkpoints of a workdir: saving, resuming and reading; only this file uses Orbax.

A workdir holds `config.json` and `checkpoints/STEP/{state,data}`: the train state and the position
in the data, both of the same step. Inference reads `ema_params` and `model_state` alone, from a
workdir or from the one file that `pack` writes. Orbax is imported inside functions, as packed
weights, such as the bundled ones, do not need it.
"""

import contextlib
import json
import os
import pathlib
import sys
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import flax
import jax
import numpy as np
from jax.experimental import multihost_utils
from ml_collections import ConfigDict

from gesture_jax.checkpoint import config_check, damage, fingerprints, packed
from gesture_jax.errors import InputError
from gesture_jax.parallel import processes, sharding
from gesture_jax.storage.files import (
    absolute,
    as_path,
    is_free,
    is_remote,
    local_folder,
    move_folder,
    naming_full_disk,
    remove_folder,
    write_beside,
)

if TYPE_CHECKING:  # Importing the data pipeline takes long, and generating reads no data.
    from gesture_jax.data.pipeline import BatchIterator

_STATE = "state"
_DATA = "data"
# The paths in a config, which are useless on another machine.
PLACES = "data.path", "stage1_workdir", "init_from", "loss.vgg19"
# Orbax writes this file last into a folder of a bucket.
_COMMIT_FILE = "commit_success.txt"


class Checkpointer:
    """Saves and resumes one training run.

    Each checkpoint has a fingerprint of every array, by which damage is detected.
    """

    def __init__(self, workdir: str | os.PathLike, *, keep: int):
        """Keeps the newest `keep` checkpoints below `workdir`; raises like `check_writable`."""
        from orbax.checkpoint import v1 as ocp

        check_writable(workdir)
        self._path = _directory(workdir)
        self._orbax = ocp.training.Checkpointer(
            self._path,
            # The training loop decides when to save.
            save_decision_policy=ocp.training.save_decision_policies.FixedIntervalPolicy(1),
            preservation_policy=ocp.training.preservation_policies.LatestN(keep),
            cleanup_tmp_directories=True,
        )
        self._pending = None

    @property
    def latest_step(self) -> int | None:
        """The newest saved step; None where nothing was saved."""
        return None if self._orbax.latest is None else self._orbax.latest.step

    def save(self, step: int, state: Any, batches: "BatchIterator") -> None:
        """Starts to save state and position in the data; waits only for the previous save."""
        self.wait()
        saved = {_STATE: state, _DATA: _as_arrays(batches.get_state())}
        self._pending = self._orbax.save_checkpointables_async(
            step, saved, custom_metadata=fingerprints.describe(_named(saved))
        )

    def restore(self, abstract_state: Any, batches: "BatchIterator") -> Any:
        """Returns the newest undamaged state, and sets `batches` to its position in the data.

        Newer checkpoints that are damaged are moved to `WORKDIR/damaged`, with a line on stderr.

        Args:
          abstract_state: shapes and shardings of the state.
          batches: the iterator over the training data.

        Raises:
          InputError: where all checkpoints are damaged, or the newest cannot be read for another
            reason, such as a network that fails; then nothing is moved.
        """
        abstract = {_STATE: abstract_state, _DATA: _as_arrays(batches.get_state())}
        reasons: dict[int, str] = {}  # Why the checkpoint of a step is damaged.
        for step in sorted((saved.step for saved in self._orbax.checkpoints), reverse=True):
            try:
                loaded = self._load(step, abstract)
            except damage.DamagedError as error:
                reasons[step] = str(error)
                continue
            self._set_aside(reasons, instead=step)
            batches.set_state(jax.tree.map(int, loaded[_DATA]))
            return loaded[_STATE]
        listed = "; ".join(f"step {step}: {reason}" for step, reason in reasons.items())
        raise InputError(f"{self._path}: no checkpoint is whole, or none fits: {listed}")

    def _load(self, step: int, abstract: Any) -> Any:
        """Loads one checkpoint; all processes return or all raise, as each reads its own files.

        Raises:
          DamagedError: where the content is not what was saved.
          InputError: where it cannot be read for another reason.
        """
        from orbax.checkpoint import v1 as ocp

        folder, error = self._path / str(step), None
        try:
            with _reading_alone():
                loaded = ocp.load_checkpointables(folder, abstract)
            fingerprint = _read_fingerprints(folder)
        except Exception as caught:  # Orbax raises errors of many types.
            error = caught
        reason = damage.describe(error) if error else "another process could not read it"
        if processes.any_process_says(error is not None and damage.is_damage(error)):
            raise damage.DamagedError(reason) from error
        if processes.any_process_says(error is not None):
            raise InputError(
                f"{folder}: cannot be read now ({reason}); nothing is known to be damaged, and "
                "nothing was moved; start again once the disk, network or memory allows"
            ) from error
        try:
            fingerprints.check(_named(loaded), fingerprint)
        except fingerprints.ChangedError as changed:
            raise damage.DamagedError(damage.describe(changed)) from changed
        return loaded

    def _set_aside(self, reasons: Mapping[int, str], *, instead: int) -> None:
        for step, reason in reasons.items():
            print(
                f"{self._path / str(step)}: damaged ({reason}); moved to {self._path.parent}/"
                f"damaged, going on from step {instead}",
                file=sys.stderr,
            )
            if processes.is_first_process():
                name = f"{step}-{time.strftime('%Y%m%dT%H%M%S')}"
                move_folder(self._path / str(step), self._path.parent / "damaged" / name)
        if reasons:
            multihost_utils.sync_global_devices("damaged")
            self._orbax.reload()

    def wait(self) -> None:
        """Returns once the save in progress, if any, is complete.

        Raises:
          OSError: where the disk is full; earlier checkpoints stay intact.
        """
        pending, self._pending = self._pending, None
        if pending is not None:
            with naming_full_disk(self._path):
                pending.result()

    def close(self) -> None:
        """Waits for the save in progress, then releases the folder."""
        self.wait()
        with naming_full_disk(self._path):
            self._orbax.close()


def _read_fingerprints(path: pathlib.Path) -> Mapping[str, Any] | None:
    return json.loads((path / "_CHECKPOINT_METADATA").read_text())["custom_metadata"]


@contextlib.contextmanager
def _reading_alone(**loading: Any) -> Iterator[None]:
    """Lets each of several processes read by itself, without waiting for the others.

    Args:
      **loading: Orbax's options for loading PyTrees.
    """
    from orbax.checkpoint import v1 as ocp

    context = ocp.Context()
    for name, value in loading.items():
        setattr(context.pytree_options.loading, name, value)
    context.multiprocessing_options.primary_host = jax.process_index()
    context.multiprocessing_options.active_processes = {jax.process_index()}
    with context:
        yield


def _named(tree: Any) -> dict[str, Any]:
    """Returns the leaves by their names in a checkpoint."""
    return {_name(key): leaf for key, leaf in jax.tree.leaves_with_path(tree)}


def _name(key: tuple) -> str:
    return jax.tree_util.keystr(key, simple=True, separator="/")


def write_config(workdir: str | os.PathLike, config: ConfigDict) -> None:
    """Writes `config.json`, completely or not at all."""
    with write_beside(as_path(workdir) / "config.json") as beside:
        beside.write_text(_format_config(config))


def _format_config(config: ConfigDict) -> str:
    return json.dumps(config.to_dict(), indent=2, sort_keys=True) + "\n"


def read_config(workdir: str | os.PathLike, *, stage: str) -> ConfigDict:
    """Returns the config of a trained, converted or packed `stage` ("stage1" or "stage2").

    Raises:
      InputError: where the workdir has no readable config, or the config of the other stage.
    """
    config = _read_any_config(workdir, wanted=stage)
    if config.stage != stage:
        raise InputError(
            f"{workdir}: this is a checkpoint of {config.stage}, but {stage} is wanted"
        )
    return config


def _read_any_config(workdir: str | os.PathLike, *, wanted: str) -> ConfigDict:
    if packed.is_packed(workdir):
        path, text = as_path(workdir), packed.read_config(workdir, wanted)
    else:
        path, text = as_path(workdir) / "config.json", None
        if not path.exists():
            raise InputError(
                f"{workdir}: no {wanted} checkpoint here (config.json is missing); give the "
                f"--workdir of `python -m gesture_jax.train --config=configs/{wanted}.py`"
            )
    try:
        return config_check.parse(path.read_text() if text is None else text)
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{path}: not a config of gesture_jax ({error})") from None


def check_writable(workdir: str | os.PathLike) -> None:
    """Raises InputError for a workdir in a bucket that Orbax cannot write to: any but `gs://`."""
    if is_remote(workdir) and not _is_known_to_orbax(as_path(workdir)):
        raise InputError(
            f"{workdir}: checkpoints can be written to a disk or to gs:// only; give a folder of "
            "this machine, or one where the bucket is mounted, and copy it to the bucket later"
        )


def _is_known_to_orbax(path: pathlib.Path) -> bool:
    return not is_remote(path) or str(path).startswith("gs://")


def check_replaceable(workdir: str | os.PathLike, config: ConfigDict) -> None:
    """Checks that converted weights would overwrite nothing but converted weights.

    Args:
      workdir: the output: a folder that does not exist, is empty, or holds converted weights.
      config: of the converted weights.

    Raises:
      InputError: where it holds something else, such as a training run; or as `check_writable`.
    """
    check_writable(workdir)
    path = as_path(workdir)
    if is_free(path):
        return
    file = path / "config.json"
    is_ours = file.is_file() and file.read_bytes() == _format_config(config).encode()
    if not is_ours or _saved_steps(_directory(workdir)) - {0}:
        raise InputError(
            f"{workdir}: holds something else than converted weights; choose another folder"
        )


def save_variables(workdir: str | os.PathLike, variables: Mapping[str, Any]) -> None:
    """Writes converted weights as the checkpoint of step 0 of a workdir, ready for inference.

    Args:
      workdir: where `load_variables` will read.
      variables: Flax variables: `params` and further collections.
    """
    from orbax.checkpoint import v1 as ocp

    check_writable(workdir)
    collections = dict(variables)
    state = {"ema_params": collections.pop("params"), "model_state": collections}
    path = _directory(workdir)
    with naming_full_disk(workdir):
        try:
            ocp.save_checkpointables(path / "0", {_STATE: state}, overwrite=True)
        except BaseException:
            for unfinished in path.glob("0.orbax-checkpoint-tmp*"):
                remove_folder(unfinished)
            raise


def pack(
    workdir: str | os.PathLike,
    path: str | os.PathLike,
    *,
    half: bool,
    pose_reading: np.ndarray | None = None,
) -> None:
    """Writes the newest averaged weights of a workdir as one file that can replace it.

    Args:
      workdir: of either stage.
      path: of the `.safetensors` file.
      half: whether to round the weights, but not the statistics, to 16 bits.
      pose_reading: for a stage 1, from `training.pose_reading`.

    Raises:
      InputError: where there is no checkpoint to pack, or the file cannot be written.
    """
    config = _read_any_config(workdir, wanted="stage1")
    if packed.is_packed(workdir):
        raise InputError(f"{workdir}: is packed already; give the workdir of a run")
    folder = _directory(workdir) / str(newest_step(workdir))
    with damage.as_input_error(folder):
        saved = _read_metadata(_readable(folder))
        abstract = {"params": saved["ema_params"], **saved["model_state"]}
    variables, step = load_variables(workdir, abstract)
    if pose_reading is not None:
        variables["pose_reading"] = {"matrix": pose_reading}
        config.num_pose_values = pose_reading.shape[1]
    params = jax.tree.map(np.asarray, variables.pop("params"))
    if half:
        if any(np.abs(array).max() > np.finfo(np.float16).max for array in jax.tree.leaves(params)):
            raise InputError(f"{workdir}: has weights too large for 16 bits; pack without --half")
        params = jax.tree.map(lambda array: array.astype(np.float16), params)
    state = {"ema_params": params, "model_state": jax.tree.map(np.asarray, variables)}
    known = flax.traverse_util.flatten_dict(config.to_dict(), sep=".")
    config.update_from_flattened_dict({key: "" for key in PLACES if key in known})
    packed.write(path, _named(state), config=_format_config(config), step=step)


def is_saved(workdir: str | os.PathLike) -> bool:
    """Whether a run has saved a checkpoint here."""
    return bool(_saved_steps(_directory(workdir)))


def newest_step(workdir: str | os.PathLike, *, stage: str = "stage1") -> int:
    """Returns the step of the newest checkpoint; 0 for converted weights.

    Args:
      workdir: of a training run, or a packed file.
      stage: the stage that is meant, where the file is an avatar, which holds both.

    Raises:
      InputError: where there is no checkpoint.
    """
    if packed.is_packed(workdir):
        return packed.read_step(workdir, stage)
    steps = _saved_steps(_directory(workdir))
    if not steps:
        raise InputError(f"{workdir}: no checkpoint was saved here yet; train for longer first")
    return max(steps)


def motion_step(stage1: str | os.PathLike) -> int:
    """Returns the step at which the extractor of a stage 1 was trained for the last time.

    It identifies the motion features, and thus the stage 2 that fits. It is the newest step, but
    for a run that began with the extractor of another one, and left it as it was.

    Raises:
      InputError: where there is no checkpoint of stage 1.
    """
    kept = read_config(stage1, stage="stage1").get("motion_step", 0)  # Older configs lack it.
    return kept or newest_step(stage1)


def load_variables(
    workdir: str | os.PathLike, abstract_variables: Mapping[str, Any], *, stage: str = "stage1"
) -> tuple[dict[str, Any], int]:
    """Returns the newest averaged weights of a workdir, and their step.

    Args:
      workdir: of a training run or of `gesture_jax.convert`; or a file that `pack` wrote.
      abstract_variables: a tree of `jax.ShapeDtypeStruct`, the shapes to load.
      stage: see `newest_step`.

    Raises:
      InputError: where there is no checkpoint or it does not fit `abstract_variables`.
    """
    collections = sharding.on_device(dict(abstract_variables))
    abstract = {"ema_params": collections.pop("params")}
    if collections:  # Orbax does not take an empty tree for a part of another.
        abstract["model_state"] = collections
    step = newest_step(workdir, stage=stage)
    if packed.is_packed(workdir):
        state = _load_packed(workdir, abstract, stage)
    else:
        state = _load_newest(workdir, step, abstract)
    return {"params": state["ema_params"], **state.get("model_state", {})}, step


def _load_packed(path: str | os.PathLike, abstract: Any, stage: str) -> Any:
    with packed.reading(path, stage) as arrays:
        _check_shapes(arrays, abstract, name=path)
        put = lambda key, leaf: jax.device_put(arrays[_name(key)].astype(leaf.dtype), leaf.sharding)
        return jax.tree.map_with_path(put, abstract)


def _load_newest(workdir: str | os.PathLike, step: int, abstract: Any) -> Any:
    from orbax.checkpoint import v1 as ocp

    path = _directory(workdir) / str(step)
    with damage.as_input_error(path):
        folder = _readable(path)
        with _reading_alone(partial_load=True):
            _check_shapes(_named(_read_metadata(folder)), abstract, name=path)
            loaded = ocp.load_checkpointables(folder, {_STATE: abstract})
        fingerprints.check(_named(loaded), _read_fingerprints(folder))
    return loaded[_STATE]


def _read_metadata(folder: pathlib.Path) -> Any:
    """Returns the shapes of a saved state."""
    from orbax.checkpoint import v1 as ocp

    if (found := ocp.metadata(folder).metadata) is None:
        ocp.load_checkpointables(folder)  # Raises the error that Orbax only logs for metadata.
        found = ocp.metadata(folder).metadata
    return found


def _check_shapes(saved: Mapping[str, Any], abstract: Any, *, name: str | os.PathLike) -> None:
    """Raises InputError where arrays are missing in a saved state, or have another shape."""
    found = {name: tuple(leaf.shape) for name, leaf in saved.items()}
    wanted = {name: leaf.shape for name, leaf in _named(abstract).items()}
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


def _saved_steps(path: pathlib.Path) -> set[int]:
    """Returns the steps of the complete checkpoints in a folder."""
    found = [folder for folder in path.glob("*") if folder.name.isdigit()]
    if str(path).startswith("gs://"):
        found = [folder for folder in found if (folder / _COMMIT_FILE).exists()]
    return {int(folder.name) for folder in found}


def _readable(folder: pathlib.Path) -> pathlib.Path:
    """Returns a folder with the same content that Orbax can read."""
    return folder if _is_known_to_orbax(folder) else local_folder(folder)
