"""Checkpoints: what is in a workdir, how it is saved, resumed, read; only this file knows Orbax.

A workdir holds `config.json` and `checkpoints/STEP/{state,data}`: the train state and the position
in the data, always of the same step. Inference reads `ema_params` and `model_state` alone, of a
workdir or of the one file that `pack` makes of it. Orbax is imported where it is used, as packed
weights, such as the bundled ones, do without.
"""

import contextlib
import json
import os
import pathlib
import re
import sys
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import flax
import jax
import numpy as np
from jax.experimental import multihost_utils
from ml_collections import ConfigDict

from gesture_jax import renamed_keys
from gesture_jax.checkpoint import config_check, fingerprints, packed
from gesture_jax.checkpoint.step_folders import StepFolders, readable, saved_steps
from gesture_jax.errors import InputError
from gesture_jax.parallel import processes, sharding
from gesture_jax.storage.files import (
    absolute,
    as_path,
    is_free,
    naming_full_disk,
    remove_folder,
    write_beside,
)

if TYPE_CHECKING:  # What reads datasets takes long to import, and generating reads none.
    from gesture_jax.data.pipeline import BatchIterator

_STATE = "state"
_DATA = "data"
# The paths in a config, which say nothing on another machine.
PLACES = "data.path", "stage1_workdir", "init_from", "loss.vgg19"
# What is raised for content that is missing, cut short or changed.
_DAMAGE = (ValueError, LookupError, TypeError, FileNotFoundError)
# What is raised where a disk, a network, the memory or another process fails, whatever the content.
_TROUBLE = (OSError, RuntimeError, MemoryError)
# By these TensorStore tells of damage, by all others of a disk or a network that fails.
_DAMAGE_CODES = {
    "DATA_LOSS", "NOT_FOUND", "OUT_OF_RANGE", "INVALID_ARGUMENT", "FAILED_PRECONDITION",
}  # fmt: skip
# Stands in its errors where the system gives the reason.
_BY_THE_SYSTEM = "os_error_code"


class _DamagedError(Exception):
    """What is read of a checkpoint is not what was saved."""


class Checkpointer:
    """Saves and resumes one training run.

    With each checkpoint goes a fingerprint of every array, by which a damaged one is known.
    """

    def __init__(self, workdir: str | os.PathLike, *, keep: int):
        """Keeps the newest `keep` checkpoints below `workdir`."""
        from orbax.checkpoint import v1 as ocp

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

    def save(self, step: int, state: Any, batches: "BatchIterator") -> None:
        """Starts to save state and position in the data; waits only for the save before."""
        self.wait()
        saved = {_STATE: state, _DATA: _as_arrays(batches.get_state())}
        save = self._orbax.save_checkpointables_async(
            step, saved, custom_metadata=fingerprints.describe(_named(saved))
        )
        self._pending = self._folders.after(save)

    def restore(self, abstract_state: Any, batches: "BatchIterator") -> Any:
        """The newest whole state on the shardings of `abstract_state`; `batches` at its place.

        Newer checkpoints that are damaged are moved to `WORKDIR/damaged`, and told of on stderr.

        Raises:
          InputError: where no checkpoint is whole, or the newest cannot be read for another reason,
            such as a network that fails; then nothing is moved.
        """
        abstract = {_STATE: abstract_state, _DATA: _as_arrays(batches.get_state())}
        damaged: dict[int, str] = {}
        for step in sorted((saved.step for saved in self._orbax.checkpoints), reverse=True):
            try:
                loaded = self._load(step, abstract)
            except _DamagedError as error:
                damaged[step] = str(error)
                continue
            self._set_aside(damaged, instead=step)
            batches.set_state(jax.tree.map(int, loaded[_DATA]))
            return loaded[_STATE]
        reasons = "; ".join(f"step {step}: {reason}" for step, reason in damaged.items())
        raise InputError(f"{self._path}: no checkpoint is whole, or none fits: {reasons}")

    def _load(self, step: int, abstract: Any) -> Any:
        """All processes return, or all raise, as each may read files that the others do not.

        Raises:
          _DamagedError: where what is read is not what was saved.
          InputError: where it cannot be read for another reason.
        """
        from orbax.checkpoint import v1 as ocp

        folder, error = self._folders.local / str(step), None
        try:
            with _reading_alone():
                loaded = ocp.load_checkpointables(folder, abstract)
            fingerprint = _read_fingerprints(folder)
        except Exception as caught:  # Orbax has many; `_is_damage` tells which they are.
            error = caught
        elsewhere = "another process could not read it"
        if processes.any_process_says(error is not None and _is_damage(error)):
            raise _DamagedError(_first_line(error) if error else elsewhere) from error
        if processes.any_process_says(error is not None):
            raise InputError(
                f"{self._path / str(step)}: cannot be read now "
                f"({_first_line(error) if error else elsewhere}); nothing is known to be damaged, "
                "and nothing was moved; start again once the disk, network or memory allows"
            ) from error
        try:
            fingerprints.check(_named(loaded), fingerprint)
        except fingerprints.ChangedError as changed:
            raise _DamagedError(_first_line(changed)) from changed
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
            with naming_full_disk(self._path):
                pending.result()

    def close(self) -> None:
        """Waits, then lets go of the directory."""
        self.wait()
        with naming_full_disk(self._path):
            self._orbax.close()
            self._folders.close()


def _read_fingerprints(path: pathlib.Path) -> Mapping[str, Any] | None:
    return json.loads((path / "_CHECKPOINT_METADATA").read_text())["custom_metadata"]


@contextlib.contextmanager
def _reading_alone(**loading: Any) -> Iterator[None]:
    """Each of several processes reads for itself, and waits for no other.

    Args:
      **loading: options of how PyTrees are loaded.
    """
    from orbax.checkpoint import v1 as ocp

    context = ocp.Context()
    for name, value in loading.items():
        setattr(context.pytree_options.loading, name, value)
    context.multiprocessing_options.primary_host = jax.process_index()
    context.multiprocessing_options.active_processes = {jax.process_index()}
    with context:
        yield


def _is_damage(error: BaseException) -> bool:
    """Whether an error, or what it comes from, is known to tell of missing or changed content."""
    causes = _causes(error)
    return not any(map(_is_trouble, causes)) and any(isinstance(e, _DAMAGE) for e in causes)


def _is_trouble(error: BaseException) -> bool:
    if not isinstance(error, _DAMAGE):
        return isinstance(error, _TROUBLE)
    code = re.match("([A-Z_]{4,}): ", str(error))
    if code is None or code[1] == "NOT_FOUND":
        return False
    return code[1] not in _DAMAGE_CODES or _BY_THE_SYSTEM in str(error)


def _causes(error: BaseException | None) -> list[BaseException]:
    """The error and what it comes from, without the KeyError that Orbax wraps around all."""
    chain = []
    while error is not None:
        chain.append(error)
        error = error.__cause__ or error.__context__
    return [each for each in chain if type(each).__name__ != "NoEntryError"] or chain


def _named(tree: Any) -> dict[str, Any]:
    """Leaves by their names in a checkpoint."""
    return {_name(key): leaf for key, leaf in jax.tree.leaves_with_path(tree)}


def _name(key: tuple) -> str:
    return jax.tree_util.keystr(key, simple=True, separator="/")


def _first_line(error: BaseException) -> str:
    """What an error says, by the cause that says most."""
    causes = _causes(error)
    error = next((e for e in causes[::-1] if isinstance(e, (*_DAMAGE, *_TROUBLE))), causes[0])
    return f"{type(error).__name__}: {error}".splitlines()[0][:200]


def write_config(workdir: str | os.PathLike, config: ConfigDict) -> None:
    """Writes `config.json`, beside first, then renamed."""
    with write_beside(as_path(workdir) / "config.json") as beside:
        beside.write_text(_format_config(config))


def _format_config(config: ConfigDict) -> str:
    return json.dumps(config.to_dict(), indent=2, sort_keys=True) + "\n"


def read_config(workdir: str | os.PathLike, *, stage: str) -> ConfigDict:
    """The config of a trained, converted or packed `stage` ("stage1" or "stage2").

    Raises:
      InputError: where the workdir has no readable config, or that of the other stage.
    """
    config = _read_any_config(workdir, wanted=stage)
    if config.stage != stage:
        raise InputError(
            f"{workdir}: this is a checkpoint of {config.stage}, but {stage} is wanted"
        )
    return config


def _read_any_config(workdir: str | os.PathLike, *, wanted: str) -> ConfigDict:
    if packed.is_packed(workdir):
        path, text = as_path(workdir), packed.read_config(workdir)
    else:
        path, text = as_path(workdir) / "config.json", None
        if not path.exists():
            raise InputError(
                f"{workdir}: no {wanted} checkpoint here (config.json is missing); give the "
                f"--workdir of `python -m gesture_jax.train --config=configs/{wanted}.py`"
            )
    try:
        text = path.read_text() if text is None else text
        config = ConfigDict(_lists_to_tuples(renamed_keys.upgrade(json.loads(text))))
        if config.stage == "stage2":
            config_check.check_complete(config)
        config_check.check(config)  # Converted weights of stage 1 have little to tell.
        config.model  # noqa: B018
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{path}: not a config of gesture_jax ({error})") from None
    return config


def _lists_to_tuples(value: Any) -> Any:
    """JSON knows no tuples, but a Flax module's attributes have to be hashable."""
    if isinstance(value, dict):
        return {key: _lists_to_tuples(item) for key, item in value.items()}
    return tuple(map(_lists_to_tuples, value)) if isinstance(value, list) else value


def check_replaceable(workdir: str | os.PathLike, config: ConfigDict) -> None:
    """Checks that converted weights would overwrite nothing but converted weights.

    Args:
      workdir: where they are to be written: a folder that does not exist, is empty, or holds
        weights that were converted before.
      config: of the converted weights.

    Raises:
      InputError: where it holds something else, such as a training run.
    """
    path = as_path(workdir)
    if is_free(path):
        return
    file = path / "config.json"
    is_ours = file.is_file() and file.read_bytes() == _format_config(config).encode()
    if not is_ours or saved_steps(_directory(workdir)) - {0}:
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

    collections = dict(variables)
    state = {"ema_params": collections.pop("params"), "model_state": collections}
    folders = StepFolders(_directory(workdir), fetch=False)
    with naming_full_disk(workdir):
        try:
            ocp.save_checkpointables(folders.local / "0", {_STATE: state}, overwrite=True)
            folders.replace(0)
            folders.close()
        except BaseException:
            for unfinished in folders.local.glob("0.orbax-checkpoint-tmp*"):
                remove_folder(unfinished)
            raise


def pack(workdir: str | os.PathLike, path: str | os.PathLike, *, half: bool) -> None:
    """Writes the newest averaged weights of a workdir as one file, which is read in its place.

    Args:
      workdir: of either stage.
      path: of the `.safetensors` file.
      half: rounds the weights, not the statistics, to 16 bits.

    Raises:
      InputError: where there is no checkpoint to pack, or the file cannot be written.
    """
    config = _read_any_config(workdir, wanted="stage1")
    if packed.is_packed(workdir):
        raise InputError(f"{workdir}: is packed already; give the workdir of a run")
    folder = _directory(workdir) / str(newest_step(workdir))
    with _told_of_damage(folder):
        saved = _read_metadata(readable(folder))
        abstract = {"params": saved["ema_params"], **saved["model_state"]}
    variables, step = load_variables(workdir, abstract)
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
    return bool(saved_steps(_directory(workdir)))


def newest_step(workdir: str | os.PathLike) -> int:
    """The step of the newest checkpoint, 0 for converted weights.

    Raises:
      InputError: where there is no checkpoint.
    """
    if packed.is_packed(workdir):
        return packed.read_step(workdir)
    steps = saved_steps(_directory(workdir))
    if not steps:
        raise InputError(f"{workdir}: no checkpoint was saved here yet; train for longer first")
    return max(steps)


def load_variables(
    workdir: str | os.PathLike, abstract_variables: Mapping[str, Any]
) -> tuple[dict[str, Any], int]:
    """The newest averaged weights of a workdir, and their step.

    Args:
      workdir: of a training run, or of `gesture_jax.convert`; or a file that `pack` made.
      abstract_variables: tree of `jax.ShapeDtypeStruct` to load into.

    Raises:
      InputError: where there is no checkpoint or it does not fit `abstract_variables`.
    """
    collections = sharding.on_device(dict(abstract_variables))
    abstract = {"ema_params": collections.pop("params")}
    if collections:  # An empty tree is no part of another for Orbax.
        abstract["model_state"] = collections
    step = newest_step(workdir)
    if packed.is_packed(workdir):
        state = _load_packed(workdir, abstract)
    else:
        state = _load_newest(workdir, step, abstract)
    return {"params": state["ema_params"], **state.get("model_state", {})}, step


def _load_packed(path: str | os.PathLike, abstract: Any) -> Any:
    with packed.reading(path) as arrays:
        _check_shapes(arrays, abstract, name=path)
        put = lambda key, leaf: jax.device_put(arrays[_name(key)].astype(leaf.dtype), leaf.sharding)
        return jax.tree.map_with_path(put, abstract)


def _load_newest(workdir: str | os.PathLike, step: int, abstract: Any) -> Any:
    from orbax.checkpoint import v1 as ocp

    path = _directory(workdir) / str(step)
    with _told_of_damage(path):
        folder = readable(path)
        with _reading_alone(partial_load=True):
            _check_shapes(_named(_read_metadata(folder)), abstract, name=path)
            loaded = ocp.load_checkpointables(folder, {_STATE: abstract})
        fingerprints.check(_named(loaded), _read_fingerprints(folder))
    return loaded[_STATE]


def _read_metadata(folder: pathlib.Path) -> Any:
    """Shapes of a saved state."""
    from orbax.checkpoint import v1 as ocp

    if (found := ocp.metadata(folder).metadata) is None:
        ocp.load_checkpointables(folder)  # Raises what Orbax only logs of metadata.
        found = ocp.metadata(folder).metadata
    return found


@contextlib.contextmanager
def _told_of_damage(path: pathlib.Path) -> Iterator[None]:
    try:
        yield
    except InputError:
        raise
    except (*_DAMAGE, *_TROUBLE) as error:
        if not _is_damage(error):
            raise InputError(
                f"{path}: this checkpoint cannot be read now ({_first_line(error)}); try again "
                "once the disk, network or memory allows"
            ) from error
        raise InputError(
            f"{path}: this checkpoint is damaged ({_first_line(error)}); train on for a while, "
            "which starts from the newest whole one, or move it away"
        ) from error


def _check_shapes(saved: Mapping[str, Any], abstract: Any, *, name: str | os.PathLike) -> None:
    """Names what a saved state, array by array, lacks or holds in another shape."""
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
