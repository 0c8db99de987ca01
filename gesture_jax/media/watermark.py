"""The visible watermark: a word in the corner of each frame that marks it as synthetic."""

import functools
import pathlib

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from gesture_jax.errors import InputError

DEFAULT = "synthetic"
_MAX_CHARACTERS = 40
# Height of the letters as a share of the frame's height, and the smallest legible height.
_SHARE = 0.05
_MIN_PX = 9
# White letters on a dark, partly transparent ground are legible on any frame.
_GROUND = 0.6


class Watermark:
    """Draws a text into the lower right corner of frames."""

    def __init__(self, text: str = DEFAULT):
        """Takes a short text.

        Raises:
          InputError: if it is empty or too long, or has characters that the font lacks.
        """
        self._text = text.strip()
        if not 0 < len(self._text) <= _MAX_CHARACTERS:
            raise InputError(
                f"--watermark={text}: a text of 1 to {_MAX_CHARACTERS} characters is wanted"
            )
        # Imported here because few videos have a mark and matplotlib takes 0.2 s to import.
        from matplotlib.ft2font import FT2Font

        font = FT2Font(_font_path())
        lacking = [sign for sign in self._text if not font.get_char_index(ord(sign))]
        if lacking:
            raise InputError(
                f"--watermark={text}: the font has no sign {lacking[0]!r}; use other letters"
            )

    def __call__(self, frame: np.ndarray) -> np.ndarray:
        """Returns a marked copy of a frame [h, w, 3] uint8.

        Raises:
          InputError: if the frame is too small for the text.
        """
        letters = _draw(self._text, *frame.shape[:2])
        height, width = letters.shape[:2]
        marked = frame.copy()
        corner = marked[len(frame) - height :, frame.shape[1] - width :]
        corner[:] = np.rint((1.0 - _GROUND) * corner * (1.0 - letters) + 255.0 * letters)
        return marked


@functools.lru_cache(maxsize=8)
def _draw(text: str, height: int, width: int) -> np.ndarray:
    """Returns the coverage of each pixel of the corner by letters, [h', w', 1] in [0, 1]."""
    for size in range(max(_MIN_PX, round(_SHARE * height)), _MIN_PX - 1, -1):
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
    """The path of DejaVu Sans, which matplotlib ships: Latin, Greek, Cyrillic, Arabic and more."""
    import matplotlib

    return str(pathlib.PurePath(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"))
