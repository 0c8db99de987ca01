"""A first look at a video, small and fast: where the camera cuts, and where a person is seen."""

import dataclasses
import os
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image

from gesture_jax.media.framing import Box
from gesture_jax.media.rates import FPS
from gesture_jax.media.video import iterate_pictures

FindPerson = Callable[[np.ndarray], Box | None]

_THUMBNAIL = 32, 18
# Mean difference of thumbnails, of 255. Talking people stay below 9, unlike rooms are 20 and more.
_CUT_DIFFERENCE = 14.0
# A cut also stands out among its neighbours; wild motion and shaking do not.
_CUT_RATIO = 3.0
_NEIGHBOURS = 12
_PICTURE_PX = 640


@dataclasses.dataclass(frozen=True)
class Look:
    """What a first look shows.

    Attributes:
      num_frames: of 25 a second.
      cuts: the frames that begin a new scene, without the first frame of all.
      people: for the frames that were searched, the person's box, None where nobody was found;
        empty where nobody was looked for.
    """

    num_frames: int
    cuts: Sequence[int]
    people: dict[int, Box | None]

    def scenes(self) -> list[tuple[int, int]]:
        """First frame, and frame after the last, of each scene."""
        borders = [0, *self.cuts, self.num_frames]
        return list(zip(borders[:-1], borders[1:], strict=True))


def look_at(
    path: str | os.PathLike,
    *,
    start_sec: float,
    stop_sec: float | None,
    find_person: FindPerson | None,
) -> Look:
    """Goes through a video once.

    Args:
      path: the video.
      start_sec: where to begin.
      stop_sec: where to stop; None is the end.
      find_person: gives the box of a person in a picture [h, w, 3] uint8, or None; called once a
        second.

    Raises:
      InputError: where the video cannot be read.
    """
    thumbnails, people = [], {}
    most_px = _PICTURE_PX if find_person else 2 * max(_THUMBNAIL)
    pictures = iterate_pictures(path, start_sec=start_sec, stop_sec=stop_sec, most_px=most_px)
    for number, picture in enumerate(pictures):
        picture = np.ascontiguousarray(picture)
        small = Image.fromarray(picture).resize(_THUMBNAIL, Image.Resampling.BOX)
        thumbnails.append(np.asarray(small))
        if find_person and number % FPS == FPS // 2:
            people[number] = find_person(picture)
    cuts = find_cuts(np.stack(thumbnails))
    return Look(len(thumbnails), cuts, people)


def find_cuts(thumbnails: np.ndarray) -> list[int]:
    """Frames that begin a new scene. Hard cuts only; a slow dissolve has none.

    Args:
      thumbnails: [t, h, w, 3] uint8.
    """
    differences = np.array([
        np.abs(one.astype(np.float32) - other).mean()
        for one, other in zip(thumbnails[:-1], thumbnails[1:], strict=True)
    ])  # fmt: skip
    cuts = []
    for number in np.flatnonzero(differences > _CUT_DIFFERENCE):
        first = max(number - _NEIGHBOURS, 0)
        around = np.delete(differences[first : number + _NEIGHBOURS + 1], number - first)
        if not len(around) or differences[number] > _CUT_RATIO * np.median(around):
            cuts.append(int(number) + 1)
    return cuts
