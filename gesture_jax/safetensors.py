"""Reads .safetensors files: https://huggingface.co/docs/safetensors.

Eight bytes with the length of a header (little-endian), the header (JSON: of every array its dtype,
shape and where its bytes begin and end), the bytes.
"""

import json
import math
import os
import pathlib
import struct

import jax.numpy as jnp
import numpy as np

from gesture_jax.errors import InputError
from gesture_jax.files import as_path, is_file, local_copy, size_of

_MAX_HEADER_BYTES = 16 << 20
_MAX_AXES, _MAX_LENGTH = 8, 2**40
_LENGTH = struct.Struct("<Q")
_DTYPES = {"F32": np.float32, "F16": np.float16, "BF16": jnp.bfloat16, "I64": np.int64}


def read(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """All arrays by name, read-only views of the file: memory is used for what is looked at.

    Raises:
      InputError: where the file is missing, is none of the kind, is cut short, contradicts itself
        or holds other numbers than F32, F16, BF16 and I64.
    """
    path = as_path(path)
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
    header.pop("__metadata__", None)
    return {name: _view(path, file[start:], name, entry) for name, entry in header.items()}


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
