"""Writes the files of `torch.save` without PyTorch, for tests of readers."""

import contextlib
import io
import pathlib
import pickle
import sys
import types
import zipfile
from typing import Any
from unittest import mock

import numpy as np

_STORAGES = {np.dtype(np.float32): "FloatStorage", np.dtype(np.int64): "LongStorage"}


class Tensor:
    """Is pickled as a PyTorch tensor is."""

    def __init__(self, array, *, strides=None, offset=0):
        self.array, self.strides, self.offset = np.asarray(array), strides, offset

    def __reduce__(self):
        strides = self.strides
        if strides is None:
            strides = tuple(step // self.array.itemsize for step in self.array.strides)
        arguments = _Storage(self.array), self.offset, self.array.shape, strides, False, {}
        return sys.modules["torch._utils"]._rebuild_tensor_v2, arguments


class _Storage:
    def __init__(self, array):
        self.array = array


class _Pickler(pickle.Pickler):
    def __init__(self, file):
        super().__init__(file, protocol=2)
        self.arrays: list[np.ndarray] = []

    def persistent_id(self, value):
        if not isinstance(value, _Storage):
            return None
        self.arrays.append(value.array)
        kind = getattr(sys.modules["torch"], _STORAGES[value.array.dtype])
        return "storage", kind, str(len(self.arrays) - 1), "cpu", value.array.size


def save(content: Any, path: pathlib.Path) -> pathlib.Path:
    """Writes `content`, in which `Tensor`s stand for tensors, to a .pt file."""
    file = io.BytesIO()
    pickler = _Pickler(file)
    with _torch_by_name():
        pickler.dump(content)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model/data.pkl", file.getvalue())
        for number, array in enumerate(pickler.arrays):
            archive.writestr(f"model/data/{number}", array.tobytes())
    return path


def save_older(content: Any, path: pathlib.Path) -> pathlib.Path:
    """Writes the format of PyTorch before 1.6: consecutive pickles, then the storages."""
    file = io.BytesIO()
    for part in (0x1950A86A20F9469CFC6C, 1001, {"protocol_version": 1001, "little_endian": True}):
        pickle.dump(part, file, protocol=2)
    pickler = _Pickler(file)
    with _torch_by_name():
        pickler.dump(content)
    pickle.dump([str(number) for number in range(len(pickler.arrays))], file, protocol=2)
    for array in pickler.arrays:
        file.write(array.size.to_bytes(8, "little") + array.tobytes())
    path.write_bytes(file.getvalue())
    return path


@contextlib.contextmanager
def _torch_by_name():
    """Makes modules with the names that the pickle refers to; nothing of them is called."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    for name in _STORAGES.values():
        setattr(torch, name, type(name, (), {"__module__": "torch", "__qualname__": name}))

    def _rebuild_tensor_v2(*_):
        raise AssertionError("only named, never called")

    _rebuild_tensor_v2.__module__ = "torch._utils"
    _rebuild_tensor_v2.__qualname__ = "_rebuild_tensor_v2"
    utils._rebuild_tensor_v2 = _rebuild_tensor_v2
    with mock.patch.dict(sys.modules, {"torch": torch, "torch._utils": utils}):
        yield
