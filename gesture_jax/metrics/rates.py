"""How fast motion changes, as the variants of `beats` see it.

What is a difference of two frames has a value less than there are frames. Joints are found by their
names, which are those of `data.pose.JOINT_NAMES` and of the built-in speaker: left and right are
the viewer's.
"""

from collections.abc import Sequence

import numpy as np

from gesture_jax.errors import InputError

# The person's right is the viewer's left.
_RIGHT_WRIST = "left_wrist"
_HEADS = "nose", "head"
_ARMS = tuple(
    f"{side}_{part}" for side in ("right", "left") for part in ("shoulder", "elbow", "wrist")
)
# At shoulders and elbows, as HA2G has them for ten joints; the other shoulder stands for its neck.
_ANGLES = (
    ("left_shoulder", "right_shoulder", "right_elbow"),
    ("right_shoulder", "right_elbow", "right_wrist"),
    ("right_shoulder", "left_shoulder", "left_elbow"),
    ("left_shoulder", "left_elbow", "left_wrist"),
)


def feature_speed(motion: np.ndarray, names: Sequence[str] = ()) -> np.ndarray:
    """[t, d], or joints as features, to [t - 1, 1]: root mean square of the change."""
    del names
    change = np.diff(motion.reshape(len(motion), -1), axis=0)
    return np.sqrt(np.square(change).mean(axis=1, keepdims=True))


def joint_speeds(motion: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """[t, j, 2 or 3] to [t - 1, j]: how far each joint goes from frame to frame.

    Raises:
      InputError: for features without joints, or another number of names.
    """
    return np.linalg.norm(np.diff(_pick(motion, names, names), axis=0), axis=-1)


def wrist_speed(motion: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """[t, j, 2 or 3] to [t - 1, 1], of the person's right wrist.

    Raises:
      InputError: as `joint_speeds`, or where no joint has its name.
    """
    return np.linalg.norm(np.diff(_pick(motion, names, [_RIGHT_WRIST]), axis=0), axis=-1)


def upper_body_speeds(motion: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """[t, j, 2 or 3] to [t, k], of the head (if it is named), shoulders, elbows and wrists.

    By the frames before and after, hence at the frame itself.

    Raises:
      InputError: as `joint_speeds`, or where a joint of the arms has no name.
    """
    wanted = [name for name in _HEADS if name in names] + list(_ARMS)
    return np.linalg.norm(np.gradient(_pick(motion, names, wanted), axis=0), axis=-1)


def arm_angle_changes(motion: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """[t, j, 2 or 3] to [t - 1, 4]: of the angles at shoulders and elbows, in half turns.

    Raises:
      InputError: as `upper_body_speeds`.
    """
    start, corner, end = (_pick(motion, names, each) for each in zip(*_ANGLES, strict=True))
    cosine = (_unit(corner - start) * _unit(end - corner)).sum(axis=-1)
    return np.abs(np.diff(np.arccos(np.clip(cosine, -1.0, 1.0)) / np.pi, axis=0))


def _unit(bones: np.ndarray) -> np.ndarray:
    return bones / np.maximum(np.linalg.norm(bones, axis=-1, keepdims=True), 1e-8)


def _pick(motion: np.ndarray, names: Sequence[str], wanted: Sequence[str]) -> np.ndarray:
    """The joints of these names, [t, k, 2 or 3]."""
    if motion.ndim != 3 or motion.shape[-1] not in (2, 3):
        raise InputError(
            f"motion of shape {motion.shape} has no joints, [t, j, 2 or 3], which this kind of "
            "beats wants; `onsets` does without"
        )
    if len(names) != motion.shape[1]:
        raise InputError(f"{motion.shape[1]} joints want as many names, not {len(names)}")
    places = {name: place for place, name in enumerate(names)}
    missing = [name for name in wanted if name not in places]
    if missing:
        raise InputError(f"this kind of beats wants joints that are not there: {missing}")
    return motion[:, [places[name] for name in wanted]]
