"""Scores and their bootstrap intervals, for means and Gaussians with known answers."""

import numpy as np
import pytest

from gesture_jax.metrics import frechet, scores

_RANDOM = np.random.default_rng(0)


def test_the_interval_of_a_mean_is_that_of_its_standard_error():
    values = _RANDOM.normal(3.0, 2.0, size=400)
    score = scores.mean_score(values)
    assert (score.value, score.count) == (pytest.approx(values.mean()), 400)
    error = values.std(ddof=1) / 20
    assert score.low == pytest.approx(values.mean() - 1.96 * error, abs=0.2 * error)
    assert score.high == pytest.approx(values.mean() + 1.96 * error, abs=0.2 * error)


def test_clips_without_a_value_are_not_counted():
    score = scores.mean_score([1.0, float("nan"), 3.0])
    assert (score.value, score.count) == (2.0, 2)
    nothing = scores.mean_score([float("nan")])
    assert np.isnan(nothing.value) and nothing.count == 0


def test_one_clip_has_a_value_and_no_interval():
    score = scores.mean_score([5.0])
    assert score.value == 5.0 and np.isnan([score.low, score.high]).all()
    same = scores.mean_score([5.0, 5.0])
    assert (same.low, same.high) == (5.0, 5.0)


def _clips(count: int, shift: float) -> list[np.ndarray]:
    return list(_RANDOM.normal(shift, 1.0, size=(count, 5, 3)))


def test_the_frechet_distance_of_a_shift_is_inside_its_interval():
    """Unit Gaussians 2 apart in each of 3 dimensions: 12."""
    score = scores.frechet_score(_clips(200, 0.0), _clips(200, 2.0))
    assert score.value == pytest.approx(12.0, abs=0.8)
    assert score.low < 12.0 < score.high and score.low < score.value < score.high
    assert score.count == 200


def test_equal_sets_are_not_apart_and_seeds_repeat():
    clips = _clips(20, 0.0)
    score = scores.frechet_score(clips, clips)
    assert score.value == pytest.approx(0.0, abs=1e-9) and score.low == 0.0
    other = _clips(20, 1.0)
    again = [scores.frechet_score(clips, other, seed=seed) for seed in (1, 1, 2)]
    assert again[0] == again[1] != again[2]


def test_few_clips_of_many_features_are_as_far_apart_as_their_features():
    real, other = ([_RANDOM.normal(shift, size=(3, 60)) for _ in range(4)] for shift in (0, 1))
    direct = frechet.frechet_distance(
        *(frechet.Moments.of(np.concatenate(clips)) for clips in (real, other))
    )
    assert scores.frechet_score(real, other).value == pytest.approx(direct, rel=1e-6)


def test_clips_are_drawn_not_their_windows():
    """Twenty clips of constant windows: the interval is as wide as for twenty values."""
    levels = _RANDOM.normal(size=20)
    clips = [np.full((50, 1), level) for level in levels]
    score = scores.set_score(lambda rows: float(rows.mean()) + 10.0, clips)
    error = levels.std(ddof=1) / np.sqrt(20)
    assert score.high - score.low == pytest.approx(2 * 1.96 * error, rel=0.3)
