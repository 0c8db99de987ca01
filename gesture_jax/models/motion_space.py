"""The space in which stage 2 works: motion features as angles or matrices, relative, standardised.

Stage 1's motion feature holds nine entries of a rotation a cell, of which three are free. In the
space `angles` the diffusion sees those three, and what it makes is recomposed to a valid rotation;
`matrix` keeps the nine, for features of the released network. Either is a *vector* here.

Vectors of different people at rest are further apart than those of one person's poses, so that
noise of the size of all vectors drowns what people do. Motion is therefore seen relative to the
portrait's pose; were it relative to the frame before a window, errors would add up from window to
window. All is brought to unit size by statistics of the training set, which travel in the
checkpoint.
"""

import dataclasses
from collections.abc import Iterable
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
    """Of the training set, a value a feature, float32.

    `motion_*` are of single vectors, `pose_std` is the root mean square of what two vectors of one
    clip are apart, `speech_*` are of speech features.
    """

    motion_mean: jax.Array
    motion_std: jax.Array
    pose_std: jax.Array
    speech_mean: jax.Array
    speech_std: jax.Array


@dataclasses.dataclass(frozen=True)
class MotionSpace:
    """Converts between stage 1's motion features and what the diffusion sees.

    Attributes:
      name: "angles" or "matrix".
      feature_dim: length of stage 1's feature, 9 g^2 + 3.
      relative: whether motion is relative to the portrait's pose, or to the mean of all.
    """

    name: str
    feature_dim: int
    relative: bool = True

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

    def encode(self, vector: jax.Array, portrait: jax.Array, statistics: Statistics) -> jax.Array:
        """Motion as the diffusion sees it.

        Args:
          vector: [*b, t, dim].
          portrait: [*b, dim], the vector of the portrait's pose.
          statistics: of the training set.

        Returns:
          [*b, t, dim].
        """
        if self.relative:
            return (vector - portrait[..., None, :]) / statistics["pose_std"]
        return self._standardise(vector, statistics)

    def decode(self, motion: jax.Array, portrait: jax.Array, statistics: Statistics) -> jax.Array:
        """The inverse of `encode`."""
        if self.relative:
            return motion * statistics["pose_std"] + portrait[..., None, :]
        return motion * statistics["motion_std"] + statistics["motion_mean"]

    def encode_prior(
        self, prior: jax.Array, portrait: jax.Array, statistics: Statistics
    ) -> jax.Array:
        """What the network is given of the past.

        Args:
          prior: [*b, p, dim], the frames before a window.
          portrait: [*b, dim].
          statistics: of the training set.

        Returns:
          [*b, p, dim]; where motion is relative, [*b, 1 + p, dim], what it is relative to first.
        """
        encoded = self.encode(prior, portrait, statistics)
        if not self.relative:
            return encoded
        pose = self._standardise(portrait, statistics)
        return jnp.concatenate([pose[..., None, :], encoded], axis=-2)

    def _standardise(self, vector: jax.Array, statistics: Statistics) -> jax.Array:
        return (vector - statistics["motion_mean"]) / statistics["motion_std"]


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


def gather_statistics(
    motions: Iterable[np.ndarray], speeches: Iterable[np.ndarray], *, standardise: bool = True
) -> Statistics:
    """Statistics over all frames, accumulated in float64 clip by clip.

    Args:
      motions: iterable of [t, dim] vectors, a clip each.
      speeches: iterable of [t, a].
      standardise: whether each motion value is brought to unit size by itself; else all by one
        factor, so that the diffusion's noise still has the size of its data.
    """
    motion, within, speech = _Moments(), _Moments(), _Moments()
    for vectors in motions:
        vectors = np.asarray(vectors, np.float64)
        motion.add(vectors)
        within.add(vectors - vectors.mean(axis=0))
    for features in speeches:
        speech.add(np.asarray(features, np.float64))
    # Two independent frames of a clip are apart by twice its variance.
    sizes = motion.std, np.sqrt(2.0) * within.std
    motion_std, pose_std = (_scales(size, standardise=standardise) for size in sizes)
    statistics = Statistics(
        motion_mean=motion.mean,
        motion_std=motion_std,
        pose_std=pose_std,
        speech_mean=speech.mean,
        speech_std=np.maximum(speech.std, 1e-3),
    )
    return {name: jnp.asarray(value, jnp.float32) for name, value in statistics.items()}


def _scales(size: np.ndarray, *, standardise: bool) -> np.ndarray:
    typical = np.sqrt(np.mean(size**2))
    scales = size if standardise else np.full_like(size, typical)
    return np.maximum(scales, max(_SMALLEST_STD * typical, 1e-6))


def is_sound(statistics: Statistics) -> bool:
    """Whether all values are finite, and deviations above zero."""
    return all(
        np.isfinite(value).all() and (name.endswith("mean") or (np.asarray(value) > 0).all())
        for name, value in statistics.items()
    )


class _Moments:
    """Mean and deviation, merged clip by clip (Chan et al. 1983): stable where sums are not."""

    def __init__(self):
        self.count, self.mean, self._squares = 0, 0.0, 0.0

    def add(self, sequence: np.ndarray) -> None:
        """Takes [t, d]."""
        added, delta = len(sequence), sequence.mean(axis=0) - self.mean
        self._squares = self._squares + sequence.var(axis=0) * added
        self._squares = self._squares + delta**2 * self.count * added / (self.count + added)
        self.mean = self.mean + delta * added / (self.count + added)
        self.count += added

    @property
    def std(self) -> np.ndarray:
        return np.sqrt(self._squares / self.count)
