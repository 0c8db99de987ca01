"""Reads video files and converts them to 25 frames a second."""

import dataclasses
import itertools
import math
import os
from collections.abc import Callable, Iterator

import av
import numpy as np

from gesture_jax.array_types import Frames
from gesture_jax.errors import InputError
from gesture_jax.media.container import TimedFrame, check_decodable, open_media, timed_frames
from gesture_jax.media.display import MAX_ASPECT, Display, aspect_of
from gesture_jax.media.framing import Crop
from gesture_jax.media.images import square
from gesture_jax.media.rates import FPS

_MAX_SIDE_PX = 8192
# The size of 8K video; a decoder keeps up to twenty pictures in memory.
_MAX_PIXELS = 7680 * 4320
# Differences of distance up to this are due to the rounding of time stamps.
_TIE_SEC = 0.001
# Cover art is stored as a video of one frame.
_COVER = av.stream.Disposition.attached_pic


def read_video(path: str | os.PathLike, **options) -> Frames:
    """Reads all frames of `iterate_video`: [t, size, size, 3] uint8."""
    return np.stack(list(iterate_video(path, **options)))


def iterate_video(
    path: str | os.PathLike,
    *,
    size: int,
    crop: Crop = Crop(),  # noqa: B008
    start_sec: float = 0.0,
    stop_sec: float | None = None,
) -> Iterator[np.ndarray]:
    """Yields frames at exactly 25 a second, whatever the rate of the file, in constant memory.

    Each is the frame on display at its time, or the next frame if that is nearer and at most 1/50 s
    ahead.

    Args:
      path: a video file.
      size: side of the frames in pixels.
      crop: the square that is scaled to it.
      start_sec: where to begin, found by seeking.
      stop_sec: where to stop; None is the end.

    Yields:
      [size, size, 3] uint8, as players show them: see `display`.

    Raises:
      InputError: if the file is missing, not a video, or too damaged to give one frame.
    """
    for picture in iterate_pictures(path, start_sec=start_sec, stop_sec=stop_sec):
        yield cut_square(path, picture, crop, size=size)


def cut_square(
    path: str | os.PathLike, picture: np.ndarray, crop: Crop, *, size: int
) -> np.ndarray:
    """Cuts the square of a crop out of a picture [h, w, 3]: [size, size, 3].

    Raises:
      InputError: if the square leaves the picture; the message names `path`.
    """
    try:
        left, top, side = crop.find_box(picture.shape[1], picture.shape[0])
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    return square(picture[top : top + side, left : left + side], size=size)


def iterate_pictures(
    path: str | os.PathLike,
    *,
    start_sec: float = 0.0,
    stop_sec: float | None = None,
    most_px: int | None = None,
) -> Iterator[np.ndarray]:
    """Yields whole pictures, [h, w, 3] uint8, otherwise like `iterate_video`.

    Args:
      path: a video file.
      start_sec: where to begin, found by seeking.
      stop_sec: where to stop; None is the end.
      most_px: pictures with a longer side are scaled down to this by a fast method.
    """
    last = None if stop_sec is None else round((stop_sec - start_sec) * FPS)
    frames = _at_constant_rate(_decode(path, start_sec, most_px))
    previous, picture = None, None
    for frame in itertools.islice(frames, last):
        if frame is not previous:  # Repeated frames are not converted again.
            previous, picture = frame, frame()
        yield picture
    if picture is None:
        where = f" after {start_sec:.1f} s" if start_sec else ""
        raise InputError(f"{path}: not one frame can be decoded{where}; give a video that plays")


def _decode(path: str | os.PathLike, start_sec: float, most_px: int | None) -> Iterator[TimedFrame]:
    """Yields frames with their times; the first may lie before `start_sec`.

    A frame is a function that returns its picture, [h, w, 3] uint8.
    """
    with open_media(path, "video") as container:
        streams = [s for s in container.streams.video if not s.disposition & _COVER]
        if not streams:
            raise InputError(f"{path}: has no video stream; give a video")
        stream = check_decodable(path, streams[0])
        stream.codec_context.options = {"max_pixels": str(_MAX_PIXELS)}
        if max(stream.width, stream.height) > _MAX_SIDE_PX:
            raise InputError(f"{path}: {stream.width}x{stream.height} pixels are too many")
        if not 1 / MAX_ASPECT <= aspect_of(stream) <= MAX_ASPECT:
            raise InputError(
                f"{path}: claims pixels {float(aspect_of(stream)):.3g} times as wide as high; "
                "set its sample aspect ratio to the right one"
            )
        display = Display(stream, most_px=most_px)
        stream.thread_type = "AUTO"
        usual_sec = 1.0 / float(stream.average_rate or FPS)
        for timed in timed_frames(path, container, stream, start_sec, usual_sec):
            yield dataclasses.replace(timed, frame=display.defer(timed.frame))


def _at_constant_rate(frames: Iterator[TimedFrame]) -> Iterator[Callable[[], np.ndarray]]:
    """Yields the frame on display at each 1/25 s, or the next one if it is nearer and close ahead.

    The first frame is shown from 0 on, the last one no longer than the one before it.
    """
    count, shown, length = 0, None, math.inf
    for timed in frames:
        while shown is not None:
            now = count / FPS
            ahead = timed.start_sec - now
            if ahead <= 0:
                break
            is_next = ahead <= 0.5 / FPS and ahead + _TIE_SEC < abs(now - shown.start_sec)
            yield (timed if is_next else shown).frame
            count += 1
        if shown is not None and timed.start_sec > shown.start_sec:
            length = timed.start_sec - shown.start_sec
        shown = timed
    if shown is None:
        return
    stop_sec = shown.start_sec + min(shown.length_sec, length)
    if stop_sec > 0:
        total = math.floor((stop_sec - _TIE_SEC) * FPS + 0.5)
        yield from itertools.repeat(shown.frame, max(total - count, 0 if count else 1))
