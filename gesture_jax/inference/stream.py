"""Speech in as it comes, frames out."""

from collections.abc import Callable

import numpy as np
import soxr

from gesture_jax.errors import InputError
from gesture_jax.inference.animator import Animator, Source
from gesture_jax.inference.windows import MotionWriter
from gesture_jax.media.mixing import Mixer
from gesture_jax.media.rates import SAMPLE_RATE_HZ, SAMPLES_PER_FRAME
from gesture_jax.speech import extractor


class GestureStream:
    """Speech in as it comes, frames out as soon as a hop and its look-ahead are heard.

    The frames depend on the speech and the seed, not on how it is cut into chunks.
    """

    def __init__(
        self,
        animator: Animator,
        source: Source,
        writer: MotionWriter,
        *,
        sample_rate: int,
    ):
        """Use `GestureGenerator.stream`."""
        self._animator, self._source, self._writer = animator, source, writer
        self._listener = extractor.StreamingFeatures()
        self._mixer, self._resample = Mixer(sample_rate), _resampler(sample_rate)
        self._num_samples, self._finished = 0, False

    def push(self, chunk: np.ndarray) -> np.ndarray:
        """Takes speech and returns the frames that are ready.

        Args:
          chunk: [n] or [n, channels] float in [-1, 1]; channels are mixed by `mixing.Mixer`.

        Returns:
          [t, s, s, 3] uint8.

        Raises:
          InputError: after `finish`, for sound of another shape or type, or where the number of
            channels changes.
        """
        self._check_open()
        sound = self._resample(self._mixer.push(chunk), False)
        return self._render(self._writer.write(self._hear(sound)))

    def finish(self) -> np.ndarray:
        """The frames of the speech that is left, [t, s, s, 3] uint8; ends the stream.

        Raises:
          InputError: the second time.
        """
        self._check_open()
        self._finished = True
        rest = self._hear(self._resample(self._mixer.finish(), True))
        num_frames = round(self._num_samples / SAMPLES_PER_FRAME)
        # Silence, as much as the last window and its features want to hear.
        num_rows = (
            self._writer.schedule.count_rows(num_frames) + extractor.BLOCK + extractor.LOOK_AHEAD
        )
        missing = max(0, num_rows * SAMPLES_PER_FRAME - self._num_samples)
        rows = np.concatenate([rest, self._hear(np.zeros(missing, np.float32))])
        return self._render(self._writer.write(rows, num_frames=num_frames))

    def _check_open(self) -> None:
        if self._finished:
            raise InputError("this stream is finished; start another one with generator.stream")

    def _hear(self, sound: np.ndarray) -> np.ndarray:
        self._num_samples += len(sound)
        return self._listener.push(sound)

    def _render(self, motions: list[np.ndarray]) -> np.ndarray:
        size = self._source.size
        frames = [
            frame
            for motion in motions
            for frame in self._animator.render_frames(self._source, motion, adapt=True)
        ]
        return np.array(frames, np.uint8).reshape(-1, size, size, 3)


def _resampler(sample_rate: int) -> Callable[[np.ndarray, bool], np.ndarray]:
    """A function `(chunk, last)` to 16 kHz, that does not show where chunks end."""
    if sample_rate == SAMPLE_RATE_HZ:
        return lambda chunk, last: chunk
    stream = soxr.ResampleStream(sample_rate, SAMPLE_RATE_HZ, 1, dtype="float32")
    return lambda chunk, last: stream.resample_chunk(chunk, last=last)
