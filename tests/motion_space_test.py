"""Motion features to standardised vectors and back."""

import jax.numpy as jnp
import numpy as np
import pytest

from gesture_jax.metrics import motion as motion_metrics
from gesture_jax.models.motion_space import MotionSpace, gather_statistics, standardise_speech
from gesture_jax.ops import rotation


@pytest.fixture
def motion():
    random = np.random.default_rng(0)
    vectors = random.uniform(-1.0, 1.0, (2, 20, 4 * 3 + 3)).astype(np.float32)  # g = 2.
    vectors[..., 0] = 0.25  # A cell that never moves.
    return np.asarray(rotation.angles_to_matrix_feature(jnp.asarray(vectors)))


@pytest.mark.parametrize(("name", "dim"), [("angles", 15), ("matrix", 39)])
def test_decode_inverts_encode(motion, name, dim):
    space = MotionSpace(name, feature_dim=39)
    speech = np.random.default_rng(1).standard_normal((2, 20, 4)) * 3 + 7
    statistics = gather_statistics(map(space.from_feature, motion), speech)
    encoded = space.encode(motion, statistics)
    assert encoded.shape == (2, 20, dim) and space.dim == dim
    np.testing.assert_allclose(space.decode(encoded, statistics), motion, atol=1e-5)
    np.testing.assert_allclose(encoded.mean(axis=(0, 1)), 0, atol=1e-4)
    assert encoded.std(axis=(0, 1)).max() <= 1.0 + 1e-4
    heard = np.asarray(standardise_speech(speech, statistics))
    np.testing.assert_allclose(heard.mean(axis=(0, 1)), 0, atol=1e-4)
    np.testing.assert_allclose(heard.std(axis=(0, 1)), 1, atol=1e-3)


def test_still_cells_are_not_blown_up(motion):
    space = MotionSpace("angles", feature_dim=39)
    statistics = gather_statistics(map(space.from_feature, motion), np.zeros((1, 5, 2)))
    assert np.isfinite(space.encode(motion, statistics)).all()
    assert statistics["motion_std"][0] > 0.05


def test_speed_error_is_zero_for_the_same_and_one_for_stillness(motion):
    np.testing.assert_allclose(motion_metrics.speed_error(motion, motion), 0, atol=1e-6)
    still = np.zeros_like(motion)
    np.testing.assert_allclose(motion_metrics.speed_error(still, motion), 1, atol=1e-6)


def test_correlation_is_one_for_the_same_timing_and_zero_for_stillness(motion):
    correlate = motion_metrics.speed_correlation
    np.testing.assert_allclose(correlate(0.1 * motion, motion), 1, atol=1e-4)
    np.testing.assert_allclose(correlate(np.zeros_like(motion), motion), 0, atol=1e-6)


def test_speed_of_an_even_movement_is_its_step():
    even = 0.5 * np.arange(30, dtype=np.float32)[:, None] * np.ones((1, 3), np.float32)
    np.testing.assert_allclose(motion_metrics.speed(even), 0.5, rtol=1e-5)
