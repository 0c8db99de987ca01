"""Filling what is behind a person."""

import numpy as np
import pytest

pytest.importorskip("cv2")

from gesture_jax.puppets import inpainting


def test_what_is_known_stays_and_the_rest_is_between():
    picture = np.zeros((32, 32, 1), np.float32)
    picture[:, 16:] = 90
    known = np.ones((32, 32), bool)
    known[10:20, 8:24] = False
    filled = inpainting.push_pull(np.where(known[..., None], picture, 500), known)[..., 0]
    np.testing.assert_array_equal(filled[known], picture[..., 0][known])
    assert filled[~known].min() >= 0 and filled[~known].max() <= 90


def test_a_table_goes_on_behind_a_person():
    picture = np.full((64, 64, 3), 200, np.uint8)
    picture[40:] = 60
    known = np.ones((64, 64), bool)
    known[10:, 24:40] = False
    filled = inpainting.fill_background(np.where(known[..., None], picture, 0).astype("u1"), known)
    assert np.abs(filled[:34] - 200).max() < 12 and np.abs(filled[46:] - 60).max() < 12
