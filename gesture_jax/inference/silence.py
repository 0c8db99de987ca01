"""Brings the hands to rest in silence."""

import numpy as np

from gesture_jax.inference.motion_scales import smooth_step

# Frames of silence after which hands begin to come to rest, frames until they are there, and frames
# until they are free again after speech has begun.
_WAIT, _FALL, _RISE = 1, 5, 6
# The share of the motion below the shoulders that is left at rest: breath and sway.
_LEAST = 0.15


class HandsAtRest:
    """Follows speech and silence, frame by frame; it uses no later sound."""

    def __init__(self):
        """Begins a clip."""
        self._num_silent, self._progress = 0, 0.0

    def scales(self, silent: np.ndarray) -> np.ndarray:
        """Returns the scales of the motion below the shoulders in the next frames, [t].

        Args:
          silent: [t] booleans, whether nobody speaks in a frame.
        """
        progress = np.array([self._follow(each) for each in silent])
        return 1.0 - (1.0 - _LEAST) * smooth_step(progress)

    def _follow(self, silent: bool) -> float:
        self._num_silent = self._num_silent + 1 if silent else 0
        if self._num_silent > _WAIT:
            self._progress = min(1.0, self._progress + 1.0 / _FALL)
        elif not silent:
            self._progress = max(0.0, self._progress - 1.0 / _RISE)
        return self._progress
