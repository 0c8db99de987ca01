"""Positions of the lips: closed for p, b, m, on the teeth for f and v, rounded for u."""

import numpy as np
import pytest

from gesture_jax.procedural.visemes import REST, lip_positions, tabulate
from gesture_jax.speech.phones import Phone


def _syllables(*symbols: str, each_sec: float = 0.12, start: float = 0.4) -> list[Phone]:
    times = start + each_sec * np.arange(len(symbols) + 1)
    return [
        Phone(symbol, *limits)
        for symbol, limits in zip(symbols, zip(times[:-1], times[1:], strict=True), strict=True)
    ]


def _at(tracks: np.ndarray, seconds: float) -> np.ndarray:
    return tracks[int(seconds * 25)]


@pytest.mark.parametrize("symbol", ["p", "b", "m"])
def test_lips_close_between_open_vowels(symbol):
    phones = _syllables("a", symbol, "a")
    opening = lip_positions(phones, 40)[:, 0]
    near = opening[int(0.46 * 25) : int(0.66 * 25)]
    assert near.min() < 0.05
    assert opening.max() > 0.8


def test_at_every_rate_and_phase_a_frame_shows_the_closure():
    for each_sec in (0.06, 0.08, 0.12):
        for phase in np.arange(0.4, 0.44, 0.005):
            phones = _syllables("a", "m", "a", each_sec=each_sec, start=phase)
            opening = lip_positions(phones, 40)[:, 0]
            middle = phones[1].middle_sec
            frames = (np.arange(40) + 0.5) / 25
            assert opening[np.abs(frames - middle) < 0.08].min() < 0.05, (each_sec, phase)


def test_lower_lip_is_on_the_teeth_for_f():
    tracks = lip_positions(_syllables("a", "f", "a"), 40)
    place = 0.4 + 1.5 * 0.12
    assert _at(tracks, place)[2] > 0.9 and _at(tracks, place)[0] < 0.3


def test_lips_are_round_for_u_and_spread_for_i():
    assert _at(lip_positions(_syllables("u", each_sec=0.3), 40), 0.55)[1] < 0.1
    assert _at(lip_positions(_syllables("i", each_sec=0.3), 40), 0.55)[1] > 0.85


def test_rounding_begins_in_the_consonant_before():
    """Co-articulation: the s of `su` is rounder than that of `si`."""
    width = lambda vowel: _at(lip_positions(_syllables("s", vowel), 40), 0.49)[1]
    assert width("u") < width("i") - 0.1


def test_a_diphthong_moves_from_its_first_vowel_to_its_second():
    width = lip_positions(_syllables("aʊ", each_sec=0.4), 40)[:, 1]
    assert width[int(0.47 * 25)] > width[int(0.72 * 25)] + 0.2


def test_silence_is_rest():
    np.testing.assert_allclose(lip_positions([], 10), np.tile(REST, (10, 1)))
    tracks = lip_positions(_syllables("a"), 75)
    np.testing.assert_allclose(tracks[int(1.0 * 25) :], np.tile(REST, (50, 1)), atol=1e-3)


def test_unknown_phones_move_the_lips_a_little():
    tracks = lip_positions(_syllables("ʘ", each_sec=0.3), 40)
    assert np.isfinite(tracks).all() and 0.1 < tracks[:, 0].max() < 0.6


def test_phones_become_a_table():
    table = tabulate(_syllables("a", "m", each_sec=0.5, start=1.0))
    assert table["phones"] == ("a", "m")
    np.testing.assert_allclose(table["phone_times_sec"], [[1.0, 1.5], [1.5, 2.0]])
    assert tabulate([])["phone_times_sec"].shape == (0, 2)
