"""Reads pickles of NumPy arrays in nested dicts, without NumPy's own unpickling.

A pickle is untrusted: it may name what arrays of numbers are pickled as, for which classes of this
file stand in; whatever else it names is refused before it is looked up.
"""

import os
import pathlib
import pickle
from typing import Any

import numpy as np

from gesture_jax.errors import InputError
from gesture_jax.files import as_path, local_copy

_NUMBERS = {"f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"}


def read(path: str | os.PathLike) -> dict[str, Any]:
    """The dict, of arrays (read-only) and further dicts, that a file holds.

    Raises:
      InputError: where the file is missing or damaged, or its pickle names or holds anything else.
    """
    path = as_path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file; give a pickle of arrays")
    try:
        with local_copy(path).open("rb") as file:
            return _unwrap(_Unpickler(file, path).load())
    except InputError:
        raise
    except Exception as error:  # Hostile bytes fail in many ways; none of them is our defect.
        raise InputError(f"{path}: damaged pickle ({type(error).__name__}: {error})") from error


class _Dtype:
    """Stands in for numpy.dtype."""

    def __init__(self, code: str, *_: Any):
        if code not in _NUMBERS:
            raise ValueError(f"an array of {code!r}, not of numbers")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: tuple) -> None:
        # Its version and byte order; the rest serves fields and the like, which numbers lack.
        self.dtype = self.dtype.newbyteorder(state[1])


class _Array:
    """Stands in for numpy.ndarray and what makes an empty one, which its state then fills."""

    def __init__(self, *_: Any):
        self.array: np.ndarray | None = None

    def __setstate__(self, state: tuple) -> None:
        _, shape, dtype, is_fortran, content = state
        order = "F" if is_fortran else "C"
        self.array = np.frombuffer(content, dtype.dtype).reshape(shape, order=order)


class _Unpickler(pickle.Unpickler):
    def __init__(self, file, path: pathlib.Path):
        super().__init__(file)
        self._path = path

    def find_class(self, module: str, name: str) -> Any:
        known = {
            ("numpy", "dtype"): _Dtype,
            ("numpy", "ndarray"): _Array,
            # Before NumPy 2, and since.
            ("numpy.core.multiarray", "_reconstruct"): _Array,
            ("numpy._core.multiarray", "_reconstruct"): _Array,
        }
        if (module, name) in known:
            return known[module, name]
        raise InputError(
            f"{self._path}: its pickle asks for {module}.{name}, which arrays do not need; "
            "refused, nothing of it was run"
        )


def _unwrap(tree: Any) -> dict[str, Any]:
    if not isinstance(tree, dict) or not all(isinstance(name, str) for name in tree):
        raise ValueError("not a dict by names")
    return {name: _unwrap_entry(name, entry) for name, entry in tree.items()}


def _unwrap_entry(name: str, entry: Any) -> Any:
    if not isinstance(entry, _Array):
        return _unwrap(entry)
    if entry.array is None:
        raise ValueError(f"{name!r} is an array without content")
    return entry.array
