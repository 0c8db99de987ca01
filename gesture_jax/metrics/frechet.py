"""Frechet distance between two sets of features, each modelled as a Gaussian.

  d^2 = |m1 - m2|^2 + Tr(S1) + Tr(S2) - 2 Tr((S1 S2)^{1/2})                                     (1)
  Tr((S1 S2)^{1/2}) = sum_i sqrt(l_i), l the eigenvalues of S1^{1/2} S2 S1^{1/2}                (2)

with means m and unbiased covariances S (Dowson and Landau 1982). The matrix in (2) is symmetric,
so its eigenvalues are real and those below zero are rounding errors; the square root of S1 S2
itself is neither stable nor real where there are fewer examples than features. Everything is
computed in float64 on the host. Few examples bias the distance upwards: compare equal numbers only.
"""

import dataclasses

import chex
import numpy as np
from jaxtyping import Float

from gesture_jax.array_types import Array, typechecked
from gesture_jax.errors import InputError

_EXAMPLES_PER_FEATURE = 10


@dataclasses.dataclass(frozen=True, eq=False)
class Moments:
    """The moments of a set of features, from which the distance is computed; sets can be merged.

    Attributes:
      count: number of examples.
      mean: [d] float64.
      scatter: [d, d] float64, the sum of the outer products of deviations from the mean.
    """

    count: int
    mean: np.ndarray
    scatter: np.ndarray

    @classmethod
    @typechecked
    def of(cls, features: Float[Array, "n d"]) -> "Moments":
        """The moments of features [n, d]; n may be zero."""
        chex.assert_rank(features, 2)
        chex.assert_type(features, float)
        features = np.asarray(features, np.float64)
        mean = features.sum(axis=0) / max(len(features), 1)
        deviations = features - mean
        return cls(len(features), mean, deviations.T @ deviations)

    def merge(self, other: "Moments") -> "Moments":
        """The moments of both sets together (Chan et al. 1983); more stable than sums of squares.

        Raises:
          InputError: for features of another dimension.
        """
        _check_dimensions(self, other)
        count = self.count + other.count
        delta = other.mean - self.mean
        share = other.count / max(count, 1)
        between = np.outer(delta, delta) * self.count * share
        return Moments(count, self.mean + share * delta, self.scatter + other.scatter + between)

    @property
    def covariance(self) -> np.ndarray:
        """[d, d] float64, unbiased.

        Raises:
          InputError: for fewer than two examples.
        """
        if self.count < 2:
            raise InputError(f"a covariance needs two examples or more, not {self.count}")
        return self.scatter / (self.count - 1)


def frechet_distance(a: Moments, b: Moments) -> float:
    """Equation (1), the squared distance that FID, FGD and FVD report; 0 for equal moments.

    Raises:
      InputError: for fewer than two examples, another dimension, or features that are not finite.
    """
    _check_dimensions(a, b)
    one, other = a.covariance, b.covariance
    if not all(np.isfinite(array).all() for array in (one, other, a.mean, b.mean)):
        raise InputError("a Frechet distance needs finite features, not NaN or infinity")
    root = _square_root(one)
    cross = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ other @ root), 0.0)).sum()
    shift = np.square(a.mean - b.mean).sum()
    # For equal sets, the result is a rounding error above or below zero.
    return max(float(shift + np.trace(one) + np.trace(other) - 2.0 * cross), 0.0)


def small_sample_note(moments: Moments) -> str | None:
    """A warning where there are too few examples for their dimension; None where there are enough.

    Ten for each feature count as enough. With fewer, sampling error is a large part of the
    covariance, and with no more examples than features the covariance is singular.
    """
    dim = len(moments.mean)
    if moments.count >= _EXAMPLES_PER_FEATURE * dim:
        return None
    return (
        f"{moments.count} examples of {dim} features are few for a Frechet distance, which comes "
        f"out too large; use {_EXAMPLES_PER_FEATURE * dim} or more"
    )


def _square_root(covariance: np.ndarray) -> np.ndarray:
    """The symmetric square root, [d, d]."""
    values, vectors = np.linalg.eigh(covariance)
    return (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T


def _check_dimensions(a: Moments, b: Moments) -> None:
    if a.mean.shape != b.mean.shape:
        raise InputError(
            f"features of {a.mean.shape[0]} and of {b.mean.shape[0]} numbers cannot be compared"
        )
