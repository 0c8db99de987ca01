"""The space in which stage 2 works: motion features as angles or matrices, standardised.

Stage 1's motion feature holds nine entries of a rotation a cell, of which three are free. In the
space `angles` the diffusion sees those three, and what it makes is recomposed to a valid rotation;
`matrix` keeps the nine, for features of the released network. Either is standardised by statistics
of the training set, which travel in the checkpoint.
"""

import dataclasses
from typing import TypedDict

import jax
import jax.numpy as jnp
import numpy as np

from gesture_jax.array_types import Motion
from gesture_jax.errors import InputError
from gesture_jax.ops import rotation

# Cells that hardly move (background) are not blown up to the size of those that do.
_SMALLEST_STD = 0.25


class Statistics(TypedDict):
    """Mean and standard deviation of the training set, a value a feature, float32."""

    motion_mean: jax.Array
    motion_std: jax.Array
    speech_mean: jax.Array
    speech_std: jax.Array


@dataclasses.dataclass(frozen=True)
class MotionSpace:
    """Converts between stage 1's motion features and what the diffusion sees.

    Attributes:
      name: "angles" or "matrix".
      feature_dim: length of stage 1's feature, 9 g^2 + 3.
    """

    name: str
    feature_dim: int

    def __post_init__(self):
        """Raises InputError for an unknown name."""
        if self.name not in ("angles", "matrix"):
            raise InputError(f"unknown motion space {self.name!r}; choose angles or matrix")

    @property
    def dim(self) -> int:
        """Length of a standardised vector: 3 g^2 + 3, or 9 g^2 + 3."""
        return self.feature_dim if self.name == "matrix" else (self.feature_dim - 3) // 3 + 3

    def from_feature(self, motion: Motion) -> jax.Array:
        """[*b, feature_dim] of stage 1 -> [*b, dim], not yet standardised."""
        return motion if self.name == "matrix" else rotation.matrix_to_angles_feature(motion)

    def to_feature(self, vector: jax.Array) -> Motion:
        """The inverse of `from_feature`."""
        return vector if self.name == "matrix" else rotation.angles_to_matrix_feature(vector)

    def encode(self, motion: Motion, statistics: Statistics) -> jax.Array:
        """[*b, feature_dim] of stage 1 -> [*b, dim], standardised."""
        vector = self.from_feature(motion)
        return (vector - statistics["motion_mean"]) / statistics["motion_std"]

    def decode(self, vector: jax.Array, statistics: Statistics) -> Motion:
        """The inverse of `encode`."""
        return self.to_feature(vector * statistics["motion_std"] + statistics["motion_mean"])


def standardise_speech(speech: jax.Array, statistics: Statistics) -> jax.Array:
    """[*b, t, a] speech features by the statistics of the training set."""
    return (speech - statistics["speech_mean"]) / statistics["speech_std"]


def hide_future(speech: jax.Array, num_heard: jax.Array) -> jax.Array:
    """Standardised speech [b, t, a] as it is heard while it is being spoken.

    Args:
      speech: [b, t, a].
      num_heard: [b] int; from this frame on nothing is known, that is zeros.
    """
    heard = jnp.arange(speech.shape[1]) < num_heard[:, None]
    return jnp.where(heard[..., None], speech, 0.0)


def gather_statistics(motions, speeches, *, standardise: bool = True) -> Statistics:
    """Statistics over all frames, accumulated in float64 clip by clip.

    Args:
      motions: iterable of [t, dim], unstandardised.
      speeches: iterable of [t, a].
      standardise: whether each motion value is brought to unit size by itself; else all by one
        factor, so that the diffusion's noise still has the size of its data.
    """
    motion_mean, motion_std = _mean_and_std(motions)
    speech_mean, speech_std = _mean_and_std(speeches)
    typical = np.sqrt(np.mean(motion_std**2))
    if not standardise:
        motion_std = np.full_like(motion_std, typical)
    floor = _SMALLEST_STD * typical
    return {
        "motion_mean": jnp.asarray(motion_mean, jnp.float32),
        "motion_std": jnp.asarray(np.maximum(motion_std, max(floor, 1e-6)), jnp.float32),
        "speech_mean": jnp.asarray(speech_mean, jnp.float32),
        "speech_std": jnp.asarray(np.maximum(speech_std, 1e-3), jnp.float32),
    }


def is_sound(statistics: Statistics) -> bool:
    """Whether all values are finite, and deviations above zero."""
    return all(
        np.isfinite(value).all() and (name.endswith("mean") or (np.asarray(value) > 0).all())
        for name, value in statistics.items()
    )


def _mean_and_std(sequences) -> tuple[np.ndarray, np.ndarray]:
    """Merges clip by clip (Chan et al. 1983), which is stable where a sum of squares is not."""
    count, mean, squares = 0, 0.0, 0.0
    for sequence in sequences:
        sequence = np.asarray(sequence, np.float64)
        added = len(sequence)
        delta = sequence.mean(axis=0) - mean
        squares = squares + sequence.var(axis=0) * added
        squares = squares + delta**2 * count * added / (count + added)
        mean = mean + delta * added / (count + added)
        count += added
    return mean, np.sqrt(squares / count)
