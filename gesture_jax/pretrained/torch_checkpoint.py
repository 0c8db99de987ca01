"""Reads PyTorch checkpoints without PyTorch: `torch.save` files to arrays by name.

A checkpoint is untrusted (`pickles.py`): its pickle may name tensors, their storages and plain
containers, nothing else.

Since PyTorch 1.6 a file is a zip archive with the pickle and one member for each storage. Before
that, it was a sequence of pickles (a magic number, a version, facts about the machine, the content,
the keys of the storages), followed by the storages, each after eight bytes with its length.
"""

import collections
import io
import math
import os
import pathlib
import pickle
import zipfile
from collections.abc import Callable
from typing import Any, BinaryIO, NamedTuple

import jax.numpy as jnp
import numpy as np

from gesture_jax.errors import InputError
from gesture_jax.pretrained import pickles
from gesture_jax.storage.files import as_path, is_file, local_copy

StateDict = dict[str, np.ndarray]
_MAX_PICKLE_BYTES = 64 << 20
# Tensors may share their data and are copied; all of them together may have so many times the size
# of the file.
_MAX_SHARING = 16
_MAGIC = 0x1950A86A20F9469CFC6C
# The first bytes of an older file: the pickle of the magic number.
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
    """Returns the state dict of a file that `torch.save` wrote.

    The state dict may be the "state_dict" or "model" entry of an outer dict. A prefix "module." of
    all names is removed.

    Raises:
      InputError: where the file is missing, is not such a checkpoint, or its pickle names anything
        but tensors and plain containers.
    """
    path = as_path(path)
    if not is_file(path):
        raise InputError(f"{path}: no such file; give a PyTorch checkpoint (.pt)")
    try:
        with local_copy(path).open("rb") as file:
            is_older = file.read(len(_OLDER_START)) == _OLDER_START
            file.seek(0)
            return _read_older(path, file) if is_older else _read_archive(path, file)
    except zipfile.BadZipFile as error:
        raise InputError(
            f"{path}: not a checkpoint that torch.save of PyTorch wrote, or damaged ({error})"
        ) from None
    except InputError:
        raise
    except Exception as error:  # Damaged and hostile files raise errors of many types.
        raise InputError(f"{path}: damaged checkpoint ({type(error).__name__}: {error})") from error


def _read_archive(path: pathlib.Path, file: BinaryIO) -> StateDict:
    with zipfile.ZipFile(file) as archive:
        content, root = _open_pickle(path, archive)
        tensors = _find_state_dict(path, _Unpickler(content, path).load())

        def read(storage: _Storage) -> bytes:
            name = f"{root}data/{storage.key}"
            if archive.getinfo(name).file_size != storage.num_bytes:
                raise InputError(f"{path}: the data of storage {storage.key} have a wrong size")
            return _read_stored(path, archive, name)

        return _read_tensors(path, read, tensors)


def _read_older(path: pathlib.Path, file: BinaryIO) -> StateDict:
    content = io.BytesIO(file.read(_MAX_PICKLE_BYTES))
    load = lambda: _Unpickler(content, path).load()
    load(), load()  # Skip the magic number and the version.
    if not load().get("little_endian"):
        raise InputError(f"{path}: written on a big-endian machine; save it again on another")
    tensors, keys = _find_state_dict(path, load()), load()
    storages = {tensor.storage.key: tensor.storage for tensor in tensors.values()}
    places = {}
    file.seek(content.tell())
    for key in keys:
        places[key] = file.tell() + 8
        size = int.from_bytes(file.read(8), "little")
        if key not in storages or size != storages[key].size:
            raise InputError(f"{path}: the data of storage {key} have a wrong size")
        file.seek(storages[key].num_bytes, os.SEEK_CUR)

    def read(storage: _Storage) -> bytes:
        file.seek(places[storage.key])
        if storage.num_bytes > path.stat().st_size - file.tell():
            raise InputError(f"{path}: cut short, the data of storage {storage.key} are missing")
        return file.read(storage.num_bytes)

    return _read_tensors(path, read, tensors)


class _Storage(NamedTuple):
    """A storage that the pickle names; its data are read when a tensor needs them."""

    dtype: np.dtype
    key: str
    size: int

    @property
    def num_bytes(self) -> int:
        return self.size * self.dtype.itemsize


class _Tensor(pickles.StandIn):
    """Stands in for torch._utils._rebuild_tensor_v2, without reading data."""

    def __init__(self, storage, offset, shape, strides, *_: Any):
        if not isinstance(storage, _Storage):
            raise ValueError("a tensor without a storage")
        self.storage, self.offset = storage, int(offset)
        self.shape, self.strides = tuple(map(int, shape)), tuple(map(int, strides))
        numbers = (self.offset, *self.shape, *self.strides)
        if len(shape) != len(strides) or not 0 <= min(numbers) <= max(numbers) < 2**63:
            raise ValueError("a tensor of impossible shape")

    @property
    def num_bytes(self) -> int:
        return math.prod(self.shape) * self.storage.dtype.itemsize


class _Parameter(pickles.StandIn):
    """Stands in for torch._utils._rebuild_parameter."""

    def __new__(cls, tensor: Any, *_: Any) -> Any:
        return tensor


class _Dict(collections.OrderedDict):
    """Stands in for OrderedDict; drops the layers' versions, which are a state dict's state."""

    def __setstate__(self, state: Any) -> None:
        pass


class _Unpickler(pickles.Unpickler):
    KNOWN = {  # noqa: RUF012
        ("collections", "OrderedDict"): _Dict,
        ("torch._utils", "_rebuild_tensor_v2"): _Tensor,
        ("torch._utils", "_rebuild_parameter"): _Parameter,
        # PyTorch before 0.4 writes these two, without and with a GPU.
        ("torch._utils", "_rebuild_tensor"): _Tensor,
        **{("torch.cuda", name): name for name in _STORAGES},
        # Each stands for its own name.
        **{("torch", name): name for name in _STORAGES},
    }
    NEEDLESS = "a checkpoint of weights does not need"

    def __init__(self, content: io.BytesIO, path: pathlib.Path):
        super().__init__(content, path, encoding="utf-8")

    def persistent_load(self, pid: Any) -> _Storage:
        kind, storage_type, key, _, size, *view = pid
        if any(view):
            raise ValueError("a storage that is part of another")
        if kind != "storage":
            raise ValueError(f"unknown reference {kind!r}")
        return _Storage(np.dtype(_STORAGES[storage_type]), str(key), int(size))


def _open_pickle(path: pathlib.Path, archive: zipfile.ZipFile) -> tuple[io.BytesIO, str]:
    """Returns the pickle, and the archive's folder that contains it."""
    names = [name for name in archive.namelist() if name.endswith("data.pkl")]
    if len(names) != 1:
        raise InputError(f"{path}: a zip file, but not one that torch.save wrote (no data.pkl)")
    root = names[0].removesuffix("data.pkl")
    byteorder = f"{root}byteorder"
    if byteorder in archive.namelist() and _read_stored(path, archive, byteorder) != b"little":
        raise InputError(f"{path}: written on a big-endian machine; save it again on another")
    if archive.getinfo(names[0]).file_size > _MAX_PICKLE_BYTES:
        raise InputError(f"{path}: its pickle is too large for one of weights")
    return io.BytesIO(_read_stored(path, archive, names[0])), root


def _read_stored(path: pathlib.Path, archive: zipfile.ZipFile, name: str) -> bytes:
    """Returns an uncompressed member; torch.save compresses none, and one could inflate hugely."""
    info = archive.getinfo(name)
    if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
        raise InputError(f"{path}: {name} is compressed, which is not how torch.save writes")
    return archive.read(info)


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


def _read_tensors(
    path: pathlib.Path, read: Callable[[_Storage], bytes], tensors: dict[str, _Tensor]
) -> StateDict:
    if sum(tensor.num_bytes for tensor in tensors.values()) > _MAX_SHARING * path.stat().st_size:
        raise InputError(f"{path}: its tensors are larger than the file can hold; damaged")
    return {name: _read_tensor(path, read, name, tensor) for name, tensor in tensors.items()}


def _read_tensor(
    path: pathlib.Path, read: Callable[[_Storage], bytes], name: str, tensor: _Tensor
) -> np.ndarray:
    dtype = tensor.storage.dtype
    if 0 in tensor.shape:
        return np.zeros(tensor.shape, dtype)
    steps = [stride * dtype.itemsize for stride in tensor.strides]
    content = read(tensor.storage)
    try:  # NumPy checks that the tensor lies inside its storage.
        view = np.ndarray(tensor.shape, dtype, content, tensor.offset * dtype.itemsize, steps)
    except (ValueError, TypeError):
        raise InputError(f"{path}: {name} reaches beyond its data") from None
    return view.copy()
