"""The moving square put back into the picture that it was cut from, without a seam."""

import numpy as np
from PIL import Image

from gesture_jax.media import images

# Larger pictures are scaled down: videos of more than this are for cinemas.
MOST_PX = 1920
# Over this share of the square's side its frames fade into the picture.
_FADE = 0.1


class PasteBack:
    """Puts frames into a picture: theirs in the middle of the square, the picture's at its edge.

    Where the square ends with the picture, there is no seam and nothing fades.

    Attributes:
      side: of the square in the result, in pixels.
      shape: height, width and channels of the result.
    """

    def __init__(self, picture: np.ndarray, box: tuple[int, int, int], *, most_px: int = MOST_PX):
        """The picture [h, w, 3], and left, top and side in pixels of the square that moves."""
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
        """A frame [r, r, 3] uint8 to a whole picture of it, uint8."""
        size = (self.side, self.side)
        scaled = np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.BICUBIC))
        result = self._picture.copy()
        square = result[self._top : self._top + self.side, self._left : self._left + self.side]
        square[:] = np.rint(square + self._weight * (scaled.astype(np.float32) - square))
        return result


def _fade(side: int, fades_first: bool, fades_last: bool) -> np.ndarray:
    """[side]: weights of the frame along an axis, rising from the ends that fade."""
    length = max(_FADE * side, 1.0)
    distance = np.arange(side, dtype=np.float32) + 0.5
    first = np.clip(distance / length, 0.0, 1.0) if fades_first else np.ones(side, np.float32)
    last = np.clip(distance[::-1] / length, 0.0, 1.0) if fades_last else np.ones(side, np.float32)
    weight = np.minimum(first, last)
    return weight * weight * (3.0 - 2.0 * weight)
