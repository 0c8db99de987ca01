"""How far lips are open and how wide the mouth is, from joints at its corners and lips."""

from collections.abc import Sequence

import numpy as np

LIP_JOINTS = ("left_lip_corner", "right_lip_corner", "upper_lip", "lower_lip")
"""The corners of the mouth, and the inner edges of the lips at its middle."""

NUM_VALUES = 2
# Lips are closest to each other in this share of the frames, and are closed where they are open
# further by less than this, in widths of the mouth.
_CLOSED_SHARE, _CLOSED = 0.02, 0.04


def know_lips(joint_names: Sequence[str]) -> bool:
    """Returns whether `LIP_JOINTS` are among the joints."""
    return set(LIP_JOINTS) <= set(joint_names)


def lip_positions(joints: np.ndarray, joint_names: Sequence[str]) -> np.ndarray:
    """Measures the lips in the frames of one clip.

    Lips count as closed in the frames in which they are closest to each other: some people never
    close them fully. The unit is the median width of the mouth in these frames.

    Args:
      joints: [t, j, 2], (x, y) in pixels; NaN where a joint is not seen.
      joint_names: their names, with `LIP_JOINTS` among them.

    Returns:
      [t, 2] float32: the opening, 0 where lips are closed, and the change of the mouth's width, 0
      where they are. Frames in which a joint is not seen are like the last one before, or at rest.
    """
    left, right, upper, lower = (joints[:, list(joint_names).index(name)] for name in LIP_JOINTS)
    width = np.linalg.norm(right - left, axis=-1)
    opening = np.linalg.norm(lower - upper, axis=-1)
    seen = np.isfinite(width) & np.isfinite(opening)
    if not seen.any():
        return np.zeros((len(joints), NUM_VALUES), np.float32)
    least = np.quantile(opening[seen], _CLOSED_SHARE)
    closed = seen & (opening <= least + _CLOSED * width)
    unit = max(float(np.median(width[closed])), 1e-6)
    lips = np.stack([np.maximum(opening - least, 0.0) / unit, width / unit - 1.0], axis=1)
    last = np.maximum.accumulate(np.where(seen, np.arange(len(seen)), -1))
    return np.where(last[:, None] >= 0, lips[last], 0.0).astype(np.float32)
