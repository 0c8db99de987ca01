"""Bins, angles, matrices and the motion feature; the oracle is scipy."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from gesture_jax.ops import rotation


@pytest.fixture
def angles():
    return np.random.default_rng(0).uniform(-1.5, 1.5, (50, 3)).astype(np.float32)


def test_matrices_are_scipys_intrinsic_xyz(angles):
    expected = Rotation.from_euler("XYZ", angles).as_matrix()
    np.testing.assert_allclose(rotation.matrix_from_angles(angles), expected, atol=1e-6)


def test_angles_come_back(angles):
    there_and_back = rotation.angles_from_matrix(rotation.matrix_from_angles(angles))
    np.testing.assert_allclose(there_and_back, angles, atol=1e-4)


@pytest.mark.parametrize(("bin_number", "degrees"), [(33, 0.0), (34, 3.0), (0, -99.0), (65, 96.0)])
def test_a_certain_bin_is_its_angle(bin_number, degrees):
    logits = np.full(66, -1e4, np.float32)
    logits[bin_number] = 1e4
    # The reference's pi is 3.14.
    expected = degrees / 180 * 3.14
    assert rotation.angles_from_logits(logits) == pytest.approx(expected, abs=1e-5)


def test_undecided_bins_give_the_mean_angle():
    assert rotation.angles_from_logits(np.zeros(66, np.float32)) == pytest.approx(
        -1.5 / 180 * 3.14, abs=1e-5
    )


def test_feature_splits_row_by_row():
    matrices = np.arange(4 * 9, dtype=np.float32).reshape(2, 2, 3, 3)
    feature = rotation.join_feature(jnp.asarray(matrices), jnp.asarray([7.0, 8.0, 9.0]))
    assert feature.shape == (39,)
    np.testing.assert_array_equal(feature[9:18], np.arange(9, 18))
    split, translation = rotation.split_feature(feature)
    np.testing.assert_array_equal(split, matrices)
    np.testing.assert_array_equal(translation, [7, 8, 9])


def test_any_angles_make_rotations_and_valid_features_survive(angles):
    vector = np.concatenate([angles[:48].reshape(3, -1), angles[:3]], axis=1)  # g = 4.
    feature = rotation.angles_to_matrix_feature(jnp.asarray(vector))
    matrices, translation = rotation.split_feature(feature)
    gram = np.einsum("...ij,...ik->...jk", matrices, matrices)
    np.testing.assert_allclose(gram, np.broadcast_to(np.eye(3), gram.shape), atol=1e-5)
    np.testing.assert_allclose(np.linalg.det(matrices), 1.0, atol=1e-5)
    np.testing.assert_allclose(translation, angles[:3])
    np.testing.assert_allclose(rotation.matrix_to_angles_feature(feature), vector, atol=1e-4)


def _feature(seed):
    random = np.random.default_rng(seed)
    matrices = Rotation.random(4, rng=random).as_matrix().reshape(2, 2, 3, 3)
    return matrices, random.uniform(-0.3, 0.3, 3)


def test_changes_are_carried_over_to_another_pose():
    (motion, shift), (first, first_shift), (own, own_shift) = map(_feature, range(3))
    join = lambda matrices, shift: np.concatenate([matrices.ravel(), shift])
    carried = rotation.retarget_feature(
        join(motion, shift), join(first, first_shift), join(own, own_shift)
    )
    matrices, translation = rotation.split_feature(carried)
    # The turn that leads from `first` to `motion` leads from `own` to the result.
    turns = (
        Rotation.from_matrix(motion.reshape(-1, 3, 3))
        * Rotation.from_matrix(first.reshape(-1, 3, 3)).inv()
    )
    expected = (turns * Rotation.from_matrix(own.reshape(-1, 3, 3))).as_matrix()
    np.testing.assert_allclose(matrices.reshape(-1, 3, 3), expected, atol=1e-5)
    np.testing.assert_allclose(translation, shift - first_shift + own_shift, atol=1e-6)
    still = rotation.retarget_feature(join(first, first_shift), join(first, first_shift), carried)
    np.testing.assert_allclose(still, carried, atol=1e-5)
