"""A trained stage as one .safetensors file, which every reader accepts in place of its workdir.

The file holds the averaged weights and the statistics by their names in a checkpoint. Its metadata
are the config, the step, and a digest of the arrays by which damage is detected. An avatar
(`inference.avatar`) is such a file that holds both stages: the names of each then begin with the
stage's name.
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

_MAX_STEP = 10**9
AVATAR_ENDING = ".avatar"


def is_packed(path: str | os.PathLike) -> bool:
    """Whether a path is that of a packed file, by its ending, rather than of a workdir."""
    return as_path(path).suffix.lower() in (".safetensors", AVATAR_ENDING)


def is_avatar(path: str | os.PathLike) -> bool:
    """Whether a path is that of an avatar, by its ending."""
    return as_path(path).suffix.lower() == AVATAR_ENDING


def write(
    path: str | os.PathLike, arrays: Mapping[str, np.ndarray], *, config: str, step: int
) -> None:
    """Writes a packed file.

    Args:
      path: of the file.
      arrays: by their names in a checkpoint.
      config: the stage's config as JSON.
      step: the number of steps that the stage was trained for.

    Raises:
      InputError: for a path of another ending, or one that cannot be written.
    """
    if not is_packed(path) or is_avatar(path):
        raise InputError(f"{path}: give the file a name that ends in .safetensors")
    write_entries(path, arrays, {"config": config, "step": str(step)})


def write_entries(
    path: str | os.PathLike, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]
) -> None:
    """Writes arrays and metadata, with the digest of the arrays."""
    safetensors.write(path, arrays, metadata={**metadata, "sha256": _digest(arrays)})


def read_config(path: str | os.PathLike, stage: str) -> str:
    """The config of a stage as JSON, unchecked; raises InputError like `reading`."""
    return read_entry(path, f"{_prefix(path, stage)}config")


def read_step(path: str | os.PathLike, stage: str) -> int:
    """The number of steps that a stage was trained for; raises InputError like `reading`."""
    text = read_entry(path, f"{_prefix(path, stage)}step")
    if not (text.isascii() and text.isdecimal() and len(text) < 11 and int(text) <= _MAX_STEP):
        raise InputError(f"{path}: damaged, its step is no number of steps; pack it again")
    return int(text)


@contextlib.contextmanager
def reading(path: str | os.PathLike, stage: str = "") -> Iterator[dict[str, np.ndarray]]:
    """Yields the arrays by their names in a checkpoint; a thread checks them meanwhile.

    Args:
      path: of the file.
      stage: the stage whose arrays are wanted, where the file is an avatar; "" for all arrays.

    Raises:
      InputError: where the file is missing or was not packed; and on leaving, where it is damaged:
        discard the arrays then.
    """
    arrays, expected = safetensors.read(path), read_entry(path, "sha256")
    prefix = _prefix(path, stage)
    with concurrent.futures.ThreadPoolExecutor(1) as thread:
        digest = thread.submit(_digest, arrays)
        try:
            yield {
                name.removeprefix(prefix): array
                for name, array in arrays.items()
                if name.startswith(prefix)
            }
        finally:  # If the file is damaged, this error replaces any that the damage caused.
            if digest.result() != expected:
                raise InputError(f"{path}: damaged, its arrays have changed; pack it again")


def _prefix(path: str | os.PathLike, stage: str) -> str:
    """Returns what the names of a stage begin with."""
    return f"{stage}/" if stage and is_avatar(path) else ""


def read_entry(path: str | os.PathLike, name: str) -> str:
    """Returns a text of the metadata; raises InputError like `reading`."""
    try:
        return safetensors.read_metadata(path)[name]
    except KeyError:
        wanted, command = ("avatar", "personalize") if is_avatar(path) else ("stage", "pack")
        raise InputError(
            f"{path}: holds no {wanted} of gesture_jax ({name} is missing in its metadata); make "
            f"such a file by `python -m gesture_jax.{command}`"
        ) from None


def _digest(arrays: Mapping[str, np.ndarray]) -> str:
    """The SHA-256 of names, dtypes, shapes and content, independent of the arrays' order."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(repr((name, str(array.dtype), array.shape)).encode())
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8))
    return digest.hexdigest()
