"""Interrupted motion comes to rest without a jump, and motion that is small anyway stays."""

import numpy as np
import pytest

from gesture_jax.inference.rest_guard import RestGuard
from gesture_jax.ops import rotation

_GRID = 2
_OWN = np.asarray(rotation.angles_to_matrix_feature(np.full(3 * _GRID**2 + 3, 0.1, np.float32)))


def _motion(size):
    """[t, 9 g^2 + 3]: all angles and the translation swing by [t] around the own pose."""
    time = np.arange(len(size))[:, None]
    swing = size[:, None] * np.sin(time / 5 + np.arange(3 * _GRID**2 + 3))
    return np.asarray(rotation.angles_to_matrix_feature((0.1 + swing).astype(np.float32)))


def _run(guard, motion, hop=5):
    parts = [guard.apply(motion[i : i + hop]) for i in range(0, len(motion), hop)]
    return np.concatenate(parts)


def _sizes(motion):
    return np.sqrt(np.square(motion - _OWN).mean(axis=1))


def _largest_step(motion):
    return np.abs(np.diff(motion, axis=0)).max()


@pytest.fixture
def moving():
    guard, before = RestGuard(_OWN), _motion(np.full(50, 0.2))
    np.testing.assert_array_equal(_run(guard, before), before)
    return guard, before


def test_without_an_interruption_nothing_changes(moving):
    guard, _ = moving
    guard.resume(50)
    after = _motion(np.full(150, 0.4))[50:]
    np.testing.assert_array_equal(_run(guard, after), after)


def test_interrupted_motion_rests_within_ten_frames_without_a_jump(moving):
    guard, before = moving
    whole = _motion(np.full(100, 0.2))
    guard.interrupt()
    rested = _run(guard, whole[50:])
    usual = _sizes(before).mean()
    assert _sizes(rested[:3]).min() > 0.5 * usual
    assert _sizes(rested[9:]).max() < 0.25 * usual
    assert _largest_step(np.concatenate([before, rested])) < 1.5 * _largest_step(whole)


def test_small_motion_stays_as_it_is(moving):
    guard, _ = moving
    guard.interrupt()
    calm = _motion(np.concatenate([np.linspace(0.2, 0.02, 10), np.full(40, 0.02)]))
    limited = _run(guard, calm)
    np.testing.assert_array_equal(limited[10:], calm[10:])


@pytest.mark.parametrize(("resumed", "free"), [(70, 80), (None, 110)])
def test_motion_is_free_again_when_speech_comes_or_after_two_seconds(moving, resumed, free):
    guard, _ = moving
    whole = _motion(np.full(130, 0.2))
    guard.interrupt()
    if resumed:
        guard.resume(resumed)
    limited = np.concatenate([whole[:50], _run(guard, whole[50:])])
    assert _sizes(limited[60 : free - 10]).max() < 0.25 * _sizes(whole).mean()
    np.testing.assert_allclose(limited[free:], whole[free:], atol=1e-6)
    assert np.abs(limited[free - 3] - whole[free - 3]).max() > 1e-3
    assert _largest_step(limited) < 1.5 * _largest_step(whole)


def test_a_second_interruption_begins_again(moving):
    guard, _ = moving
    whole = _motion(np.full(100, 0.2))
    guard.interrupt()
    guard.resume(60)
    _run(guard, whole[50:75])
    guard.interrupt()
    assert _sizes(_run(guard, whole[75:])[10:]).max() < 0.25 * _sizes(whole).mean()


def test_an_interruption_before_the_first_frame_does_nothing():
    guard, motion = RestGuard(_OWN), _motion(np.full(20, 0.2))
    guard.interrupt()
    np.testing.assert_array_equal(_run(guard, motion), motion)


def test_parts_that_rest_already_stay_while_others_come_to_rest(moving):
    guard, _ = moving
    whole = _motion(np.full(100, 0.2))
    mixed = whole.copy()
    mixed[50:, :9] = _motion(np.full(100, 0.02))[50:, :9]
    guard.interrupt()
    rested = _run(guard, mixed[50:])
    np.testing.assert_allclose(rested[:, :9], mixed[50:, :9], atol=1e-6)
    assert _sizes(rested[10:]).max() < 0.25 * _sizes(whole).mean()
