"""Scales the motion of the portrait, of its head and of its hands, and fades it out at the end.

A motion feature is a grid of rotations that covers the frame, so that its upper rows move the upper
part of the frame. In frames like those that stage 1 is trained on, which show a speaker from the
hips up, that is the head.
"""

import dataclasses
import functools

import jax
import numpy as np

from gesture_jax.array_types import MotionSequence
from gesture_jax.errors import InputError
from gesture_jax.media.rates import FPS
from gesture_jax.ops import rotation
from gesture_jax.ops.precision import float32_matmuls
from gesture_jax.parallel.aot_cache import CachedJit, cached_jit

# Height of the shoulders, and width of the transition between the scales, as shares of the frame.
_SHOULDERS = 0.42
_TRANSITION = 0.15


@dataclasses.dataclass(frozen=True)
class Control:
    """Scales of the distance from the portrait's own pose: 1 leaves it, 0 stops all motion.

    Attributes:
      motion_scale: scale of the whole motion.
      head_scale: scale of the upper part of the frame, on top of `motion_scale`.
      hands_scale: scale of the rest of the frame, on top of `motion_scale`.
      mouth_scale: scale of the motion of the lips, which `windows.next_window` applies, where
        stage 2 knows the lips.
      rest_sec: seconds before the end of a clip at which the portrait begins to return to its own
        pose.
    """

    motion_scale: float = 1.0
    head_scale: float = 1.0
    hands_scale: float = 1.0
    mouth_scale: float = 1.0
    rest_sec: float = 0.0

    def __post_init__(self):
        """Raises InputError for negative values."""
        for name, value in dataclasses.asdict(self).items():
            if value < 0:
                raise InputError(f"{name} is {value}; it has to be 0 or more")

    def apply(
        self, motion: MotionSequence, own: np.ndarray, *, frames_left: int | None = None
    ) -> np.ndarray:
        """Scales a piece of motion.

        Args:
          motion: [t, 9 g^2 + 3].
          own: [9 g^2 + 3], the portrait's own motion feature.
          frames_left: number of frames from the first one of the piece to the end of the clip, if
            it is known.

        Returns:
          [t, 9 g^2 + 3] float32.
        """
        if dataclasses.replace(self, mouth_scale=1.0) == Control() or not len(motion):
            return motion
        grid = _grid_of(motion)
        scale = self._scales(grid) * self._fade_out(len(motion), frames_left)[:, None]
        return np.asarray(scaling_program()(np.asarray(motion), own, np.float32(scale)))

    def scale_lips(self, lips: np.ndarray, *, frames_left: int | None = None) -> np.ndarray:
        """Scales positions of the lips [t, l] as the upper part of the frame; see `apply`."""
        scale = self.motion_scale * self.head_scale
        return np.float32(scale) * lips * self._fade_out(len(lips), frames_left)[:, None]

    @functools.cache  # noqa: B019  (They are few and small.)
    def _scales(self, grid: int) -> np.ndarray:
        """Returns the scales of the angles of each cell and of the translation: [3 g^2 + 3]."""
        below = _below_shoulders(grid)
        rows = (1.0 - below) * self.head_scale + below * self.hands_scale
        cells = np.broadcast_to(rows[:, None, None], (grid, grid, 3))
        return self.motion_scale * np.append(cells.ravel(), np.ones(3))

    def _fade_out(self, num_frames: int, frames_left: int | None) -> np.ndarray:
        """Returns factors [t] that fall smoothly from 1 to 0 over the last `rest_sec`."""
        if frames_left is None or not self.rest_sec:
            return np.ones(num_frames)
        left = frames_left - 1 - np.arange(num_frames)
        return smooth_step(np.clip(left / (self.rest_sec * FPS), 0.0, 1.0))


def scale_below(motion: MotionSequence, own: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """Scales the distance from the portrait's pose below the shoulders.

    Args:
      motion: [t, 9 g^2 + 3].
      own: [9 g^2 + 3], the portrait's own motion feature.
      scales: [t].

    Returns:
      [t, 9 g^2 + 3] float32.
    """
    if (scales == 1.0).all():
        return motion
    grid = _grid_of(motion)
    rows = 1.0 + _below_shoulders(grid) * (scales[:, None] - 1.0)
    cells = np.broadcast_to(rows[:, :, None, None], (len(motion), grid, grid, 3))
    scale = np.column_stack([cells.reshape(len(motion), -1), np.ones((len(motion), 3))])
    return np.asarray(scaling_program()(np.asarray(motion), own, np.float32(scale)))


def _grid_of(motion: MotionSequence) -> int:
    return round(((motion.shape[-1] - 3) / 9) ** 0.5)


def _below_shoulders(grid: int) -> np.ndarray:
    """Returns how far each row of cells is below the shoulders, 0 to 1: [g]."""
    height = (np.arange(grid) + 0.5) / grid
    return np.clip((height - _SHOULDERS) / _TRANSITION + 0.5, 0.0, 1.0)


def smooth_step(x: np.ndarray) -> np.ndarray:
    """Returns 3 x^2 - 2 x^3, which rises from 0 to 1 like x, but with zero slope at the ends."""
    return x * x * (3.0 - 2.0 * x)


def scaling_program() -> CachedJit:
    """The program that scales the deviations of motion from a portrait's pose.

    Its arguments are those of `rotation.scale_deviation`.
    """
    return cached_jit(scale_deviation)


@float32_matmuls
def scale_deviation(motion: jax.Array, own: jax.Array, scale: jax.Array) -> jax.Array:
    """The computation of `scaling_program`."""
    return rotation.scale_deviation(motion, own, scale)
