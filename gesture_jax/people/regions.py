"""Computes boxes around hands and mouth from joints of the procedural speaker or a pose model.

Left and right are the viewer's.
"""

from collections.abc import Sequence

import numpy as np

REGIONS = ("left_hand", "right_hand", "mouth")
HANDS = slice(0, 2)
MOUTH = slice(2, 3)
MIRRORED = np.array([1, 0, 2])
"""Index of the region that each region becomes in a mirrored picture."""

_FINGERTIPS = ("thumb", "index", "middle", "ring", "little")
# The joints of a hand that a pose model finds. Fingertips are about twice as far from the wrist.
_KNUCKLES = ("thumb_knuckle", "index_knuckle", "little_knuckle")
_TIPS_PER_KNUCKLES = 1.9
# Margin around the points of a hand and smallest side of its box, as fractions of the frame's
# side. Both are larger where fingertips are guessed from knuckles; measured on real speakers.
_TIPS_MARGINS, _KNUCKLES_MARGINS = (0.02, 0.08), (0.04, 0.18)
_MIN_MOUTH = 0.06
# Side of the mouth's box in widths of the mouth.
_MOUTH_MARGIN = 1.6


def region_boxes(joints: np.ndarray, joint_names: Sequence[str], *, size: int) -> np.ndarray:
    """Computes the boxes around `REGIONS`.

    Args:
      joints: [t, j, 2] float32, (x, y) in pixels; NaN where a joint is not seen.
      joint_names: their names.
      size: side of the frames in pixels.

    Returns:
      [t, 3, 4] float32, (left, top, right, bottom) in pixels within the frame; zeros where a region
      is not known.
    """
    named = dict(zip(joint_names, np.moveaxis(joints, 1, 0), strict=True))
    hands = [_hand(named, side, size) for side in ("left", "right")]
    nowhere = np.full((len(joints), 4), np.nan, np.float32)
    boxes = [nowhere if box is None else box for box in (*hands, _mouth(named, size))]
    boxes = np.clip(np.stack(boxes, axis=1), 0.0, size)
    # A region is unknown if a joint is missing (NaN) or if all of it is outside the frame.
    known = (boxes[..., 2:] > boxes[..., :2]).all(axis=-1, keepdims=True)
    return np.where(known, boxes, 0.0).astype(np.float32)


def mirror_boxes(boxes: np.ndarray, *, size: int) -> np.ndarray:
    """Returns boxes [*b, 3, 4] as they are in the mirror image of a picture `size` pixels wide."""
    left, top, right, bottom = np.moveaxis(boxes, -1, 0)
    mirrored = np.stack([size - right, top, size - left, bottom], axis=-1)
    known = (right > left)[..., None]
    return np.where(known, mirrored, 0.0)[..., MIRRORED, :].astype(np.float32)


def _hand(named: dict[str, np.ndarray], side: str, size: int) -> np.ndarray | None:
    points = _hand_points(named, side)
    if points is None:
        return None
    margin, smallest = _KNUCKLES_MARGINS if f"{side}_{_KNUCKLES[0]}" in named else _TIPS_MARGINS
    low, high = points.min(axis=0), points.max(axis=0)
    return _square((low + high) / 2, (high - low).max(axis=-1) + 2 * margin * size, smallest * size)


def _hand_points(named: dict[str, np.ndarray], side: str) -> np.ndarray | None:
    """Returns wrist and fingertips [k, t, 2], None where there are no such joints."""
    wrist = named.get(f"{side}_wrist")
    tips = [named[f"{side}_{f}"] for f in _FINGERTIPS if f"{side}_{f}" in named]
    knuckles = [named[f"{side}_{k}"] for k in _KNUCKLES if f"{side}_{k}" in named]
    if wrist is None or not (tips or knuckles):
        return None
    tips += [wrist + _TIPS_PER_KNUCKLES * (knuckle - wrist) for knuckle in knuckles]
    return np.stack([wrist, *tips])


def _mouth(named: dict[str, np.ndarray], size: int) -> np.ndarray | None:
    for left, right in (("left_lip_corner", "right_lip_corner"), ("mouth_left", "mouth_right")):
        if left in named and right in named:
            corners = named[left], named[right]
            width = _MOUTH_MARGIN * np.linalg.norm(corners[0] - corners[1], axis=-1)
            return _square((corners[0] + corners[1]) / 2, width, _MIN_MOUTH * size)
    if "mouth" not in named:
        return None
    return _square(named["mouth"], np.zeros(len(named["mouth"])), _MIN_MOUTH * size)


def _square(centre: np.ndarray, side: np.ndarray, min_px: float) -> np.ndarray:
    """Returns boxes [t, 4] around [t, 2], `side` [t] pixels wide but at least `min_px`."""
    half = np.maximum(side, min_px)[:, None] / 2
    return np.concatenate([centre - half, centre + half], axis=-1)
