"""Lips are measured in widths of the mouth at rest."""

import numpy as np

from gesture_jax.people.lips import LIP_JOINTS, know_lips, lip_positions

_NAMES = ("head", *LIP_JOINTS)


def _joints(widths, openings) -> np.ndarray:
    joints = np.zeros((len(widths), 5, 2))
    joints[:, 1, 0], joints[:, 2, 0] = 50 - np.divide(widths, 2), 50 + np.divide(widths, 2)
    joints[:, 3, 1], joints[:, 4, 1] = 60 - np.divide(openings, 2), 60 + np.divide(openings, 2)
    return joints


def test_the_unit_is_the_width_at_rest():
    joints = _joints([20, 20, 20, 15, 24], [0, 0, 0, 5, 8])
    expected = [[0, 0], [0, 0], [0, 0], [0.25, -0.25], [0.4, 0.2]]
    np.testing.assert_allclose(lip_positions(joints, _NAMES), expected, atol=1e-6)


def test_lips_that_are_never_closed_count_as_closed_where_they_nearly_are():
    joints = _joints([20] * 50 + [24] * 50, [4] * 50 + [8] * 50)
    lips = lip_positions(joints, _NAMES)
    np.testing.assert_allclose(lips[0], 0, atol=1e-6)
    np.testing.assert_allclose(lips[-1], [0.2, 0.2], atol=1e-6)


def test_size_and_place_do_not_matter():
    joints = _joints([20, 20, 15], [0, 4, 5])
    np.testing.assert_allclose(
        lip_positions(3 * joints + 7, _NAMES), lip_positions(joints, _NAMES), atol=1e-6
    )


def test_unseen_lips_stay_as_they_were():
    joints = _joints([20, 20, 20], [0, 4, 0])
    joints[0, 3], joints[2, 1] = np.nan, np.nan
    lips = lip_positions(joints, _NAMES)
    np.testing.assert_allclose(lips[0], 0)
    np.testing.assert_allclose(lips[2], lips[1])
    assert not lip_positions(np.full_like(joints, np.nan), _NAMES).any()


def test_a_clip_without_lips_is_recognised():
    assert know_lips(_NAMES) and not know_lips(_NAMES[1:-1])
