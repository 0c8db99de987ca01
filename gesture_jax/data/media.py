"""Video and sound files, by PyAV: decoding to 25 frames a second and 16 kHz mono, and encoding.

Times count from the start of the container, so that frame k and sample 640 k belong together.
"""

import contextlib
import itertools
import os
import pathlib
from collections.abc import Iterable, Iterator, Mapping

import av
import numpy as np
import scipy.io.wavfile

from gesture_jax.array_types import Audio, Frames
from gesture_jax.data.files import write_beside
from gesture_jax.data.images import square, to_uint8
from gesture_jax.errors import InputError

FPS = 25
SAMPLE_RATE_HZ = 16_000
SAMPLES_PER_FRAME = SAMPLE_RATE_HZ // FPS
_MAX_SIDE_PX = 8192
# Time stamps that leap further than this are damage; filling the hole would never end.
_MAX_GAP_SEC = 10.0
_ENCODER = "libx264"
_AUDIO_BITRATE = 128_000


def read_video(path: str | os.PathLike, **options) -> Frames:
    """All frames of `iterate_video`: [t, size, size, 3] uint8."""
    return np.stack(list(iterate_video(path, **options)))


def iterate_video(
    path: str | os.PathLike, *, size: int, crop_px: int = 0, max_sec: float | None = None
) -> Iterator[np.ndarray]:
    """Frames at exactly 25 a second, whatever the file has, in constant memory.

    Args:
      path: a video file.
      size: side of the frames in pixels; the central square is scaled to it.
      crop_px: border shaved off all four sides first.
      max_sec: where to stop.

    Yields:
      [size, size, 3] uint8, upright.

    Raises:
      InputError: where the file is missing, not a video, or too damaged to give one frame.
    """
    last = None if max_sec is None else round(max_sec * FPS)
    frames = _at_constant_rate(_decode(path), path)
    count = 0
    for frame in itertools.islice(frames, last):
        yield _square(frame, path, size=size, crop_px=crop_px)
        count += 1
    if not count:
        raise InputError(f"{path}: not one frame can be decoded; give a video that plays")


def read_audio(path: str | os.PathLike, *, max_sec: float | None = None) -> Audio:
    """The sound of an audio or video file.

    Args:
      path: anything that PyAV reads; any rate, any number of channels.
      max_sec: where to stop.

    Returns:
      [n] float32, mono, in [-1, 1], 16 kHz; sample 0 is the start of the container.

    Raises:
      InputError: where the file is missing, cannot be decoded, or has no sound.
    """
    most = None if max_sec is None else round(max_sec * SAMPLE_RATE_HZ)
    with _open(path, "sound") as container:
        if not container.streams.audio:
            raise InputError(f"{path}: has no audio stream; give a file with speech in it")
        stream = container.streams.audio[0]
        resampler = av.AudioResampler(format="flt", layout="mono", rate=SAMPLE_RATE_HZ)
        chunks: list[np.ndarray] = []
        count = 0
        for frame in itertools.chain(_frames(container, stream), [None]):
            if frame is not None and not chunks:
                chunks.append(np.zeros(_samples_before(container, frame), np.float32))
                count = len(chunks[0])
            for part in _resample(resampler, frame):
                chunks.append(part)
                count += len(part)
            if most is not None and count >= most:
                break
    if not count:
        raise InputError(f"{path}: no sound can be decoded; give a file with speech in it")
    return np.clip(np.concatenate(chunks), -1.0, 1.0)[:most]


def has_audio(path: str | os.PathLike) -> bool:
    """Whether a file has an audio stream.

    Raises:
      InputError: where it is missing or cannot be read.
    """
    with _open(path, "sound") as container:
        return bool(container.streams.audio)


def measure_sec(path: str | os.PathLike) -> float:
    """How long the picture of a video with sound lasts, by its packets; nothing is decoded.

    Raises:
      InputError: where the file is missing, cannot be read, or lacks picture or sound.
    """
    with _open(path, "video") as container:
        if not container.streams.video:
            raise InputError(f"{path}: has no video stream; give a video")
        if not container.streams.audio:
            raise InputError(f"{path}: has no audio stream; give a video with speech in it")
        stream, end = container.streams.video[0], 0.0
        for packet in container.demux(stream):
            if packet.pts is not None:
                end = max(end, float((packet.pts + (packet.duration or 0)) * packet.time_base))
        return end - _start_sec(container)


def write_video(
    path: str | os.PathLike,
    frames: Iterable[np.ndarray],
    *,
    audio: np.ndarray | None = None,
    sample_rate_hz: int = SAMPLE_RATE_HZ,
    fps: int = FPS,
    crf: int = 16,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Writes an mp4: h264, and AAC where there is sound; the same input gives the same bytes.

    Args:
      path: of the file; complete, or not there.
      frames: [h, w, 3] each, uint8 or in [0, 1]; encoded as they come, in constant memory.
      audio: [n] float in [-1, 1], mono.
      sample_rate_hz: of `audio`.
      fps: frames a second.
      crf: quality of x264: 0 is lossless, 51 the worst.
      metadata: tags such as title and comment.

    Raises:
      InputError: where the place cannot be written or the ending is not that of an mp4.
    """
    if pathlib.Path(path).suffix.lower() != ".mp4":
        raise InputError(f"{path}: the video's name has to end in .mp4")
    with (
        write_beside(path) as beside,
        av.open(str(beside), "w", format="mp4", options={"movflags": "faststart"}) as container,
    ):
        container.metadata.update(metadata or {})
        _Encoder(container, audio, sample_rate_hz, fps, crf).encode(frames)


def write_audio(path: str | os.PathLike, audio: np.ndarray, sample_rate_hz: int) -> None:
    """Writes [n] samples in [-1, 1] as a 16-bit wav.

    Raises:
      InputError: where the place cannot be written.
    """
    with write_beside(path) as beside:
        samples = np.rint(np.clip(audio, -1.0, 1.0) * 32767).astype(np.int16)
        scipy.io.wavfile.write(beside, sample_rate_hz, samples)


class _Encoder:
    """Feeds frames and the sound that belongs to them, side by side."""

    def __init__(self, container, audio, sample_rate_hz: int, fps: int, crf: int):
        self._container, self._crf, self._fps = container, crf, fps
        self._video = None
        self._audio, self._rate, self._sent = audio, sample_rate_hz, 0
        self._track = None

    def encode(self, frames: Iterable[np.ndarray]) -> None:
        for number, frame in enumerate(frames):
            picture = _even(to_uint8(frame))
            if self._video is None:
                self._start(*picture.shape[:2])
            image = av.VideoFrame.from_ndarray(picture, format="rgb24")
            image.pts = number
            self._container.mux(self._video.encode(image))
            self._send_sound((number + 1) * self._rate // self._fps)
        if self._video is None:
            raise ValueError("a video needs at least one frame")
        self._container.mux(self._video.encode())
        if self._track is not None:
            self._send_sound(len(self._audio))
            self._container.mux(self._track.encode())

    def _start(self, height: int, width: int) -> None:
        self._video = self._container.add_stream(_ENCODER, rate=self._fps)
        self._video.width, self._video.height = width, height
        self._video.pix_fmt = "yuv420p"
        # One thread: x264 writes the number of threads into the file.
        self._video.codec_context.thread_count = 1
        self._video.options = {"crf": str(self._crf), "preset": "medium"}
        if self._audio is not None:
            self._track = self._container.add_stream("aac", rate=self._rate, layout="mono")
            self._track.bit_rate = _AUDIO_BITRATE

    def _send_sound(self, end: int) -> None:
        if self._track is None:
            return
        samples = np.asarray(self._audio[self._sent : end], np.float32)
        if not len(samples):
            return
        frame = av.AudioFrame.from_ndarray(samples[None], format="flt", layout="mono")
        frame.sample_rate, frame.pts = self._rate, self._sent
        self._container.mux(self._track.encode(frame))
        self._sent += len(samples)


@contextlib.contextmanager
def _open(path: str | os.PathLike, what: str) -> Iterator:
    path = pathlib.Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file; give a file with {what}")
    if not path.stat().st_size:
        raise InputError(f"{path}: is empty (0 bytes); give a file with {what}")
    try:
        # By its own protocol: a playlist must not make us read other files or the network.
        with av.open(str(path), options={"protocol_whitelist": "file"}) as container:
            yield container
    except (av.FFmpegError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be decoded as {what}; not media, or damaged") from error


def _decode(path: str | os.PathLike) -> Iterator[tuple[float, av.VideoFrame]]:
    """Frames and their times in seconds."""
    with _open(path, "video") as container:
        if not container.streams.video:
            raise InputError(f"{path}: has no video stream; give a video")
        stream = container.streams.video[0]
        if max(stream.width, stream.height) > _MAX_SIDE_PX:
            raise InputError(f"{path}: {stream.width}x{stream.height} pixels are too many")
        stream.thread_type = "AUTO"
        step = 1.0 / float(stream.average_rate or FPS)
        time = -step
        for frame in _frames(container, stream):
            # A frame without a time stamp follows the one before.
            time = time + step if frame.time is None else frame.time - _start_sec(container)
            yield time, frame


def _frames(container, stream) -> Iterator:
    """Decoded frames up to the end, or to where damage ends them."""
    try:
        yield from container.decode(stream)
    except av.error.InvalidDataError:
        return


def _start_sec(container) -> float:
    return (container.start_time or 0) / av.time_base


def _samples_before(container, frame: av.AudioFrame) -> int:
    """Silence between the start of the container and that of its sound."""
    if frame.time is None:
        return 0
    delay_sec = min(max(frame.time - _start_sec(container), 0.0), _MAX_GAP_SEC)
    return round(delay_sec * SAMPLE_RATE_HZ)


def _resample(resampler: av.AudioResampler, frame: av.AudioFrame | None) -> list[np.ndarray]:
    if frame is not None:
        frame.pts = None  # Gaps in the time stamps are the decoder's, not ours to fill.
    return [part.to_ndarray()[0] for part in resampler.resample(frame)]


def _at_constant_rate(
    frames: Iterator[tuple[float, av.VideoFrame]], path: str | os.PathLike
) -> Iterator[av.VideoFrame]:
    """Each frame from its time, rounded to 1/25 s, until the next one's; the first from 0."""
    shown, previous, step = 0, None, 1
    for time, frame in frames:
        due = round(time * FPS)
        if due - shown > _MAX_GAP_SEC * FPS:
            raise InputError(
                f"{path}: time stamps leap by {due / FPS - shown / FPS:.0f} s; damaged"
            )
        if previous is not None:
            for _ in range(shown, due):
                yield previous
            step = max(due - shown, 1)
            shown = max(shown, due)
        previous = frame
    if previous is not None:
        # How long the last one is shown is not known: as long as the one before it.
        yield from itertools.repeat(previous, step)


def _square(frame: av.VideoFrame, path, *, size: int, crop_px: int) -> np.ndarray:
    picture = frame.to_ndarray(format="rgb24")
    # Counter-clockwise degrees by which the picture has to be turned for display.
    picture = np.rot90(picture, round(getattr(frame, "rotation", 0) / 90))
    height, width = picture.shape[:2]
    if min(height, width) <= 2 * crop_px:
        raise InputError(
            f"{path}: {width}x{height} pixels, nothing left inside {crop_px} px of border"
        )
    picture = picture[crop_px : height - crop_px, crop_px : width - crop_px]
    return square(picture, size=size)


def _even(picture: np.ndarray) -> np.ndarray:
    """h264 stores colour at half resolution, so sides are even: an odd one is repeated once."""
    height, width = picture.shape[:2]
    if height % 2 or width % 2:
        picture = np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    return np.ascontiguousarray(picture)
