"""Metrics of sets of clips, with the number of clips and 95 % bootstrap intervals.

The bootstrap draws clips with replacement, never windows or frames, which are correlated within a
clip.
"""

import dataclasses
from collections.abc import Callable, Sequence

import chex
import numpy as np
import scipy.stats
from jaxtyping import Float

from gesture_jax.array_types import typechecked
from gesture_jax.metrics.frechet import Moments, frechet_distance

Features = Sequence[Float[np.ndarray, "_ d"]]
"""For each clip, the features [k, d] of its windows."""
_LEVEL = 0.95
_MEAN_RESAMPLES = 1000
# Fewer, because each needs eigenvalues of matrices as large as the number of features.
_SET_RESAMPLES = 100


@dataclasses.dataclass(frozen=True)
class Score:
    """A metric of a set of clips.

    Attributes:
      value: the metric over all clips; NaN where no clip has a value.
      count: number of clips that have a value.
      low: lower end of the interval; NaN for fewer than two clips.
      high: upper end of the interval.
    """

    value: float
    count: int
    low: float = float("nan")
    high: float = float("nan")


def mean_score(values: Sequence[float], *, seed: int = 0) -> Score:
    """The mean of one value for each clip, [n]; NaN values are left out and not counted."""
    values = np.asarray(values, np.float64)
    chex.assert_rank(values, 1)
    values = values[~np.isnan(values)]
    if not len(values):
        return Score(float("nan"), 0)
    if len(values) < 2 or np.ptp(values) == 0:
        # The bootstrap fails for values without any spread.
        ends = (values[0],) * 2 if len(values) > 1 else (float("nan"),) * 2
        return Score(float(values.mean()), len(values), *map(float, ends))
    ends = scipy.stats.bootstrap(
        (values,), np.mean, n_resamples=_MEAN_RESAMPLES, confidence_level=_LEVEL,
        method="percentile", rng=np.random.default_rng(seed),
    ).confidence_interval  # fmt: skip
    return Score(float(values.mean()), len(values), float(ends.low), float(ends.high))


@typechecked
def frechet_score(
    real: Features,
    generated: Features,
    *,
    paired: bool = False,
    seed: int = 0,
) -> Score:
    """The Frechet distance between two sets of clips.

    Draws with replacement repeat clips, which increases a distance that few examples already make
    too large. So only the spread of the draws is used: the interval reaches 1.96 standard
    deviations to either side of the value, and not below 0.

    Args:
      real: features of the real clips.
      generated: features of the generated clips.
      paired: whether the generated clips belong to the real ones in the same order; then both are
        drawn together.
      seed: seeds the draws.

    Raises:
      InputError: for fewer than two windows, or features that are not finite.
    """
    chex.assert_rank([*real, *generated], 2)
    chex.assert_type([*real, *generated], float)
    sides = _project_to_span(real, generated)
    distance = lambda *chosen: frechet_distance(*(
        Moments.of(np.concatenate([clips[index] for index in indices]))
        for clips, indices in zip(sides, chosen, strict=True)
    ))  # fmt: skip
    sizes = len(real), len(generated)
    if paired:
        return _set_score(lambda both: distance(both, both), sizes[:1], seed=seed)
    return _set_score(distance, sizes, seed=seed)


@typechecked
def halves_scores(
    real: Features, generated: Features, *, seed: int = 0
) -> tuple[Score, Score] | None:
    """Frechet distances to one half of the real clips, from equal numbers of windows.

    A distance grows as the number of examples falls, so distances of halves must not be compared
    with distances of whole sets. These two can be compared with each other.

    Returns:
      The distance of half of the generated clips (of all, where there is only one), and that of the
      other half of the real clips, which is the best possible value. None where a half has fewer
      than two windows.
    """
    chex.assert_rank([*real, *generated], 2)
    chex.assert_type([*real, *generated], float)
    half, rest = real[::2], real[1::2]
    others = generated[1::2] or generated
    count = min(sum(map(len, rest)), sum(map(len, others)))
    if min(sum(map(len, half)), count) < 2:
        return None
    score = lambda clips: frechet_score(half, _subsample(clips, count), seed=seed)
    return score(others), score(rest)


def _subsample(clips: Features, count: int) -> list[np.ndarray]:
    """Chooses `count` of all windows, spread evenly over the clips."""
    ends = np.cumsum([len(clip) for clip in clips])
    chosen = np.linspace(0, ends[-1] - 1, count).round().astype(int)
    split = np.split(chosen, np.searchsorted(chosen, ends[:-1]))
    parts = [
        clip[found - (end - len(clip))] for clip, end, found in zip(clips, ends, split, strict=True)
    ]
    return [part for part in parts if len(part)]


@typechecked
def set_score(
    statistic: Callable[[np.ndarray], float],
    clips: Features,
    *,
    minimum: float = 0.0,
    seed: int = 0,
) -> Score:
    """A statistic of the features of all clips, such as their diversity.

    Args:
      statistic: a function of features [k, d].
      clips: the features of each clip.
      minimum: the interval does not reach below this.
      seed: seeds the draws.
    """
    chex.assert_rank(list(clips), 2)
    chex.assert_type(list(clips), float)
    of_chosen = lambda chosen: statistic(np.concatenate([clips[index] for index in chosen]))
    return _set_score(of_chosen, [len(clips)], minimum=minimum, seed=seed)


def _set_score(
    statistic: Callable[..., float], sizes: Sequence[int], *, minimum: float = 0.0, seed: int
) -> Score:
    """The score of a statistic that takes indices of clips, for each of the sets' sizes."""
    value = float(statistic(*map(np.arange, sizes)))
    if min(sizes) < 2:
        return Score(value, min(sizes))
    random = np.random.default_rng(seed)
    drawn = [
        statistic(*(random.integers(size, size=size) for size in sizes))
        for _ in range(_SET_RESAMPLES)
    ]
    reach = scipy.stats.norm.ppf((1 + _LEVEL) / 2) * float(np.std(drawn, ddof=1))
    return Score(value, min(sizes), max(value - reach, minimum), value + reach)


def _project_to_span(*sides: Features) -> list[list[np.ndarray]]:
    """The same features in coordinates of the space that all of them span.

    A rotation of the axes does not change a Frechet distance, and eigenvalues cost the cube of the
    dimension: a few videos span far fewer than I3D's 400 dimensions.
    """
    together = np.concatenate([clip for clips in sides for clip in clips]).astype(np.float64)
    if len(together) < together.shape[1] and np.isfinite(together).all():
        axes = np.linalg.qr(together.T).Q
        return [[clip @ axes for clip in clips] for clips in sides]
    return [list(clips) for clips in sides]
