"""Reads pickles of NumPy arrays in nested dicts, without NumPy's own unpickling.

A pickle is untrusted (`pickles.py`): it may name what arrays of numbers are pickled as, for which
classes of this file stand in.
"""

import io
import os
from typing import Any

import numpy as np

from gesture_jax.errors import InputError
from gesture_jax.pretrained import pickles
from gesture_jax.storage.files import as_path, is_file, local_copy, size_of

_NUMBERS = {"f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"}
_MAX_BYTES = 1 << 30


def read(path: str | os.PathLike) -> dict[str, Any]:
    """The dict, of arrays (read-only) and further dicts, that a file holds.

    Raises:
      InputError: where the file is missing or damaged, or its pickle names or holds anything else.
    """
    path = as_path(path)
    if not is_file(path):
        raise InputError(f"{path}: no such file; give a pickle of arrays")
    if size_of(path) > _MAX_BYTES:
        raise InputError(f"{path}: more than {_MAX_BYTES} bytes are no pickle of ours")
    try:
        content = io.BytesIO(local_copy(path).read_bytes())
        return _unwrap(_Unpickler(content, path).load(), seen=set())
    except InputError:
        raise
    except Exception as error:  # Hostile bytes fail in many ways; none of them is our defect.
        raise InputError(f"{path}: damaged pickle ({type(error).__name__}: {error})") from error


class _Dtype(pickles.StandIn):
    """Stands in for numpy.dtype."""

    def __init__(self, code: str, *_: Any):
        if code not in _NUMBERS:
            raise ValueError(f"an array of {code!r}, not of numbers")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: tuple) -> None:
        # Its version and byte order; the rest serves fields and the like, which numbers lack.
        self.dtype = self.dtype.newbyteorder(state[1])


class _Array(pickles.StandIn):
    """Stands in for numpy.ndarray and what makes an empty one, which its state then fills."""

    def __init__(self, *_: Any):
        self.array: np.ndarray | None = None

    def __setstate__(self, state: tuple) -> None:
        _, shape, dtype, is_fortran, content = state
        order = "F" if is_fortran else "C"
        self.array = np.frombuffer(content, dtype.dtype).reshape(shape, order=order)


class _Unpickler(pickles.Unpickler):
    KNOWN = {  # noqa: RUF012
        ("numpy", "dtype"): _Dtype,
        ("numpy", "ndarray"): _Array,
        # Before NumPy 2, and since.
        ("numpy.core.multiarray", "_reconstruct"): _Array,
        ("numpy._core.multiarray", "_reconstruct"): _Array,
    }
    NEEDLESS = "arrays do not need"


def _unwrap(tree: Any, *, seen: set[int]) -> dict[str, Any]:
    if not isinstance(tree, dict) or not all(isinstance(name, str) for name in tree):
        raise ValueError("not a dict by names")
    if id(tree) in seen:  # One that holds itself, or what doubles at every level, would never end.
        raise ValueError("a dict in more than one place")
    seen.add(id(tree))
    return {name: _unwrap_entry(name, entry, seen) for name, entry in tree.items()}


def _unwrap_entry(name: str, entry: Any, seen: set[int]) -> Any:
    if not isinstance(entry, _Array):
        return _unwrap(entry, seen=seen)
    if entry.array is None:
        raise ValueError(f"{name!r} is an array without content")
    return entry.array
