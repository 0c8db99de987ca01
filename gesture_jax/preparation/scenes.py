"""Scans a video quickly, in small pictures, for cuts and for people."""

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
# Mean difference of thumbnails, out of 255. Talking people stay below 9; cuts to another room are
# 20 and more.
_CUT_DIFFERENCE = 14.0
# A cut differs more than its neighbours by this factor; wild motion and shaking do not.
_CUT_RATIO = 3.0
_NEIGHBOURS = 12
_PICTURE_PX = 640


@dataclasses.dataclass(frozen=True)
class VideoScan:
    """The result of `scan_video`.

    Attributes:
      num_frames: number of frames at 25 per second.
      cuts: frames at which a new scene begins, without the first frame.
      people: the person's box in each frame that was searched, None where nobody was found; empty
        where no frame was searched.
    """

    num_frames: int
    cuts: Sequence[int]
    people: dict[int, Box | None]

    def scenes(self) -> list[tuple[int, int]]:
        """Returns the first frame and the frame after the last of each scene."""
        borders = [0, *self.cuts, self.num_frames]
        return list(zip(borders[:-1], borders[1:], strict=True))


def scan_video(
    path: str | os.PathLike,
    *,
    start_sec: float,
    stop_sec: float | None,
    find_person: FindPerson | None,
) -> VideoScan:
    """Decodes a video once and finds its cuts and people.

    Args:
      path: the video.
      start_sec: where to begin.
      stop_sec: where to stop; None: at the end.
      find_person: returns the box of a person in a picture [h, w, 3] uint8, or None; called once
        per second.

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
    return VideoScan(len(thumbnails), cuts, people)


def find_cuts(thumbnails: np.ndarray) -> list[int]:
    """Returns the frames at which a new scene begins. Finds hard cuts only, no slow dissolves.

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
