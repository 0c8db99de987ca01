"""Finds pose, hands, face mesh and mattes of the person in a portrait (MediaPipe).

All positions are in pixels of the working picture, a square of `SIDE` pixels.
"""

import contextlib
import dataclasses
import functools

import cv2
import numpy as np

from gesture_jax.errors import InputError
from gesture_jax.people import pose

SIDE = 512
"""The side in pixels of the working picture, in which landmarks, masks and joints are given."""
_DETECTION_SIDE = 1024
_HAND_CROP_SIDE = 400
# Half the sides of the crops in which a hand is searched, in this order, in detection pixels.
_HAND_CROPS = 150, 200, 120
_PADDING = 300
# Stop the search for a hand at this score.
_SURE = 0.95
# Landmarks of MediaPipe's pose model; the first of a pair is on the viewer's left.
SHOULDERS, ELBOWS, WRISTS, INDEX_FINGERS, HIPS = (12, 11), (14, 13), (16, 15), (20, 19), (24, 23)
NOSE = 0


@dataclasses.dataclass(frozen=True)
class Landmarks:
    """A person in the working picture.

    Attributes:
      picture: [SIDE, SIDE, 3] uint8.
      num_faces: number of faces that were found.
      pose: [33, 2] float32, (x, y); None where no person is found.
      face: [478, 3] float32, (x, y, depth); None where no face is found.
      hands: the hands on the viewer's left and right, [21, 2] float32, or None where not found.
      hand_scores: [2], confidence in the hands, 0 to 1.
      person: [SIDE, SIDE] float32, 0 to 1, matte of the person by the segmentation model.
      pose_matte: the same by the pose model; None where it finds nobody.
    """

    picture: np.ndarray
    num_faces: int
    pose: np.ndarray | None
    face: np.ndarray | None
    hands: tuple[np.ndarray | None, np.ndarray | None]
    hand_scores: tuple[float, float]
    person: np.ndarray
    pose_matte: np.ndarray | None


def find_landmarks(picture: np.ndarray) -> Landmarks:
    """Runs all models on a square picture.

    Args:
      picture: [s, s, 3] uint8.

    Raises:
      InputError: where MediaPipe is not installed.
    """
    large = cv2.resize(picture, (_DETECTION_SIDE,) * 2, interpolation=_interpolation(picture))
    models = _open_models()
    body = models.pose.process(large)
    points = _positions(body.pose_landmarks, large.shape)
    matte = None if points is None else _shrink(body.segmentation_mask)
    mesh = models.face.process(large).multi_face_landmarks
    hands, scores = _find_hands(models, large, points)
    detections = models.detection.process(large).detections or []
    scale = SIDE / _DETECTION_SIDE
    return Landmarks(
        picture=cv2.resize(picture, (SIDE, SIDE), interpolation=cv2.INTER_AREA),
        num_faces=len(detections),
        pose=None if points is None else points[:, :2] * scale,
        face=None if not mesh else _positions(mesh[0], large.shape) * scale,
        hands=tuple(None if hand is None else hand[:, :2] * scale for hand in hands),
        hand_scores=scores,
        person=_shrink(models.person.process(large).segmentation_mask),
        pose_matte=matte,
    )


@dataclasses.dataclass(frozen=True)
class _Models:
    pose: object
    hands: object
    one_hand: object
    face: object
    detection: object
    person: object


@functools.cache
def _open_models() -> _Models:
    if not pose.is_installed():
        raise InputError(
            f"no pose model is installed, which new portraits need; {pose.remedy()}; or give a "
            "folder of rigs"
        )
    import mediapipe

    solutions = mediapipe.solutions
    still = {"static_image_mode": True}
    return _Models(
        pose=solutions.pose.Pose(
            **still, model_complexity=1, enable_segmentation=True, min_detection_confidence=0.3
        ),
        hands=solutions.hands.Hands(
            **still, max_num_hands=2, model_complexity=1, min_detection_confidence=0.2
        ),
        one_hand=solutions.hands.Hands(
            **still, max_num_hands=1, model_complexity=1, min_detection_confidence=0.1
        ),
        face=solutions.face_mesh.FaceMesh(
            **still, refine_landmarks=True, max_num_faces=1, min_detection_confidence=0.3
        ),
        detection=solutions.face_detection.FaceDetection(
            model_selection=1, min_detection_confidence=0.5
        ),
        person=solutions.selfie_segmentation.SelfieSegmentation(model_selection=0),
    )


def _find_hands(models: _Models, large: np.ndarray, points: np.ndarray | None):
    """Returns both hands and their scores; crops around the wrists work best."""
    hands: list[np.ndarray | None] = [None, None]
    scores = [0.0, 0.0]
    if points is None:
        return tuple(hands), tuple(scores)
    whole = _read_hands(models.hands.process(large), large.shape)
    for side in (0, 1):
        wrist = points[WRISTS[side], :2]
        centre = 0.4 * wrist + 0.6 * points[INDEX_FINGERS[side], :2]
        found = _search_crops(models.one_hand, large, centre)
        # Otherwise a hand that is found in the whole picture, near the wrist.
        near = [hand for hand in whole if np.linalg.norm(hand[0][0, :2] - wrist) < 110]
        found = found or (near[0] if near else None)
        if found is not None:
            hands[side], scores[side] = found
    return tuple(hands), tuple(scores)


def _search_crops(model, large: np.ndarray, centre: np.ndarray):
    """Returns the hand with the highest score in several crops around a point, or None."""
    padded = cv2.copyMakeBorder(large, *(_PADDING,) * 4, cv2.BORDER_REPLICATE)
    best = None
    for half in _HAND_CROPS:
        left, top = (centre - half).astype(int)
        if min(left, top) < -_PADDING or max(left, top) + 2 * half > len(large) + _PADDING:
            continue
        rows = slice(top + _PADDING, top + _PADDING + 2 * half)
        columns = slice(left + _PADDING, left + _PADDING + 2 * half)
        crop = cv2.resize(padded[rows, columns], (_HAND_CROP_SIDE,) * 2)
        for points, score in _read_hands(model.process(crop), (2 * half, 2 * half)):
            points[:, :2] += (left, top)
            if best is None or score > best[1]:
                best = points, score
        if best is not None and best[1] > _SURE:
            break
    return best


def _read_hands(found, shape) -> list[tuple[np.ndarray, float]]:
    marks = found.multi_hand_landmarks or []
    sides = found.multi_handedness or []
    return [
        (_positions(mark, shape), float(side.classification[0].score))
        for mark, side in zip(marks, sides, strict=False)
    ]


def _positions(marks, shape) -> np.ndarray | None:
    """Returns x, y and depth, [n, 3] float32 in pixels; MediaPipe's depth is in widths."""
    if marks is None:
        return None
    height, width = shape[:2]
    points = [(mark.x * width, mark.y * height, mark.z * width) for mark in marks.landmark]
    return np.array(points, np.float32)


def _shrink(matte: np.ndarray) -> np.ndarray:
    small = cv2.resize(matte.astype(np.float32), (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    return np.clip(small, 0.0, 1.0)


def _interpolation(picture: np.ndarray) -> int:
    return cv2.INTER_AREA if len(picture) > _DETECTION_SIDE else cv2.INTER_CUBIC


def close_models() -> None:
    """Frees the models of this process."""
    if _open_models.cache_info().currsize:
        for model in dataclasses.astuple(_open_models()):
            with contextlib.suppress(ValueError):
                model.close()
    _open_models.cache_clear()
