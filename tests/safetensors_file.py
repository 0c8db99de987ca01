"""Writes .safetensors files by hand, valid and invalid ones, for tests of readers."""

import json
import pathlib
import struct
from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np

_NAMES = {
    np.dtype(np.float32): "F32",
    np.dtype(np.float16): "F16",
    np.dtype(jnp.bfloat16): "BF16",
    np.dtype(np.int64): "I64",
    np.dtype(np.uint8): "U8",
}


def save(arrays: Mapping[str, np.ndarray], path: pathlib.Path) -> pathlib.Path:
    header, data = {"__metadata__": {"format": "pt"}}, b""
    for name, array in arrays.items():
        place = [len(data), len(data) + array.nbytes]
        data += np.ascontiguousarray(array).tobytes()
        header[name] = dict(dtype=_NAMES[array.dtype], shape=list(array.shape), data_offsets=place)
    return write(header, data, path)


def write(header: object, data: bytes, path: pathlib.Path) -> pathlib.Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path
