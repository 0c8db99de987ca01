"""A trained stage as one .safetensors file, which every reader accepts in place of its workdir.

The file holds the averaged weights and the statistics by their names in a checkpoint. Its metadata
are the config, the step, and a digest of the arrays by which damage is detected.
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


def is_packed(path: str | os.PathLike) -> bool:
    """Whether a path is that of a packed file, by its ending, rather than of a workdir."""
    return as_path(path).suffix.lower() == ".safetensors"


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
    if not is_packed(path):
        raise InputError(f"{path}: give the file a name that ends in .safetensors")
    metadata = {"config": config, "step": str(step), "sha256": _digest(arrays)}
    safetensors.write(path, arrays, metadata=metadata)


def read_config(path: str | os.PathLike) -> str:
    """The stage's config as JSON, unchecked; raises InputError like `reading`."""
    return _read_entry(path, "config")


def read_step(path: str | os.PathLike) -> int:
    """The number of steps that the stage was trained for; raises InputError like `reading`."""
    text = _read_entry(path, "step")
    if not (text.isascii() and text.isdecimal() and len(text) < 11 and int(text) <= _MAX_STEP):
        raise InputError(f"{path}: damaged, its step is no number of steps; pack it again")
    return int(text)


@contextlib.contextmanager
def reading(path: str | os.PathLike) -> Iterator[dict[str, np.ndarray]]:
    """Yields the arrays by their names in a checkpoint; a thread checks them meanwhile.

    Raises:
      InputError: where the file is missing or was not packed; and on leaving, where it is damaged:
        discard the arrays then.
    """
    arrays, expected = safetensors.read(path), _read_entry(path, "sha256")
    with concurrent.futures.ThreadPoolExecutor(1) as thread:
        digest = thread.submit(_digest, arrays)
        try:
            yield arrays
        finally:  # If the file is damaged, this error replaces any that the damage caused.
            if digest.result() != expected:
                raise InputError(f"{path}: damaged, its arrays have changed; pack it again")


def _read_entry(path: str | os.PathLike, name: str) -> str:
    try:
        return safetensors.read_metadata(path)[name]
    except KeyError:
        raise InputError(
            f"{path}: holds no stage of gesture_jax ({name} is missing in its metadata); make such "
            "a file by `python -m gesture_jax.pack`"
        ) from None


def _digest(arrays: Mapping[str, np.ndarray]) -> str:
    """The SHA-256 of names, dtypes, shapes and content, independent of the arrays' order."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(repr((name, str(array.dtype), array.shape)).encode())
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8))
    return digest.hexdigest()
