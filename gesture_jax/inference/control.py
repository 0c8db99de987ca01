"""How far a portrait moves: of all, of its head, of its hands, and to its end.

A motion feature is a grid of rotations that lies over the frame, so that its upper rows move what
is up there. In frames as stage 1 is trained on, a speaker from the hips up, that is the head.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from gesture_jax.array_types import MotionSequence
from gesture_jax.errors import InputError
from gesture_jax.media.rates import FPS
from gesture_jax.ops import rotation
from gesture_jax.ops.precision import float32_matmuls

# Where shoulders begin, as a share of the frame's height; and over how much of it scales change.
_SHOULDERS = 0.42
_TRANSITION = 0.15


@dataclasses.dataclass(frozen=True)
class Control:
    """Scales of the distance from the portrait's own pose: 1 as generated, 0 still.

    Attributes:
      motion_scale: of everything.
      head_scale: of the upper part of the frame, times the former.
      hands_scale: of the rest of it, likewise.
      rest_sec: how long before its end the portrait begins to return to its own pose.
    """

    motion_scale: float = 1.0
    head_scale: float = 1.0
    hands_scale: float = 1.0
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
          frames_left: from the first frame of the piece to the end of the clip, where it is known.

        Returns:
          [t, 9 g^2 + 3] float32.
        """
        if self == Control() or not len(motion):
            return motion
        grid = round(((motion.shape[-1] - 3) / 9) ** 0.5)
        scale = self._scales(grid) * self._return(len(motion), frames_left)[:, None]
        return np.asarray(_scale(motion, own, jnp.asarray(scale, jnp.float32)))

    @functools.cache  # noqa: B019  (few, and small)
    def _scales(self, grid: int) -> np.ndarray:
        """[3 g^2 + 3], of the angles cell by cell and of the translation."""
        height = (np.arange(grid) + 0.5) / grid
        below = np.clip((height - _SHOULDERS) / _TRANSITION + 0.5, 0.0, 1.0)
        rows = (1.0 - below) * self.head_scale + below * self.hands_scale
        cells = np.broadcast_to(rows[:, None, None], (grid, grid, 3))
        return self.motion_scale * np.append(cells.ravel(), np.ones(3))

    def _return(self, num_frames: int, frames_left: int | None) -> np.ndarray:
        """[t], falling smoothly from 1 to 0 over the last `rest_sec`."""
        if frames_left is None or not self.rest_sec:
            return np.ones(num_frames)
        left = frames_left - 1 - np.arange(num_frames)
        return smooth_step(np.clip(left / (self.rest_sec * FPS), 0.0, 1.0))


def smooth_step(x: np.ndarray) -> np.ndarray:
    """From 0 to 1 as x does, without a jump in speed at the ends: 3 x^2 - 2 x^3."""
    return x * x * (3.0 - 2.0 * x)


_scale = jax.jit(float32_matmuls(rotation.scale_deviation))
