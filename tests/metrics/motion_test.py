"""Diversity and seams of motion, on toys with known values."""

import math

import numpy as np
import pytest

from gesture_jax.errors import InputError
from gesture_jax.metrics import motion as metrics

_RANDOM = np.random.default_rng(0)


def _circle(frames):
    """The same speed and jerk at all times."""
    angle = 0.2 * np.arange(frames)
    return np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)


def test_diversity_of_two_is_their_distance():
    features = np.array([[0.0, 0.0, 1.0], [2.0, -1.0, 1.0]])
    assert metrics.diversity(features) == pytest.approx(3.0)


def test_diversity_pairs_nothing_with_itself():
    """One-hot rows are all 2 apart, and 0 from themselves."""
    assert metrics.diversity(np.eye(7)) == pytest.approx(2.0)


def test_diversity_nears_the_mean_over_all_pairs_and_scales():
    features = _RANDOM.standard_normal((60, 5))
    gaps = np.abs(features[:, None] - features).sum(axis=-1)
    expected = gaps.sum() / (60 * 59)
    assert metrics.diversity(features, num_pairs=50_000) == pytest.approx(expected, rel=0.01)
    found = metrics.diversity(features)
    assert found == metrics.diversity(features) != metrics.diversity(features, seed=1)
    assert metrics.diversity(3 * features + 1) == pytest.approx(3 * found)
    with pytest.raises(InputError, match="two examples or more, not 1"):
        metrics.diversity(features[:1])


def test_l1_diversity_by_hand():
    """One clip of two frames, 1 and 3 from their mean, and one of two that are both the mean."""
    moving = np.array([[0.0, 0.0], [2.0, 6.0]])
    assert metrics.l1_diversity([moving]) == pytest.approx(4.0)
    assert metrics.l1_diversity([moving, np.ones((2, 2)), np.zeros((0, 2))]) == pytest.approx(2.0)
    with pytest.raises(InputError, match="a clip of one frame"):
        metrics.l1_diversity([])


def test_l1_diversity_knows_no_place_and_counts_features():
    clips = [_RANDOM.standard_normal((length, 3)) for length in (4, 9)]
    before = [clip.copy() for clip in clips]
    found = metrics.l1_diversity(clips)
    assert metrics.l1_diversity([clip + 5 for clip in clips]) == pytest.approx(found)
    assert metrics.l1_diversity([np.tile(clip, 2) for clip in clips]) == pytest.approx(2 * found)
    np.testing.assert_array_equal(clips[0], before[0])


def test_speed_of_a_short_motion():
    """The smoothing is of 13 frames; a shorter curve keeps its length."""
    np.testing.assert_allclose(metrics.speed(2.0 * np.arange(4.0)[:, None]), [2, 2, 2], rtol=1e-6)


def test_a_smooth_curve_has_no_seams():
    assert metrics.seam_jerk_ratio(_circle(100), [0, 30, 60]) == pytest.approx(1.0, rel=1e-3)


def test_a_jump_shows_where_it_is():
    motion = _circle(100)
    motion[40:] += 1.0
    assert metrics.seam_jerk_ratio(motion, [40]) > 100
    assert metrics.seam_jerk_ratio(motion, [43]) < 1.5  # No stencil of this one holds both sides.
    assert metrics.seam_jerk_ratio(motion, [42]) > 5


def test_jerk_by_hand():
    """A step of one at frame 5 of 12, between third differences of 1, -2 and 1; 9 in all."""
    step = (np.arange(12) >= 5).astype(float)[:, None]
    ramp = np.arange(12)[:, None] ** 3 / 6  # Its third difference is 1.
    motion = np.concatenate([step, ramp], axis=1)
    expected = (2 * math.sqrt(2) + math.sqrt(5)) / 3
    assert metrics.seam_jerk_ratio(motion, [5]) == pytest.approx(expected)
    assert metrics.seam_jerk_ratio(motion, [0, 5, 12]) == pytest.approx(expected)
    assert metrics.seam_jerk_ratio(step, [5]) == math.inf


@pytest.mark.parametrize(
    ("frames", "borders"), [(100, []), (100, [0, 100]), (3, [1]), (0, [0]), (5, [2, 3])]
)
def test_there_is_no_ratio_without_both_sides(frames, borders):
    assert math.isnan(metrics.seam_jerk_ratio(_circle(frames), borders))
    assert math.isnan(metrics.seam_jerk_ratio(np.zeros((50, 2)), [25]))
