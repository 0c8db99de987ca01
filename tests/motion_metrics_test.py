"""Variety, beats and seams of motion, on toys whose values are known."""

import math

import numpy as np
import pytest

from gesture_jax.errors import InputError
from gesture_jax.metrics import motion as metrics

_RANDOM = np.random.default_rng(0)
_FPS = 25


def _circle(frames):
    """The same speed and jerk at all times."""
    angle = 0.2 * np.arange(frames)
    return np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)


def _swing(frames, *, hertz, first_turn_sec):
    """Moves to and fro, and turns every half period."""
    time = np.arange(frames) / _FPS - first_turn_sec
    return np.cos(2 * np.pi * hertz * time)[:, None].repeat(3, axis=1).astype(np.float32)


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


@pytest.mark.parametrize("offset_frames", [-0.3, 0.0, 0.3])
def test_beats_of_a_swing_are_where_it_turns(offset_frames):
    """It turns every 20 frames; between two frames, but for the offset, as the speed lies there."""
    first = (10.5 + offset_frames) / _FPS
    motion = _swing(200, hertz=_FPS / 40, first_turn_sec=first)
    expected = (10.5 + 20 * np.arange(10)) / _FPS
    np.testing.assert_allclose(metrics.motion_beats(motion), expected)


def test_beats_move_with_the_motion():
    motion = _RANDOM.standard_normal((150, 4)).cumsum(axis=0).astype(np.float32)
    late = np.concatenate([motion[:1].repeat(40, axis=0), motion])
    beats = metrics.motion_beats(motion)
    inner = beats[(beats > 1) & (beats < 5)]
    assert len(inner) > 3
    later = metrics.motion_beats(late)
    assert np.abs(inner[:, None] + 40 / _FPS - later).min(axis=1).max() < 1e-9
    assert (np.diff(beats) > 0).all()


@pytest.mark.parametrize("frames", [0, 1, 2, 5, 60])
def test_rest_and_even_motion_have_no_beats(frames):
    even = 0.37 * np.arange(frames, dtype=np.float32)[:, None]
    for motion in (np.zeros((frames, 3), np.float32), even, _circle(frames)):
        assert metrics.motion_beats(motion).shape == (0,)


def test_speed_of_a_short_motion():
    """The smoothing is of 13 frames; a shorter curve keeps its length."""
    np.testing.assert_allclose(metrics.speed(2.0 * np.arange(4.0)[:, None]), [2, 2, 2], rtol=1e-6)


def test_onsets_are_where_sounds_begin():
    times = [0.4, 0.83, 1.2, 1.61, 2.0, 2.47]
    audio = np.zeros(3 * 16_000, np.float32)
    for time in times:
        start = round(time * 16_000)
        audio[start : start + 3_000] = np.hanning(6_000)[3_000:] * _RANDOM.standard_normal(3_000)
    onsets = metrics.audio_onsets(audio)
    np.testing.assert_allclose(onsets, times, atol=0.035)


@pytest.mark.parametrize("samples", [0, 1, 1_000, 40_000])
def test_silence_has_no_onsets(samples):
    assert metrics.audio_onsets(np.zeros(samples, np.float32)).shape == (0,)


def test_alignment_by_hand():
    """Gaps of 0, one sigma and two: (1 + e^-0.5 + e^-2) / 3."""
    found = metrics.beat_alignment(np.array([1.0, 2.1, 9.0]), np.array([1.0, 2.0, 8.8]))
    assert found == pytest.approx((1 + math.exp(-0.5) + math.exp(-2)) / 3)
    found = metrics.beat_alignment(np.array([1.3]), np.array([1.0]), sigma_sec=0.3)
    assert found == pytest.approx(math.exp(-0.5))


def test_alignment_is_averaged_over_the_beats_of_the_sound():
    """More beats of the motion take nothing away; more of the sound do."""
    assert metrics.beat_alignment(np.array([1.0, 50.0]), np.array([1.0])) == 1.0
    assert metrics.beat_alignment(np.array([1.0]), np.array([1.0, 50.0])) == pytest.approx(0.5)


def test_alignment_lies_between_none_and_all_and_knows_no_clock():
    for _ in range(20):
        motion, audio = _RANDOM.uniform(0, 10, 12), _RANDOM.uniform(0, 10, 9)
        value = metrics.beat_alignment(motion, audio)
        assert 0 < value < 1
        assert metrics.beat_alignment(motion + 3, audio + 3) == pytest.approx(value)
        assert metrics.beat_alignment(motion[::-1], audio) == pytest.approx(value)
    assert metrics.beat_alignment(audio, audio) == 1.0


def test_alignment_where_one_side_has_no_beats():
    beats, none = np.array([1.0, 2.0]), np.zeros(0)
    assert metrics.beat_alignment(none, beats) == 0.0
    assert math.isnan(metrics.beat_alignment(beats, none))
    assert math.isnan(metrics.beat_alignment(none, none))


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
