"""Shapes on the working picture: ramps, discs, capsules, meshes, and the hand's skeleton."""

from collections.abc import Sequence

import cv2
import numpy as np

FINGERS = (1, 2, 3, 4), (5, 6, 7, 8), (9, 10, 11, 12), (13, 14, 15, 16), (17, 18, 19, 20)
"""Landmarks of each finger of MediaPipe's hand, thumb first, from the base to the tip."""
BONES = tuple((0, *chain) for chain in FINGERS) + ((5, 9, 13, 17),)
"""Chains of landmarks that form the skeleton of a hand."""
PALM = 0, 1, 5, 9, 13, 17
"""Landmarks around the palm."""


def rotation(angle: float) -> np.ndarray:
    """Returns the matrix [2, 2] that rotates points (x, y) by an angle in radians."""
    cos, sin = np.cos(angle), np.sin(angle)
    return np.array([[cos, -sin], [sin, cos]])


def unit(vector: np.ndarray) -> np.ndarray:
    """Returns the vector scaled to length 1."""
    return vector / max(float(np.linalg.norm(vector)), 1e-6)


def disc(radius: int) -> np.ndarray:
    """Returns a round kernel for morphology."""
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1,) * 2)


def grow(mask: np.ndarray, radius: int) -> np.ndarray:
    """Dilates a boolean mask by some pixels."""
    return cv2.dilate(mask.astype(np.uint8), disc(radius)) > 0


def shrink(mask: np.ndarray, radius: int) -> np.ndarray:
    """Erodes a boolean mask by some pixels."""
    return cv2.erode(mask.astype(np.uint8), disc(radius)) > 0


def blur(picture: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur, as float32."""
    return cv2.GaussianBlur(picture.astype(np.float32), (0, 0), sigma)


def pixel_grid(side: int) -> tuple[np.ndarray, np.ndarray]:
    """x and y of every pixel, [side, side] float32 each."""
    y, x = np.mgrid[:side, :side].astype(np.float32)
    return x, y


def capsules(points: np.ndarray, chains: Sequence[Sequence[int]], radius: float, side: int):
    """Returns a mask [side, side] of the pixels near to chains of points.

    Args:
      points: [n, 2], (x, y) in pixels.
      chains: indices of points that are joined by lines.
      radius: half the width of the lines, in pixels.
      side: side of the mask.
    """
    mask = np.zeros((2 * side, 2 * side), np.uint8)
    width = max(1, round(4 * radius))
    for chain in chains:
        line = np.round(points[list(chain)] * 2 * 16).astype(np.int32)
        cv2.polylines(mask, [line], False, 255, width, cv2.LINE_8, 4)
    return cv2.resize(mask, (side, side), interpolation=cv2.INTER_AREA) > 127


def filled_hull(points: np.ndarray, side: int) -> np.ndarray:
    """Returns a mask [side, side] of the convex hull of points [n, 2]."""
    mask = np.zeros((side, side), np.uint8)
    hull = cv2.convexHull(points.astype(np.float32))[:, 0]
    cv2.fillPoly(mask, [np.round(hull).astype(np.int32)], 1)
    return mask > 0


def limb(start: np.ndarray, end: np.ndarray, radii: tuple[float, float], side: int):
    """Measures the distance of all pixels from a limb, which is a tapered capsule.

    Args:
      start: its start, [2].
      end: its end, [2].
      radii: radii at its two ends, in pixels.
      side: side of the picture.

    Returns:
      The signed distance from its surface, negative inside, and the position along its axis (0 at
      the start, 1 at the end), [side, side] float32 each.
    """
    x, y = pixel_grid(side)
    axis = end - start
    along = ((x - start[0]) * axis[0] + (y - start[1]) * axis[1]) / max(axis @ axis, 1e-6)
    nearest = np.clip(along, 0.0, 1.0)
    distance = np.hypot(x - start[0] - nearest * axis[0], y - start[1] - nearest * axis[1])
    return distance - (radii[0] + (radii[1] - radii[0]) * nearest), along


def grid_mesh(box: Sequence[float], step: float) -> tuple[np.ndarray, np.ndarray]:
    """Makes a regular mesh over a box.

    Args:
      box: left, top, right, bottom.
      step: distance of the vertices, in pixels.

    Returns:
      Vertices [v, 2] float64 and triangles [t, 3] int32.
    """
    left, top, right, bottom = box
    columns = np.arange(left, right + step, step)
    rows = np.arange(top, bottom + step, step)
    vertices = np.stack(np.meshgrid(columns, rows), -1).reshape(-1, 2).astype(np.float64)
    width = len(columns)
    corner = (np.arange(len(rows) - 1)[:, None] * width + np.arange(width - 1)).ravel()
    upper = np.stack([corner, corner + 1, corner + width], 1)
    lower = np.stack([corner + 1, corner + width + 1, corner + width], 1)
    return vertices, np.concatenate([upper, lower]).astype(np.int32)


def mesh_over(alpha: np.ndarray, step: int) -> tuple[np.ndarray, np.ndarray]:
    """Makes a regular mesh over the pixels of a layer [h, w] that are not empty."""
    used = cv2.dilate((alpha > 0.01).astype(np.uint8), np.ones((2 * step + 1,) * 2, np.uint8))
    rows, columns = np.nonzero(used)
    box = columns.min() - step, rows.min() - step, columns.max() + step, rows.max() + step
    vertices, triangles = grid_mesh(box, step)
    middles = vertices[triangles].mean(axis=1).round().astype(int)
    middles = np.clip(middles, 0, np.array(alpha.shape[::-1]) - 1)
    return vertices, triangles[used[middles[:, 1], middles[:, 0]] > 0]
