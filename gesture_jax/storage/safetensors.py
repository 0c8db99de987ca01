"""Reads and writes .safetensors files by the `safetensors` package; every failure is an InputError.

The package checks a file's header against its length before it makes room for any array.
"""

import contextlib
import os
from collections.abc import Iterator, Mapping

import numpy as np
import safetensors
import safetensors.numpy

from gesture_jax.errors import InputError
from gesture_jax.storage.files import as_path, is_file, local_copy, write_beside


def read(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """All arrays by name.

    Raises:
      InputError: where the file is missing, damaged or not a .safetensors file.
    """
    with _open(path) as file:
        return file.get_tensors()


def read_metadata(path: str | os.PathLike) -> dict[str, str]:
    """The texts by name in the header, without the arrays; raises InputError like `read`."""
    with _open(path) as file:
        return file.metadata() or {}


def write(
    path: str | os.PathLike, arrays: Mapping[str, np.ndarray], *, metadata: Mapping[str, str]
) -> None:
    """Writes arrays and texts by name, completely or not at all."""
    # The package writes the memory of an array as it is, whatever its strides are.
    dense = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    with write_beside(path) as beside:
        beside.touch()
        mode = beside.stat().st_mode
        safetensors.numpy.save_file(dense, beside, metadata=dict(metadata))
        beside.chmod(mode)  # The package makes files that only their owner can read.


@contextlib.contextmanager
def _open(path: str | os.PathLike) -> Iterator[safetensors.safe_open]:
    path = as_path(path)
    if not is_file(path):
        raise InputError(f"{path}: no such file; give weights in a .safetensors file")
    try:
        with safetensors.safe_open(local_copy(path), framework="np") as file:
            yield file
    except Exception as error:  # The package raises errors of many types for damaged files.
        raise InputError(
            f"{path}: not a .safetensors file, or damaged ({error}); give another file"
        ) from error
