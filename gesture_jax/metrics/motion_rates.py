"""Rates of change of motion, of which the variants of `beats` find the minima.

Differences between two frames give one value less than there are frames. Joints are found by their
names, which are those of `people.pose.JOINT_NAMES` and of the built-in speaker: left and right are
the viewer's.
"""

from collections.abc import Sequence

import chex
import numpy as np
from jaxtyping import Float

from gesture_jax.array_types import typechecked
from gesture_jax.errors import InputError

Motion = Float[np.ndarray, "t ..."]
"""[t, d] features, or [t, j, 2 or 3] joints."""
Rates = Float[np.ndarray, "_ k"]

# The person's right is the viewer's left.
_RIGHT_WRIST = "left_wrist"
_HEADS = "nose", "head"
_ARMS = tuple(
    f"{side}_{part}" for side in ("right", "left") for part in ("shoulder", "elbow", "wrist")
)
# At shoulders and elbows, like HA2G's for ten joints; the other shoulder replaces its neck.
_ANGLES = (
    ("left_shoulder", "right_shoulder", "right_elbow"),
    ("right_shoulder", "right_elbow", "right_wrist"),
    ("right_shoulder", "left_shoulder", "left_elbow"),
    ("left_shoulder", "left_elbow", "left_wrist"),
)


@typechecked
def feature_speed(motion: Motion, names: Sequence[str] = ()) -> Rates:
    """The root mean square of the change of all features, [t, d] or joints to [t - 1, 1]."""
    del names
    chex.assert_shape(motion, (None, None, ...))
    chex.assert_type(motion, float)
    change = np.diff(motion.reshape(len(motion), -1), axis=0)
    return np.sqrt(np.square(change).mean(axis=1, keepdims=True))


@typechecked
def joint_speeds(motion: Motion, names: Sequence[str]) -> Rates:
    """The distance that each joint moves from frame to frame, [t, j, 2 or 3] to [t - 1, j].

    Raises:
      InputError: for features without joints, or a wrong number of names.
    """
    return np.linalg.norm(np.diff(_pick(motion, names, names), axis=0), axis=-1)


@typechecked
def wrist_speed(motion: Motion, names: Sequence[str]) -> Rates:
    """The speed of the person's right wrist, [t, j, 2 or 3] to [t - 1, 1].

    Raises:
      InputError: as `joint_speeds`, or where no joint has the wrist's name.
    """
    return np.linalg.norm(np.diff(_pick(motion, names, [_RIGHT_WRIST]), axis=0), axis=-1)


@typechecked
def upper_body_speeds(motion: Motion, names: Sequence[str]) -> Rates:
    """Speeds of the head (if named), shoulders, elbows and wrists, [t, j, 2 or 3] to [t, k].

    They are computed from the frames before and after, so each belongs to the frame itself.

    Raises:
      InputError: as `joint_speeds`, or where the name of a joint of the arms is missing.
    """
    wanted = [name for name in _HEADS if name in names] + list(_ARMS)
    return np.linalg.norm(np.gradient(_pick(motion, names, wanted), axis=0), axis=-1)


@typechecked
def arm_angle_changes(motion: Motion, names: Sequence[str]) -> Rates:
    """Changes of the angles at shoulders and elbows in half turns, [t, j, 2 or 3] to [t - 1, 4].

    Raises:
      InputError: as `upper_body_speeds`.
    """
    start, corner, end = (_pick(motion, names, each) for each in zip(*_ANGLES, strict=True))
    cosine = (_unit(corner - start) * _unit(end - corner)).sum(axis=-1)
    return np.abs(np.diff(np.arccos(np.clip(cosine, -1.0, 1.0)) / np.pi, axis=0))


def _unit(bones: np.ndarray) -> np.ndarray:
    return bones / np.maximum(np.linalg.norm(bones, axis=-1, keepdims=True), 1e-8)


def _pick(motion: np.ndarray, names: Sequence[str], wanted: Sequence[str]) -> np.ndarray:
    """The joints with the wanted names, [t, k, 2 or 3]."""
    chex.assert_shape(motion, (None, None, ...))
    chex.assert_type(motion, float)
    if motion.ndim != 3 or motion.shape[-1] not in (2, 3):
        raise InputError(
            f"motion of shape {motion.shape} has no joints, [t, j, 2 or 3], which this variant of "
            "the beat alignment needs; `onsets` needs none"
        )
    if len(names) != motion.shape[1]:
        raise InputError(f"{motion.shape[1]} joints need as many names, not {len(names)}")
    indices = {name: index for index, name in enumerate(names)}
    missing = [name for name in wanted if name not in indices]
    if missing:
        raise InputError(
            f"this variant of the beat alignment needs joints that are missing: {missing}"
        )
    return motion[:, [indices[name] for name in wanted]]
