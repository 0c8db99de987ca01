"""A mark that everybody sees: a word in the corner of each frame, which says that it is made."""

import functools
import pathlib

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from gesture_jax.errors import InputError

DEFAULT = "synthetic"
_MOST_CHARACTERS = 40
# Height of the letters as a share of the frame's, and the smallest ones that can be read.
_SHARE = 0.05
_LEAST_PX = 9
# White letters on a dark ground, which lets some of the frame through: legible on anything.
_GROUND = 0.6


class Watermark:
    """Draws a text into the lower right corner of frames."""

    def __init__(self, text: str = DEFAULT):
        """A short text.

        Raises:
          InputError: where it is empty, too long, or has signs that the font lacks.
        """
        self._text = text.strip()
        if not 0 < len(self._text) <= _MOST_CHARACTERS:
            raise InputError(
                f"--watermark={text}: a text of 1 to {_MOST_CHARACTERS} characters is wanted"
            )
        # Few frames are marked, and matplotlib takes 0.2 s to import.
        from matplotlib.ft2font import FT2Font

        font = FT2Font(_font_path())
        lacking = [sign for sign in self._text if not font.get_char_index(ord(sign))]
        if lacking:
            raise InputError(
                f"--watermark={text}: the font has no sign {lacking[0]!r}; use other letters"
            )

    def __call__(self, frame: np.ndarray) -> np.ndarray:
        """A marked copy of a frame [h, w, 3] uint8.

        Raises:
          InputError: where the frame is too small for the text.
        """
        letters = _draw(self._text, *frame.shape[:2])
        height, width = letters.shape[:2]
        marked = frame.copy()
        corner = marked[len(frame) - height :, frame.shape[1] - width :]
        corner[:] = np.rint((1.0 - _GROUND) * corner * (1.0 - letters) + 255.0 * letters)
        return marked


@functools.lru_cache(maxsize=8)
def _draw(text: str, height: int, width: int) -> np.ndarray:
    """[h', w', 1] in [0, 1]: how much of each pixel of the corner is letters."""
    for size in range(max(_LEAST_PX, round(_SHARE * height)), _LEAST_PX - 1, -1):
        font = ImageFont.truetype(_font_path(), size)
        left, top, right, bottom = font.getbbox(text)
        pad = max(size // 5, 1)
        shape = round(bottom - top) + 2 * pad, round(right - left) + 2 * pad
        if shape[0] <= height and shape[1] <= width:
            break
    else:
        raise InputError(
            f"--watermark={text}: no room for it in frames of {width}x{height} pixels; shorten it"
        )
    mask = Image.new("L", shape[::-1])
    ImageDraw.Draw(mask).text((pad - left, pad - top), text, fill=255, font=font)
    return np.asarray(mask, np.float32)[..., None] / 255.0


def _font_path() -> str:
    """DejaVu Sans, which comes with matplotlib: Latin, Greek, Cyrillic, Arabic and more."""
    import matplotlib

    return str(pathlib.PurePath(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"))
