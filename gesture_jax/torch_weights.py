"""PyTorch checkpoints without PyTorch: files to arrays, arrays to Flax variables.

A checkpoint is untrusted: its pickle may name tensors, their storages and plain containers;
whatever else it names is refused before it is looked up.
"""

import collections
import dataclasses
import io
import math
import os
import pathlib
import pickle
import zipfile
from collections.abc import Mapping
from typing import Any

import flax
import jax
import jax.numpy as jnp
import numpy as np

from gesture_jax import torch_names
from gesture_jax.errors import InputError
from gesture_jax.models.denoiser import MotionDenoiser
from gesture_jax.models.deviation import DeviationModel

StateDict = dict[str, np.ndarray]
_MAX_PICKLE_BYTES = 64 << 20
_MAX_NAMED = 5
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
    """The state dict of a file that `torch.save` wrote (PyTorch 1.6 or later).

    A dict with a "state_dict" or "model" entry is entered; a "module." before all names is dropped.

    Raises:
      InputError: where the file is missing, is not such a checkpoint, or its pickle names anything
        but tensors and plain containers.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file; give a PyTorch checkpoint (.pt)")
    try:
        with zipfile.ZipFile(path) as archive:
            root = _Unpickler(*_open_pickle(path, archive), path).load()
            tensors = _find_state_dict(path, root)
            return {name: _read_tensor(path, archive, name, t) for name, t in tensors.items()}
    except zipfile.BadZipFile:
        raise InputError(
            f"{path}: not a checkpoint that torch.save of PyTorch 1.6 or later wrote"
        ) from None
    except InputError:
        raise
    except Exception as error:  # Hostile bytes fail in many ways; none of them is our defect.
        raise InputError(f"{path}: damaged checkpoint ({type(error).__name__}: {error})") from error


def deviation_variables(state_dict: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Variables of the default `DeviationModel` from the reference's 651 arrays.

    Raises:
      InputError: naming the arrays that are missing, left over or misshapen.
    """
    model = DeviationModel()
    image = jax.ShapeDtypeStruct((1, model.resolution, model.resolution, 3), jnp.float32)
    abstract = jax.eval_shape(model.init, jax.random.key(0), image, image)
    return place(state_dict, torch_names.deviation_table(), abstract)


def denoiser_params(model: MotionDenoiser, state_dict: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Parameters of a `MotionDenoiser` from the 238 arrays of S2G-MDDiffusion's denoiser.

    Raises:
      InputError: naming the arrays that are missing, left over or misshapen.
    """
    table = torch_names.denoiser_table(model.num_layers, model.num_speech_layers)
    abstract = jax.eval_shape(model.init_variables, jax.random.key(0))
    return place(state_dict, table, abstract)["params"]


def place(state_dict: Mapping[str, np.ndarray], table: torch_names.Table, abstract: Any) -> Any:
    """The tree of `abstract`, filled from the arrays; every one of them must be found and fit.

    Raises:
      InputError: naming the arrays that are missing, left over or misshapen.
    """
    wanted = flax.traverse_util.flatten_dict(abstract)
    placed: dict[tuple[str, ...], np.ndarray] = {}
    misshapen = []
    for name, targets in table.items():
        for target in targets if name in state_dict else ():
            key = (target.collection, *target.path)
            array = np.asarray(state_dict[name])
            try:
                placed[key] = np.asarray(target.layout(array), wanted[key].dtype)
            except ValueError:  # Not even of the right number of axes.
                placed[key] = array
            if placed[key].shape != wanted[key].shape:
                misshapen.append(f"{name} {array.shape}")
    complaints = {
        "missing": [name for name in table if name not in state_dict],
        "left over": [name for name in state_dict if name not in table],
        "misshapen": misshapen,
    }
    sentences = [_complain(kind, names) for kind, names in complaints.items() if names]
    if sentences:
        raise InputError(
            f"not the weights of this network ({len(table)} arrays wanted): " + "; ".join(sentences)
        )
    return flax.traverse_util.unflatten_dict(placed)


def _complain(kind: str, names: list[str]) -> str:
    more = f" and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else ""
    return f"{len(names)} {kind}: {', '.join(names[:_MAX_NAMED])}{more}"


@dataclasses.dataclass(frozen=True, slots=True)
class _Storage:
    """Named in the pickle, read only when a wanted tensor asks for it."""

    dtype: Any
    key: str
    size: int


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
    def __init__(self, file: io.BytesIO, root: str, path: pathlib.Path):
        super().__init__(file, encoding="utf-8")
        self._root, self._path = root, path

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
        kind, storage_type, key, _, size = pid
        if kind != "storage" or not isinstance(storage_type, _StorageType):
            raise ValueError(f"unknown reference {kind!r}")
        return _Storage(storage_type.dtype, f"{self._root}data/{key}", int(size))


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


def _read_tensor(path, archive: zipfile.ZipFile, name: str, tensor: _Tensor) -> np.ndarray:
    storage, dtype = tensor.storage, np.dtype(tensor.storage.dtype)
    info = archive.getinfo(storage.key)
    # torch stores without compression; a member that would inflate is not its work.
    if info.compress_type != zipfile.ZIP_STORED or info.file_size != storage.size * dtype.itemsize:
        raise InputError(f"{path}: the data of {name} have an impossible size")
    if 0 in tensor.shape:
        return np.zeros(tensor.shape, dtype)
    steps = zip(tensor.shape, tensor.strides, strict=True)
    last = tensor.offset + sum((count - 1) * stride for count, stride in steps)
    if last >= storage.size or math.prod(tensor.shape) > storage.size:
        raise InputError(f"{path}: {name} reaches beyond its data")
    flat = np.frombuffer(archive.read(info), dtype)[tensor.offset :]
    strides = [stride * dtype.itemsize for stride in tensor.strides]
    return np.lib.stride_tricks.as_strided(flat, tensor.shape, strides, writeable=False).copy()
