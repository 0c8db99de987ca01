"""A number with how many clips it is of, and how sure it is: intervals of 95 % by bootstrap.

Clips are drawn with replacement, never windows or frames, which are alike within a clip.
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import scipy.stats

from gesture_jax.metrics.frechet import Moments, frechet_distance

_LEVEL = 0.95
_MEAN_RESAMPLES = 1000
# Each takes eigenvalues of matrices as wide as the features.
_SET_RESAMPLES = 100


@dataclasses.dataclass(frozen=True)
class Score:
    """A metric of a set of clips.

    Attributes:
      value: of all clips; NaN where no clip has one.
      count: clips that it is of.
      low: lower end of the interval; NaN for fewer than two clips.
      high: upper end.
    """

    value: float
    count: int
    low: float = float("nan")
    high: float = float("nan")


def mean_score(values: Sequence[float], *, seed: int = 0) -> Score:
    """The mean of one value a clip, [n]; clips whose value is NaN are left out of the count."""
    values = np.asarray(values, np.float64)
    values = values[~np.isnan(values)]
    if not len(values):
        return Score(float("nan"), 0)
    if len(values) < 2 or np.ptp(values) == 0:
        # Equal values have no spread to draw from.
        ends = (values[0],) * 2 if len(values) > 1 else (float("nan"),) * 2
        return Score(float(values.mean()), len(values), *map(float, ends))
    ends = scipy.stats.bootstrap(
        (values,), np.mean, n_resamples=_MEAN_RESAMPLES, confidence_level=_LEVEL,
        method="percentile", rng=np.random.default_rng(seed),
    ).confidence_interval  # fmt: skip
    return Score(float(values.mean()), len(values), float(ends.low), float(ends.high))


def frechet_score(
    real: Sequence[np.ndarray],
    generated: Sequence[np.ndarray],
    *,
    paired: bool = False,
    seed: int = 0,
) -> Score:
    """The Frechet distance of two sets, from the features [k, d] of each clip's windows.

    Drawing with replacement repeats clips, which adds to a distance that few examples make too
    large already. So only the spread of what is drawn is used: 1.96 standard deviations to either
    side of the value, 0 at the least.

    Args:
      real: a clip each.
      generated: others.
      paired: whether each belongs to the real one of its place, and is drawn with it.
      seed: of the draw.

    Raises:
      InputError: for fewer than two windows, or features that are not finite.
    """
    sides = _turn_into_span(real, generated)
    distance = lambda *chosen: frechet_distance(*(
        Moments.of(np.concatenate([clips[index] for index in indices]))
        for clips, indices in zip(sides, chosen, strict=True)
    ))  # fmt: skip
    sizes = len(real), len(generated)
    if paired:
        return _set_score(lambda both: distance(both, both), sizes[:1], seed=seed)
    return _set_score(distance, sizes, seed=seed)


def halves_scores(
    real: Sequence[np.ndarray], generated: Sequence[np.ndarray], *, seed: int = 0
) -> tuple[Score, Score] | None:
    """Frechet distances to every other real clip, of as many windows each: they can be compared.

    A distance grows as examples get fewer, so that one of halves says nothing beside one of all.

    Returns:
      Of every other generated clip (of all, where there is one), and of the rest of the real ones,
      which is the least to hope for. None where a half has fewer than two windows.
    """
    half, rest = real[::2], real[1::2]
    others = generated[1::2] or generated
    count = min(sum(map(len, rest)), sum(map(len, others)))
    if min(sum(map(len, half)), count) < 2:
        return None
    return tuple(frechet_score(half, _thin(clips, count), seed=seed) for clips in (others, rest))


def _thin(clips: Sequence[np.ndarray], count: int) -> list[np.ndarray]:
    """So many of all windows, spread evenly over the clips."""
    ends = np.cumsum([len(clip) for clip in clips])
    chosen = np.linspace(0, ends[-1] - 1, count).round().astype(int)
    split = np.split(chosen, np.searchsorted(chosen, ends[:-1]))
    parts = [
        clip[found - (end - len(clip))] for clip, end, found in zip(clips, ends, split, strict=True)
    ]
    return [part for part in parts if len(part)]


def set_score(
    statistic: Callable[[np.ndarray], float], clips: Sequence[np.ndarray], *, seed: int = 0
) -> Score:
    """A statistic of the features of all clips, [k, d] each, such as their diversity."""
    of_chosen = lambda chosen: statistic(np.concatenate([clips[index] for index in chosen]))
    return _set_score(of_chosen, [len(clips)], seed=seed)


def _set_score(statistic: Callable[..., float], sizes: Sequence[int], *, seed: int) -> Score:
    """Of indices of clips, for each set of so many."""
    value = float(statistic(*map(np.arange, sizes)))
    if min(sizes) < 2:
        return Score(value, min(sizes))
    random = np.random.default_rng(seed)
    drawn = [
        statistic(*(random.integers(size, size=size) for size in sizes))
        for _ in range(_SET_RESAMPLES)
    ]
    reach = scipy.stats.norm.ppf((1 + _LEVEL) / 2) * float(np.std(drawn, ddof=1))
    return Score(value, min(sizes), max(value - reach, 0.0), value + reach)


def _turn_into_span(*sides: Sequence[np.ndarray]) -> list[list[np.ndarray]]:
    """The same features by coordinates in the space that all of them span.

    A Frechet distance does not change as axes are turned, and eigenvalues cost the cube of the
    dimension: of I3D's 400 a few videos need far fewer.
    """
    together = np.concatenate([clip for clips in sides for clip in clips]).astype(np.float64)
    if len(together) < together.shape[1] and np.isfinite(together).all():
        axes = np.linalg.qr(together.T).Q
        return [[clip @ axes for clip in clips] for clips in sides]
    return [list(clips) for clips in sides]
