"""Scales of the whole motion, of head and hands, and the fade-out at the end of a clip."""

import numpy as np
import pytest

from gesture_jax.errors import InputError
from gesture_jax.inference.motion_scales import Control
from gesture_jax.ops import rotation

_GRID = 8


@pytest.fixture(scope="module")
def motion():
    """Random motion features [30, 9 g^2 + 3], and those of another pose."""
    random = np.random.default_rng(0)
    angles = random.uniform(-0.5, 0.5, (31, 3 * _GRID**2 + 3)).astype(np.float32)
    features = np.asarray(rotation.angles_to_matrix_feature(angles))
    return features[1:], features[0]


def _moved(control, motion, own, **options):
    """Distance of each row of cells, [t, g], and of the translation from the portrait's pose."""
    cells, shift = rotation.split_feature(control.apply(motion, own, **options))
    own_cells, own_shift = rotation.split_feature(own)
    return np.abs(cells - own_cells).mean(axis=(2, 3, 4)), np.abs(shift - own_shift).mean(axis=1)


def test_by_default_nothing_changes(motion):
    assert Control().apply(*motion) is motion[0]
    nearly = Control(motion_scale=1.0 + 1e-6).apply(*motion)
    np.testing.assert_allclose(nearly, motion[0], atol=1e-4)


def test_zero_is_the_portraits_own_pose(motion):
    still = Control(motion_scale=0.0).apply(*motion)
    np.testing.assert_allclose(still, np.broadcast_to(motion[1], still.shape), atol=1e-5)


def test_motion_grows_with_the_scale_and_stays_a_rotation(motion):
    sizes = [_moved(Control(motion_scale=s), *motion)[0].mean() for s in (0.0, 0.3, 0.6, 1.2)]
    assert sizes == sorted(sizes)
    matrices, _ = rotation.split_feature(Control(motion_scale=0.5).apply(*motion))
    turned = matrices @ np.swapaxes(matrices, -1, -2)
    np.testing.assert_allclose(turned, np.broadcast_to(np.eye(3), turned.shape), atol=1e-5)


def test_the_head_is_above_and_the_hands_below(motion):
    before, _ = _moved(Control(), *motion)
    no_head, _ = _moved(Control(head_scale=0.0), *motion)
    no_hands, _ = _moved(Control(hands_scale=0.0), *motion)
    assert no_head[:, :2].max() < 1e-5 and no_hands[:, 5:].max() < 1e-5
    np.testing.assert_allclose(no_head[:, 5:], before[:, 5:], atol=1e-4)
    np.testing.assert_allclose(no_hands[:, :2], before[:, :2], atol=1e-4)


def test_the_fade_out_is_smooth_and_does_not_depend_on_the_pieces(motion):
    control = Control(rest_sec=0.4)
    whole = control.apply(*motion, frames_left=30)
    np.testing.assert_allclose(whole[-1], motion[1], atol=1e-5)
    np.testing.assert_allclose(whole[:19], motion[0][:19], atol=1e-4)
    pieces = [control.apply(motion[0][i : i + 7], motion[1], frames_left=30 - i)
              for i in range(0, 30, 7)]  # fmt: skip
    np.testing.assert_array_equal(np.concatenate(pieces), whole)
    np.testing.assert_allclose(control.apply(*motion), motion[0], atol=1e-4)  # The end is unknown.


@pytest.mark.parametrize("name", ["motion_scale", "head_scale", "hands_scale", "rest_sec"])
def test_negative_values_are_refused(name):
    with pytest.raises(InputError, match=f"{name} is -1; it has to be 0 or more"):
        Control(**{name: -1})
