"""A portrait as its user gave it: which square of it moves, and how its frames are shown."""

import dataclasses
import os
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from gesture_jax.data import portrait_framing
from gesture_jax.errors import InputError
from gesture_jax.inference.animator import Animator, Source
from gesture_jax.media import images, watermark
from gesture_jax.media.framing import Crop, parse_crop
from gesture_jax.media.paste import PasteBack
from gesture_jax.media.watermark import Watermark

# Fewer pixels than this share of the model's look blurred.
_LEAST_SHARP = 0.75


@dataclasses.dataclass(frozen=True)
class Style:
    """What is asked of pictures.

    Attributes:
      crop: the square that moves; None finds the person.
      paste_back: whether frames are the whole picture, the square moving in it.
      mark: drawn on every frame, where one is wanted.
      size: height and width of the square that moves, see `Animator.choose_size`.
      explain: whether frames are shown beside what they are put together from.
    """

    crop: Crop | None = Crop()  # noqa: RUF009
    paste_back: bool = False
    mark: Watermark | None = None
    size: int | None = None
    explain: bool = False

    def __post_init__(self):
        """Raises InputError for what does not go together."""
        if self.explain and self.paste_back:
            raise InputError("--explain shows squares; drop it or --paste_back")

    @classmethod
    def parse(
        cls,
        *,
        crop: str,
        paste_back: bool,
        mark: str | None,
        size: int | None = None,
        explain: bool = False,
    ) -> "Style":
        """As users write it.

        Args:
          crop: "auto", "center" or "LEFT,TOP,SIZE".
          paste_back: see above.
          mark: the text; "" is the usual one, None is none.
          size: see above.
          explain: see above.

        Raises:
          InputError: for another crop, or a text that cannot be drawn.
        """
        return cls(
            None if crop == "auto" else parse_crop(crop),
            paste_back,
            None if mark is None else Watermark(mark or watermark.DEFAULT),
            size,
            explain,
        )

    @classmethod
    def from_flags(cls, flags: Any) -> "Style":
        """By the flags of `cli.define_style`; raises as `parse`."""
        return cls.parse(
            crop=flags.crop,
            paste_back=flags.paste_back,
            mark=flags.watermark,
            size=flags.size,
            explain=flags.explain,
        )


@dataclasses.dataclass(frozen=True)
class Portrait:
    """A portrait, ready to move.

    Attributes:
      source: its square, encoded.
      notices: what its user should know, a sentence each.
    """

    source: Source
    notices: list[str]
    _animator: Animator
    _paste: PasteBack | None
    _style: Style

    @classmethod
    def open(cls, path: str | os.PathLike, animator: Animator, style: Style) -> "Portrait":
        """Reads a picture and encodes the square of it that moves.

        Raises:
          InputError: where it cannot be read, or the crop leaves it.
        """
        photo = images.load_photo(path)
        picture, crop = photo.picture, style.crop
        if crop and photo.reduction > 1:  # Its numbers are those of the file's pixels.
            crop = _reduce(path, photo, crop)
        box, notices = portrait_framing.choose_square(path, picture, crop, animator.shoulders)
        left, top, side = box
        if side < _LEAST_SHARP * animator.resolution:
            wanted = animator.resolution
            notices.append(
                f"{path}: the square that moves has {side}x{side} pixels, so that the video is "
                f"blurred; give a picture with {wanted}x{wanted} or more around the person"
            )
        paste = PasteBack(picture, box) if style.paste_back else None
        size = style.size
        if paste and size is None and animator.model.carries_pixels:
            # As sharp as the picture around it.
            size = max(paste.side // 2 * 2, animator.resolution)
        cut = picture[top : top + side, left : left + side]
        try:
            source = animator.encode_source(cut, size=size)
        except InputError as error:
            raise InputError(f"{path}: {error}") from None
        return cls(source, notices, animator, paste, style)

    def render(self, motion: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Frames of the video for motion features [d], one after the other."""
        if self._style.explain:
            return self.show(self._animator.explain_frames(self.source, motion))
        return self.show(self._animator.render_frames(self.source, motion, adapt=True))

    def show(self, frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Frames of the model, [s, s, 3] uint8, as frames of the video."""
        for frame in frames:
            frame = self._paste(frame) if self._paste else frame
            yield self._style.mark(frame) if self._style.mark else frame


def _reduce(path: str | os.PathLike, photo: images.Photo, crop: Crop) -> Crop:
    try:
        return crop.reduce(photo.reduction, *photo.size)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
