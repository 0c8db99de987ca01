"""A portrait as its user gave it: which square of it moves, and what its frames look like."""

import dataclasses
import os
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from gesture_jax.checkpoint import packed
from gesture_jax.data import portrait_framing
from gesture_jax.errors import InputError
from gesture_jax.inference import avatar, puppet_renderer, talking_mouth
from gesture_jax.inference.animator import Animator, Source
from gesture_jax.inference.avatar import Avatar
from gesture_jax.inference.network_renderer import NetworkClip, NetworkRenderer
from gesture_jax.inference.puppet_renderer import PuppetClip, PuppetRenderer
from gesture_jax.inference.talking_mouth import TalkingMouth
from gesture_jax.media import images, watermark
from gesture_jax.media.framing import Crop, parse_crop
from gesture_jax.media.paste import PasteBack
from gesture_jax.media.watermark import Watermark

# A square with fewer pixels than this share of the model's resolution looks blurred.
_MIN_SHARPNESS = 0.75
# A frame, and the pictures of `explain.rows`.
_EXPLAIN_COLUMNS = 6
RENDERERS = ("auto", "puppet", "network")
"""The renderers; `Style.renderer` describes them."""


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
      renderer: "puppet" moves the portrait's own pixels in layers, "network" renders with the
        networks of stage 1, and "auto" is "puppet" where that is possible.
    """

    crop: str = "center"
    paste_back: bool = False
    watermark: str | None = None
    size: int | None = None
    explain: bool = False
    renderer: str = "auto"

    def __post_init__(self) -> None:
        """Raises InputError for an unknown value, a text without glyphs, or a contradiction."""
        if self.renderer not in RENDERERS:
            raise InputError(f"--renderer={self.renderer}: choose {', '.join(RENDERERS)}")
        if self.explain and self.renderer == "puppet":
            raise InputError("--explain shows what the networks do; drop it or --renderer=puppet")
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
    """

    source: Source
    notices: tuple[str, ...]
    _renderer: PuppetRenderer | NetworkRenderer
    _resolution: int
    _style: Style
    _paste_back: PasteBack | None
    _watermark: Watermark | None

    @classmethod
    def open(
        cls,
        image: str | os.PathLike | np.ndarray,
        animator: Animator,
        style: Style = Style(),
        *,
        num_frames: int | None = None,
    ) -> "Portrait":
        """Reads a picture, chooses the square that moves, and encodes it.

        Args:
          image: path of a picture or of an avatar; or an array as in `Animator.encode_source`.
          animator: the trained stage 1.
          style: how the picture is cropped, and how frames are shown.
          num_frames: number of frames that each call of `render` is for, if it is known.

        Raises:
          InputError: where the picture cannot be read, the crop or the size does not fit it, or it
            cannot be a puppet although the style asks for one.
        """
        crop, person = style.find_crop(), None
        if isinstance(image, str | os.PathLike) and packed.is_avatar(image):
            if crop not in (None, Crop()):
                raise InputError(f"{image}: the portrait of an avatar is square; drop --crop")
            name, person = str(image), avatar.read(image)
            picture = person.portrait
        elif isinstance(image, str | os.PathLike):
            name, photo = str(image), images.load_photo(image)
            picture, crop = photo.picture, _reduce(name, photo, crop)
        else:
            name, picture = "the portrait", images.to_rgb(image)
        if person is None:
            box, notices = portrait_framing.choose_square(name, picture, crop, animator.shoulders)
        else:
            box, notices = (0, 0, len(picture)), []
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
        square = picture[top : top + side, left : left + side]
        try:
            source = animator.encode_source(square, size=size)
        except InputError as error:
            raise InputError(f"{name}: {error}") from None
        renderer = _choose_renderer(name, square, person, animator, source, style, num_frames)
        return cls(
            source, (*notices, *renderer.notices), renderer, animator.resolution, style, paste_back,
            style.make_watermark(),
        )  # fmt: skip

    @property
    def takes_lips(self) -> bool:
        """Whether positions of the lips, behind the motion, move the portrait's own mouth."""
        return self._renderer.takes_lips

    @property
    def frame_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of the frames of the video."""
        if self._paste_back:
            return self._paste_back.shape
        if self._style.explain:
            return self._resolution, _EXPLAIN_COLUMNS * self._resolution, 3
        return self.source.image.shape

    def prepare(self) -> None:
        """Compiles what `render` calls, on a background thread."""
        self._renderer.prepare()

    def begin(self) -> PuppetClip | NetworkClip:
        """Begins a clip, which several calls of `render` can continue."""
        return self._renderer.begin()

    def render(
        self, motion: Iterable[np.ndarray], clip: PuppetClip | NetworkClip | None = None
    ) -> Iterator[np.ndarray]:
        """Renders a sequence of motion features.

        Args:
          motion: [d] each; or [d + 2], with the positions of the lips.
          clip: from `begin`, the clip that the motion continues; by default a clip begins.

        Yields:
          The frames of the video, uint8, in the order of the features.
        """
        return self.finish(self.render_squares(motion, clip))

    def render_squares(
        self, motion: Iterable[np.ndarray], clip: PuppetClip | NetworkClip | None = None
    ) -> Iterator[np.ndarray]:
        """Like `render`, without what `finish` adds."""
        return (clip or self.begin()).render(motion)

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


def _choose_renderer(
    name: str,
    square: np.ndarray,
    person: Avatar | None,
    animator: Animator,
    source: Source,
    style: Style,
    num_frames: int | None,
) -> PuppetRenderer | NetworkRenderer:
    """Returns the renderer that the style asks for, or the best one for the portrait."""
    reading, notices = animator.pose_reading, []
    if style.renderer != "network" and not style.explain:
        try:
            return PuppetRenderer.open(
                images.to_uint8(square), reading, source.motion, size=source.size, avatar=person
            )
        except puppet_renderer.UnsuitableError as error:
            if style.renderer == "puppet":
                raise InputError(f"{name}: cannot be a puppet, because {error}") from None
            if reading is not None:
                notices.append(f"{name}: the networks draw it, blurred, because {error}")
    mouth = None
    if animator.model.carries_pixels and talking_mouth.is_available():
        mouth = TalkingMouth.find(source.image)
    return NetworkRenderer(
        animator, source, mouth=mouth, num_frames=num_frames, explain=style.explain,
        notices=tuple(notices),
    )  # fmt: skip
