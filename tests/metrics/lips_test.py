"""Lips against speech: each measure on clips that were made by hand."""

import numpy as np
import pytest

from gesture_jax.metrics import lips
from gesture_jax.speech.phones import Phone

_RATE = 16_000
_NOISE = np.random.default_rng(0).standard_normal(20 * _RATE).astype(np.float32)


def _speech(times_sec, amplitude):
    """Noise with an amplitude that is linear between the given times."""
    samples = np.arange(round(times_sec[-1] * _RATE)) / _RATE
    return _NOISE[: len(samples)] * np.interp(samples, times_sec, amplitude).astype(np.float32)


def _syllables(seed, seconds=12):
    """A random sequence of loud and soft moments, five a second."""
    times = np.arange(0, seconds + 0.1, 0.2)
    return times, np.random.default_rng(seed).uniform(0.02, 0.3, len(times))


@pytest.mark.parametrize("late_ms", [-200, -40, 0, 120])
def test_the_lag_of_a_mouth_that_follows_the_loudness_is_found(late_ms):
    times, loudness = _syllables(1)
    frames = np.arange(300) / 25
    opening = np.interp(frames - late_ms / 1000, times, loudness)
    correlation, lag_ms = lips.correlate(opening, _speech(times, loudness))
    assert correlation > 0.9
    assert abs(lag_ms - late_ms) <= 20
    # The sound of somebody else has another course.
    others = [lips.correlate(opening, _speech(*_syllables(seed)))[0] for seed in (2, 3, 4)]
    assert max(others) < 0.6


def test_moving_the_sound_moves_the_lag_and_nothing_else():
    times, loudness = _syllables(1)
    opening, sound = np.interp(np.arange(300) / 25, times, loudness), _speech(times, loudness)
    moved = np.pad(sound, (round(0.2 * _RATE), 0))[: len(sound)]
    (near, lag_ms), (far, moved_ms) = lips.correlate(opening, sound), lips.correlate(opening, moved)
    assert moved_ms == pytest.approx(lag_ms - 200)
    assert far == pytest.approx(near, abs=0.02)


def test_there_is_no_correlation_without_change_or_with_few_frames():
    times, loudness = _syllables(1)
    sound, opening = _speech(times, loudness), np.interp(np.arange(300) / 25, times, loudness)
    for pair in (
        (np.full(300, 0.3), sound),
        (opening, np.zeros_like(sound)),
        (opening[:40], sound),
        (np.full(300, np.nan), sound),
    ):
        assert np.isnan(lips.correlate(*pair)).all()
    opening[100:150] = np.nan
    correlation, _ = lips.correlate(opening, sound)
    assert correlation > 0.9


def _word(*names):
    """Phones of 0.2 s each from 0 s on."""
    return [Phone(name, 0.2 * n, 0.2 * (n + 1)) for n, name in enumerate(names)]


# Their middles, at 0.1, 0.3, ... s, lie between frames 2 and 3, on 7.5, 12.5, ...
_PHONES = _word("M", "AA1", "B", "AA0", "P", "AA", "AA", "AA", "AA", "AA")


def _opening(*closed):
    opening = np.full(50, 1.0)
    opening[list(closed)] = 0.0
    return opening


def test_closure_is_the_share_of_bilabials_with_closed_lips_within_80_ms():
    # /m/ at 0.1 s and /b/ at 0.5 s; the frame at 0.84 s is 60 ms from nothing but /p/ at 0.9 s,
    # and the one at 0.68 s is 0.18 s from /b/.
    share, chance = lips.closure(_opening(2, 3, 12, 17), _PHONES)
    assert share == pytest.approx(2 / 3)
    # Closed within 80 ms: 0 to 0.2, 0.4 to 0.56 and 0.6 to 0.76 s of 2 s.
    assert chance == pytest.approx((0.20 + 0.16 + 0.16) / 2, abs=0.02)
    assert lips.closure(_opening(2, 12, 21), _PHONES)[0] == 1.0
    assert lips.closure(_opening(7, 17, 27), _PHONES)[0] == 0.0


def test_a_still_mouth_is_no_better_than_chance():
    assert lips.closure(np.full(50, 0.02), _PHONES) == (1.0, 1.0)
    scores = lips.lip_scores(np.full(50, 0.02), _NOISE[: 2 * _RATE] * 0.1, _PHONES)
    assert scores["lip_closure_above_chance"] == 0.0 and np.isnan(scores["lip_silence"])


def test_closed_is_relative_to_the_range_of_the_clip():
    """Scale and offset of the opening do not count; its extremes are left out."""
    opening = _opening(2, 3, 12, 17, 30, 35, 45)
    expected = lips.closure(opening, _PHONES)
    assert expected[0] == pytest.approx(2 / 3)
    assert lips.closure(0.02 + 0.1 * opening, _PHONES) == expected
    opening[40] = 50.0
    assert lips.closure(opening, _PHONES) == expected
    opening[2:4] = 0.14
    assert lips.closure(opening, _PHONES) == expected
    opening[2:4] = 0.16
    assert lips.closure(opening, _PHONES)[0] == pytest.approx(1 / 3)


def test_phones_without_a_known_mouth_do_not_count():
    opening = _opening(12, 16, 30, 35)
    opening[:6] = np.nan
    assert lips.closure(opening, _PHONES)[0] == 0.5
    assert np.isnan(lips.closure(opening, _word("AA"))[0])
    assert np.isnan(lips.closure(np.full(50, np.nan), _PHONES)).all()
    late = [Phone("B", 5.0, 5.2)]
    assert np.isnan(lips.closure(opening, late)).all()


# Speech of 2 s, 2 s of silence, speech of 2 s.
_PAUSED = _speech([0, 1.99, 2, 4, 4.01, 6], [0.1, 0.1, 0, 0, 0.1, 0.1])


def test_silence_is_found_and_short_gaps_are_not():
    np.testing.assert_allclose(lips.find_silences(_PAUSED), [[2, 4]], atol=0.06)
    gap = _speech([0, 0.99, 1, 1.5, 1.51, 3], [0.1, 0.1, 0, 0, 0.1, 0.1])
    assert not len(lips.find_silences(gap))
    assert not len(lips.find_silences(np.zeros(0, np.float32)))
    # A hiss 40 dB below the speech is still silence.
    hiss = _PAUSED + 0.001 * _NOISE[-len(_PAUSED) :]
    np.testing.assert_allclose(lips.find_silences(hiss), [[2, 4]], atol=0.06)


def _moving(frames, in_silence):
    """A triangle wave with a period of four frames, of another height in silence."""
    wave = np.resize([0.0, 0.5, 1.0, 0.5], frames)
    times = np.arange(frames) / 25
    return np.where((times > 2.2) & (times < 3.9), in_silence * wave, wave)


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_movement_in_silence_is_relative_to_that_in_speech(share):
    assert lips.silence_ratio(_moving(150, share), _PAUSED) == pytest.approx(share, abs=0.02)


def test_a_recording_without_silence_or_without_movement_has_no_ratio():
    assert np.isnan(lips.silence_ratio(_moving(50, 1.0), _PAUSED[: 2 * _RATE]))
    assert np.isnan(lips.silence_ratio(np.full(150, 0.1), _PAUSED))
    assert np.isnan(lips.silence_ratio(np.full(150, np.nan), _PAUSED))
    assert np.isnan(lips.silence_ratio(_moving(150, 1.0), np.zeros_like(_PAUSED)))


def test_scores_ignore_what_the_shorter_of_lips_and_sound_lacks():
    opening = _moving(150, 0.5)
    both = lips.lip_scores(opening, _PAUSED, _PHONES)
    assert tuple(both) == lips.NAMES
    longer = lips.lip_scores(np.append(opening, [9.0] * 50), _PAUSED, _PHONES)
    assert longer == both
