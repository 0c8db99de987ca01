"""Writes video and sound files."""

import contextlib
import dataclasses
import math
import os
from collections.abc import Generator, Iterable, Mapping

import av
import numpy as np
import soxr
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter

from gesture_jax.errors import InputError
from gesture_jax.media.container import MAX_SEC, check_decodable, open_media, timed_frames
from gesture_jax.media.images import to_uint8
from gesture_jax.media.mixing import mix
from gesture_jax.media.rates import FPS, SAMPLE_RATE_HZ
from gesture_jax.media.sound import Track
from gesture_jax.storage.files import as_path, write_beside

_ENCODER = "libx264"
_BT709 = 1  # Number of its primaries and transfer function in H.273; players show them as sRGB.
_CHANNEL_BITRATE = 96_000
# The rates of AAC; sound of another rate is resampled to the next higher one.
_AAC_RATES_HZ = (
    7350, 8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000,
)  # fmt: skip
# Layouts of channels without names, by their number.
_LAYOUTS = {1: "mono", 2: "stereo", 4: "quad", 6: "5.1", 8: "7.1"}


@dataclasses.dataclass(frozen=True)
class Recording:
    """The sound of a file for `write_video`: at its own rate, with its own channels.

    Attributes:
      path: the file.
      track: the index of its sound track, as in `Sound`.
      stop_sec: where to stop; None is the end.
    """

    path: str | os.PathLike
    track: int = 0
    stop_sec: float | None = None


def write_video(
    path: str | os.PathLike,
    frames: Iterable[np.ndarray],
    *,
    audio: np.ndarray | Recording | None = None,
    sample_rate_hz: int = SAMPLE_RATE_HZ,
    fps: int = FPS,
    crf: int = 16,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Writes an mp4: h264, and AAC if there is sound; the same input gives the same bytes.

    Args:
      path: the file to write; it appears when it is complete.
      frames: [h, w, 3] each, uint8 or in [0, 1]; encoded as they come, in constant memory.
      audio: [n] or [n, channels] float in [-1, 1]; or a file whose sound is copied in constant
        memory.
      sample_rate_hz: sample rate of `audio` if it is an array.
      fps: frames a second.
      crf: quality of x264; 0 is lossless, 51 the worst.
      metadata: tags such as title and comment.

    Raises:
      InputError: if the file cannot be written or does not end in .mp4.
    """
    if as_path(path).suffix.lower() != ".mp4":
        raise InputError(f"{path}: the video's name has to end in .mp4")
    with (
        contextlib.closing(_open_sound(audio, sample_rate_hz)) as voice,
        write_beside(path) as beside,
        av.open(str(beside), "w", format="mp4", options={"movflags": "faststart"}) as container,
    ):
        container.metadata.update(metadata or {})
        _Encoder(container, voice, fps, crf).encode(frames)


def write_audio(path: str | os.PathLike, audio: np.ndarray, sample_rate_hz: int) -> None:
    """Writes [n] samples in [-1, 1] as a 16-bit wav.

    Raises:
      InputError: if the file cannot be written.
    """
    from scipy.io import wavfile

    with write_beside(path) as beside:
        samples = np.rint(np.clip(audio, -1.0, 1.0) * 32767).astype(np.int16)
        wavfile.write(beside, sample_rate_hz, samples)


class _Encoder:
    """Encodes frames interleaved with their sound."""

    def __init__(self, container, voice: "_Voice", fps: int, crf: int):
        self._container, self._crf, self._fps = container, crf, fps
        self._video, self._reformatter = None, VideoReformatter()
        self._voice, self._sent = voice, 0
        self._track = None

    def encode(self, frames: Iterable[np.ndarray]) -> None:
        for number, frame in enumerate(frames):
            picture = _even(to_uint8(frame))
            if self._video is None:
                self._start(*picture.shape[:2])
            image = self._convert(av.VideoFrame.from_ndarray(picture, format="rgb24"))
            image.pts = number
            self._container.mux(self._video.encode(image))
            self._send_sound((number + 1) * self._voice.rate_hz // self._fps)
        if self._video is None:
            raise ValueError("a video needs at least one frame")
        self._container.mux(self._video.encode())
        if self._track is not None:
            self._send_sound(math.inf)
            self._container.mux(self._track.encode())

    def _start(self, height: int, width: int) -> None:
        self._video = self._container.add_stream(_ENCODER, rate=self._fps)
        self._video.width, self._video.height = width, height
        self._video.pix_fmt = "yuv420p"
        context = self._video.codec_context
        context.color_range, context.colorspace = ColorRange.MPEG, Colorspace.ITU709
        context.color_primaries = context.color_trc = _BT709
        # One thread: x264 writes the number of threads into the file.
        self._video.codec_context.thread_count = 1
        self._video.options = {"crf": str(self._crf), "preset": "medium"}
        if self._voice.layout:
            self._track = self._container.add_stream(
                "aac", rate=self._voice.rate_hz, layout=self._voice.layout
            )
            self._track.bit_rate = _CHANNEL_BITRATE * len(self._track.layout.channels)

    def _convert(self, image: av.VideoFrame) -> av.VideoFrame:
        return self._reformatter.reformat(
            image,
            format="yuv420p",
            dst_colorspace=Colorspace.ITU709,
            dst_color_range=ColorRange.MPEG,
        )

    def _send_sound(self, end: float) -> None:
        """Encodes the sound up to sample `end`, or a little more."""
        while self._track is not None and self._sent < end:
            samples = next(self._voice.chunks, None)
            if samples is None:
                return
            samples = np.clip(samples, -1.0, 1.0).astype(np.float32).reshape(1, -1)
            frame = av.AudioFrame.from_ndarray(samples, format="flt", layout=self._voice.layout)
            frame.sample_rate, frame.pts = self._voice.rate_hz, self._sent
            self._sent += frame.samples
            self._container.mux(self._track.encode(frame))


@dataclasses.dataclass(frozen=True)
class _Voice:
    """Sound for the encoder.

    Attributes:
      rate_hz: samples a second.
      layout: FFmpeg's name for its channels; "" if there is no sound.
      chunks: [n, channels] each, n > 0.
    """

    rate_hz: int
    layout: str
    chunks: Generator[np.ndarray]

    def close(self) -> None:
        """Closes the file that the sound comes from."""
        self.chunks.close()


def _open_sound(audio: np.ndarray | Recording | None, rate_hz: int) -> _Voice:
    """Opens the sound of `write_video`, whose arguments these are."""
    if audio is None:
        return _Voice(rate_hz, "", (chunk for chunk in ()))
    if isinstance(audio, Recording):
        return _open_recording(audio)
    sound = np.asarray(audio, np.float32)
    sound = sound[:, None] if sound.ndim == 1 else sound
    if sound.shape[1] not in _LAYOUTS:
        sound = mix(sound, rate_hz)[:, None]
    if rate_hz != _aac_rate(rate_hz):
        sound, rate_hz = soxr.resample(sound, rate_hz, _aac_rate(rate_hz)), _aac_rate(rate_hz)
    step = rate_hz // FPS  # One piece per picture.
    pieces = (sound[start : start + step] for start in range(0, len(sound), step))
    return _Voice(rate_hz, _LAYOUTS[sound.shape[1]], pieces)


def _open_recording(recording: Recording) -> _Voice:
    with open_media(recording.path, "sound") as container:
        stream = check_decodable(recording.path, container.streams.audio[recording.track])
        rate_hz, found = _aac_rate(stream.rate), stream.layout
    # In some files channels have no names.
    for layout in (found.name, _LAYOUTS.get(len(found.channels))):
        if layout and _is_encodable(layout, rate_hz):
            return _Voice(rate_hz, layout, _iterate_recording(recording, rate_hz, layout))
    return _Voice(rate_hz, "mono", _iterate_recording(recording, rate_hz, None))


def _iterate_recording(
    recording: Recording, rate_hz: int, layout: str | None
) -> Generator[np.ndarray]:
    """Yields [n, channels] float32 of a layout; mixed to one channel if it is None."""
    seconds = MAX_SEC if recording.stop_sec is None else recording.stop_sec
    track = Track(recording.track, round(seconds * rate_hz), rate_hz=rate_hz, layout=layout)
    with open_media(recording.path, "sound") as container:
        stream = check_decodable(recording.path, container.streams.audio[recording.track])
        for timed in timed_frames(recording.path, container, stream, 0.0, usual_sec=0.0):
            track.add(timed)
            yield from track.pop()
            if track.is_full:
                return
        track.drain()
        yield from track.pop()


def _aac_rate(rate_hz: int) -> int:
    return next((rate for rate in _AAC_RATES_HZ if rate >= rate_hz), _AAC_RATES_HZ[-1])


def _is_encodable(layout: str, rate_hz: int) -> bool:
    encoder = av.CodecContext.create("aac", "w")
    try:
        encoder.layout, encoder.format, encoder.sample_rate = layout, "fltp", rate_hz
        encoder.open()
    except (av.FFmpegError, ValueError):
        return False
    return True


def _even(picture: np.ndarray) -> np.ndarray:
    """Makes the sides even, as h264 needs, by repeating the last row or column."""
    height, width = picture.shape[:2]
    if height % 2 or width % 2:
        picture = np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    return np.ascontiguousarray(picture)
