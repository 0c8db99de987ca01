"""Speech that arrives in chunks, and the frames that are ready after each of them."""

import math
from collections.abc import Callable

import numpy as np
import soxr

from gesture_jax.errors import InputError
from gesture_jax.inference.portraits import Portrait
from gesture_jax.inference.rendering import Rendering
from gesture_jax.inference.windows import MotionWriter
from gesture_jax.media.mixing import Mixer
from gesture_jax.media.rates import FPS, SAMPLE_RATE_HZ, SAMPLES_PER_FRAME
from gesture_jax.speech import activity
from gesture_jax.speech.extractor import SpeechFeatureExtractor


class GestureStream:
    """Takes speech in chunks, and returns frames as soon as a hop and its look-ahead are known.

    The frames depend on the sound and the seed, not on how the sound is cut into chunks. While the
    portrait is silent, call `listen` or `idle`, so that frames keep coming. Push speech no faster
    than it is to be heard if you want to `interrupt` it: what has become frames is not taken back.

    Attributes:
      notices: sentences about the portrait that the user should read.
      sound: the portrait's own speech during the frames of the last call, [640 t] float32 at
        16 kHz; it is silent while the portrait listens.
    """

    def __init__(
        self,
        portrait: Portrait,
        writer: MotionWriter,
        extractor: SpeechFeatureExtractor,
        notices: tuple[str, ...],
        *,
        sample_rate: int,
        voice_activity: str,
    ):
        """Use `GestureGenerator.stream`."""
        self.notices = notices
        self.sound = np.zeros(0, np.float32)
        self._portrait, self._writer, self._extractor = portrait, writer, extractor
        self._rate_hz, self._voice_activity = sample_rate, voice_activity
        self._num_samples, self._finished = 0, False
        self._clip = portrait.begin()
        self._sound: np.ndarray  # The speech whose frames are still to come.
        self._begin_sound()

    def push(self, chunk: np.ndarray) -> np.ndarray:
        """Takes speech of the portrait and returns the frames that are ready.

        Args:
          chunk: [n] or [n, channels] float in [-1, 1]; channels are mixed by `mixing.Mixer`.

        Returns:
          [t, h, w, 3] uint8.

        Raises:
          InputError: after `finish`, for sound of another shape or type, or where the number of
            channels changes.
        """
        self._check_open()
        own = self._own.push(chunk)
        self._other.push_silence(len(chunk))
        if np.any(chunk):
            self._writer.resume(self._num_samples // SAMPLES_PER_FRAME)
        return self._advance(own, len(chunk))

    def listen(self, chunk: np.ndarray) -> np.ndarray:
        """Takes speech of another person, to whom the portrait listens in silence.

        The portrait reacts if stage 2 was trained on "mel" features; others do not show it.

        Args:
          chunk: see `push`.

        Returns:
          See `push`.

        Raises:
          InputError: see `push`.
        """
        self._check_open()
        self._other.push(chunk)
        return self._advance(self._own.push_silence(len(chunk)), len(chunk))

    def idle(self, sec: float) -> np.ndarray:
        """Lets time pass while nobody speaks.

        Args:
          sec: how long, in seconds.

        Returns:
          See `push`.

        Raises:
          InputError: after `finish`, or for a time that is negative or not finite.
        """
        self._check_open()
        if not (math.isfinite(sec) and sec >= 0):
            raise InputError(f"idle({sec}): the time has to be 0 seconds or more, and finite")
        count = round(sec * self._rate_hz)
        self._other.push_silence(count)
        return self._advance(self._own.push_silence(count), count)

    def interrupt(self) -> float:
        """Drops the sound that is not yet turned into frames.

        The frames that follow come to rest within 0.4 s, until speech is pushed again.

        Returns:
          How many seconds of sound were dropped.

        Raises:
          InputError: after `finish`.
        """
        self._check_open()
        num_frames = self._writer.num_written
        dropped_sec = self._given / self._rate_hz - (num_frames - self._first_frame) / FPS
        self._writer.interrupt()
        self._num_samples = num_frames * SAMPLES_PER_FRAME
        self._begin_sound()
        return dropped_sec

    def finish(self) -> np.ndarray:
        """Ends the stream and returns the frames of the rest of the sound, [t, h, w, 3] uint8.

        Raises:
          InputError: the second time.
        """
        self._check_open()
        self._finished = True
        own, _ = self._own.finish(), self._other.finish()
        self._keep(own)
        num_frames = round(self._num_samples / SAMPLES_PER_FRAME)
        # The last window, its features and the gates read this far beyond the end of the sound.
        num_rows = self._writer.schedule.count_rows(num_frames) + self._features.delay
        missing = num_rows * SAMPLES_PER_FRAME + activity.BLOCK - self._num_samples
        for channel in (self._own, self._other):
            channel.extend(max(0, missing))
        self._sound = np.pad(self._sound, (0, SAMPLES_PER_FRAME))  # The last frame is rounded up.
        return self._render(self._writer.write(self._extract(), num_frames=num_frames))

    def _begin_sound(self) -> None:
        """Forgets all sound that is on its way."""
        self._own, self._other = (_Channel(self._rate_hz, self._voice_activity) for _ in range(2))
        self._features = self._extractor.stream()
        self._sound = np.zeros(0, np.float32)
        # The samples, at the rate of the stream, that are given from this frame on.
        self._given, self._first_frame = 0, self._writer.num_written

    def _check_open(self) -> None:
        if self._finished:
            raise InputError("this stream is finished; start another one with generator.stream")

    def _advance(self, own: np.ndarray, num_given: int) -> np.ndarray:
        """The frames that are ready after more sound in both channels, of which `own` is kept."""
        self._given += num_given
        self._keep(own)
        return self._render(self._writer.write(self._extract()))

    def _keep(self, own: np.ndarray) -> None:
        self._sound = np.concatenate([self._sound, own])
        self._num_samples += len(own)

    def _extract(self) -> np.ndarray:
        """The speech features that are ready."""
        count = min(self._own.num_ready, self._other.num_ready)
        return self._features.push(self._own.take(count), self._other.take(count))

    def _render(self, windows: list[np.ndarray]) -> np.ndarray:
        rendering = Rendering(self._portrait, windows, clip=self._clip)
        frames = list(rendering.frames())
        num_samples = len(frames) * SAMPLES_PER_FRAME
        self.sound, self._sound = self._sound[:num_samples], self._sound[num_samples:]
        return np.array(frames, np.uint8).reshape(-1, *self._portrait.frame_shape)


class _Channel:
    """The sound of one person: mixed to mono, at 16 kHz, and silent where nobody speaks."""

    def __init__(self, rate_hz: int, voice_activity: str):
        self._mixer, self._resample = Mixer(rate_hz), _resampler(rate_hz)
        self._gate = activity.SpeechGate(voice_activity)
        self._channels: tuple[int, ...] | None = None
        self._ready = np.zeros(0, np.float32)

    @property
    def num_ready(self) -> int:
        """The number of samples that `take` can return."""
        return len(self._ready)

    def push(self, chunk: np.ndarray) -> np.ndarray:
        """Takes [n] or [n, channels]; returns the new sound at 16 kHz before the gate, [m]."""
        mixed = self._mixer.push(chunk)
        self._channels = np.shape(chunk)[1:]
        return self._pass(self._resample(mixed, False))

    def push_silence(self, count: int) -> np.ndarray:
        """Does the same as `push` of silence with the number of channels of the sound so far."""
        if self._channels is not None:
            return self.push(np.zeros((count, *self._channels), np.float32))
        return self._pass(self._resample(np.zeros(count, np.float32), False))

    def finish(self) -> np.ndarray:
        """Returns the rest of the sound at 16 kHz before the gate."""
        return self._pass(self._resample(self._mixer.finish(), True))

    def extend(self, count: int) -> None:
        """Adds silence, in samples at 16 kHz, after `finish`."""
        self._pass(np.zeros(count, np.float32))

    def take(self, count: int) -> np.ndarray:
        """Returns the next samples behind the gate, [count]."""
        taken, self._ready = self._ready[:count], self._ready[count:]
        return taken

    def _pass(self, sound: np.ndarray) -> np.ndarray:
        self._ready = np.concatenate([self._ready, self._gate.push(sound)])
        return sound


def _resampler(sample_rate: int) -> Callable[[np.ndarray, bool], np.ndarray]:
    """A function `(chunk, is_last)` that brings a stream to 16 kHz, whatever its chunks are."""
    if sample_rate == SAMPLE_RATE_HZ:
        return lambda chunk, is_last: chunk
    stream = soxr.ResampleStream(sample_rate, SAMPLE_RATE_HZ, 1, dtype="float32")
    return lambda chunk, is_last: stream.resample_chunk(chunk, last=is_last)
