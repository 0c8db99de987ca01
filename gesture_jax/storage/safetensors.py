"""Reads and writes .safetensors files: https://huggingface.co/docs/safetensors.

Eight bytes with the length of a header (little-endian), the header (JSON: of every array its dtype,
shape and where its bytes begin and end; beside them notes, texts by name), the bytes.
"""

import json
import math
import os
import pathlib
import struct
from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np

from gesture_jax.errors import InputError
from gesture_jax.storage.files import as_path, is_file, local_copy, size_of, write_beside

_MAX_HEADER_BYTES = 16 << 20
_MAX_AXES, _MAX_LENGTH = 8, 2**40
_LENGTH = struct.Struct("<Q")
_DTYPES = {"F32": np.float32, "F16": np.float16, "BF16": jnp.bfloat16, "I64": np.int64}
_NOTES = "__metadata__"


def read(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """All arrays by name, read-only views of the file: memory is used for what is looked at.

    Raises:
      InputError: where the file is missing, is none of the kind, is cut short, contradicts itself
        or holds other numbers than F32, F16, BF16 and I64.
    """
    path = as_path(path)
    header, data = _open(path)
    header.pop(_NOTES, None)
    arrays = {name: _view(path, data, name, entry) for name, entry in header.items()}
    if sum(array.nbytes for array in arrays.values()) > len(data):
        raise InputError(f"{path}: arrays share bytes, and are larger than the file can hold")
    return arrays


def read_notes(path: str | os.PathLike) -> dict[str, str]:
    """The notes alone, which others call metadata; raises InputError like `read`."""
    path = as_path(path)
    notes = _open(path)[0].get(_NOTES, {})
    if not isinstance(notes, dict) or not all(isinstance(text, str) for text in notes.values()):
        raise InputError(f"{path}: the notes in its header are not texts by name")
    return notes


def write(
    path: str | os.PathLike, arrays: Mapping[str, np.ndarray], *, notes: Mapping[str, str]
) -> None:
    """Writes arrays of the dtypes that `read` knows, complete or not at all."""
    names = {np.dtype(dtype): name for name, dtype in _DTYPES.items()}
    header: dict[str, object] = {_NOTES: dict(notes)}
    end = 0
    for name, array in arrays.items():
        begin, end = end, end + array.nbytes
        header[name] = {
            "dtype": names[array.dtype],
            "shape": list(array.shape),
            "data_offsets": [begin, end],
        }
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % _LENGTH.size)  # So that numbers lie where machines like them.
    with write_beside(path) as beside, beside.open("wb") as file:
        file.write(_LENGTH.pack(len(text)) + text)
        for array in arrays.values():
            file.write(np.ascontiguousarray(array).tobytes())


def _open(path: pathlib.Path) -> tuple[dict[str, object], np.ndarray]:
    """Header and bytes."""
    if not is_file(path):
        raise InputError(f"{path}: no such file; give weights in a .safetensors file")
    if size_of(path) < _LENGTH.size:
        raise InputError(f"{path}: not a .safetensors file, too short for a header")
    try:
        file = np.memmap(local_copy(path), np.uint8, mode="r")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); give another") from error
    (length,) = _LENGTH.unpack(file[: _LENGTH.size].tobytes())
    start = _LENGTH.size + length
    if length > _MAX_HEADER_BYTES or start > len(file):
        raise InputError(f"{path}: not a .safetensors file, or cut short: header of {length} bytes")
    try:
        header = json.loads(file[_LENGTH.size : start].tobytes())
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: its header is not the JSON of a .safetensors file") from error
    if not isinstance(header, dict):
        raise InputError(f"{path}: its header is not the JSON of a .safetensors file")
    return header, file[start:]


def _view(path: pathlib.Path, data: np.ndarray, name: str, entry: object) -> np.ndarray:
    match entry:
        case {"dtype": str(kind), "shape": [*shape], "data_offsets": [begin, end]}:
            pass
        case _:
            raise InputError(f"{path}: its header does not tell dtype, shape and place of {name}")
    if kind not in _DTYPES:
        raise InputError(f"{path}: {name} is {kind}; save it as one of {', '.join(_DTYPES)}")
    dtype = np.dtype(_DTYPES[kind])
    # JSON has floats and booleans where we need whole numbers.
    whole = all(type(number) is int and number >= 0 for number in (begin, end, *shape))
    if not whole or len(shape) > _MAX_AXES:
        raise InputError(f"{path}: impossible shape or place of {name}")
    if end > len(data):
        raise InputError(f"{path}: cut short, {name} ends at byte {end} of {len(data)}")
    if end - begin != math.prod(shape) * dtype.itemsize:
        raise InputError(f"{path}: {name} has {end - begin} bytes, not those of {kind} {shape}")
    if max(shape, default=0) > _MAX_LENGTH:  # Where another axis is 0.
        raise InputError(f"{path}: impossible shape of {name}")
    return np.asarray(data[begin:end]).view(dtype).reshape(shape)
