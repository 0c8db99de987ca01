"""Hands come to rest soon after speech ends, smoothly, and move again with the speech."""

import numpy as np

from gesture_jax.inference.silence import HandsAtRest


def _scales(silent, *, hop=None):
    rest = HandsAtRest()
    silent = np.asarray(silent)
    pieces = [silent] if hop is None else np.array_split(silent, range(hop, len(silent), hop))
    return np.concatenate([rest.scales(piece) for piece in pieces])


def test_speech_leaves_the_hands_free():
    np.testing.assert_array_equal(_scales([False] * 40), 1.0)


def test_hands_rest_within_0_3_seconds_of_silence():
    scales = _scales([False] * 20 + [True] * 30)
    assert (scales[:21] == 1.0).all()
    assert (scales[20 + 7 :] < 0.2).all()


def test_hands_are_free_again_soon_after_speech_begins():
    scales = _scales([True] * 30 + [False] * 20)
    assert (scales[30 + 6 :] == 1.0).all()


def test_nothing_jumps():
    silent = np.random.default_rng(0).random(500) < 0.7
    assert np.abs(np.diff(_scales(silent))).max() < 0.3


def test_one_silent_frame_is_no_pause():
    np.testing.assert_array_equal(_scales([False] * 10 + [True] + [False] * 10), 1.0)


def test_pieces_change_nothing():
    silent = np.random.default_rng(1).random(200) < 0.6
    np.testing.assert_array_equal(_scales(silent), _scales(silent, hop=5))
