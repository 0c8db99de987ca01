"""A portrait as its user gave it: which square of it moves, and what its frames look like."""

import dataclasses
import os
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from gesture_jax.data import portrait_framing
from gesture_jax.errors import InputError
from gesture_jax.inference import talking_mouth
from gesture_jax.inference.animator import Adaptation, Animator, Source
from gesture_jax.inference.talking_mouth import TalkingMouth
from gesture_jax.media import images, watermark
from gesture_jax.media.framing import Crop, parse_crop
from gesture_jax.media.paste import PasteBack
from gesture_jax.media.watermark import Watermark

# A square with fewer pixels than this share of the model's resolution looks blurred.
_MIN_SHARPNESS = 0.75
# A frame, and the pictures of `explain.rows`.
_EXPLAIN_COLUMNS = 6


@dataclasses.dataclass(frozen=True)
class Style:
    """How a portrait is cropped, and how its frames are shown.

    Attributes:
      crop: which square of the portrait moves: "auto" finds the person (extra `[pose]`), "center"
        is the central square, and "LEFT,TOP,SIZE" is a square in pixels.
      paste_back: whether frames show the whole picture with the square moving in it.
      watermark: a text that is drawn on every frame; "" draws the default text, None draws none.
      size: height and width of the square that moves, in pixels; see `Animator.choose_size`.
      explain: whether each frame is shown beside the layers that it is composed of.
    """

    crop: str = "center"
    paste_back: bool = False
    watermark: str | None = None
    size: int | None = None
    explain: bool = False

    def __post_init__(self) -> None:
        """Raises InputError for an unknown crop, a text without glyphs, or a contradiction."""
        if self.explain and self.paste_back:
            raise InputError("--explain shows squares; drop it or --paste_back")
        self.find_crop()
        self.make_watermark()

    @classmethod
    def from_flags(cls, flags: Any) -> "Style":
        """The style that the flags of `cli.define_style` ask for."""
        return cls(**{field.name: flags[field.name].value for field in dataclasses.fields(cls)})

    def find_crop(self) -> Crop | None:
        """The square that moves; None where the person has to be found."""
        return None if self.crop == "auto" else parse_crop(self.crop)

    def make_watermark(self) -> Watermark | None:
        """The function that draws the watermark on a frame, if there is one."""
        if self.watermark is None:
            return None
        return Watermark(self.watermark or watermark.DEFAULT)


@dataclasses.dataclass(frozen=True)
class Portrait:
    """A portrait that is ready to move, encoded once for any number of frames.

    Attributes:
      source: the square that moves, encoded.
      notices: sentences that the user should read: that the square is small, for example.
      mouth: its mouth, if its face is found.
    """

    source: Source
    notices: tuple[str, ...]
    mouth: TalkingMouth | None
    _animator: Animator
    _style: Style
    _paste_back: PasteBack | None
    _watermark: Watermark | None
    _batch_size: int | None

    @classmethod
    def open(
        cls,
        image: str | os.PathLike | np.ndarray,
        animator: Animator,
        style: Style = Style(),
        *,
        num_frames: int | None = None,
        find_mouth: bool = True,
    ) -> "Portrait":
        """Reads a picture, chooses the square that moves, and encodes it.

        Args:
          image: path of a picture; or an array as in `Animator.encode_source`.
          animator: the trained stage 1.
          style: how the picture is cropped, and how frames are shown.
          num_frames: number of frames that each call of `render` is for, if it is known.
          find_mouth: whether to look for the mouth, which moves only by positions of lips.

        Raises:
          InputError: where the picture cannot be read, or the crop or the size does not fit it.
        """
        crop = style.find_crop()
        if isinstance(image, str | os.PathLike):
            name, photo = str(image), images.load_photo(image)
            picture, crop = photo.picture, _reduce(name, photo, crop)
        else:
            name, picture = "the portrait", images.to_rgb(image)
        box, notices = portrait_framing.choose_square(name, picture, crop, animator.shoulders)
        left, top, side = box
        if side < _MIN_SHARPNESS * animator.resolution:
            wanted = animator.resolution
            notices.append(
                f"{name}: the square that moves has {side}x{side} pixels, so that the video is "
                f"blurred; give a picture with {wanted}x{wanted} or more around the person"
            )
        paste_back = PasteBack(picture, box) if style.paste_back else None
        size = style.size
        if paste_back and size is None and animator.model.carries_pixels:
            # The square becomes as sharp as the picture around it.
            size = max(paste_back.side // 2 * 2, animator.resolution)
        try:
            source = animator.encode_source(
                picture[top : top + side, left : left + side], size=size
            )
        except InputError as error:
            raise InputError(f"{name}: {error}") from None
        mouth = None
        if find_mouth and animator.model.carries_pixels and talking_mouth.is_available():
            mouth = TalkingMouth.find(source.image)
        batch_size = num_frames and animator.choose_batch_size(num_frames)
        return cls(
            source, tuple(notices), mouth, animator, style, paste_back, style.make_watermark(),
            batch_size,
        )  # fmt: skip

    @property
    def frame_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of the frames of the video."""
        if self._paste_back:
            return self._paste_back.shape
        if self._style.explain:
            return self._animator.resolution, _EXPLAIN_COLUMNS * self._animator.resolution, 3
        return self.source.image.shape

    def prepare(self) -> None:
        """Compiles what `render` calls, on a background thread."""
        if not self._style.explain:
            self._animator.prepare(self.source, mouth=self.mouth, batch_size=self._batch_size)

    def render(
        self, motion: Iterable[np.ndarray], adaptation: Adaptation | None = None
    ) -> Iterator[np.ndarray]:
        """Renders a sequence of motion features.

        Args:
          motion: [d] each; or [d + 2], with the positions of the lips.
          adaptation: that of the clip which the motion continues; by default a clip begins.

        Yields:
          The frames of the video, uint8, in the order of the features.
        """
        if self._style.explain:
            return self.finish(self._animator.explain_frames(self.source, motion))
        frames = self._animator.render_frames(
            self.source, motion, adapt=adaptation or True, mouth=self.mouth,
            batch_size=self._batch_size,
        )  # fmt: skip
        return self.finish(frames)

    def finish(self, frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Pastes rendered squares [s, s, 3] uint8 into the picture, and draws the watermark."""
        for frame in frames:
            frame = self._paste_back(frame) if self._paste_back else frame
            yield self._watermark(frame) if self._watermark else frame


def _reduce(name: str, photo: images.Photo, crop: Crop | None) -> Crop | None:
    """The crop, given in pixels of the file, in pixels of the picture as it was read."""
    if crop is None or photo.reduction == 1:
        return crop
    try:
        return crop.reduce(photo.reduction, *photo.size)
    except InputError as error:
        raise InputError(f"{name}: {error}") from None
