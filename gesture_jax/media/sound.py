"""Reads the sound of any file as 16 kHz mono."""

import dataclasses
import os
from collections.abc import Iterator

import av
import numpy as np

from gesture_jax.array_types import Audio
from gesture_jax.errors import InputError
from gesture_jax.media.container import (
    MAX_SEC,
    TimedFrame,
    check_decodable,
    open_media,
    timed_frames,
)
from gesture_jax.media.mixing import Mixer
from gesture_jax.media.rates import SAMPLE_RATE_HZ, SAMPLES_PER_FRAME

# Telephones have 8 kHz. A file that claims less would become very long at 16 kHz.
_MIN_RATE_HZ = 4_000
# Gaps and overlaps between frames that are shorter than this are ignored.
_GAP_SEC, _OVERLAP_SEC = 0.01, 0.1
# Users get a notice of gaps that are at least this long.
_LONG_GAP_SEC = 10.0
# The first track is used unless another one has this many times its power (20 dB).
_LOUDER = 100.0
_AUDIBLE_RMS = 10 ** (-50 / 20)
# Sound is silent if less than this share of its frames is audible.
_MIN_AUDIBLE = 0.01
SILENT = f"is silent: less than {_MIN_AUDIBLE:.0%} of it is louder than -50 dB; give louder speech"


@dataclasses.dataclass(frozen=True)
class Sound:
    """The sound of a file.

    Attributes:
      samples: [n] float32, mono, in [-1, 1], 16 kHz.
      track: the index of the sound track, from 0.
      notices: sentences for the user, for example that it is silent.
    """

    samples: Audio
    track: int
    notices: tuple[str, ...]


def read_audio(
    path: str | os.PathLike, *, start_sec: float = 0.0, stop_sec: float | None = None
) -> Audio:
    """Returns the samples of `read_sound`."""
    return read_sound(path, start_sec=start_sec, stop_sec=stop_sec).samples


def read_sound(
    path: str | os.PathLike, *, start_sec: float = 0.0, stop_sec: float | None = None
) -> Sound:
    """Reads the sound of an audio or video file.

    If there are several tracks, the first is used unless another is much louder. Channels are mixed
    by `mixing.Mixer`. Gaps and unreadable parts become silence, so that the rest keeps its time.

    Args:
      path: any file that PyAV reads; any rate, any number of channels.
      start_sec: where to begin, found by seeking; sample 0 is at this time of the container.
      stop_sec: where to stop; None is the end.

    Raises:
      InputError: if the file is missing, cannot be decoded, or has no sound.
    """
    with open_media(path, "sound") as container:
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
        notices.insert(0, f"has {num_tracks} sound tracks; number {best.number + 1} is used")
    return Sound(best.samples, best.number, tuple(f"{path}: {notice}" for notice in notices))


def share_audible(audio: np.ndarray) -> float:
    """Returns the share of 40 ms frames of 16 kHz sound that are louder than -50 dB."""
    frames = audio[: len(audio) // SAMPLES_PER_FRAME * SAMPLES_PER_FRAME]
    frames = frames.reshape(-1, SAMPLES_PER_FRAME)
    loudness = np.sqrt(np.einsum("ij,ij->i", frames, frames) / SAMPLES_PER_FRAME)  # Makes no copy.
    return float(np.mean(loudness > _AUDIBLE_RMS)) if len(loudness) else 0.0


def is_silent(audio: np.ndarray) -> bool:
    """Returns whether 16 kHz sound is silent, as `SILENT` describes it."""
    return share_audible(audio) < _MIN_AUDIBLE


def has_audio(path: str | os.PathLike) -> bool:
    """Returns whether a video has an audio stream.

    Raises:
      InputError: if it is missing or cannot be read.
    """
    with open_media(path, "video") as container:
        return bool(container.streams.audio)


def _read_track(
    path: str | os.PathLike, number: int, start_sec: float, stop_sec: float | None
) -> "Track":
    """Reads one sound track; arguments and errors are those of `read_sound`."""
    seconds = MAX_SEC if stop_sec is None else stop_sec - start_sec
    track = Track(number, round(seconds * SAMPLE_RATE_HZ))
    with open_media(path, "sound") as container:
        stream = check_decodable(path, container.streams.audio[number])
        for timed in timed_frames(path, container, stream, start_sec, usual_sec=0.0):
            if timed.frame.sample_rate < _MIN_RATE_HZ:
                rate = timed.frame.sample_rate
                raise InputError(f"{path}: {rate} samples a second are no speech")
            track.add(timed)
            if track.is_full:
                break
    if track.is_full and stop_sec is None:
        raise InputError(f"{path}: more than {MAX_SEC / 3600:.0f} h of sound; cut it")
    track.finish()
    if not len(track.samples):
        raise InputError(f"{path}: no sound can be decoded; give a file with speech in it")
    return track


class Track:
    """A sound track, assembled by its time stamps.

    Attributes:
      number: the index of the track in its file.
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
        """Collects up to `most` samples.

        Args:
          number: the index of the track.
          most: the maximal number of samples.
          rate_hz: their sample rate.
          layout: FFmpeg's name of the channel layout of the samples, [n, channels]; None mixes the
            channels to one.
        """
        self.number, self._most = number, most
        self._rate, self._layout = rate_hz, layout
        self._tail = (len(av.AudioLayout(layout).channels),) if layout else ()
        self.samples = np.zeros(0, np.float32)
        self._chunks: list[np.ndarray] = []
        self._count = self._popped = 0
        self._fed = 0.0  # Samples that went in, at this rate; the output lags a little behind.
        self._skip = 0
        self._gaps: list[tuple[float, float]] = []
        self._format: tuple | None = None
        self._resampler: av.AudioResampler | None = None
        self._mixers: list[Mixer] = []

    @property
    def is_full(self) -> bool:
        """Whether the track has all the samples that it may have."""
        return self._count >= self._most

    @property
    def power(self) -> float:
        """The mean square of the samples."""
        return float(np.dot(self.samples, self.samples)) / max(len(self.samples), 1)

    def add(self, timed: TimedFrame) -> None:
        """Appends a frame, after silence if its time stamp shows a gap."""
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
        if kind != self._format:  # Broadcasts change the format between programmes.
            self.drain()
            self._format = kind
            self._mixers.append(Mixer(self._rate))
        if self._resampler is None:
            self._resampler = av.AudioResampler(format="flt", rate=self._rate, layout=self._layout)
        frame.pts = None
        self._take(self._resampler.resample(frame))
        self._fed += frame.samples * self._rate / frame.sample_rate

    def pop(self) -> Iterator[np.ndarray]:
        """Yields the samples since the last call, up to `most` in all: [n, channels] each."""
        chunks, self._chunks = self._chunks, []
        for chunk in chunks:
            wanted = chunk[: self._most - self._popped].reshape(-1, *(self._tail or (1,)))
            self._popped += len(wanted)
            if len(wanted):
                yield wanted

    def finish(self) -> None:
        """Joins the samples."""
        self.drain()
        self.samples = np.concatenate([self.samples, *self._chunks])[: self._most]
        self._chunks = []
        np.clip(self.samples, -1.0, 1.0, out=self.samples)

    def describe(self, start_sec: float) -> list[str]:
        """Returns notices for the user; `start_sec` is the start of the track in the file."""
        notices = [
            f"has no sound from {start_sec + start:.1f} s to {start_sec + stop:.1f} s; that "
            "becomes silence"
            for start, stop in self._gaps
        ]
        if any(mixer.has_cancelled for mixer in self._mixers):
            notices.append(
                "its channels cancel each other where they are mixed; the loudest one is used"
            )
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
        """Empties the resampler and the mixer."""
        if self._resampler is None:
            return
        self._take(self._resampler.resample(None))
        if self._layout is None:
            self._append(self._mixers[-1].finish())
        self._resampler = None  # It accepts no more input.

    def _append_silence(self, count: int) -> None:
        second = np.zeros((self._rate, *self._tail), np.float32)
        while count > 0:  # All of these share the memory of one second.
            self._append(second[:count])
            count -= len(second)

    def _append(self, samples: np.ndarray) -> None:
        skipped = min(self._skip, len(samples))
        self._skip -= skipped
        self._chunks.append(samples[skipped:])
        self._count += len(samples) - skipped
