"""Segments people and hands in a portrait, with soft edges."""

from collections.abc import Sequence

import cv2
import numpy as np

from gesture_jax.people.ramps import smoothstep
from gesture_jax.puppets import geometry
from gesture_jax.puppets.geometry import blur, disc

# Regularisation of the guided filter (He et al. 2010).
_GUIDE_EPSILON = 2e-4


def hand_size(hand: np.ndarray, shoulder_width: float) -> float:
    """Estimates the length in pixels of the palm of a hand [21, 2] in any orientation."""
    length = lambda start, end: float(np.linalg.norm(hand[start] - hand[end]))
    return max(
        length(0, 9), length(0, 5), length(0, 17),
        1.1 * length(5, 17), 0.5 * length(0, 12), 0.5 * length(0, 8), 0.24 * shoulder_width,
    )  # fmt: skip


def cut_hand(picture: np.ndarray, hand: np.ndarray, size: float, person: np.ndarray) -> np.ndarray:
    """Segments a hand by GrabCut, starting from its skeleton.

    Args:
      picture: [s, s, 3] uint8.
      hand: [21, 2] landmarks.
      size: size of the hand, in pixels.
      person: [s, s], 0 to 1, where the person may be.

    Returns:
      [s, s] boolean.
    """
    side = len(picture)
    bones = hand.copy()
    for tip in (chain[-1] for chain in geometry.FINGERS):
        bones[tip] = 0.8 * hand[tip] + 0.2 * hand[tip - 1]
    palm = geometry.filled_hull(hand[list(geometry.PALM)], side)
    core = geometry.capsules(bones, geometry.BONES, 0.08 * size, side)
    core |= geometry.shrink(palm, max(1, int(0.08 * size)))
    near = geometry.capsules(hand, geometry.BONES, 0.17 * size, side) | palm
    far = ~(geometry.capsules(hand, geometry.BONES, 0.34 * size, side) | palm)
    labels = np.where(near, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    labels[far | ((person < 0.03) & ~near)] = cv2.GC_BGD
    labels[core] = cv2.GC_FGD
    box = _box_around(hand, 0.6 * size, side)
    mask = np.zeros((side, side), bool)
    mask[box] = _grab(picture[box], labels[box], steps=4)
    mask = cv2.morphologyEx((mask | core).astype(np.uint8), cv2.MORPH_OPEN, disc(1)) > 0
    _, parts = cv2.connectedComponents((mask | core).astype(np.uint8))
    kept = np.unique(parts[core])
    mask = np.isin(parts, kept[kept > 0])
    return cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_CLOSE, disc(1)) > 0


def cut_person(
    picture: np.ndarray,
    mattes: tuple[np.ndarray, np.ndarray],
    hands: Sequence[tuple[np.ndarray, float, np.ndarray, np.ndarray]],
) -> np.ndarray:
    """Segments the person by two mattes, refined by GrabCut around each hand.

    Args:
      picture: [s, s, 3] uint8.
      mattes: mattes of the segmentation model and of the pose model, [s, s], 0 to 1.
      hands: landmarks, size and mask of each hand, and the pixels where colours decide, not mattes.

    Returns:
      [s, s] boolean.
    """
    matte = mix_mattes(*mattes)
    labels = np.where(matte > 0.5, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    labels[geometry.shrink(matte > 0.9, 5)] = cv2.GC_FGD
    surely_not = ~geometry.grow(matte > 0.1, 5)
    for _, _, _, near in hands:
        surely_not &= ~near
    labels[surely_not] = cv2.GC_BGD
    for _, _, mask, _ in hands:
        labels[mask] = cv2.GC_FGD
    person = matte > 0.5
    # Runs in a box around each hand, as background colours differ from place to place.
    for hand, size, _, _ in hands:
        box = _box_around(hand, 1.3 * size, len(picture))
        person[box] = _grab(picture[box], labels[box], steps=3)
    person = cv2.morphologyEx(person.astype(np.uint8), cv2.MORPH_OPEN, disc(2)) > 0
    for _, _, mask, _ in hands:
        person |= mask
    return cv2.morphologyEx(largest_part(person).astype(np.uint8), cv2.MORPH_CLOSE, disc(2)) > 0


def mix_mattes(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Mixes two mattes: the more certain one where they agree, otherwise their mean."""
    mixed = 0.5 * first + 0.5 * second
    low, high = np.minimum(first, second), np.maximum(first, second)
    return np.where(low > 0.6, high, np.where(high < 0.3, low, mixed))


def largest_part(mask: np.ndarray) -> np.ndarray:
    """Returns the largest connected part of a boolean mask; an empty one is returned as it is."""
    count, parts, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    if count < 2:
        return mask
    return parts == 1 + np.argmax(stats[1:, cv2.CC_STAT_AREA])


def soften(mask: np.ndarray, picture: np.ndarray, *, radius: int = 5) -> np.ndarray:
    """Softens the edge of a mask along the edges of the picture.

    Args:
      mask: [s, s] boolean.
      picture: [s, s, 3] uint8.
      radius: radius of the filter, in pixels.

    Returns:
      [s, s] float32, 0 to 1.
    """
    guided = guided_filter(picture.astype(np.float32) / 255, mask.astype(np.float32), radius)
    plain = blur(mask, 1.2)
    return np.clip(
        0.5 * smoothstep(guided, 0.15, 0.9) + 0.5 * smoothstep(plain, 0.15, 0.85), 0, 1
    ).astype(np.float32)


def guided_filter(guide: np.ndarray, values: np.ndarray, radius: int) -> np.ndarray:
    """Smooths values, but keeps the edges of a guiding picture (He et al. 2010).

    Args:
      guide: [h, w, 3] float32 in [0, 1].
      values: [h, w] float32.
      radius: half the side of the windows, in pixels.

    Returns:
      [h, w] float32.
    """
    mean = lambda array: cv2.blur(array, (2 * radius + 1,) * 2)
    mean_guide, mean_values = mean(guide), mean(values)
    covariance = mean(guide * values[..., None]) - mean_guide * mean_values[..., None]
    products = guide[..., :, None] * guide[..., None, :]
    spread = mean(products.reshape(*guide.shape[:2], 9)).reshape(products.shape)
    spread -= mean_guide[..., :, None] * mean_guide[..., None, :]
    spread += _GUIDE_EPSILON * np.eye(3, dtype=np.float32)
    slopes = np.linalg.solve(spread, covariance[..., None])[..., 0].astype(np.float32)
    offsets = mean_values - (slopes * mean_guide).sum(-1)
    return (mean(slopes) * guide).sum(-1) + mean(offsets)


def _box_around(points: np.ndarray, margin: float, side: int) -> tuple[slice, slice]:
    """Returns rows and columns of a box around points [n, 2], within the picture."""
    low = np.clip((points.min(axis=0) - margin).astype(int), 0, side)
    high = np.clip((points.max(axis=0) + margin).astype(int), 0, side)
    return slice(low[1], high[1]), slice(low[0], high[0])


def _grab(picture: np.ndarray, labels: np.ndarray, *, steps: int) -> np.ndarray:
    """Returns GrabCut's foreground; that of the labels if they are all of one kind."""
    labels = np.ascontiguousarray(labels)
    foreground = np.isin(labels, (cv2.GC_FGD, cv2.GC_PR_FGD))
    if foreground.all() or not foreground.any():
        return foreground
    colours = np.ascontiguousarray(picture[..., ::-1])
    models = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.setRNGSeed(0)
    try:
        cv2.grabCut(colours, labels, None, *models, steps, cv2.GC_INIT_WITH_MASK)
    except cv2.error:  # There are too few colours for its mixtures.
        return foreground
    return np.isin(labels, (cv2.GC_FGD, cv2.GC_PR_FGD))
