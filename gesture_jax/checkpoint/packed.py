"""A trained stage as one file, which is read wherever its workdir would be.

A `.safetensors` file of the averaged weights and of what goes with them, by their names in a
checkpoint; its notes are the config, the step, and a digest by which damage is known.
"""

import concurrent.futures
import contextlib
import hashlib
import os
from collections.abc import Iterator, Mapping

import numpy as np

from gesture_jax.errors import InputError
from gesture_jax.storage import safetensors
from gesture_jax.storage.files import as_path

_MOST_STEPS = 10**9


def is_packed(path: str | os.PathLike) -> bool:
    """Whether a path is that of a file, by its ending, rather than of a workdir."""
    return as_path(path).suffix.lower() == ".safetensors"


def write(
    path: str | os.PathLike, arrays: Mapping[str, np.ndarray], *, config: str, step: int
) -> None:
    """Packs a stage.

    Args:
      path: of the file.
      arrays: by their names in a checkpoint.
      config: the JSON of its config.
      step: how long it was trained.

    Raises:
      InputError: for a path of another ending, or that cannot be written.
    """
    if not is_packed(path):
        raise InputError(f"{path}: give the file a name that ends in .safetensors")
    notes = {"config": config, "step": str(step), "sha256": _digest(arrays)}
    safetensors.write(path, arrays, notes=notes)


def read_config(path: str | os.PathLike) -> str:
    """The JSON of the config, not looked at; raises InputError like `reading`."""
    return _note(path, "config")


def read_step(path: str | os.PathLike) -> int:
    """How long it was trained; raises InputError like `reading`."""
    text = _note(path, "step")
    if not (text.isascii() and text.isdecimal() and len(text) < 11 and int(text) <= _MOST_STEPS):
        raise InputError(f"{path}: damaged, its step is no number of steps; pack it again")
    return int(text)


@contextlib.contextmanager
def reading(path: str | os.PathLike) -> Iterator[dict[str, np.ndarray]]:
    """Gives the arrays by their names in a checkpoint, to be copied while they are checked.

    Raises:
      InputError: where the file is missing or none that was packed; at the end, where it is
        damaged: then what was copied is worth nothing.
    """
    arrays, wanted = safetensors.read(path), _note(path, "sha256")
    with concurrent.futures.ThreadPoolExecutor(1) as beside:
        digest = beside.submit(_digest, arrays)
        try:
            yield arrays
        finally:  # Damage is the reason for whatever else was wrong.
            if digest.result() != wanted:
                raise InputError(f"{path}: damaged, its arrays have changed; pack it again")


def _note(path: str | os.PathLike, name: str) -> str:
    try:
        return safetensors.read_notes(path)[name]
    except KeyError:
        raise InputError(
            f"{path}: holds no stage of gesture_jax ({name} is missing in its notes); make such a "
            "file by `python -m gesture_jax.pack`"
        ) from None


def _digest(arrays: Mapping[str, np.ndarray]) -> str:
    """Of names, kinds and numbers, whatever their order."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(repr((name, str(array.dtype), array.shape)).encode())
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8))
    return digest.hexdigest()
