"""Speech that arrives in chunks, and the frames that are ready after each of them."""

from collections.abc import Callable

import numpy as np
import soxr

from gesture_jax.errors import InputError
from gesture_jax.inference.portraits import Portrait
from gesture_jax.inference.rendering import Rendering
from gesture_jax.inference.windows import MotionWriter
from gesture_jax.media.mixing import Mixer
from gesture_jax.media.rates import SAMPLE_RATE_HZ, SAMPLES_PER_FRAME
from gesture_jax.speech.extractor import StreamingFeatures
from gesture_jax.speech.log_mel import StreamingLogMel


class GestureStream:
    """Takes speech in chunks, and returns frames as soon as a hop and its look-ahead are known.

    The frames depend on the speech and the seed, not on how the speech is cut into chunks.

    Attributes:
      notices: sentences about the portrait that the user should read.
    """

    def __init__(
        self,
        portrait: Portrait,
        writer: MotionWriter,
        features: StreamingFeatures | StreamingLogMel,
        *,
        sample_rate: int,
    ):
        """Use `GestureGenerator.stream`."""
        self.notices = portrait.notices
        self._portrait, self._writer, self._features = portrait, writer, features
        self._mixer, self._resample = Mixer(sample_rate), _resampler(sample_rate)
        self._num_samples, self._finished = 0, False

    def push(self, chunk: np.ndarray) -> np.ndarray:
        """Takes speech and returns the frames that are ready.

        Args:
          chunk: [n] or [n, channels] float in [-1, 1]; channels are mixed by `mixing.Mixer`.

        Returns:
          [t, h, w, 3] uint8.

        Raises:
          InputError: after `finish`, for sound of another shape or type, or where the number of
            channels changes.
        """
        self._check_open()
        sound = self._resample(self._mixer.push(chunk), False)
        return self._render(self._writer.write(self._extract(sound)))

    def finish(self) -> np.ndarray:
        """Ends the stream and returns the frames of the rest of the speech, [t, h, w, 3] uint8.

        Raises:
          InputError: the second time.
        """
        self._check_open()
        self._finished = True
        rest = self._extract(self._resample(self._mixer.finish(), True))
        num_frames = round(self._num_samples / SAMPLES_PER_FRAME)
        # The last window and its features read this far beyond the end of the speech.
        num_rows = self._writer.schedule.count_rows(num_frames)
        num_rows += self._features.delay
        missing = max(0, num_rows * SAMPLES_PER_FRAME - self._num_samples)
        rows = np.concatenate([rest, self._extract(np.zeros(missing, np.float32))])
        return self._render(self._writer.write(rows, num_frames=num_frames))

    def _check_open(self) -> None:
        if self._finished:
            raise InputError("this stream is finished; start another one with generator.stream")

    def _extract(self, sound: np.ndarray) -> np.ndarray:
        """The speech features that are ready after [n] more samples."""
        self._num_samples += len(sound)
        return self._features.push(sound)

    def _render(self, windows: list[np.ndarray]) -> np.ndarray:
        frames = list(Rendering(self._portrait, windows).frames())
        return np.array(frames, np.uint8).reshape(-1, *self._portrait.frame_shape)


def _resampler(sample_rate: int) -> Callable[[np.ndarray, bool], np.ndarray]:
    """A function `(chunk, is_last)` that brings a stream to 16 kHz, whatever its chunks are."""
    if sample_rate == SAMPLE_RATE_HZ:
        return lambda chunk, is_last: chunk
    stream = soxr.ResampleStream(sample_rate, SAMPLE_RATE_HZ, 1, dtype="float32")
    return lambda chunk, is_last: stream.resample_chunk(chunk, last=is_last)
