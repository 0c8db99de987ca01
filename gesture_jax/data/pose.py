"""Where the person is: MediaPipe's pose model (extra `[pose]`), whose weights come in its wheel."""

import functools
import importlib.util

import numpy as np

from gesture_jax.data.framing import Box
from gesture_jax.errors import InputError

_VISIBLE = 0.5
_MIN_DETECTION = 0.5
# Landmarks of head, arms, hands and hips: 0 to 24 of MediaPipe's 33; legs are not framed.
_UPPER_BODY = 25
_SHOULDERS = 11, 12
# The landmarks end at the eyes: the top of the head is this share of the shoulder width above.
_HAIR = 0.45


def is_installed() -> bool:
    """Whether the extra `[pose]` is there."""
    return importlib.util.find_spec("mediapipe") is not None


def find_person(picture: np.ndarray) -> Box | None:
    """The upper body of the most visible person.

    Args:
      picture: [h, w, 3] uint8.

    Returns:
      (left, top, right, bottom) of head, arms, hands and trunk, as fractions of width and height,
      clipped to the picture; None where nobody is found.

    Raises:
      InputError: where the extra `[pose]` is not installed.
    """
    landmarks = _model().process(np.ascontiguousarray(picture)).pose_landmarks
    if landmarks is None:
        return None
    points = np.array([(p.x, p.y, p.visibility) for p in landmarks.landmark[:_UPPER_BODY]])
    seen = points[(points[:, 2] > _VISIBLE)]
    if not len(seen):
        return None
    left, top = seen[:, :2].min(axis=0)
    right, bottom = seen[:, :2].max(axis=0)
    width = abs(points[_SHOULDERS[0], 0] - points[_SHOULDERS[1], 0])
    # A fraction of the width, made one of the height.
    top -= _HAIR * width * picture.shape[1] / picture.shape[0]
    box = np.clip([left, top, right, bottom], 0.0, 1.0)
    return tuple(box.tolist()) if box[2] > box[0] and box[3] > box[1] else None


def check_installed() -> None:
    """Raises InputError where the extra `[pose]` is not there."""
    if not is_installed():
        raise InputError(
            'no pose model is installed; `pip install "gesture_jax[pose]"` brings it, or leave '
            "--crop=auto and --require_person out"
        )


@functools.cache
def _model():
    check_installed()
    import mediapipe

    return mediapipe.solutions.pose.Pose(
        static_image_mode=True, model_complexity=1, min_detection_confidence=_MIN_DETECTION
    )
