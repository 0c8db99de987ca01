"""How far lips are open and how wide the mouth is, from joints at its corners and lips."""

from collections.abc import Sequence

import numpy as np

LIP_JOINTS = ("left_lip_corner", "right_lip_corner", "upper_lip", "lower_lip")
"""The corners of the mouth, and the inner edges of the lips at its middle."""

NUM_VALUES = 2
# Lips that are open by less than this, in widths of the mouth, are closed.
_CLOSED = 0.04


def know_lips(joint_names: Sequence[str]) -> bool:
    """Returns whether `LIP_JOINTS` are among the joints."""
    return set(LIP_JOINTS) <= set(joint_names)


def lip_positions(joints: np.ndarray, joint_names: Sequence[str]) -> np.ndarray:
    """Measures the lips in the frames of one clip.

    The unit is the width of the mouth at rest: the median width in frames with closed lips, or in
    all frames where lips are never closed.

    Args:
      joints: [t, j, 2], (x, y) in pixels; NaN where a joint is not seen.
      joint_names: their names, with `LIP_JOINTS` among them.

    Returns:
      [t, 2] float32: the opening, 0 where lips are closed, and the change of the mouth's width, 0
      at rest. Frames in which a joint is not seen are like the last one before, or at rest.
    """
    left, right, upper, lower = (joints[:, list(joint_names).index(name)] for name in LIP_JOINTS)
    width = np.linalg.norm(right - left, axis=-1)
    opening = np.linalg.norm(lower - upper, axis=-1)
    seen = np.isfinite(width) & np.isfinite(opening)
    if not seen.any():
        return np.zeros((len(joints), NUM_VALUES), np.float32)
    closed = seen & (opening < _CLOSED * width)
    unit = max(float(np.median(width[closed if closed.any() else seen])), 1e-6)
    lips = np.stack([opening / unit, width / unit - 1.0], axis=1)
    last = np.maximum.accumulate(np.where(seen, np.arange(len(seen)), -1))
    return np.where(last[:, None] >= 0, lips[last], 0.0).astype(np.float32)
