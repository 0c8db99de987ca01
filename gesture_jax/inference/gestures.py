"""Motion that is given for the hands, the head and the body, while speech moves the lips alone."""

import collections
import os
from collections.abc import Iterable, Iterator
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from gesture_jax.array_types import MotionSequence
from gesture_jax.errors import InputError
from gesture_jax.inference.animator import Animator, Source
from gesture_jax.media.motion_files import read_motion
from gesture_jax.media.video import iterate_video
from gesture_jax.models.motion_space import MotionSpace, Statistics
from gesture_jax.ops.precision import float32_matmuls
from gesture_jax.people.lips import NUM_VALUES

T = TypeVar("T")
Gestures = str | os.PathLike | Iterable[np.ndarray]
"""A path of a video or of a motion file, or motion features [d]; lips after these are not used."""

# Frames that can be played again: two minutes, so that memory is bounded.
_MOST_KEPT = 3000


def follow_gestures(gestures: Gestures, animator: Animator, source: Source) -> Iterator[np.ndarray]:
    """Transfers given motion to a portrait, as `animate` does; see also `back_and_forth`.

    Args:
      gestures: see `Gestures`; only as much of it is read as is needed.
      animator: the trained stage 1, which extracts the motion of a video.
      source: the portrait, from `Animator.encode_source`.

    Yields:
      [d] motion features without end, 25 a second; the first is the portrait's own.

    Raises:
      InputError: where a file cannot be read, or motion has another size than that of stage 1.
    """
    return back_and_forth(animator.retarget(source, _read(gestures, animator)))


def back_and_forth(items: Iterable[T], *, most_kept: int = _MOST_KEPT) -> Iterator[T]:
    """Yields items without end: all of them, then backwards and forwards in turn.

    Args:
      items: at least one; they are taken as they are needed.
      most_kept: number of the last items that are kept, and thus repeated.
    """
    kept: collections.deque[T] = collections.deque(maxlen=most_kept)
    for item in items:
        kept.append(item)
        yield item
    again = list(kept)
    while again:
        again.reverse()
        yield from again[1:] or again


def _read(gestures: Gestures, animator: Animator) -> Iterator[np.ndarray]:
    """Yields motion features, [d] float32."""
    name: str | os.PathLike = "gestures"
    if isinstance(gestures, str | os.PathLike):
        name, path = gestures, os.fspath(gestures)
        if path.lower().endswith(".npz"):
            gestures = read_motion(path)
        else:
            gestures = animator.iterate_motion(iterate_video(path, size=animator.resolution))
    dim, motion = animator.model.motion_dim, None
    sizes = (dim,), (dim + NUM_VALUES,)
    for feature in gestures:
        motion = np.asarray(feature)
        if motion.shape not in sizes or motion.dtype.kind != "f" or not np.isfinite(motion).all():
            raise InputError(
                f"{name}: a frame has motion of shape {motion.shape}; stage 1 needs {dim} finite "
                "floats, from a video or from a motion file of the same stage 1"
            )
        yield motion[:dim].astype(np.float32)
    if motion is None:
        raise InputError(f"{name}: there is no frame of motion; at least one is needed")


def lip_filter(statistics: Statistics) -> np.ndarray:
    """Returns the matrix that finds the lips in the motion of a vector: [dim - l, l].

    It is that of least squares in units of `pose_std`.
    """
    lip_motion = np.asarray(statistics["lip_motion"], np.float64)
    scale = np.asarray(statistics["pose_std"], np.float64)[: lip_motion.shape[1]]
    return (np.linalg.pinv(lip_motion / scale) / scale[:, None]).astype(np.float32)


@float32_matmuls
def move_lips(
    space: MotionSpace,
    statistics: Statistics,
    find_lips: jax.Array,
    own: jax.Array,
    gestures: MotionSequence,
    lips: jax.Array,
) -> MotionSequence:
    """Replaces the lips of given motion.

    Args:
      space: the motion space of stage 2, which knows the lips.
      statistics: of its training set.
      find_lips: from `lip_filter`.
      own: [dim], the vector of the portrait's own pose.
      gestures: [t, d], motion features of the portrait.
      lips: [t, l], the positions of its lips.

    Returns:
      [t, d] motion features.
    """
    body, _ = space.split(space.from_feature(gestures, statistics))
    own_lips = (body - space.split(own)[0]) @ find_lips
    body = body - own_lips @ statistics["lip_motion"]
    return space.to_feature(jnp.concatenate([body, lips], axis=-1), statistics)
