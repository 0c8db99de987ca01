"""The space in which stage 2 works: motion features as angles or matrices, relative, standardised.

Stage 1's motion feature holds nine entries of a rotation a cell, of which three are free. In the
space `angles` the diffusion sees those three, and what it makes is recomposed to a valid rotation;
`matrix` keeps the nine, for features of the released network. Either is a *vector* here.

Vectors of different people at rest are further apart than those of one person's poses, so that
noise of the size of all vectors drowns what people do. Motion is therefore seen relative to the
portrait's pose; were it relative to the frame before a window, errors would add up from window to
window. All is brought to unit size by statistics of the training set, which travel in the
checkpoint.

They also keep how far motion went in training. What is generated never goes further, so that a
window that goes wrong cannot lead the next one further astray. And the network is told a portrait's
own pose only as far as that pose is like those of training: to a network that has seen few people,
the pose of a stranger means nothing, and led it astray from the first window on.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import NotRequired, TypedDict

import jax
import jax.numpy as jnp
import numpy as np

from gesture_jax.array_types import Motion
from gesture_jax.errors import InputError
from gesture_jax.ops import rotation

# Cells that hardly move (background) are not blown up to the size of those that do.
_SMALLEST_STD = 0.25
# Statistics of older checkpoints do not say how far motion went: so many standard deviations.
_USUAL_REACH, _USUAL_RADIUS, _USUAL_FARNESS = 4.0, 2.5, 1.5
# Of a hundred clips one may be damaged: how far motion went is what so many of them keep to.
_KEPT_TO = 0.99
# Up to this share of a limit nothing is changed; what is beyond approaches the limit smoothly.
_KNEE = 0.8
# A portrait's own pose this many times as far from the mean as in training means nothing any more.
_UNKNOWN_POSE = 1.5
# Speech features beyond so many standard deviations say no more than that they are large.
_SPEECH_LIMIT = 5.0
# Frames of a clip that are compared, each with each, to find how far they are apart.
_COMPARED = 64


class Statistics(TypedDict):
    """Of the training set, a value a feature, float32.

    `motion_*` describe single vectors, `pose_*` the difference of two vectors of one clip, and
    `speech_*` speech features. `pose_std` is a root mean square.

    A `reach` is how far each value goes, from the mean or from zero. A `radius`, [1], is how far
    vectors as a whole go: the root mean square over their values, in standard deviations. Older
    checkpoints have neither.
    """

    motion_mean: jax.Array
    motion_std: jax.Array
    motion_reach: NotRequired[jax.Array]
    motion_radius: NotRequired[jax.Array]
    pose_std: jax.Array
    pose_reach: NotRequired[jax.Array]
    pose_radius: NotRequired[jax.Array]
    speech_mean: jax.Array
    speech_std: jax.Array


BOUNDS = ("motion_reach", "motion_radius", "pose_reach", "pose_radius")
"""The statistics that say how far motion went, which older checkpoints lack."""


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
        """The inverse of `from_feature`; translations end up in [-1, 1], as stage 1 makes them."""
        if self.name == "matrix":
            return vector
        vector = vector.at[..., -3:].set(jnp.clip(vector[..., -3:], -1.0, 1.0))
        return rotation.angles_to_matrix_feature(vector)

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

    def bound(self, motion: jax.Array, statistics: Statistics) -> jax.Array:
        """Holds encoded motion within what training showed.

        Each value keeps to its reach, and each frame as a whole to the radius. Motion well within
        both is not changed.

        Args:
          motion: [*b, t, dim], as of `encode`.
          statistics: of the training set.

        Returns:
          [*b, t, dim]
        """
        kind = "pose" if self.relative else "motion"
        reach = statistics.get(f"{kind}_reach", _USUAL_REACH * statistics[f"{kind}_std"])
        motion = jnp.sign(motion) * _soft_limit(jnp.abs(motion), reach / statistics[f"{kind}_std"])
        size = _size(motion)
        limited = _soft_limit(size, statistics.get(f"{kind}_radius", _USUAL_RADIUS))
        return motion * (limited / jnp.maximum(size, 1e-6))

    def encode_prior(
        self, prior: jax.Array, portrait: jax.Array, statistics: Statistics
    ) -> jax.Array:
        """What the network is given of the past.

        Args:
          prior: [*b, p, dim], the frames before a window.
          portrait: [*b, dim].
          statistics: of the training set.

        Returns:
          [*b, p, dim]; where motion is relative, [*b, 1 + p, dim], the portrait's own pose first:
          zeros, which is the mean pose, where it is unlike those of training.
        """
        encoded = self.bound(self.encode(prior, portrait, statistics), statistics)
        if not self.relative:
            return encoded
        pose = self._standardise(portrait, statistics)[..., None, :]
        farness = _size(pose) / statistics.get("motion_radius", _USUAL_FARNESS)
        if "motion_radius" in statistics:
            known = jnp.clip((_UNKNOWN_POSE - farness) / (_UNKNOWN_POSE - 1.0), 0.0, 1.0)
        else:  # Older networks were always told of a pose: of one as far as in training.
            known = 1.0 / jnp.maximum(farness, 1.0)
        return jnp.concatenate([pose * known, encoded], axis=-2)

    def _standardise(self, vector: jax.Array, statistics: Statistics) -> jax.Array:
        return (vector - statistics["motion_mean"]) / statistics["motion_std"]


def _size(motion: jax.Array) -> jax.Array:
    """[*b, dim] to [*b, 1], the root mean square of the values."""
    return jnp.sqrt(jnp.square(motion).mean(axis=-1, keepdims=True))


def _soft_limit(size: jax.Array, limit: jax.Array | float) -> jax.Array:
    """Sizes from 0 on, unchanged up to the knee, then approaching the limit without a kink."""
    knee, room = _KNEE * limit, (1.0 - _KNEE) * limit
    return jnp.minimum(size, knee) - room * jnp.expm1(-jnp.maximum(size - knee, 0.0) / room)


def standardise_speech(speech: jax.Array, statistics: Statistics) -> jax.Array:
    """[*b, t, a] speech features by the statistics of the training set, within 5 deviations."""
    standard = (speech - statistics["speech_mean"]) / statistics["speech_std"]
    return jnp.clip(standard, -_SPEECH_LIMIT, _SPEECH_LIMIT)


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
      motions: [t, dim] vectors, a clip each; iterated over twice.
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
    statistics = {
        "motion_mean": motion.mean,
        "motion_std": motion_std,
        "pose_std": pose_std,
        "speech_mean": speech.mean,
        "speech_std": np.maximum(speech.std, 1e-3),
    }
    statistics |= _gather_bounds(motions, statistics)
    return Statistics(**{k: jnp.asarray(value, jnp.float32) for k, value in statistics.items()})


def _gather_bounds(
    motions: Iterable[np.ndarray], statistics: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """How far motion goes in all but the wildest clips: `BOUNDS`."""
    found: dict[str, list[np.ndarray]] = {name: [] for name in BOUNDS}
    for vectors in motions:
        vectors = np.asarray(vectors, np.float32)
        from_mean = vectors - np.float32(statistics["motion_mean"])
        found["motion_reach"].append(np.abs(from_mean).max(axis=0))
        found["pose_reach"].append(np.ptp(vectors, axis=0))
        farthest = np.square(from_mean / statistics["motion_std"]).mean(axis=1).max()
        found["motion_radius"].append(np.sqrt([farthest]))
        found["pose_radius"].append(_largest_distance(vectors / statistics["pose_std"]))
    bounds = {name: np.quantile(each, _KEPT_TO, axis=0) for name, each in found.items()}
    # Values that never move may do so by next to nothing, but not by nothing.
    for kind in ("motion", "pose"):
        least = 1e-3 * statistics[f"{kind}_std"]
        bounds[f"{kind}_reach"] = np.maximum(bounds[f"{kind}_reach"], least)
        bounds[f"{kind}_radius"] = np.maximum(bounds[f"{kind}_radius"], 1e-3)
    return bounds


def _largest_distance(vectors: np.ndarray) -> np.ndarray:
    """Root mean square difference of those two frames of [t, dim] that are furthest apart, [1]."""
    some = vectors[np.linspace(0, len(vectors) - 1, min(len(vectors), _COMPARED)).astype(int)]
    some = some - some.mean(axis=0)
    squares, products = np.square(some).sum(axis=1), some @ some.T
    apart = squares[:, None] + squares - 2.0 * products
    return np.sqrt([max(apart.max(), 0.0) / vectors.shape[1]])


def unit_statistics(abstract: Mapping[str, jax.ShapeDtypeStruct]) -> Statistics:
    """Those of features that are of unit size already, in the shapes of a checkpoint's."""
    usual = {"mean": 0.0, "std": 1.0, "reach": _USUAL_REACH, "radius": _USUAL_RADIUS}
    return Statistics(**{
        name: np.full(leaf.shape, usual[name.rsplit("_")[-1]], leaf.dtype)
        for name, leaf in abstract.items()
    })  # fmt: skip


def _scales(size: np.ndarray, *, standardise: bool) -> np.ndarray:
    typical = np.sqrt(np.mean(size**2))
    scales = size if standardise else np.full_like(size, typical)
    return np.maximum(scales, max(_SMALLEST_STD * typical, 1e-6))


def is_sound(statistics: Statistics) -> bool:
    """Whether all values are finite, and deviations and bounds above zero."""
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
