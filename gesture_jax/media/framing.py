"""Crops: the square of a picture or video that is kept."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from gesture_jax.errors import InputError

# (left, top, right, bottom) of a person's upper body, as fractions of width and height.
Box = tuple[float, float, float, float]
# The margin around a person, as a share of the person's size.
_MARGIN = 0.08


@dataclasses.dataclass(frozen=True)
class Crop:
    """A square within the upright picture: the central one, one from a left edge, or any other.

    Attributes:
      border_px: number of pixels cut off all four sides first.
      left: left edge of a square of full height, in [0, 1] of the width; 1 is flush right.
      box_px: left, top and side of the square, in pixels.
    """

    border_px: int = 0
    left: float | None = None
    box_px: tuple[int, int, int] | None = None

    def find_box(self, width: int, height: int) -> tuple[int, int, int]:
        """Returns left, top and side of the square, in pixels, for a picture of this size.

        Raises:
          InputError: if nothing is left of the picture, or the square leaves it.
        """
        inner_width, inner_height = (side - 2 * self.border_px for side in (width, height))
        if min(inner_width, inner_height) <= 0:
            raise InputError(
                f"{width}x{height} pixels, nothing left inside {self.border_px} px of border"
            )
        if self.box_px is not None:
            left, top, side = self.box_px
            if side < 1 or min(left, top) < 0 or left + side > width or top + side > height:
                raise InputError(
                    f"{width}x{height} pixels, outside of which lies the square {left},{top},{side}"
                )
            return left, top, side
        side = min(inner_width, inner_height)
        left = (inner_width - side) // 2
        if self.left is not None:
            # An edge too far to the right is moved back: 1 means flush right.
            left = min(round(self.left * inner_width), inner_width - side)
        return self.border_px + left, self.border_px + (inner_height - side) // 2, side

    def reduce(self, factor: int, width: int, height: int) -> "Crop":
        """Returns the same square for a picture of this size that was scaled down by a factor.

        Raises:
          InputError: as `find_box`.
        """
        left, top, side = self.find_box(width, height)
        return Crop(box_px=(left // factor, top // factor, max(side // factor, 1)))


def parse_crop(text: str, *, border_px: int = 0) -> Crop:
    """Parses the values of `--crop` other than "auto": "center", or "L,T,SIZE" in pixels.

    Raises:
      InputError: for any other text.
    """
    if text == "center":
        return Crop(border_px)
    try:
        left, top, side = (int(number) for number in text.split(","))
    except ValueError:
        raise InputError(
            f"--crop={text}: wanted is auto, center, or LEFT,TOP,SIZE in pixels"
        ) from None
    return Crop(border_px, box_px=(left, top, side))


def frame_people(boxes: Sequence[Box], width: int, height: int) -> Crop:
    """Returns the square around all boxes of a person, with a margin, within the picture.

    Args:
      boxes: (left, top, right, bottom) in fractions of width and height, at least one.
      width: width of the picture in pixels.
      height: height of the picture in pixels.
    """
    edges = np.array(boxes) * [width, height, width, height]
    left, top = edges[:, :2].min(axis=0)
    right, bottom = edges[:, 2:].max(axis=0)
    side = min(max(right - left, bottom - top) * (1.0 + 2 * _MARGIN), width, height)
    # The picture ends at the hips, as in PATS, and the free space lies above the head.
    corner = np.array([(left + right - side) / 2, bottom + _MARGIN * (bottom - top) / 2 - side])
    corner = np.clip(corner, 0.0, np.array([width, height]) - side)
    return Crop(box_px=(int(corner[0]), int(corner[1]), int(side)))
