"""Video and sound files, by PyAV: decoding to 25 frames a second and 16 kHz mono, and encoding.

Times count from the start of the container, so that frame k and sample 640 k belong together.
"""

import contextlib
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter

from gesture_jax.array_types import Audio, Frames
from gesture_jax.data.display import MOST_ASPECT, Display, aspect_of
from gesture_jax.data.framing import Crop
from gesture_jax.data.images import square, to_uint8
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
# Time stamps that leap further than this are damage; filling the hole would never end.
_MAX_GAP_SEC = 10.0
# Nothing longer is decoded: whoever has such a file cuts it first.
_MAX_SEC = 6 * 3600.0
# Sound that is less than this off its time stamp is on time.
_GAP_SEC = 0.01
# Decoders need some frames or blocks before the wanted one.
_PREROLL_SEC = 0.2
_ENCODER = "libx264"
_BT709 = 1  # Its primaries and its transfer function in H.273: players take both for sRGB.
# A decoded frame, which is converted to a picture [h, w, 3] uint8 where it is called.
_Held = Callable[[], np.ndarray]
_AUDIO_BITRATE = 128_000


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
    frames = _at_constant_rate(_decode(path, start_sec, most_px), path)
    previous, picture = None, None
    for frame in itertools.islice(frames, last):
        if frame is not previous:  # Repeated ones are not converted again.
            previous, picture = frame, frame()
        yield picture
    if picture is None:
        where = f" after {start_sec:.1f} s" if start_sec else ""
        raise InputError(f"{path}: not one frame can be decoded{where}; give a video that plays")


def read_audio(
    path: str | os.PathLike, *, start_sec: float = 0.0, stop_sec: float | None = None
) -> Audio:
    """The sound of an audio or video file.

    Args:
      path: anything that PyAV reads; any rate, any number of channels.
      start_sec: where to begin, found by seeking.
      stop_sec: where to stop; None is the end.

    Returns:
      [n] float32, mono, in [-1, 1], 16 kHz; sample 0 is at `start_sec` of the container. What
      damage has made unreadable is silent, so that the rest keeps its time.

    Raises:
      InputError: where the file is missing, cannot be decoded, or has no sound.
    """
    most = None if stop_sec is None else round((stop_sec - start_sec) * SAMPLE_RATE_HZ)
    with _open(path, "sound") as container:
        if not container.streams.audio:
            raise InputError(f"{path}: has no audio stream; give a file with speech in it")
        stream = _decodable(path, container.streams.audio[0])
        track = _Track()
        _seek(container, stream, start_sec)
        for frame in _frames(container, stream):
            if frame.sample_rate < _MIN_RATE_HZ:
                raise InputError(f"{path}: {frame.sample_rate} samples a second are no speech")
            track.add(frame, _time_of(container, frame, start_sec))
            if most is not None and track.count >= most:
                break
            if track.count > _MAX_SEC * SAMPLE_RATE_HZ:
                raise InputError(f"{path}: more than {_MAX_SEC / 3600:.0f} h of sound; cut it")
    if not track.count:
        raise InputError(f"{path}: no sound can be decoded; give a file with speech in it")
    return track.finish()[:most]


def has_audio(path: str | os.PathLike) -> bool:
    """Whether a file has an audio stream.

    Raises:
      InputError: where it is missing or cannot be read.
    """
    with _open(path, "sound") as container:
        return bool(container.streams.audio)


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
    if as_path(path).suffix.lower() != ".mp4":
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
    from scipy.io import wavfile

    with write_beside(path) as beside:
        samples = np.rint(np.clip(audio, -1.0, 1.0) * 32767).astype(np.int16)
        wavfile.write(beside, sample_rate_hz, samples)


class _Encoder:
    """Feeds frames and the sound that belongs to them, side by side."""

    def __init__(self, container, audio, sample_rate_hz: int, fps: int, crf: int):
        self._container, self._crf, self._fps = container, crf, fps
        self._video, self._reformatter = None, VideoReformatter()
        self._audio, self._rate, self._sent = audio, sample_rate_hz, 0
        self._track = None

    def encode(self, frames: Iterable[np.ndarray]) -> None:
        for number, frame in enumerate(frames):
            picture = _even(to_uint8(frame))
            if self._video is None:
                self._start(*picture.shape[:2])
            image = self._convert(av.VideoFrame.from_ndarray(picture, format="rgb24"))
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
        context = self._video.codec_context
        context.color_range, context.colorspace = ColorRange.MPEG, Colorspace.ITU709
        context.color_primaries = context.color_trc = _BT709
        # One thread: x264 writes the number of threads into the file.
        self._video.codec_context.thread_count = 1
        self._video.options = {"crf": str(self._crf), "preset": "medium"}
        if self._audio is not None:
            self._track = self._container.add_stream("aac", rate=self._rate, layout="mono")
            self._track.bit_rate = _AUDIO_BITRATE

    def _convert(self, image: av.VideoFrame) -> av.VideoFrame:
        return self._reformatter.reformat(
            image,
            format="yuv420p",
            dst_colorspace=Colorspace.ITU709,
            dst_color_range=ColorRange.MPEG,
        )

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


def _decode(
    path: str | os.PathLike, start_sec: float, most_px: int | None
) -> Iterator[tuple[float, _Held]]:
    """Frames and their times in seconds after `start_sec`; the first may lie before it."""
    with _open(path, "video") as container:
        if not container.streams.video:
            raise InputError(f"{path}: has no video stream; give a video")
        stream = _decodable(path, container.streams.video[0])
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
        step = 1.0 / float(stream.average_rate or FPS)
        time = -step
        _seek(container, stream, start_sec)
        for frame in _frames(container, stream):
            found = _time_of(container, frame, start_sec)
            # A frame without a time stamp follows the one before.
            time = time + step if found is None else found
            yield time, display.hold(frame)


def _decodable(path: str | os.PathLike, stream):
    """The stream; raises InputError where nothing here decodes it."""
    if stream.codec_context is None:
        raise InputError(f"{path}: of a kind that cannot be decoded, or damaged; convert it")
    return stream


def _seek(container, stream, start_sec: float) -> None:
    """Goes to the last key frame before a time, or stays where the file cannot be searched."""
    if start_sec > 0:
        target = _start_sec(container) + start_sec - _PREROLL_SEC
        with contextlib.suppress(av.FFmpegError):
            container.seek(max(int(target / stream.time_base), 0), stream=stream)


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


def _time_of(container, frame, start_sec: float) -> float | None:
    """Seconds from `start_sec` to a decoded frame; None where it has no time stamp."""
    return None if frame.time is None else frame.time - _start_sec(container) - start_sec


class _Track:
    """Sound put together by its time stamps."""

    def __init__(self):
        self._resampler = av.AudioResampler(format="flt", layout="mono", rate=SAMPLE_RATE_HZ)
        self._chunks: list[np.ndarray] = []
        self._fed = 0.0  # Samples at 16 kHz that went in; what came out lags a little behind.
        self._skip = 0
        self.count = 0

    def add(self, frame: av.AudioFrame, time_sec: float | None) -> None:
        """Appends a frame; silence before it where its time says that something is missing."""
        if time_sec is not None:
            gap = time_sec * SAMPLE_RATE_HZ - self._fed
            if not self._fed and gap < 0:  # Begins before the wanted time.
                self._skip = round(-gap)
                self._fed += gap
            elif _GAP_SEC * SAMPLE_RATE_HZ < gap < _MAX_GAP_SEC * SAMPLE_RATE_HZ:
                self._append(np.zeros(round(gap), np.float32))
                self._fed += gap
        frame.pts = None
        for part in self._resampler.resample(frame):
            self._append(part.to_ndarray()[0])
        self._fed += frame.samples * SAMPLE_RATE_HZ / frame.sample_rate

    def finish(self) -> Audio:
        """[n] float32."""
        for part in self._resampler.resample(None):
            self._append(part.to_ndarray()[0])
        # Files of floats may hold what is no number.
        samples = np.concatenate(self._chunks)
        np.nan_to_num(samples, copy=False, nan=0.0, posinf=1.0, neginf=-1.0)
        return np.clip(samples, -1.0, 1.0, out=samples)

    def _append(self, samples: np.ndarray) -> None:
        skipped = min(self._skip, len(samples))
        self._skip -= skipped
        self._chunks.append(samples[skipped:])
        self.count += len(samples) - skipped


def _at_constant_rate(
    frames: Iterator[tuple[float, _Held]], path: str | os.PathLike
) -> Iterator[_Held]:
    """Each frame from its time, rounded to 1/25 s, until the next one's; the first from 0."""
    shown, previous, step = 0, None, 1
    for time, frame in frames:
        due = round(time * FPS)
        if due - shown > _MAX_GAP_SEC * FPS or due > _MAX_SEC * FPS:
            raise InputError(
                f"{path}: time stamps leap from {shown / FPS:.0f} s to {due / FPS:.0f} s; damaged"
            )
        if previous is not None:
            for _ in range(shown, due):
                yield previous
            step = max(due - shown, 1)
            shown = max(shown, due)
        previous = frame
    if previous is not None and due >= 0:
        # How long the last one is shown is not known: as long as the one before it.
        yield from itertools.repeat(previous, step)


def _even(picture: np.ndarray) -> np.ndarray:
    """h264 stores colour at half resolution, so sides are even: an odd one is repeated once."""
    height, width = picture.shape[:2]
    if height % 2 or width % 2:
        picture = np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    return np.ascontiguousarray(picture)
