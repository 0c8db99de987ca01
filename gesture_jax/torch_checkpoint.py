"""Reads PyTorch checkpoints without PyTorch: `torch.save` files to arrays by name.

A checkpoint is untrusted: its pickle may name tensors, their storages and plain containers;
whatever else it names is refused before it is looked up.

Since PyTorch 1.6 a file is a zip archive: the pickle, and a member for each storage. Before, it was
a sequence: pickles of a magic number, a version, facts of the machine, the content and the keys of
the storages; then each storage, eight bytes of its length before it.
"""

import collections
import dataclasses
import io
import math
import os
import pathlib
import pickle
import zipfile
from collections.abc import Callable
from typing import Any, BinaryIO

import jax.numpy as jnp
import numpy as np

from gesture_jax.errors import InputError
from gesture_jax.files import as_path, local_copy

StateDict = dict[str, np.ndarray]
_MAX_PICKLE_BYTES = 64 << 20
_MAGIC = 0x1950A86A20F9469CFC6C
# How an older file begins: the pickle of the magic number.
_OLDER_START = pickle.dumps(_MAGIC, protocol=2)
_STORAGES = {
    "DoubleStorage": np.float64,
    "FloatStorage": np.float32,
    "HalfStorage": np.float16,
    "BFloat16Storage": jnp.bfloat16,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "ShortStorage": np.int16,
    "CharStorage": np.int8,
    "ByteStorage": np.uint8,
    "BoolStorage": np.bool_,
}


def read_checkpoint(path: str | os.PathLike) -> StateDict:
    """The state dict of a file that `torch.save` wrote.

    A dict with a "state_dict" or "model" entry is entered; a "module." before all names is dropped.

    Raises:
      InputError: where the file is missing, is not such a checkpoint, or its pickle names anything
        but tensors and plain containers.
    """
    path = as_path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file; give a PyTorch checkpoint (.pt)")
    try:
        with local_copy(path).open("rb") as file:
            is_older = file.read(len(_OLDER_START)) == _OLDER_START
            file.seek(0)
            return _read_older(path, file) if is_older else _read_archive(path, file)
    except zipfile.BadZipFile:
        raise InputError(f"{path}: not a checkpoint that torch.save of PyTorch wrote") from None
    except InputError:
        raise
    except Exception as error:  # Hostile bytes fail in many ways; none of them is our defect.
        raise InputError(f"{path}: damaged checkpoint ({type(error).__name__}: {error})") from error


def _read_archive(path: pathlib.Path, file: BinaryIO) -> StateDict:
    with zipfile.ZipFile(file) as archive:
        content, root = _open_pickle(path, archive)
        tensors = _find_state_dict(path, _Unpickler(content, path).load())

        def read(storage: _Storage) -> bytes:
            info = archive.getinfo(f"{root}data/{storage.key}")
            # torch stores without compression; a member that would inflate is not its work.
            if info.compress_type != zipfile.ZIP_STORED or info.file_size != storage.num_bytes:
                raise InputError(f"{path}: the data of storage {storage.key} have a wrong size")
            return archive.read(info)

        return {name: _read_tensor(path, read, name, t) for name, t in tensors.items()}


def _read_older(path: pathlib.Path, file: BinaryIO) -> StateDict:
    load = lambda: _Unpickler(file, path).load()
    load(), load()  # The magic number and the version.
    if not load().get("little_endian"):
        raise InputError(f"{path}: written on a big-endian machine; save it again on another")
    tensors, keys = _find_state_dict(path, load()), load()
    storages = {tensor.storage.key: tensor.storage for tensor in tensors.values()}
    places = {}
    for key in keys:
        places[key] = file.tell() + 8
        size = int.from_bytes(file.read(8), "little")
        if key not in storages or size != storages[key].size:
            raise InputError(f"{path}: the data of storage {key} have a wrong size")
        file.seek(storages[key].num_bytes, os.SEEK_CUR)

    def read(storage: _Storage) -> bytes:
        file.seek(places[storage.key])
        content = file.read(storage.num_bytes)
        if len(content) != storage.num_bytes:
            raise InputError(f"{path}: cut short, the data of storage {storage.key} are missing")
        return content

    return {name: _read_tensor(path, read, name, t) for name, t in tensors.items()}


@dataclasses.dataclass(frozen=True, slots=True)
class _Storage:
    """Named in the pickle, read only when a wanted tensor asks for it."""

    dtype: Any
    key: str
    size: int

    @property
    def num_bytes(self) -> int:
        return self.size * np.dtype(self.dtype).itemsize


@dataclasses.dataclass(frozen=True, slots=True)
class _Tensor:
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class _StorageType:
    dtype: Any


def _rebuild_tensor(storage, offset, shape, strides, *_: Any) -> _Tensor:
    """Stands in for torch._utils._rebuild_tensor_v2; nothing is read yet."""
    if not isinstance(storage, _Storage):
        raise ValueError("a tensor without a storage")
    numbers = (int(offset), *map(int, shape), *map(int, strides))
    if len(shape) != len(strides) or min(numbers) < 0:
        raise ValueError("a tensor of impossible shape")
    return _Tensor(storage, int(offset), tuple(map(int, shape)), tuple(map(int, strides)))


def _rebuild_parameter(tensor: Any, *_: Any) -> Any:
    return tensor


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: BinaryIO, path: pathlib.Path):
        super().__init__(file, encoding="utf-8")
        self._path = path

    def find_class(self, module: str, name: str) -> Any:
        known = {
            ("collections", "OrderedDict"): collections.OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
            ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
        }
        if (module, name) in known:
            return known[module, name]
        if module == "torch" and name in _STORAGES:
            return _StorageType(_STORAGES[name])
        raise InputError(
            f"{self._path}: its pickle asks for {module}.{name}, which a checkpoint of weights "
            "does not need; refused, nothing of it was run; save the state dict alone"
        )

    def persistent_load(self, pid: Any) -> _Storage:
        kind, storage_type, key, _, size, *view = pid
        if any(view):
            raise ValueError("a storage that is part of another")
        if kind != "storage" or not isinstance(storage_type, _StorageType):
            raise ValueError(f"unknown reference {kind!r}")
        return _Storage(storage_type.dtype, str(key), int(size))


def _open_pickle(path: pathlib.Path, archive: zipfile.ZipFile) -> tuple[io.BytesIO, str]:
    """The pickle, and the folder of the archive that it lies in."""
    names = [name for name in archive.namelist() if name.endswith("data.pkl")]
    if len(names) != 1:
        raise InputError(f"{path}: a zip file, but not one that torch.save wrote (no data.pkl)")
    info = archive.getinfo(names[0])
    if info.file_size > _MAX_PICKLE_BYTES:
        raise InputError(f"{path}: its pickle has {info.file_size} bytes, too many for weights")
    byteorder = names[0].removesuffix("data.pkl") + "byteorder"
    if byteorder in archive.namelist() and archive.read(byteorder) != b"little":
        raise InputError(f"{path}: written on a big-endian machine; save it again on another")
    return io.BytesIO(archive.read(info)), names[0].removesuffix("data.pkl")


def _find_state_dict(path: pathlib.Path, root: Any) -> dict[str, _Tensor]:
    for entry in ("state_dict", "model"):
        if isinstance(root, dict) and isinstance(root.get(entry), dict):
            root = root[entry]
    if not isinstance(root, dict) or not root:
        raise InputError(f"{path}: holds no state dict, but a {type(root).__name__}")
    strangers = [name for name, value in root.items() if not isinstance(value, _Tensor)]
    if strangers:
        raise InputError(f"{path}: {strangers[0]!r} of its state dict is not a tensor")
    if all(name.startswith("module.") for name in root):
        root = {name.removeprefix("module."): value for name, value in root.items()}
    return dict(root)


def _read_tensor(
    path: pathlib.Path, read: Callable[[_Storage], bytes], name: str, tensor: _Tensor
) -> np.ndarray:
    storage, dtype = tensor.storage, np.dtype(tensor.storage.dtype)
    if 0 in tensor.shape:
        return np.zeros(tensor.shape, dtype)
    steps = zip(tensor.shape, tensor.strides, strict=True)
    last = tensor.offset + sum((count - 1) * stride for count, stride in steps)
    if last >= storage.size or math.prod(tensor.shape) > storage.size:
        raise InputError(f"{path}: {name} reaches beyond its data")
    flat = np.frombuffer(read(storage), dtype)[tensor.offset :]
    strides = [stride * dtype.itemsize for stride in tensor.strides]
    return np.lib.stride_tricks.as_strided(flat, tensor.shape, strides, writeable=False).copy()
