"""The motion space of stage 2: motion features as angles or matrices, relative and standardised.

Stage 1's motion feature holds nine entries per cell of a rotation that has three degrees of
freedom. In the space `angles` the diffusion works with three angles, which are converted back to a
valid rotation; `matrix` keeps the nine entries, for features of the released network. Both are
called a *vector* here.

Vectors of different people at rest are further apart than those of one person's poses, so that
noise on the scale of all vectors would hide the motion of a person. Motion is therefore relative to
the portrait's pose. (Relative to the frame before a window, errors would add up from window to
window.) It is standardised by statistics of the training set, which are part of the checkpoint.

The statistics also hold the range of motion in training. Generated motion never leaves this range,
so that a bad window cannot make the next one worse. And the network is given a portrait's own pose
only to the extent that the pose resembles those of training: a network that has been trained on few
people cannot interpret the pose of a stranger, which would spoil the motion from the first window
on.
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

# Cells that hardly move (background) are not scaled up to the size of those that do.
_MIN_STD = 0.25
# Substitutes for older checkpoints, whose statistics lack the range of motion; in standard
# deviations.
_USUAL_REACH, _USUAL_RADIUS, _USUAL_FARNESS = 4.0, 2.5, 1.5
# The range of motion is this quantile over the clips, as one of a hundred may be damaged.
_RANGE_QUANTILE = 0.99
# Values up to this share of a limit stay the same; larger ones approach the limit smoothly.
_KNEE = 0.8
# A portrait's own pose is ignored from this many times the largest distance from the mean in
# training on.
_UNKNOWN_POSE = 1.5
# Speech features are clipped to this many standard deviations.
_SPEECH_LIMIT = 5.0
# Number of frames of a clip that are compared pairwise to find their largest distance.
_NUM_COMPARED = 64


class Statistics(TypedDict):
    """Statistics of the training set, one float32 value per feature.

    `motion_*` describe single vectors, `pose_*` the difference of two vectors of one clip, and
    `speech_*` speech features. `pose_std` is a root mean square. `lip_motion`, [l, dim - l], holds
    the change of the other values for each value of the lips, where these are known.

    A `reach` is the largest distance of each value from the mean or from zero. A `radius`, [1], is
    the largest size of whole vectors: the root mean square over their values, in standard
    deviations. Older checkpoints have neither.
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
    lip_motion: NotRequired[jax.Array]


BOUNDS = ("motion_reach", "motion_radius", "pose_reach", "pose_radius")
"""The statistics that hold the range of motion, which older checkpoints lack."""


@dataclasses.dataclass(frozen=True)
class MotionSpace:
    """Converts between stage 1's motion features and the motion that the diffusion works with.

    Attributes:
      name: "angles" or "matrix".
      feature_dim: length of stage 1's feature, 9 g^2 + 3.
      relative: whether motion is relative to the portrait's pose; otherwise to the overall mean.
      num_lips: number of values at the end of a vector that describe the lips, or 0. The rest of
        the vector is then free of the motion of the lips.
    """

    name: str
    feature_dim: int
    relative: bool = True
    num_lips: int = 0

    def __post_init__(self):
        """Raises InputError for an unknown name."""
        if self.name not in ("angles", "matrix"):
            raise InputError(f"unknown motion space {self.name!r}; choose angles or matrix")

    @property
    def dim(self) -> int:
        """Length of a standardised vector: 3 g^2 + 3 or 9 g^2 + 3, and `num_lips`."""
        return self.num_lips + self.body_dim

    @property
    def body_dim(self) -> int:
        """Length of a vector without the lips."""
        return self.feature_dim if self.name == "matrix" else (self.feature_dim - 3) // 3 + 3

    def from_feature(self, motion: Motion, statistics: Statistics | None = None) -> jax.Array:
        """Converts features of stage 1 to vectors, not standardised.

        Args:
          motion: [*b, feature_dim]; or [*b, feature_dim + num_lips] with the positions of the lips,
            which are at rest otherwise.
          statistics: statistics of the training set; needed where there are lips.

        Returns:
          [*b, dim].
        """
        motion, lips = motion[..., : self.feature_dim], motion[..., self.feature_dim :]
        body = motion if self.name == "matrix" else rotation.matrix_to_angles_feature(motion)
        if not self.num_lips:
            return body
        if not lips.shape[-1]:
            return jnp.concatenate([body, jnp.zeros((*body.shape[:-1], self.num_lips))], axis=-1)
        return jnp.concatenate([body - lips @ statistics["lip_motion"], lips], axis=-1)

    def to_feature(self, vector: jax.Array, statistics: Statistics | None = None) -> Motion:
        """Inverts `from_feature`, except that lips are not returned.

        Translations are clipped to [-1, 1], the range of stage 1.
        """
        body, lips = self.split(vector)
        if self.num_lips:
            body = body + lips @ statistics["lip_motion"]
        if self.name == "matrix":
            return body
        body = body.at[..., -3:].set(jnp.clip(body[..., -3:], -1.0, 1.0))
        return rotation.angles_to_matrix_feature(body)

    def split(self, vector: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Splits vectors, standardised or not, into those of the body and of the lips."""
        return vector[..., : self.body_dim], vector[..., self.body_dim :]

    def with_lips_of(self, vector: jax.Array, other: jax.Array) -> jax.Array:
        """Returns vectors with the lips of others of the same shape."""
        return jnp.concatenate([self.split(vector)[0], self.split(other)[1]], axis=-1)

    def scale_lips(self, vector: jax.Array, scale: jax.Array | float) -> jax.Array:
        """Scales the motion of the lips, not standardised; 0 leaves them as in the portrait."""
        body, lips = self.split(vector)
        return jnp.concatenate([body, scale * lips], axis=-1)

    def _at_rest(self, portrait: jax.Array) -> jax.Array:
        """Returns vectors of portraits with lips at rest, to which the positions of lips refer."""
        body, lips = self.split(portrait)
        return jnp.concatenate([body, jnp.zeros_like(lips)], axis=-1)

    def encode(self, vector: jax.Array, portrait: jax.Array, statistics: Statistics) -> jax.Array:
        """Encodes vectors as the motion that the diffusion works with.

        Args:
          vector: [*b, t, dim].
          portrait: [*b, dim], the vector of the portrait's pose.
          statistics: statistics of the training set.

        Returns:
          [*b, t, dim].
        """
        if self.relative:
            return (vector - self._at_rest(portrait)[..., None, :]) / statistics["pose_std"]
        return self._standardise(vector, statistics)

    def decode(self, motion: jax.Array, portrait: jax.Array, statistics: Statistics) -> jax.Array:
        """Inverts `encode`."""
        if self.relative:
            return motion * statistics["pose_std"] + self._at_rest(portrait)[..., None, :]
        return motion * statistics["motion_std"] + statistics["motion_mean"]

    def bound(self, motion: jax.Array, statistics: Statistics) -> jax.Array:
        """Limits encoded motion to the range of motion in training.

        Each value stays within its reach, and each frame as a whole within the radius. Motion well
        within both does not change.

        Args:
          motion: [*b, t, dim], from `encode`.
          statistics: statistics of the training set.

        Returns:
          [*b, t, dim].
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
        """Encodes the frames before a window as the network's input.

        Args:
          prior: [*b, p, dim], the frames before a window.
          portrait: [*b, dim], the vector of the portrait's pose.
          statistics: statistics of the training set.

        Returns:
          [*b, p, dim]; if motion is relative, [*b, 1 + p, dim] with the portrait's own pose first,
          or zeros, the mean pose, if the pose is unlike those of training.
        """
        encoded = self.bound(self.encode(prior, portrait, statistics), statistics)
        if not self.relative:
            return encoded
        pose = self._standardise(self._at_rest(portrait), statistics)[..., None, :]
        farness = _size(pose) / statistics.get("motion_radius", _USUAL_FARNESS)
        if "motion_radius" in statistics:
            known = jnp.clip((_UNKNOWN_POSE - farness) / (_UNKNOWN_POSE - 1.0), 0.0, 1.0)
        else:  # Older networks always got a pose; it is scaled to the distances of training.
            known = 1.0 / jnp.maximum(farness, 1.0)
        return jnp.concatenate([pose * known, encoded], axis=-2)

    def _standardise(self, vector: jax.Array, statistics: Statistics) -> jax.Array:
        return (vector - statistics["motion_mean"]) / statistics["motion_std"]


def _size(motion: jax.Array) -> jax.Array:
    """Returns the root mean square of vectors [*b, dim]: [*b, 1]."""
    return jnp.sqrt(jnp.square(motion).mean(axis=-1, keepdims=True))


def _soft_limit(size: jax.Array, limit: jax.Array | float) -> jax.Array:
    """Limits sizes: unchanged up to the knee, then smoothly approaching the limit."""
    knee, room = _KNEE * limit, (1.0 - _KNEE) * limit
    return jnp.minimum(size, knee) - room * jnp.expm1(-jnp.maximum(size - knee, 0.0) / room)


def standardise_speech(speech: jax.Array, statistics: Statistics) -> jax.Array:
    """Standardises speech features [*b, t, a], and clips them to 5 standard deviations."""
    standard = (speech - statistics["speech_mean"]) / statistics["speech_std"]
    return jnp.clip(standard, -_SPEECH_LIMIT, _SPEECH_LIMIT)


def hide_future(speech: jax.Array, num_known: jax.Array) -> jax.Array:
    """Replaces speech features that are not known yet by zeros.

    Args:
      speech: [b, t, a], standardised.
      num_known: [b] int, number of frames that are known.
    """
    known = jnp.arange(speech.shape[1]) < num_known[:, None]
    return jnp.where(known[..., None], speech, 0.0)


def gather_statistics(
    motions: Iterable[np.ndarray], speeches: Iterable[np.ndarray], *, standardise: bool = True
) -> Statistics:
    """Computes statistics over all frames, in float64, clip by clip.

    Args:
      motions: vectors [t, dim] of each clip; iterated over twice.
      speeches: speech features [t, a] of each clip.
      standardise: whether each motion value has its own scale; otherwise all share one factor,
        so that the diffusion's noise still has the scale of its data.
    """
    motion, within, speech = _Moments(), _Moments(), _Moments()
    for vectors in motions:
        vectors = np.asarray(vectors, np.float64)
        motion.add(vectors)
        within.add(vectors - vectors.mean(axis=0))
    for features in speeches:
        speech.add(np.asarray(features, np.float64))
    # The squared difference of two independent frames of a clip is twice its variance.
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


def fit_lip_motion(
    clips: Iterable[tuple[np.ndarray, np.ndarray, np.ndarray]],
) -> np.ndarray:
    """Fits how the vectors of motion change with the lips, by least squares within each clip.

    The other joints take part in the fit, so that a nod on a stressed syllable, for example, is not
    taken for a part of the lips' motion.

    Args:
      clips: vectors [t, dim], lips [t, l] and other joints [t, j, 2] of each clip, NaN where a
        joint is not seen.

    Returns:
      [l, dim] float32.
    """
    products, targets, num_lips = 0.0, 0.0, 0
    for vectors, lips, joints in clips:
        num_lips = lips.shape[1]
        moved = joints.reshape(len(joints), -1) - _mean_of_seen(joints)
        causes = np.concatenate([lips - lips.mean(axis=0), np.nan_to_num(moved)], axis=1)
        causes = causes.astype(np.float64)
        products = products + causes.T @ causes
        targets = targets + causes.T @ (vectors - vectors.mean(axis=0, dtype=np.float64))
    ridge = 1e-4 * np.diag(products).mean() * np.eye(len(products))
    ridge[:num_lips] = 0.0  # Lips are few and always known.
    return np.linalg.solve(products + ridge, targets)[:num_lips].astype(np.float32)


def _mean_of_seen(joints: np.ndarray) -> np.ndarray:
    """Returns the mean positions of joints [t, j, 2] where they are seen: [2 j]."""
    flat = joints.reshape(len(joints), -1)
    count = np.isfinite(flat).sum(axis=0)
    return np.nan_to_num(flat).sum(axis=0) / np.maximum(count, 1)


def _gather_bounds(
    motions: Iterable[np.ndarray], statistics: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Computes `BOUNDS`, the range of motion in all but the most extreme clips."""
    found: dict[str, list[np.ndarray]] = {name: [] for name in BOUNDS}
    for vectors in motions:
        vectors = np.asarray(vectors, np.float32)
        from_mean = vectors - np.float32(statistics["motion_mean"])
        found["motion_reach"].append(np.abs(from_mean).max(axis=0))
        found["pose_reach"].append(np.ptp(vectors, axis=0))
        farthest = np.square(from_mean / statistics["motion_std"]).mean(axis=1).max()
        found["motion_radius"].append(np.sqrt([farthest]))
        found["pose_radius"].append(_largest_distance(vectors / statistics["pose_std"]))
    bounds = {name: np.quantile(each, _RANGE_QUANTILE, axis=0) for name, each in found.items()}
    # Values that never move still get a tiny range above zero.
    for kind in ("motion", "pose"):
        least = 1e-3 * statistics[f"{kind}_std"]
        bounds[f"{kind}_reach"] = np.maximum(bounds[f"{kind}_reach"], least)
        bounds[f"{kind}_radius"] = np.maximum(bounds[f"{kind}_radius"], 1e-3)
    return bounds


def _largest_distance(vectors: np.ndarray) -> np.ndarray:
    """Returns the largest root mean square difference of two frames of [t, dim]: [1]."""
    some = vectors[np.linspace(0, len(vectors) - 1, min(len(vectors), _NUM_COMPARED)).astype(int)]
    some = some - some.mean(axis=0)
    squares, products = np.square(some).sum(axis=1), some @ some.T
    apart = squares[:, None] + squares - 2.0 * products
    return np.sqrt([max(apart.max(), 0.0) / vectors.shape[1]])


def unit_statistics(abstract: Mapping[str, jax.ShapeDtypeStruct]) -> Statistics:
    """Returns statistics of features with zero mean and unit scale, in the given shapes."""
    usual = {"mean": 0.0, "motion": 0.0, "std": 1.0, "reach": _USUAL_REACH, "radius": _USUAL_RADIUS}
    return Statistics(**{
        name: np.full(leaf.shape, usual[name.rsplit("_")[-1]], leaf.dtype)
        for name, leaf in abstract.items()
    })  # fmt: skip


def _scales(size: np.ndarray, *, standardise: bool) -> np.ndarray:
    typical = np.sqrt(np.mean(size**2))
    scales = size if standardise else np.full_like(size, typical)
    return np.maximum(scales, max(_MIN_STD * typical, 1e-6))


def is_sound(statistics: Statistics) -> bool:
    """Returns whether all values are finite, and deviations and bounds are above zero."""
    return all(
        np.isfinite(value).all()
        and (name.endswith(("mean", "motion")) or (np.asarray(value) > 0).all())
        for name, value in statistics.items()
    )


class _Moments:
    """Mean and deviation, merged clip by clip (Chan et al. 1983), which is numerically stable."""

    def __init__(self):
        self.count, self.mean, self._squares = 0, 0.0, 0.0

    def add(self, sequence: np.ndarray) -> None:
        """Adds the frames of a clip, [t, d]."""
        added, delta = len(sequence), sequence.mean(axis=0) - self.mean
        self._squares = self._squares + sequence.var(axis=0) * added
        self._squares = self._squares + delta**2 * self.count * added / (self.count + added)
        self.mean = self.mean + delta * added / (self.count + added)
        self.count += added

    @property
    def std(self) -> np.ndarray:
        return np.sqrt(self._squares / self.count)
