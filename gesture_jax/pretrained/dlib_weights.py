"""Reads the parameters of a network in a file that `dlib::serialize` wrote.

The file holds the network's layers from the input to the output. A layer is its name followed by
its numbers. A number is one byte with the count of the bytes that follow, and these bytes. The
parameters of a layer are one array: four numbers for its shape, then little-endian float32 values.
"""

import os
import re
from typing import Any

import flax
import jax
import jax.numpy as jnp
import numpy as np

from gesture_jax.errors import InputError
from gesture_jax.models.face import BLOCKS, SIZE_PX, FaceNet
from gesture_jax.storage.files import as_path, local_copy

# The layers with parameters, and how many numbers precede the parameters.
_LAYERS = {"con_4": 0, "affine_": 0, "fc_2": 2}
# The places of these parameters in our variables, in the order of the file.
_LEAVES = {
    "con_4": (("conv", "kernel"), ("conv", "bias")),
    "affine_": (("scale",), ("offset",)),
    "fc_2": (("kernel",),),
}
_NAMED = re.compile(b"|".join(bytes([1, len(name)]) + name.encode() for name in _LAYERS))
_TENSOR_VERSION = 2
_MAX_BYTES = 1 << 28


def face_variables(path: str | os.PathLike) -> dict[str, Any]:
    """Returns the variables of `FaceNet` from `dlib_face_recognition_resnet_model_v1.dat`.

    Raises:
      InputError: where the file is damaged or holds another network.
    """
    image = jax.ShapeDtypeStruct((1, SIZE_PX, SIZE_PX, 3), jnp.float32)
    abstract = jax.eval_shape(FaceNet().init, jax.random.key(0), image)["params"]
    shapes = {key: leaf.shape for key, leaf in flax.traverse_util.flatten_dict(abstract).items()}
    units = [("stem",), *((f"block{b}", f"conv{c}") for b in range(len(BLOCKS)) for c in (1, 2))]
    wanted = [pair for unit in units for pair in (("con_4", unit), ("affine_", unit))]
    wanted.append(("fc_2", ("embedding",)))
    layers, placed = read_layers(path), {}
    if [kind for kind, _ in layers] != [kind for kind, _ in wanted]:
        raise InputError(f"{path}: not dlib's face recognition network ({len(layers)} layers)")
    for (kind, unit), (_, array) in zip(wanted, layers, strict=True):
        names = _LEAVES[kind]
        sizes = [int(np.prod(shapes[*unit, *name])) for name in names]
        if sum(sizes) != array.size:
            raise InputError(
                f"{path}: not dlib's face recognition network ({'/'.join(unit)} is misshapen)"
            )
        parts = np.split(array, np.cumsum(sizes)[:-1])
        for name, part in zip(names, parts, strict=True):
            placed[*unit, *name] = _lay_out(part, shapes[*unit, *name])
    return {"params": flax.traverse_util.unflatten_dict(placed)}


def _lay_out(part: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Reshapes parameters; a kernel [h, w, in, out] is [out, in, h, w] in the file."""
    if len(shape) < 4:
        return part.reshape(shape)
    return part.reshape(shape[::-1][:2] + shape[:2]).transpose(2, 3, 1, 0)


def read_layers(path: str | os.PathLike) -> list[tuple[str, np.ndarray]]:
    """Reads the layers with parameters, from the input to the output.

    Returns:
      For each layer, its kind, "con_4" (convolution), "affine_" (scale and offset) or "fc_2" (fully
      connected), and its parameters [n] float32, read-only.

    Raises:
      InputError: where the file is damaged.
    """
    content = local_copy(as_path(path)).read_bytes()
    layers, place = [], 0
    while found := _NAMED.search(content, place):
        name = found.group()[2:].decode()
        place = found.end()
        try:
            for _ in range(_LAYERS[name]):
                _, place = _read_number(content, place)
            array, place = _read_tensor(content, place)
        except (IndexError, ValueError) as error:
            raise InputError(f"{path}: damaged dlib network, layer {name} ({error})") from error
        layers.append((name, array))
    return layers


def _read_tensor(content: bytes, place: int) -> tuple[np.ndarray, int]:
    numbers = []
    for _ in range(5):
        number, place = _read_number(content, place)
        numbers.append(number)
    version, *shape = numbers
    count = int(np.prod(shape, dtype=object))
    if version != _TENSOR_VERSION or min(shape) < 0 or 4 * count > _MAX_BYTES:
        raise ValueError(f"version {version}, shape {shape}")
    return np.frombuffer(content, "<f4", count, place), place + 4 * count


def _read_number(content: bytes, place: int) -> tuple[int, int]:
    """Returns a number, and the position after it."""
    head, begin = content[place], place + 1
    end = begin + (head & 0x0F)
    value = int.from_bytes(content[begin:end], "little")
    return (-value if head & 0x80 else value), end
