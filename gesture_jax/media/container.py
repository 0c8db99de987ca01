"""Opens media files, and decodes the frames of a stream with their times.

Times count from the start of the container, so that frame k and sample 640 k belong together.
"""

import contextlib
import dataclasses
import math
import os
from collections.abc import Iterator
from typing import Any

import av

from gesture_jax.errors import InputError
from gesture_jax.storage.files import as_path, is_file, local_copy, size_of

# Self-contained formats. Others are lists of further files, which must not be read.
_CONTAINERS = (
    "mov,matroska,avi,flv,mpeg,mpegts,asf,gif,h264,hevc,wav,w64,aiff,au,caf,flac,mp3,ogg,aac,amr"
)
# Nothing longer is decoded; users cut such a file first.
MAX_SEC = 6 * 3600.0
# Time stamps that go back further than this start a new count, as in files that were joined.
_MAX_BACK_SEC = 1.0
# Decoders need some frames before the wanted one. If seeking lands after it, because of a hole in
# the file, seeking starts further back, and finally from the beginning.
_PREROLLS_SEC = 0.2, 20.0, math.inf


@dataclasses.dataclass(frozen=True)
class TimedFrame:
    """A decoded frame of video or sound, with its start and its minimal duration."""

    start_sec: float
    length_sec: float
    frame: Any


@contextlib.contextmanager
def open_media(path: str | os.PathLike, what: str) -> Iterator:
    """Opens a media file; `what` names the wanted content in errors.

    Raises:
      InputError: if the file is missing, empty or cannot be decoded.
    """
    path = as_path(path)
    if not is_file(path):
        raise InputError(f"{path}: no such file; give a file with {what}")
    if not size_of(path):
        raise InputError(f"{path}: is empty (0 bytes); give a file with {what}")
    try:
        # A playlist must not make us read other files or the network.
        options = {"protocol_whitelist": "file", "format_whitelist": _CONTAINERS}
        with av.open(str(local_copy(path)), options=options) as container:
            yield container
    except (av.FFmpegError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be decoded as {what}; not media, or damaged") from error


def check_decodable(path: str | os.PathLike, stream):
    """Returns the stream; raises InputError if there is no decoder for it."""
    if stream.codec_context is None:
        raise InputError(f"{path}: of a kind that cannot be decoded, or damaged; convert it")
    return stream


def timed_frames(
    path: str | os.PathLike, container, stream, start_sec: float, usual_sec: float
) -> Iterator[TimedFrame]:
    """Yields decoded frames from about `start_sec` on, which becomes time 0.

    A frame without a time stamp begins where the previous one ends. So does a frame whose time
    stamp goes far back, and the frames after it are shifted with it.

    Args:
      path: the file's name, for errors.
      container: the open container.
      stream: a stream of the container.
      start_sec: where to begin, found by seeking.
      usual_sec: the usual duration of a picture.

    Raises:
      InputError: if the file is too long.
    """
    origin, end = _start_sec(container) + start_sec, None
    for frame in _frames_from(container, stream, start_sec):
        start = (end or 0.0) if frame.time is None else frame.time - origin
        if end is not None and start < end - _MAX_BACK_SEC:
            origin += start - end
            start = end
        if start > MAX_SEC:
            raise InputError(
                f"{path}: time stamps leap from {end or 0.0:.0f} s to {start:.0f} s; more than "
                f"{MAX_SEC / 3600:.0f} h are not read; cut it, or convert it if it is damaged"
            )
        length = _length_sec(frame, usual_sec)
        yield TimedFrame(start, length, frame)
        end = start + length


def _frames_from(container, stream, start_sec: float) -> Iterator:
    """Yields decoded frames, from one that begins before `start_sec` if there is one."""
    if start_sec <= 0:
        yield from _frames(container, stream)
        return
    wanted = _start_sec(container) + start_sec
    for preroll in _PREROLLS_SEC:
        target = max(wanted - preroll, _start_sec(container), 0.0)
        with contextlib.suppress(av.FFmpegError):
            container.seek(int(target / stream.time_base), stream=stream)
        frames = _frames(container, stream)
        first = next(frames, None)
        if first is not None and (first.time is None or first.time <= wanted):
            break
    if first is not None:
        yield first
        yield from frames


def _frames(container, stream) -> Iterator:
    """Yields decoded frames up to the end and skips damaged packets."""
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
            if packet is None:
                return
        except av.FFmpegError:
            return  # The rest of the container is damaged.
        try:
            yield from packet.decode()
        except av.error.EOFError:
            return
        except av.FFmpegError:
            continue


def _start_sec(container) -> float:
    return (container.start_time or 0) / av.time_base


def _length_sec(frame, usual_sec: float) -> float:
    if isinstance(frame, av.AudioFrame):
        return frame.samples / frame.sample_rate
    # Where frames are not stored in display order, some have the duration of another frame.
    seconds = float((frame.duration or 0) * (frame.time_base or 0))
    return min(seconds, usual_sec) if seconds > 0.0 else usual_sec
