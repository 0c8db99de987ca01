"""Builds the rig of a portrait, or explains why the portrait is unsuitable."""

from collections.abc import Sequence

import cv2
import numpy as np

from gesture_jax.people.ramps import smoothstep
from gesture_jax.puppets import arms, layers
from gesture_jax.puppets.geometry import blur
from gesture_jax.puppets.landmarks import (
    ELBOWS,
    NOSE,
    SHOULDERS,
    SIDE,
    Landmarks,
    find_landmarks,
)
from gesture_jax.puppets.layers import Sheet
from gesture_jax.puppets.rig import ArmRig, Layer, Rig

MAX_SIDE = 768
"""Largest side in pixels of the layers' picture by default."""
_MIN_FACE = 0.07
_MIN_HAND_SCORE = 0.6
_HAND_MARGIN_PX = 4
_MARGIN_PX = 2


class UnsuitablePortraitError(Exception):
    """A portrait cannot be animated.

    Attributes:
      reason: a few words that are the same for all portraits of a kind.
      detail: the figures of this portrait.
    """

    def __init__(self, reason: str, detail: str = ""):
        super().__init__(reason)
        self.reason, self.detail = reason, detail


def build_rig(picture: np.ndarray, *, max_side: int = MAX_SIDE) -> tuple[Rig, str]:
    """Builds the rig of a portrait.

    Args:
      picture: [h, w, 3] uint8; if it is not square, its upper middle is used.
      max_side: largest side in pixels of the layers' picture.

    Returns:
      The rig, and the reason why its arms do not move, "" where they do.

    Raises:
      UnsuitablePortraitError: where not even the head can be moved.
      InputError: where MediaPipe is not installed.
    """
    picture = _upper_square(picture)
    return build_rig_from_landmarks(picture, find_landmarks(picture), max_side=max_side)


def build_rig_from_landmarks(
    picture: np.ndarray, landmarks: Landmarks, *, max_side: int = MAX_SIDE
) -> tuple[Rig, str]:
    """Builds the rig of a square picture with known landmarks; see `build_rig`."""
    _check(landmarks)
    still = describe_arm_obstacle(landmarks)
    width = _shoulder_width(landmarks)
    traced = [] if still else [arms.trace_arm(landmarks, side, width) for side in (0, 1)]
    made = layers.split_into_layers(landmarks, traced)
    side = min(max_side, max(len(picture), SIDE))
    mode = cv2.INTER_AREA if len(picture) >= side else cv2.INTER_CUBIC
    sharp = cv2.resize(picture, (side, side), interpolation=mode)
    pieces = [
        ArmRig(
            forearm=_crop(sharp, forearm),
            hand=_crop(sharp, hand),
            shoulder=arm.shoulder,
            elbow=arm.elbow,
            points=arm.points,
            size=arm.size,
            radii=np.array(arm.radii),
            outward=arm.outward,
        )
        for arm, forearm, hand in zip(traced, made.forearms, made.hands, strict=True)
    ]
    rig = Rig(
        side=side,
        background=_sharpen(sharp, made.background),
        body=_crop(sharp, made.body),
        arms=tuple(pieces),
        face=landmarks.face,
        pose=landmarks.pose,
    )
    return rig, still


def _check(landmarks: Landmarks) -> None:
    """Raises UnsuitablePortraitError where not even the head can be moved."""
    if landmarks.face is None or landmarks.num_faces == 0:
        raise UnsuitablePortraitError("no face", "none is found")
    if landmarks.num_faces > 1:
        raise UnsuitablePortraitError("several people", f"{landmarks.num_faces} faces")
    if landmarks.pose is None or landmarks.pose_matte is None:
        raise UnsuitablePortraitError("no body", "none is found")
    face = landmarks.face
    height = (face[152, 1] - face[10, 1]) / SIDE
    if height < _MIN_FACE:
        raise UnsuitablePortraitError(
            "too small", f"the face takes {height:.0%} of the picture's height"
        )
    left, right = face[1, 0] - face[234, 0], face[454, 0] - face[1, 0]
    if min(left, right) < 0.22 * max(left, right):
        raise UnsuitablePortraitError(
            "face turned away", f"cheeks of {left:.0f} and {right:.0f} pixels"
        )


def describe_arm_obstacle(landmarks: Landmarks) -> str:
    """Returns the reason why the arms cannot be moved, "" where they can."""
    body, hands = landmarks.pose, landmarks.hands
    if hands[0] is None or hands[1] is None:
        return "a hand is not found"
    width = _shoulder_width(landmarks)
    for hand, score in zip(hands, landmarks.hand_scores, strict=True):
        if hand.min() < _HAND_MARGIN_PX or hand.max() > SIDE - _HAND_MARGIN_PX:
            return "a hand is not wholly in the picture"
        if score < _MIN_HAND_SCORE:
            return "a hand is not seen well"
    if hands[1][:, 0].min() - hands[0][:, 0].max() < 0.15 * width:
        return "the hands are together or crossed"
    if abs(body[NOSE, 0] - body[list(SHOULDERS), 0].mean()) > 0.3 * width:
        return "the body is turned away"
    if max(body[elbow, 1] for elbow in ELBOWS) > SIDE - 10:
        return "an elbow is not in the picture"
    return ""


def _shoulder_width(landmarks: Landmarks) -> float:
    left, right = (landmarks.pose[point] for point in SHOULDERS)
    return float(np.linalg.norm(right - left))


def _upper_square(picture: np.ndarray) -> np.ndarray:
    height, width = picture.shape[:2]
    side = min(height, width)
    left = (width - side) // 2
    return np.ascontiguousarray(picture[:side, left : left + side])


def _sharpen(sharp: np.ndarray, sheet: Sheet) -> np.ndarray:
    """Returns a layer's colours at the portrait's resolution, [side, side, 3] uint8."""
    size = sharp.shape[1::-1]
    share = smoothstep(cv2.resize(blur(sheet.original, 0.8), size), 0.45, 0.95)[..., None]
    filled = cv2.resize(sheet.colours.astype(np.float32), size, interpolation=cv2.INTER_CUBIC)
    return np.clip(filled * (1 - share) + sharp * share, 0, 255).round().astype(np.uint8)


def _crop(sharp: np.ndarray, sheet: Sheet) -> Layer:
    """Returns a layer at the portrait's resolution, cropped to its visible part."""
    alpha = cv2.resize(sheet.alpha, sharp.shape[1::-1], interpolation=cv2.INTER_CUBIC)
    alpha = np.clip(alpha * 255, 0, 255).round().astype(np.uint8)
    rows, columns = _span(alpha.max(axis=1)), _span(alpha.max(axis=0))
    colours = _sharpen(sharp, sheet)[rows, columns]
    return Layer(colours, np.ascontiguousarray(alpha[rows, columns]), (columns.start, rows.start))


def _span(values: np.ndarray) -> slice:
    used: Sequence[int] = np.flatnonzero(values)
    if not len(used):
        return slice(0, 1)
    return slice(max(used[0] - _MARGIN_PX, 0), min(used[-1] + 1 + _MARGIN_PX, len(values)))
