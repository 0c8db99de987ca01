"""Motion in files of its own: the .npz of `generate --save_motion`, and joints that are known."""

import math
import os

import numpy as np

from gesture_jax.errors import InputError
from gesture_jax.media.rates import FPS
from gesture_jax.storage import npz
from gesture_jax.storage.files import write_beside

# Bytes: more than six hours of 2307 numbers a frame do not take.
_MAX_BYTES = 5 << 30
_MAX_NAMES_BYTES = 1 << 20
_AXES = {"motion": ("frames", "numbers"), "joints": ("frames", "joints", 2)}
# Whatever shape is wanted, so much is unpacked to tell of another one.
_FREE_BYTES = 64 << 20


def write_motion(path: str | os.PathLike, motion: np.ndarray, portrait: np.ndarray) -> None:
    """Writes `motion` [t, d] float32, the portrait [r, r, 3] that it moves, and `fps`.

    Raises:
      InputError: where the place cannot be written.
    """
    with write_beside(path) as beside, beside.open("wb") as file:
        np.savez_compressed(file, motion=motion, portrait=portrait, fps=FPS)


def read_joint_names(path: str | os.PathLike) -> tuple[str, ...]:
    """The names of `joints` in a file that `read_motion` reads; none where it does not tell them.

    Raises:
      InputError: where they are something else than strings.
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
    path: str | os.PathLike, name: str = "motion", *, shape: tuple[int, int] | None = None
) -> np.ndarray:
    """An array of floats by its name, as float32.

    Args:
      path: an .npz; nothing in it is unpickled.
      name: "motion", [t, d], or "joints", [t, j, 2]; t is 1 or more.
      shape: that it has to have, frames and numbers a frame; not much more is unpacked.

    Raises:
      InputError: where it cannot be read, or holds no such array, of another shape, or of something
        else than finite floats.
    """
    max_bytes = _MAX_BYTES if shape is None else max(_FREE_BYTES, 8 * math.prod(shape))
    wanted = f"an .npz that holds {name!r}"
    found = dict(npz.iterate(path, names={name}, max_bytes=max_bytes, wanted=wanted))
    if name not in found:
        raise InputError(f"{path}: cannot be read; {wanted} is wanted")
    values = found[name]
    axes = _AXES[name]
    if values.ndim != len(axes) or 0 in values.shape or axes[2:] != values.shape[2:]:
        raise InputError(f"{path}: {name} is of shape {values.shape}; wanted is {axes}")
    if shape and values.shape != shape:
        wanted = f"{shape[0]} frames of {shape[1]} numbers"
        raise InputError(f"{path}: {name} has another size than is wanted, which is {wanted}")
    with np.errstate(over="ignore"):  # To infinity, which is refused.
        floats = values.astype(np.float32) if values.dtype.kind == "f" else np.array(np.nan)
    if not np.isfinite(floats).all():
        raise InputError(f"{path}: {name} holds something else than finite floats")
    return floats
