"""Pastes the animated square back into the picture that it was cut from, without a seam."""

import numpy as np
from PIL import Image

from gesture_jax.media import images

# Larger pictures are scaled down.
MAX_PX = 1920
# Frames fade into the picture over this share of the square's side.
_FADE = 0.1


class PasteBack:
    """Pastes frames into a picture, with a fade at the edges of the square.

    There is no fade where an edge of the square is an edge of the picture.

    Attributes:
      side: of the square in the result, in pixels.
      shape: height, width and channels of the result.
    """

    def __init__(self, picture: np.ndarray, box: tuple[int, int, int], *, most_px: int = MAX_PX):
        """Takes the picture [h, w, 3], and left, top and side of the square in pixels."""
        full = images.to_uint8(picture)
        self._picture = images.shrink(full, most_px=most_px)
        self.shape = self._picture.shape
        height, width = self.shape[:2]
        scale = width / full.shape[1]
        self.side = max(min(round(box[2] * scale), height, width), 1)
        self._left = min(round(box[0] * scale), width - self.side)
        self._top = min(round(box[1] * scale), height - self.side)
        rows = _fade(self.side, self._top > 0, self._top + self.side < height)
        columns = _fade(self.side, self._left > 0, self._left + self.side < width)
        self._weight = np.minimum.outer(rows, columns)[..., None]

    def __call__(self, frame: np.ndarray) -> np.ndarray:
        """Returns the picture, uint8, with a frame [r, r, 3] uint8 in its square."""
        size = (self.side, self.side)
        scaled = np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.BICUBIC))
        result = self._picture.copy()
        square = result[self._top : self._top + self.side, self._left : self._left + self.side]
        square[:] = np.rint(square + self._weight * (scaled.astype(np.float32) - square))
        return result


def _fade(side: int, fades_first: bool, fades_last: bool) -> np.ndarray:
    """Returns the weights of the frame along an axis, [side], which rise from the fading ends."""
    length = max(_FADE * side, 1.0)
    distance = np.arange(side, dtype=np.float32) + 0.5
    first = np.clip(distance / length, 0.0, 1.0) if fades_first else np.ones(side, np.float32)
    last = np.clip(distance[::-1] / length, 0.0, 1.0) if fades_last else np.ones(side, np.float32)
    weight = np.minimum(first, last)
    return weight * weight * (3.0 - 2.0 * weight)
