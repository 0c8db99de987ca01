"""Finds people and their joints with MediaPipe's pose model (extra `[pose]`).

MediaPipe's wheel contains the weights.
"""

import contextlib
import functools
import importlib.machinery
import importlib.util
import sys
from collections.abc import Callable, Iterator

import numpy as np

from gesture_jax.errors import InputError
from gesture_jax.media.framing import Box

# The first version of Python without MediaPipe's models; as in pyproject.toml.
_FIRST_WITHOUT = 3, 13
_VISIBLE = 0.5
_MIN_DETECTION = 0.5
# The first 25 of MediaPipe's 33 landmarks are head, arms, hands and hips; legs are not used.
_UPPER_BODY = 25
_SHOULDERS = 11, 12
_FACE = "eye_inner", "eye", "eye_outer"
_BODY = "shoulder", "elbow", "wrist", "little_knuckle", "index_knuckle", "thumb_knuckle", "hip"
# MediaPipe's left is the person's; here, as for the procedural speaker, it is the viewer's.
JOINT_NAMES = (
    "nose",
    *(f"{side}_{part}" for side in ("right", "left") for part in _FACE),
    *("right_ear", "left_ear", "mouth_right", "mouth_left"),
    *(f"{side}_{part}" for part in _BODY for side in ("right", "left")),
)
"""Names of the joints of `track_joints`; left and right are the viewer's."""
MIN_PX = 256
"""Smallest side of a square picture for the model, which misses hands in smaller ones."""
# The landmarks end at the eyes; the top of the head is this fraction of the shoulder width above.
_HAIR = 0.45


def is_installed() -> bool:
    """Returns whether the extra `[pose]` is installed; later MediaPipes lack its models."""
    found = importlib.util.find_spec("mediapipe")
    for name in ("python", "solutions"):
        if found is None:
            return False
        found = importlib.machinery.PathFinder.find_spec(name, found.submodule_search_locations)
    return found is not None


def remedy(python: tuple[int, ...] = sys.version_info) -> str:
    """Returns the end of a sentence that says how to get the extra `[pose]`."""
    if python[:2] < _FIRST_WITHOUT:
        return '`pip install "gesture_jax[pose]"` brings it'
    return (
        f"it cannot be had for Python {python[0]}.{python[1]}, as MediaPipe 0.10 has no wheel for "
        f"Python {_FIRST_WITHOUT[0]}.{_FIRST_WITHOUT[1]} and later; Python 3.11 and 3.12 have it"
    )


def find_person(picture: np.ndarray) -> Box | None:
    """Finds the upper body of the most visible person.

    Args:
      picture: [h, w, 3] uint8.

    Returns:
      (left, top, right, bottom) of head, arms, hands and trunk, as fractions of width and height,
      clipped to the picture; None where nobody is found.

    Raises:
      InputError: where the extra `[pose]` is not installed.
    """
    points = _find_points(_still_model(), picture)
    if points is None:
        return None
    seen = points[(points[:, 2] > _VISIBLE)]
    if not len(seen):
        return None
    left, top = seen[:, :2].min(axis=0)
    right, bottom = seen[:, :2].max(axis=0)
    width = abs(points[_SHOULDERS[0], 0] - points[_SHOULDERS[1], 0])
    # Converts a fraction of the width to one of the height.
    top -= _HAIR * width * picture.shape[1] / picture.shape[0]
    box = np.clip([left, top, right, bottom], 0.0, 1.0)
    return tuple(box.tolist()) if box[2] > box[0] and box[3] > box[1] else None


def find_joints(picture: np.ndarray) -> np.ndarray:
    """Finds the joints of the most visible person in one picture; see `track_joints`."""
    return _locate_joints(_still_model(), picture)


@contextlib.contextmanager
def track_joints() -> Iterator[Callable[[np.ndarray], np.ndarray]]:
    """Opens a tracker of one person, whose results depend only on the pictures it gets.

    Yields:
      A function that maps the next picture, [h, w, 3] uint8, to the positions of `JOINT_NAMES`,
      [25, 2] float32, (x, y) as fractions of width and height; NaN where a joint is not visible.

    Raises:
      InputError: where the extra `[pose]` is not installed.
    """
    # MediaPipe's smoothing lags behind fast hands, by up to a tenth of the picture.
    with _open_model(static_image_mode=False, smooth_landmarks=False) as model:
        yield functools.partial(_locate_joints, model)


def check_installed() -> None:
    """Raises InputError where the extra `[pose]` is not installed."""
    if not is_installed():
        raise InputError(
            f"no pose model is installed; {remedy()}; or leave --crop=auto, --require_person and "
            "--joints out"
        )


def _locate_joints(model, picture: np.ndarray) -> np.ndarray:
    points = _find_points(model, picture)
    if points is None:
        return np.full((len(JOINT_NAMES), 2), np.nan, np.float32)
    return np.where(points[:, 2:] < _VISIBLE, np.nan, points[:, :2]).astype(np.float32)


def _find_points(model, picture: np.ndarray) -> np.ndarray | None:
    """Returns x, y and visibility, [25, 3]; None where nobody is found."""
    landmarks = model.process(np.ascontiguousarray(picture)).pose_landmarks
    if landmarks is None:
        return None
    return np.array([(p.x, p.y, p.visibility) for p in landmarks.landmark[:_UPPER_BODY]])


@functools.cache
def _still_model():
    return _open_model(static_image_mode=True)


def _open_model(**options):
    check_installed()
    import mediapipe

    return mediapipe.solutions.pose.Pose(
        model_complexity=1, min_detection_confidence=_MIN_DETECTION, **options
    )
