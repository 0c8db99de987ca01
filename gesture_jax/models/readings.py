"""Linear readings: what the vectors of motion say about the joints and the pose of a person.

Stage 1 learns its motion features without joints, but wrists, head and trunk turn out to be nearly
linear in them, in the same way for all people (docs/method.md has the correlations).
"""

from collections.abc import Iterable

import numpy as np

# The ridge as a share of the mean square of a value, summed over the frames.
_RIDGE = 0.5


def fit_reading(
    clips: Iterable[tuple[np.ndarray, np.ndarray]], *, ridge: float = _RIDGE
) -> np.ndarray:
    """Fits a matrix that reads values from vectors, by ridge regression.

    Each vector value is standardised first, so that the ridge holds for values of any scale.

    Args:
      clips: vectors [t, d] and the values [t, p] to read from them, of each clip; both are zero
        where nothing deviates, and without NaN.
      ridge: strength of the regularisation.

    Returns:
      [d, p] float32; vectors @ this are the values.

    Raises:
      ValueError: where there are no clips.
    """
    inner, outer, count = 0.0, 0.0, 0
    for vectors, values in clips:
        vectors = vectors.astype(np.float64)
        inner = inner + vectors.T @ vectors
        outer = outer + vectors.T @ values.astype(np.float64)
        count += len(vectors)
    if not count:
        raise ValueError("there are no clips to fit a reading on")
    power = np.diag(inner)
    scale = np.sqrt(np.maximum(power / count, 1e-6 * power.max() / count + 1e-30))
    normal = inner / np.outer(scale, scale) + ridge * count * np.eye(len(power))
    return (np.linalg.solve(normal, outer / scale[:, None]) / scale[:, None]).astype(np.float32)
