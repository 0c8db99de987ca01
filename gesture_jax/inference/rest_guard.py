"""Brings the motion of an interrupted stream to rest, where the network does not do so by itself.

The size of each cell's deviation from the portrait's pose gets a limit. The limit falls smoothly,
within 0.4 s of the interruption, from the size that was usual before to a small share of it.
Smaller motion, such as breathing, stays as it is. The limit ends when the portrait speaks again,
or after two seconds, in which the network has come to rest too.
"""

import numpy as np

from gesture_jax.array_types import MotionSequence
from gesture_jax.inference.motion_scales import scaling_program, smooth_step
from gesture_jax.media.rates import FPS
from gesture_jax.parallel.aot_cache import CachedJit

# Frames until the motion is at rest, and until it is free again.
_FALL = _RISE = round(0.4 * FPS)
# Frames after which the motion is set free if the portrait does not speak.
_LONGEST_REST = 2 * FPS
# The limit at rest, as a share of the usual size.
_SHARE = 0.2
# The weight that a frame keeps from frame to frame in the usual size: a time constant of 4 s.
_KEPT = 1.0 - 1.0 / (4 * FPS)


class RestGuard:
    """Watches the motion of one clip, and limits it after an interruption."""

    def __init__(self, own: np.ndarray):
        """Begins a clip of a portrait whose own motion feature is [9 g^2 + 3]."""
        self._own = own
        self._num_frames = 0
        # The mean square of the sizes, which forgets, with the sum of its weights.
        self._power, self._weight = 0.0, 0.0
        self._last: np.ndarray | None = None
        # The frames at which the limit began to fall, and at which it begins to rise.
        self._interrupted: int | None = None
        self._resumed = 0

    def interrupt(self) -> None:
        """Brings the motion that follows to rest."""
        if self._last is None:
            return
        self._interrupted = self._num_frames
        self._resumed = self._num_frames + _LONGEST_REST
        usual = np.sqrt(self._power / self._weight)
        self._start, self._rest = np.maximum(self._last, usual), _SHARE * usual

    def resume(self, frame: int) -> None:
        """Sets the motion free from this frame of the clip on."""
        self._resumed = min(self._resumed, frame)

    def apply(self, motion: MotionSequence) -> np.ndarray:
        """Limits the next frames, [t, 9 g^2 + 3], if an interruption was shortly before them."""
        sizes = self._sizes(motion)
        frames = self._num_frames + 1 + np.arange(len(motion))
        self._num_frames += len(motion)
        if self._interrupted is not None:
            factors = self._factors(sizes, frames[:, None])
            motion, sizes = self._limit(motion, factors), sizes * factors
            if frames[-1] >= self._resumed + _RISE:
                self._interrupted = None
        else:
            weights = _KEPT ** np.arange(len(motion))[::-1]
            forgotten = _KEPT ** len(motion)
            self._power = forgotten * self._power + weights @ np.square(sizes)
            self._weight = forgotten * self._weight + weights.sum()
        self._last = sizes[-1]
        return motion

    def _factors(self, sizes: np.ndarray, frames: np.ndarray) -> np.ndarray:
        fallen = smooth_step(np.clip((frames - self._interrupted) / _FALL, 0.0, 1.0))
        limits = self._rest + (1.0 - fallen) * (self._start - self._rest)
        factors = np.minimum(1.0, limits / np.maximum(sizes, 1e-9))
        risen = smooth_step(np.clip((frames - self._resumed) / _RISE, 0.0, 1.0))
        return factors + risen * (1.0 - factors)

    def _sizes(self, motion: MotionSequence) -> np.ndarray:
        """The size of the deviation of each cell, and of the translation: [t, g^2 + 1]."""
        square = np.square(np.asarray(motion) - self._own)
        cells = square[:, :-3].reshape(len(square), -1, 9).sum(axis=2)
        return np.sqrt(np.column_stack([cells, square[:, -3:].sum(axis=1)]))

    def _limit(self, motion: MotionSequence, factors: np.ndarray) -> np.ndarray:
        if (factors == 1.0).all():
            return motion
        program, arguments = self.call(motion, factors)
        return np.asarray(program(*arguments))

    def call(self, motion: MotionSequence, factors: np.ndarray) -> tuple[CachedJit, tuple]:
        """The program that scales the deviations of [t, d] by [t, g^2 + 1], and its arguments."""
        scale = np.repeat(factors, 3, axis=1).astype(np.float32)
        return scaling_program(), (np.asarray(motion), self._own, scale)
