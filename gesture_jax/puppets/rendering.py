"""Draws meshes: maps the pixels of a frame to pixels of layers, and composites the layers."""

import cv2
import numba
import numpy as np

NOWHERE = -1e4
"""The value of a map where nothing is drawn."""


@numba.njit(cache=True)
def rasterise(
    corners: np.ndarray, sources: np.ndarray, triangles: np.ndarray, out: np.ndarray
) -> None:
    """Writes the source position of each covered pixel; later triangles cover earlier ones.

    Args:
      corners: [v, 2] float64, positions (x, y) of the vertices in the frame.
      sources: [v, 2] float64, their positions in the layer.
      triangles: [t, 3] int32.
      out: [h, w, 2] float32, (x, y) in the layer, the output.
    """
    height, width = out.shape[:2]
    for k in range(triangles.shape[0]):
        a, b, c = triangles[k, 0], triangles[k, 1], triangles[k, 2]
        ax, ay = corners[a, 0], corners[a, 1]
        abx, aby = corners[b, 0] - ax, corners[b, 1] - ay
        acx, acy = corners[c, 0] - ax, corners[c, 1] - ay
        area = abx * acy - acx * aby
        if abs(area) < 1e-9:
            continue
        left = max(int(np.floor(ax + min(0.0, abx, acx))), 0)
        right = min(int(np.ceil(ax + max(0.0, abx, acx))), width - 1)
        top = max(int(np.floor(ay + min(0.0, aby, acy))), 0)
        bottom = min(int(np.ceil(ay + max(0.0, aby, acy))), height - 1)
        for y in range(top, bottom + 1):
            for x in range(left, right + 1):
                u = ((x - ax) * acy - acx * (y - ay)) / area
                v = (abx * (y - ay) - (x - ax) * aby) / area
                if u >= -1e-4 and v >= -1e-4 and u + v <= 1.0001:
                    w = 1.0 - u - v
                    out[y, x, 0] = w * sources[a, 0] + u * sources[b, 0] + v * sources[c, 0]
                    out[y, x, 1] = w * sources[a, 1] + u * sources[b, 1] + v * sources[c, 1]


@numba.njit(cache=True)
def composite(picture: np.ndarray, layer: np.ndarray) -> None:
    """Composites a layer [h, w, 4] uint8 over a picture [h, w, 3] float32, in place."""
    for y in range(picture.shape[0]):
        for x in range(picture.shape[1]):
            alpha = np.float32(layer[y, x, 3]) * np.float32(1 / 255)
            if alpha > 0:
                for c in range(3):
                    picture[y, x, c] += (np.float32(layer[y, x, c]) - picture[y, x, c]) * alpha


def draw_map(
    corners: np.ndarray, sources: np.ndarray, triangles: np.ndarray, side: int
) -> tuple[tuple[int, int], np.ndarray] | None:
    """Returns the map of a mesh, cropped to its box within a frame.

    Args:
      corners: [v, 2], positions of the vertices in the frame.
      sources: [v, 2], their positions in the layer.
      triangles: [t, 3] int32.
      side: side of the frame in pixels.

    Returns:
      Left and top of the box, and the map [h, w, 2] float32, `NOWHERE` where nothing is drawn;
      None where nothing is in the frame.
    """
    used = corners[np.unique(triangles)]
    low = np.clip(np.floor(used.min(axis=0)).astype(int) - 1, 0, side)
    high = np.clip(np.ceil(used.max(axis=0)).astype(int) + 2, 0, side)
    if (high <= low).any():
        return None
    out = np.full((high[1] - low[1], high[0] - low[0], 2), NOWHERE, np.float32)
    rasterise(corners - low, np.ascontiguousarray(sources), triangles, out)
    return (int(low[0]), int(low[1])), out


def sample(layer: np.ndarray, where: np.ndarray, *, repeat_edge: bool = False) -> np.ndarray:
    """Samples a layer at the positions of a map.

    Args:
      layer: [h, w, 4] uint8.
      where: [h', w', 2] float32, from `draw_map`, in pixels of the layer.
      repeat_edge: whether the layer's edge is repeated outside of it; otherwise that is empty.

    Returns:
      [h', w', 4] uint8, by cubic interpolation; empty where nothing is drawn.
    """
    border = cv2.BORDER_REPLICATE if repeat_edge else cv2.BORDER_CONSTANT
    pixels = cv2.remap(layer, where, None, cv2.INTER_CUBIC, borderMode=border)
    if repeat_edge:
        pixels[where[..., 0] < NOWHERE / 2] = 0
    return pixels


def displace_map(where: np.ndarray, shift: np.ndarray, corner: tuple[int, int]) -> None:
    """Adds displacements within a box of the layer to a map, in place.

    Args:
      where: [h, w, 2] float32, (x, y) in the layer.
      shift: [h', w', 2] float32, the displacements.
      corner: left and top of the box.
    """
    height, width = shift.shape[:2]
    inside = (where[..., 0] > corner[0]) & (where[..., 0] < corner[0] + width)
    inside &= (where[..., 1] > corner[1]) & (where[..., 1] < corner[1] + height)
    left, top, box_width, box_height = cv2.boundingRect(inside.astype(np.uint8))
    if box_width and box_height:
        part = where[top : top + box_height, left : left + box_width]
        there = part - np.array(corner, np.float32)
        part += cv2.remap(shift, there, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)


def cast_shadow(
    picture: np.ndarray, ground: np.ndarray, layers: list, strength: float, scale: float
) -> None:
    """Casts a soft shadow of layers on a picture.

    Args:
      picture: [s, s, 3] float32, changed in place.
      ground: [s, s] uint8, alpha of the layer that the shadow falls on.
      layers: (corner, pixels [h, w, 4] uint8) each, or None.
      strength: darkness of the shadow, 0 to 1.
      scale: pixels of the picture per pixel of the working picture.
    """
    side, cell = len(picture), 4
    cover = np.zeros((side // cell, side // cell), np.float32)
    for corner, pixels in filter(None, layers):
        left, top = corner[0] // cell, corner[1] // cell
        height, width = (max(length // cell, 1) for length in pixels.shape[:2])
        small = cv2.resize(pixels[..., 3], (width, height), interpolation=cv2.INTER_AREA)
        part = cover[top : top + height, left : left + width]
        np.maximum(part, small[: part.shape[0], : part.shape[1]] / np.float32(255), out=part)
    down = max(round(2 * scale), 1)
    soft = cv2.GaussianBlur(np.roll(cover, down, 0), (0, 0), 2.2 * scale)
    dark = cv2.resize(soft, (side, side)) * ground * np.float32(strength / 255)
    picture *= (1 - dark)[..., None]
