"""Reads arrays of untrusted .npz files: unpickles nothing and limits the memory.

NumPy's own reader allocates the size that a header claims before it checks the size of the file,
and decompresses without a limit.
"""

import ast
import math
import os
import sys
import zipfile
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

from gesture_jax.errors import InputError
from gesture_jax.storage.files import local_copy

# A member may always decompress to this size, and to a larger one by at most this factor.
_FREE_BYTES = 128 << 20
_MAX_INFLATION = 20
_MAX_AXES = 8


def iterate(
    path: str | os.PathLike,
    *,
    names: set[str] | None = None,
    max_bytes: int = 5 << 30,
    wanted: str = "an .npz",
) -> Iterator[tuple[str, np.ndarray]]:
    """Yields the names and the arrays (read-only) one by one.

    Args:
      path: of the .npz file.
      names: of the arrays to read, by default all; missing ones are skipped.
      max_bytes: the largest size of an array.
      wanted: the kind of file that would be right, for the error message.

    Raises:
      InputError: where the file cannot be read, or an array is too large or holds other values than
        numbers and strings.
    """
    try:
        with zipfile.ZipFile(local_copy(path)) as archive:
            for info in archive.infolist():
                name = info.filename.removesuffix(".npy")
                if names is None or name in names:
                    yield name, _read(path, archive, info, max_bytes)
    except InputError:
        raise
    except Exception as error:  # Damaged and hostile files raise errors of many types.
        raise InputError(f"{path}: cannot be read; {wanted} is wanted") from error


def _read(
    path: str | os.PathLike, archive: zipfile.ZipFile, info: zipfile.ZipInfo, max_bytes: int
) -> np.ndarray:
    inflated = max(_FREE_BYTES, _MAX_INFLATION * info.compress_size)
    if info.file_size > min(max_bytes, inflated):
        raise InputError(f"{path}: {info.filename} has {info.file_size} bytes, too many to be read")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError("other compression methods may decompress without a limit")
    with archive.open(info) as file:
        shape, is_fortran, dtype = _read_header(file)
        if dtype.kind not in "biufU" or len(shape) > _MAX_AXES or min(shape, default=0) < 0:
            raise ValueError("not an array of numbers or strings")
        if file.tell() + math.prod(shape) * dtype.itemsize != info.file_size:
            raise InputError(f"{path}: {info.filename} is not as long as its shape {shape} says")
        content = np.frombuffer(file.read(), dtype)
    if dtype.kind == "U" and (content.view(f"{dtype.byteorder}u4") > sys.maxunicode).any():
        raise ValueError("not a character")
    return content.reshape(shape, order="F" if is_fortran else "C")


def _read_header(file: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = np.lib.format.read_magic(file)
    length = int.from_bytes(file.read(2 if version == (1, 0) else 4), "little")
    match ast.literal_eval(file.read(min(length, 10_000)).decode("latin1")):
        case {"shape": tuple(shape), "fortran_order": bool(is_fortran), "descr": str(code)}:
            return tuple(map(int, shape)), is_fortran, np.dtype(code)
    raise ValueError("not the header of an array of numbers")
