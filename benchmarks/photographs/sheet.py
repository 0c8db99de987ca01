"""Contact sheets: reconstructions of each person beside the true frames."""

import numpy as np
from PIL import Image

from benchmarks.photographs.clips import PhotographClip
from gesture_jax.media import images

_TILE_PX = 256


def draw_row(clip: PhotographClip, redrawn: np.ndarray) -> list[np.ndarray]:
    """Returns source, driving frame and reconstruction; then faces and hands of the last two.

    The driving frame is the one that differs most from the source.
    """
    chosen = int(np.square(clip.frames - clip.source).mean(axis=(1, 2, 3)).argmax())
    pair = clip.frames[chosen], redrawn[chosen]
    face = clip.faces[chosen]
    boxes = [face.box if face else None, *clip.hands[chosen]]
    zooms = [_enlarge(picture, box) for box in boxes for picture in pair]
    return [
        _enlarge(picture, (0, 0, *[len(picture)] * 2)) for picture in (clip.source, *pair)
    ] + zooms


def _enlarge(picture: np.ndarray, box) -> np.ndarray:
    """Returns the square around a box, [256, 256, 3]; white if there is no box."""
    if box is None or not (box[2] > box[0] and box[3] > box[1]):
        return np.ones((_TILE_PX, _TILE_PX, 3), np.float32)
    left, top, right, bottom = box
    half = max(right - left, bottom - top) / 2
    x, y = (left + right) / 2, (top + bottom) / 2
    square = Image.fromarray(images.to_uint8(picture)).crop(
        [round(place) for place in (x - half, y - half, x + half, y + half)]
    )
    return np.asarray(square.resize((_TILE_PX, _TILE_PX), Image.Resampling.BICUBIC))
