"""Video and sound files, by PyAV: decoding to 25 frames a second and 16 kHz mono, and encoding.

Times count from the start of the container, so that frame k and sample 640 k belong together.
"""

import contextlib
import dataclasses
import itertools
import math
import os
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from typing import Any

import av
import numpy as np
import soxr
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter

from gesture_jax.array_types import Audio, Frames
from gesture_jax.data.display import MOST_ASPECT, Display, aspect_of
from gesture_jax.data.framing import Crop
from gesture_jax.data.images import square, to_uint8
from gesture_jax.data.mixing import Mixer, mix
from gesture_jax.errors import InputError
from gesture_jax.files import as_path, is_file, local_copy, size_of, write_beside

FPS = 25
SAMPLE_RATE_HZ = 16_000
SAMPLES_PER_FRAME = SAMPLE_RATE_HZ // FPS
_MAX_SIDE_PX = 8192
# Of a decoded picture, of which a decoder keeps up to twenty: 8K video.
_MAX_PIXELS = 7680 * 4320
# Containers with everything inside. Others are lists of further files, which must not be read.
_CONTAINERS = (
    "mov,matroska,avi,flv,mpeg,mpegts,asf,gif,h264,hevc,wav,w64,aiff,au,caf,flac,mp3,ogg,aac,amr"
)
# Telephones carry 8 kHz. What claims fewer would become long sound by being brought to 16 kHz.
_MIN_RATE_HZ = 4_000
# Nothing longer is decoded: whoever has such a file cuts it first.
_MAX_SEC = 6 * 3600.0
# Sound that comes less than this after its end so far is on time, and so is sound that overlaps it
# by less than the other.
_GAP_SEC, _OVERLAP_SEC = 0.01, 0.1
# Users are told of holes in the sound that are as long as this.
_LONG_GAP_SEC = 10.0
# Time that goes back further than this starts anew, as in files that were joined end to end.
_MAX_BACK_SEC = 1.0
# Frames that are equally near to a moment but for the rounding of time stamps.
_TIE_SEC = 0.001
# The first track is heard unless another one is this much louder, as power: 20 dB.
_LOUDER = 100.0
_HEARD_RMS = 10 ** (-50 / 20)
# Sound is silent where less than this share of its frames is heard.
_LEAST_HEARD = 0.01
SILENT = f"is silent: less than {_LEAST_HEARD:.0%} of it is louder than -50 dB; give louder speech"
# Decoders need some frames or blocks before the wanted one; where a hole in the file hides it, it
# is looked for further back, and at last from the beginning.
_PREROLLS_SEC = 0.2, 20.0, math.inf
# A picture of the record's sleeve, say, stored as a video of one frame.
_COVER = av.stream.Disposition.attached_pic
_ENCODER = "libx264"
_BT709 = 1  # Its primaries and its transfer function in H.273: players take both for sRGB.
_CHANNEL_BITRATE = 96_000
# What AAC has a number for; sound of another rate is brought to the next higher one.
_AAC_RATES_HZ = (
    7350, 8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000,
)  # fmt: skip
# Of channels that have no names, by their number.
_LAYOUTS = {1: "mono", 2: "stereo", 4: "quad", 6: "5.1", 8: "7.1"}


def read_video(path: str | os.PathLike, **options) -> Frames:
    """All frames of `iterate_video`: [t, size, size, 3] uint8."""
    return np.stack(list(iterate_video(path, **options)))


def iterate_video(
    path: str | os.PathLike,
    *,
    size: int,
    crop: Crop = Crop(),  # noqa: B008
    start_sec: float = 0.0,
    stop_sec: float | None = None,
) -> Iterator[np.ndarray]:
    """Frames at exactly 25 a second, whatever the file has, in constant memory.

    Each is the one on display at its moment, or the next one where that is nearer and at most
    1/50 s ahead.

    Args:
      path: a video file.
      size: side of the frames in pixels.
      crop: the square that is scaled to it.
      start_sec: where to begin, found by seeking.
      stop_sec: where to stop; None is the end.

    Yields:
      [size, size, 3] uint8, as players show them: see `display`.

    Raises:
      InputError: where the file is missing, not a video, or too damaged to give one frame.
    """
    for picture in iterate_pictures(path, start_sec=start_sec, stop_sec=stop_sec):
        yield cut_square(path, picture, crop, size=size)


def cut_square(
    path: str | os.PathLike, picture: np.ndarray, crop: Crop, *, size: int
) -> np.ndarray:
    """The square of a picture [h, w, 3] that a crop keeps: [size, size, 3].

    Raises:
      InputError: naming `path`, where the square leaves the picture.
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
    """Like `iterate_video`, but whole pictures, [h, w, 3] uint8.

    Args:
      path: a video file.
      start_sec: where to begin, found by seeking.
      stop_sec: where to stop; None is the end.
      most_px: pictures with a longer side are scaled down to this, quickly.
    """
    last = None if stop_sec is None else round((stop_sec - start_sec) * FPS)
    frames = _at_constant_rate(_decode(path, start_sec, most_px))
    previous, picture = None, None
    for frame in itertools.islice(frames, last):
        if frame is not previous:  # Repeated ones are not converted again.
            previous, picture = frame, frame()
        yield picture
    if picture is None:
        where = f" after {start_sec:.1f} s" if start_sec else ""
        raise InputError(f"{path}: not one frame can be decoded{where}; give a video that plays")


@dataclasses.dataclass(frozen=True)
class Sound:
    """What is heard in a file.

    Attributes:
      samples: [n] float32, mono, in [-1, 1], 16 kHz.
      track: which of the file's sound tracks it is, from 0.
      notices: what the user should know, a sentence each: that it is silent, for example.
    """

    samples: Audio
    track: int
    notices: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Recording:
    """The sound of a file for `write_video`: at its own rate, with its own channels.

    Attributes:
      path: of the file.
      track: which of its sound tracks, as `Sound` has it.
      stop_sec: where to stop; None is the end.
    """

    path: str | os.PathLike
    track: int = 0
    stop_sec: float | None = None


def read_audio(
    path: str | os.PathLike, *, start_sec: float = 0.0, stop_sec: float | None = None
) -> Audio:
    """The samples of `read_sound`."""
    return read_sound(path, start_sec=start_sec, stop_sec=stop_sec).samples


def read_sound(
    path: str | os.PathLike, *, start_sec: float = 0.0, stop_sec: float | None = None
) -> Sound:
    """The sound of an audio or video file.

    Of several tracks, the first is taken, unless another is much louder. Channels are mixed by
    `mixing.Mixer`. What damage has made unreadable is silent, and so are holes in the sound, so
    that the rest keeps its time.

    Args:
      path: anything that PyAV reads; any rate, any number of channels.
      start_sec: where to begin, found by seeking; sample 0 is at this time of the container.
      stop_sec: where to stop; None is the end.

    Raises:
      InputError: where the file is missing, cannot be decoded, or has no sound.
    """
    with _open(path, "sound") as container:
        num_tracks = len(container.streams.audio)
    if not num_tracks:
        raise InputError(f"{path}: has no audio stream; give a file with speech in it")
    best, errors = None, []
    for number in range(num_tracks):
        try:
            track = _read_track(path, number, start_sec, stop_sec)
        except InputError as error:
            errors.append(error)
            continue
        if best is None or track.power > _LOUDER * best.power:
            best = track
    if best is None:
        raise errors[0]
    notices = best.describe(start_sec)
    if num_tracks > 1:
        notices.insert(0, f"has {num_tracks} sound tracks; number {best.number + 1} is heard")
    return Sound(best.samples, best.number, tuple(f"{path}: {notice}" for notice in notices))


def share_heard(audio: np.ndarray) -> float:
    """The share of 40 ms frames of 16 kHz sound that are louder than -50 dB, in [0, 1]."""
    frames = audio[: len(audio) // SAMPLES_PER_FRAME * SAMPLES_PER_FRAME]
    frames = frames.reshape(-1, SAMPLES_PER_FRAME)
    loudness = np.sqrt(np.einsum("ij,ij->i", frames, frames) / SAMPLES_PER_FRAME)  # No copy.
    return float(np.mean(loudness > _HEARD_RMS)) if len(loudness) else 0.0


def is_silent(audio: np.ndarray) -> bool:
    """Whether 16 kHz sound is what `SILENT` says."""
    return share_heard(audio) < _LEAST_HEARD


def has_audio(path: str | os.PathLike) -> bool:
    """Whether a video has an audio stream.

    Raises:
      InputError: where it is missing or cannot be read.
    """
    with _open(path, "video") as container:
        return bool(container.streams.audio)


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
    """Writes an mp4: h264, and AAC where there is sound; the same input gives the same bytes.

    Args:
      path: of the file; complete, or not there.
      frames: [h, w, 3] each, uint8 or in [0, 1]; encoded as they come, in constant memory.
      audio: [n] or [n, channels] float in [-1, 1]; or a file whose sound is copied in constant
        memory.
      sample_rate_hz: of `audio`, where it is an array.
      fps: frames a second.
      crf: quality of x264: 0 is lossless, 51 the worst.
      metadata: tags such as title and comment.

    Raises:
      InputError: where the place cannot be written or the ending is not that of an mp4.
    """
    if as_path(path).suffix.lower() != ".mp4":
        raise InputError(f"{path}: the video's name has to end in .mp4")
    with (
        contextlib.closing(_hold(audio, sample_rate_hz)) as voice,
        write_beside(path) as beside,
        av.open(str(beside), "w", format="mp4", options={"movflags": "faststart"}) as container,
    ):
        container.metadata.update(metadata or {})
        _Encoder(container, voice, fps, crf).encode(frames)


def write_audio(path: str | os.PathLike, audio: np.ndarray, sample_rate_hz: int) -> None:
    """Writes [n] samples in [-1, 1] as a 16-bit wav.

    Raises:
      InputError: where the place cannot be written.
    """
    from scipy.io import wavfile

    with write_beside(path) as beside:
        samples = np.rint(np.clip(audio, -1.0, 1.0) * 32767).astype(np.int16)
        wavfile.write(beside, sample_rate_hz, samples)


class _Encoder:
    """Feeds frames and the sound that belongs to them, side by side."""

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
        """Sends what there is up to sample `end`, or a little more."""
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
    """Sound on its way to the encoder.

    Attributes:
      rate_hz: samples a second.
      layout: FFmpeg's name for its channels; "" where there is no sound.
      chunks: [n, channels] each, n > 0.
    """

    rate_hz: int
    layout: str
    chunks: Generator[np.ndarray]

    def close(self) -> None:
        """Closes the file that the sound comes from."""
        self.chunks.close()


def _hold(audio: np.ndarray | Recording | None, rate_hz: int) -> _Voice:
    """Arguments as of `write_video`."""
    if audio is None:
        return _Voice(rate_hz, "", (chunk for chunk in ()))
    if isinstance(audio, Recording):
        return _hold_recording(audio)
    sound = np.asarray(audio, np.float32)
    sound = sound[:, None] if sound.ndim == 1 else sound
    if sound.shape[1] not in _LAYOUTS:
        sound = mix(sound, rate_hz)[:, None]
    if rate_hz != _aac_rate(rate_hz):
        sound, rate_hz = soxr.resample(sound, rate_hz, _aac_rate(rate_hz)), _aac_rate(rate_hz)
    step = rate_hz // FPS  # Pieces that lie beside their pictures.
    pieces = (sound[start : start + step] for start in range(0, len(sound), step))
    return _Voice(rate_hz, _LAYOUTS[sound.shape[1]], pieces)


def _hold_recording(recording: Recording) -> _Voice:
    with _open(recording.path, "sound") as container:
        stream = _decodable(recording.path, container.streams.audio[recording.track])
        rate_hz, found = _aac_rate(stream.rate), stream.layout
    # In some files channels are counted and not named.
    for layout in (found.name, _LAYOUTS.get(len(found.channels))):
        if layout and _is_encodable(layout, rate_hz):
            return _Voice(rate_hz, layout, _iterate_recording(recording, rate_hz, layout))
    return _Voice(rate_hz, "mono", _iterate_recording(recording, rate_hz, None))


def _iterate_recording(
    recording: Recording, rate_hz: int, layout: str | None
) -> Generator[np.ndarray]:
    """[n, channels] float32 each, of a layout; mixed to one channel where that is None."""
    seconds = _MAX_SEC if recording.stop_sec is None else recording.stop_sec
    track = _Track(recording.track, round(seconds * rate_hz), rate_hz=rate_hz, layout=layout)
    with _open(recording.path, "sound") as container:
        stream = _decodable(recording.path, container.streams.audio[recording.track])
        for timed in _timed_frames(recording.path, container, stream, 0.0, usual_sec=0.0):
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


@contextlib.contextmanager
def _open(path: str | os.PathLike, what: str) -> Iterator:
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


def _decode(path: str | os.PathLike, start_sec: float, most_px: int | None) -> Iterator["_Timed"]:
    """Frames with their times; the first may lie before `start_sec`.

    A frame is a function that gives its picture, [h, w, 3] uint8.
    """
    with _open(path, "video") as container:
        streams = [s for s in container.streams.video if not s.disposition & _COVER]
        if not streams:
            raise InputError(f"{path}: has no video stream; give a video")
        stream = _decodable(path, streams[0])
        stream.codec_context.options = {"max_pixels": str(_MAX_PIXELS)}
        if max(stream.width, stream.height) > _MAX_SIDE_PX:
            raise InputError(f"{path}: {stream.width}x{stream.height} pixels are too many")
        if not 1 / MOST_ASPECT <= aspect_of(stream) <= MOST_ASPECT:
            raise InputError(
                f"{path}: claims pixels {float(aspect_of(stream)):.3g} times as wide as high; "
                "set its sample aspect ratio to the right one"
            )
        display = Display(stream, most_px=most_px)
        stream.thread_type = "AUTO"
        usual_sec = 1.0 / float(stream.average_rate or FPS)
        for timed in _timed_frames(path, container, stream, start_sec, usual_sec):
            yield dataclasses.replace(timed, frame=display.hold(timed.frame))


def _decodable(path: str | os.PathLike, stream):
    """The stream; raises InputError where nothing here decodes it."""
    if stream.codec_context is None:
        raise InputError(f"{path}: of a kind that cannot be decoded, or damaged; convert it")
    return stream


def _frames_from(container, stream, start_sec: float) -> Iterator:
    """Decoded frames from one that begins before a time, or as early as can be searched for."""
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
    """Decoded frames up to the end; packets that are damaged are passed over."""
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
            if packet is None:
                return
        except av.FFmpegError:
            return  # The container itself ends in damage.
        try:
            yield from packet.decode()
        except av.error.EOFError:
            return
        except av.FFmpegError:
            continue


def _start_sec(container) -> float:
    return (container.start_time or 0) / av.time_base


@dataclasses.dataclass(frozen=True)
class _Timed:
    """A decoded frame of picture or sound, when it begins, and how long it lasts at least."""

    start_sec: float
    length_sec: float
    frame: Any


def _timed_frames(
    path: str | os.PathLike, container, stream, start_sec: float, usual_sec: float
) -> Iterator[_Timed]:
    """Decoded frames from about `start_sec` on, which is time 0.

    A frame without a time stamp follows the one before, and so do a frame whose time goes far back
    and all frames after it.

    Args:
      path: named in errors.
      container: open.
      stream: of the container.
      start_sec: found by seeking.
      usual_sec: how long a picture lasts, as a rule.

    Raises:
      InputError: where it gets too long.
    """
    origin, end = _start_sec(container) + start_sec, None
    for frame in _frames_from(container, stream, start_sec):
        start = (end or 0.0) if frame.time is None else frame.time - origin
        if end is not None and start < end - _MAX_BACK_SEC:
            origin += start - end
            start = end
        if start > _MAX_SEC:
            raise InputError(
                f"{path}: time stamps leap from {end or 0.0:.0f} s to {start:.0f} s; more than "
                f"{_MAX_SEC / 3600:.0f} h are not read; cut it, or convert it if it is damaged"
            )
        length = _length_sec(frame, usual_sec)
        yield _Timed(start, length, frame)
        end = start + length


def _length_sec(frame, usual_sec: float) -> float:
    if isinstance(frame, av.AudioFrame):
        return frame.samples / frame.sample_rate
    # Of frames that are not stored in the order of display, some claim the length of another.
    seconds = float((frame.duration or 0) * (frame.time_base or 0))
    return min(seconds, usual_sec) if seconds > 0.0 else usual_sec


def _read_track(
    path: str | os.PathLike, number: int, start_sec: float, stop_sec: float | None
) -> "_Track":
    """One of a file's sound tracks; arguments and errors as of `read_sound`."""
    seconds = _MAX_SEC if stop_sec is None else stop_sec - start_sec
    track = _Track(number, round(seconds * SAMPLE_RATE_HZ))
    with _open(path, "sound") as container:
        stream = _decodable(path, container.streams.audio[number])
        for timed in _timed_frames(path, container, stream, start_sec, usual_sec=0.0):
            if timed.frame.sample_rate < _MIN_RATE_HZ:
                rate = timed.frame.sample_rate
                raise InputError(f"{path}: {rate} samples a second are no speech")
            track.add(timed)
            if track.is_full:
                break
    if track.is_full and stop_sec is None:
        raise InputError(f"{path}: more than {_MAX_SEC / 3600:.0f} h of sound; cut it")
    track.finish()
    if not len(track.samples):
        raise InputError(f"{path}: no sound can be decoded; give a file with speech in it")
    return track


class _Track:
    """Sound put together by its time stamps.

    Attributes:
      number: of the file's sound tracks.
      samples: [n] float32, after `finish`.
    """

    def __init__(
        self,
        number: int,
        most: int,
        *,
        rate_hz: int = SAMPLE_RATE_HZ,
        layout: str | None = None,
    ):
        """Takes up to `most` samples; None mixes the channels to one, else they are [n, channels].

        Args:
          number: of the track.
          most: how many samples are wanted.
          rate_hz: of the samples.
          layout: FFmpeg's name for the channels that are wanted.
        """
        self.number, self._most = number, most
        self._rate, self._layout = rate_hz, layout
        self._tail = (len(av.AudioLayout(layout).channels),) if layout else ()
        self.samples = np.zeros(0, np.float32)
        self._chunks: list[np.ndarray] = []
        self._count = self._popped = 0
        self._fed = 0.0  # Samples at this rate that went in; what came out lags a little behind.
        self._skip = 0
        self._gaps: list[tuple[float, float]] = []
        self._format: tuple | None = None
        self._resampler: av.AudioResampler | None = None
        self._mixers: list[Mixer] = []

    @property
    def is_full(self) -> bool:
        """Whether all that is wanted has come."""
        return self._count >= self._most

    @property
    def power(self) -> float:
        """Mean square of the samples."""
        return float(np.dot(self.samples, self.samples)) / max(len(self.samples), 1)

    def add(self, timed: _Timed) -> None:
        """Appends a frame; silence before it where its time says that something is missing."""
        frame, begins = timed.frame, not self._fed
        gap = timed.start_sec * self._rate - self._fed
        if gap > _GAP_SEC * self._rate:
            self.drain()
            if gap >= _LONG_GAP_SEC * self._rate:
                self._gaps.append((self._fed / self._rate, timed.start_sec))
            self._append_silence(min(round(gap), self._skip + self._most))
            self._fed += gap
        elif gap < 0 and (begins or gap < -_OVERLAP_SEC * self._rate):
            self.drain()
            self._skip += round(-gap)
            self._fed += gap
        kind = frame.format.name, frame.layout.name, frame.sample_rate
        if kind != self._format:  # Broadcasts change it between programmes.
            self.drain()
            self._format = kind
            self._mixers.append(Mixer(self._rate))
        if self._resampler is None:
            self._resampler = av.AudioResampler(format="flt", rate=self._rate, layout=self._layout)
        frame.pts = None
        self._take(self._resampler.resample(frame))
        self._fed += frame.samples * self._rate / frame.sample_rate

    def pop(self) -> Iterator[np.ndarray]:
        """What has come since the last call, up to `most` samples in all: [n, channels] each."""
        chunks, self._chunks = self._chunks, []
        for chunk in chunks:
            wanted = chunk[: self._most - self._popped].reshape(-1, *(self._tail or (1,)))
            self._popped += len(wanted)
            if len(wanted):
                yield wanted

    def finish(self) -> None:
        """Makes the samples."""
        self.drain()
        self.samples = np.concatenate([self.samples, *self._chunks])[: self._most]
        self._chunks = []
        np.clip(self.samples, -1.0, 1.0, out=self.samples)

    def describe(self, start_sec: float) -> list[str]:
        """What the user should know, where the track begins at a time of the file."""
        notices = [
            f"has no sound from {start_sec + start:.1f} s to {start_sec + stop:.1f} s; that is "
            "heard as silence"
            for start, stop in self._gaps
        ]
        if any(mixer.has_cancelled for mixer in self._mixers):
            notices.append("its channels cancel each other where they are mixed; one is heard")
        if is_silent(self.samples):
            notices.append(SILENT)
        return notices

    def _take(self, frames: list[av.AudioFrame]) -> None:
        for frame in frames:
            sound = frame.to_ndarray().reshape(frame.samples, -1)
            if self._layout is None:
                self._append(self._mixers[-1].push(sound))
            else:
                self._append(np.nan_to_num(sound, nan=0.0, posinf=1.0, neginf=-1.0))

    def drain(self) -> None:
        """Gets what has gone in and not come out."""
        if self._resampler is None:
            return
        self._take(self._resampler.resample(None))
        if self._layout is None:
            self._append(self._mixers[-1].finish())
        self._resampler = None  # It takes nothing more.

    def _append_silence(self, count: int) -> None:
        second = np.zeros((self._rate, *self._tail), np.float32)
        while count > 0:  # The same second again and again takes no memory.
            self._append(second[:count])
            count -= len(second)

    def _append(self, samples: np.ndarray) -> None:
        skipped = min(self._skip, len(samples))
        self._skip -= skipped
        self._chunks.append(samples[skipped:])
        self._count += len(samples) - skipped


def _at_constant_rate(frames: Iterator[_Timed]) -> Iterator[Callable[[], np.ndarray]]:
    """The frame on display at each 1/25 s, or the next one where that is nearer and close ahead.

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


def _even(picture: np.ndarray) -> np.ndarray:
    """h264 stores colour at half resolution, so sides are even: an odd one is repeated once."""
    height, width = picture.shape[:2]
    if height % 2 or width % 2:
        picture = np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    return np.ascontiguousarray(picture)
