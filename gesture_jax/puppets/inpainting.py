"""Fills in hidden parts of a picture: behind hands, and behind a whole person."""

import cv2
import numpy as np

from gesture_jax.people.ramps import smoothstep
from gesture_jax.puppets.geometry import blur

_EDGE_PX = 4


def push_pull(picture: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Fills unknown pixels smoothly, coarse to fine (Gortler et al. 1996).

    Args:
      picture: [h, w, c].
      known: [h, w], 0 to 1.

    Returns:
      [h, w, c] float32; known pixels are unchanged.
    """
    picture, known = picture.astype(np.float32), known.astype(np.float32)
    if min(known.shape) <= 2:
        return picture
    weights = cv2.pyrDown(known)
    small = _with_channels(cv2.pyrDown(picture * known[..., None]))
    small = small / np.maximum(weights, 1e-6)[..., None]
    filled = push_pull(small, np.minimum(4.0 * weights, 1.0) * (weights > 1e-6))
    large = cv2.resize(filled, known.shape[::-1], interpolation=cv2.INTER_LINEAR)
    return picture * known[..., None] + _with_channels(large) * (1.0 - known[..., None])


def diffuse(values: np.ndarray, known: np.ndarray, *, steps: int = 50) -> np.ndarray:
    """Diffuses values [h, w] into the pixels where `known` is false."""
    spread = push_pull(values[..., None], known)[..., 0]
    for _ in range(steps):
        spread = np.where(known, spread, cv2.blur(spread, (5, 5)))
    return spread


def fill_cloth(picture: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Fills clothes and skin, with texture near the edge and plain colours far from it.

    Args:
      picture: [h, w, 3] uint8.
      known: [h, w] boolean.

    Returns:
      [h, w, 3] float32.
    """
    hole = (~known).astype(np.uint8) * 255
    plain = push_pull(picture, known)
    near = cv2.inpaint(picture, hole, _EDGE_PX, cv2.INPAINT_TELEA).astype(np.float32)
    depth = cv2.distanceTransform(hole, cv2.DIST_L2, 3)
    share = smoothstep(depth, 6, 30)[..., None]
    return np.clip(near * (1 - share) + plain * share, 0, 255)


def fill_background(picture: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Fills the background behind a person along the rows, as boards and tables continue there.

    Args:
      picture: [h, w, 3] uint8.
      known: [h, w] boolean.

    Returns:
      [h, w, 3] float32, with the grain of the picture.
    """
    filled = picture.astype(np.float32)
    for row in range(len(known)):
        _fill_row(filled[row], picture[row], known[row])
    hole = (~known).astype(np.uint8)
    depth = cv2.distanceTransform(hole, cv2.DIST_L2, 3)
    share = smoothstep(depth, 0, 14)[..., None]
    filled = filled * (1 - share) + blur(filled, 3) * share
    share = 0.35 * smoothstep(depth, 25, 70)[..., None]
    filled = filled * (1 - share) + push_pull(picture, known) * share
    return np.clip(filled + _grain(picture, known) * smoothstep(depth, 2, 8)[..., None], 0, 255)


def _fill_row(out: np.ndarray, row: np.ndarray, known: np.ndarray) -> None:
    """Fills each gap of a row [w, 3] from its left end to its right one."""
    gone = np.flatnonzero(~known)
    if not len(gone):
        return
    cuts = np.flatnonzero(np.diff(gone) > 1)
    starts, ends = np.r_[gone[0], gone[cuts + 1]], np.r_[gone[cuts], gone[-1]]
    for start, end in zip(starts, ends, strict=True):
        left = row[max(start - _EDGE_PX, 0) : start]
        right = row[end + 1 : end + 1 + _EDGE_PX]
        if not len(left) and not len(right):
            continue
        left, right = (left if len(left) else right), (right if len(right) else left)
        place = (np.arange(start, end + 1) - start + 0.5) / (end - start + 1)
        share = smoothstep(place, 0, 1)[:, None]
        out[start : end + 1] = left.mean(axis=0) * (1 - share) + right.mean(axis=0) * share


def _grain(picture: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Returns noise [h, w, 1] as strong as the picture's, so that filled parts match it."""
    noise = blur(np.random.default_rng(0).normal(0, 1, known.shape), 0.8)[..., None]
    own = picture.astype(np.float32) - blur(picture, 2.0)
    strength = float(np.median(np.abs(own[known]))) if known.any() else 0.0
    return noise * min(1.2 * strength, 3.0) / noise.std()


def _with_channels(picture: np.ndarray) -> np.ndarray:
    return picture[..., None] if picture.ndim == 2 else picture
