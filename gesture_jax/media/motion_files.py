"""Reads and writes .npz files of motion features (`generate --save_motion`) or joints."""

import math
import os

import numpy as np

from gesture_jax.errors import InputError
from gesture_jax.media.rates import FPS
from gesture_jax.storage import npz
from gesture_jax.storage.files import write_beside

# In bytes: six hours of 2307 numbers a frame take less.
_MAX_BYTES = 5 << 30
_MAX_NAMES_BYTES = 1 << 20
_AXES = {
    "motion": ("frames", "numbers"),
    "lips": ("frames", "numbers"),
    "joints": ("frames", "joints", 2),
}
# Up to this size, an array is unpacked even if its shape is wrong, so that the error can name it.
_FREE_BYTES = 64 << 20


def write_motion(
    path: str | os.PathLike,
    motion: np.ndarray,
    portrait: np.ndarray,
    lips: np.ndarray | None = None,
) -> None:
    """Writes `motion` [t, d] float32, its portrait [r, r, 3], `fps`, and `lips` [t, l] if given.

    Raises:
      InputError: if the file cannot be written.
    """
    with write_beside(path) as beside, beside.open("wb") as file:
        more = {} if lips is None else {"lips": lips}
        np.savez_compressed(file, motion=motion, portrait=portrait, fps=FPS, **more)


def read_joint_names(path: str | os.PathLike) -> tuple[str, ...]:
    """Reads the names of `joints`; () if the file has none.

    Raises:
      InputError: if they are not strings.
    """
    try:
        found = dict(npz.iterate(path, names={"names"}, max_bytes=_MAX_NAMES_BYTES))
        names = found.get("names", np.array([], str))
    except InputError:
        names = None
    if names is None or names.dtype.kind != "U" or names.ndim != 1:
        raise InputError(f"{path}: names holds something else than one string a joint")
    return tuple(names.tolist())


def read_motion(
    path: str | os.PathLike,
    name: str = "motion",
    *,
    shape: tuple[int, int] | None = None,
    optional: bool = False,
) -> np.ndarray:
    """Reads an array of floats by its name, as float32.

    Args:
      path: an .npz; nothing in it is unpickled.
      name: "motion", [t, d], "lips", [t, l], or "joints", [t, j, 2]; t is 1 or more.
      shape: the expected number of frames and of numbers per frame; not much more is unpacked.
      optional: whether the file may lack the array; the result is then empty, [0, 0].

    Raises:
      InputError: if the file cannot be read or lacks the array, or the array has another shape or
        values other than finite floats.
    """
    max_bytes = _MAX_BYTES if shape is None else max(_FREE_BYTES, 8 * math.prod(shape))
    wanted = f"an .npz that holds {name!r}"
    found = dict(npz.iterate(path, names={name}, max_bytes=max_bytes, wanted=wanted))
    if name not in found and optional:
        return np.zeros((0, 0), np.float32)
    if name not in found:
        raise InputError(f"{path}: cannot be read; {wanted} is wanted")
    values = found[name]
    axes = _AXES[name]
    if values.ndim != len(axes) or 0 in values.shape or axes[2:] != values.shape[2:]:
        raise InputError(f"{path}: {name} is of shape {values.shape}; wanted is {axes}")
    if shape and values.shape != shape:
        wanted = f"{shape[0]} frames of {shape[1]} numbers"
        raise InputError(f"{path}: {name} has another size than is wanted, which is {wanted}")
    with np.errstate(over="ignore"):  # Overflow gives infinity, which is refused.
        floats = values.astype(np.float32) if values.dtype.kind == "f" else np.array(np.nan)
    if not np.isfinite(floats).all():
        raise InputError(f"{path}: {name} holds something else than finite floats")
    return floats
