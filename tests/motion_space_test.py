"""Motion features to standardised vectors and back."""

import jax.numpy as jnp
import numpy as np
import pytest

from gesture_jax.errors import InputError
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
    speech = np.random.default_rng(1).standard_normal((2, 20, 4)) * 3 + 7
    for relative in (True, False):
        space = MotionSpace(name, feature_dim=39, relative=relative)
        vectors = space.from_feature(motion)
        statistics = gather_statistics(vectors, speech)
        encoded = space.encode(vectors, vectors[:, 0], statistics)
        prior = space.encode_prior(vectors[:, :3], vectors[:, 0], statistics)
        np.testing.assert_array_equal(prior[:, int(relative) :], encoded[:, :3])
        assert encoded.shape == (2, 20, dim) and space.dim == dim
        decoded = space.decode(encoded, vectors[:, 0], statistics)
        np.testing.assert_allclose(space.to_feature(decoded), motion, atol=1e-5)
        if relative:
            np.testing.assert_allclose(encoded[:, 0], 0, atol=1e-6)
            # Over all portraits that a clip may give.
            encoded = np.stack([
                space.encode(vectors, vectors[:, index], statistics) for index in range(20)
            ])  # fmt: skip
        size = np.sqrt(np.square(encoded).mean(axis=tuple(range(encoded.ndim - 1))))
        assert size.max() <= 1.0 + 1e-4 and np.median(size) > 0.99
    np.testing.assert_allclose(encoded.mean(axis=(0, 1)), 0, atol=1e-4)
    heard = np.asarray(standardise_speech(speech, statistics))
    np.testing.assert_allclose(heard.mean(axis=(0, 1)), 0, atol=1e-4)
    np.testing.assert_allclose(heard.std(axis=(0, 1)), 1, atol=1e-3)


def test_still_cells_are_not_blown_up(motion):
    space = MotionSpace("angles", feature_dim=39)
    vectors = space.from_feature(motion)
    statistics = gather_statistics(vectors, np.zeros((1, 5, 2)))
    assert np.isfinite(space.encode(vectors, vectors[:, 0], statistics)).all()
    assert statistics["motion_std"][0] > 0.05 and statistics["pose_std"][0] > 0.05


def test_relative_windows_do_not_show_who_moves(motion):
    """Another pose to begin with, the same changes: the same window."""
    space = MotionSpace("angles", feature_dim=39)
    vectors = space.from_feature(motion)
    statistics = gather_statistics(vectors, np.zeros((1, 5, 2)))
    moved = vectors + 0.3
    one, other = (space.encode(v, v[:, 0], statistics) for v in (vectors, moved))
    np.testing.assert_allclose(one, other, atol=1e-4)


def test_one_factor_for_all(motion):
    space = MotionSpace("matrix", feature_dim=39)
    statistics = gather_statistics(
        space.from_feature(motion), np.zeros((1, 5, 2)), standardise=False
    )
    assert np.ptp(statistics["pose_std"]) == 0 and statistics["pose_std"][0] > 0.1


def test_statistics_are_merged_clip_by_clip():
    random = np.random.default_rng(0)
    clips = [random.standard_normal((n, 3)) * [1, 5, 2] + [9, 0, 1] for n in (7, 40, 12)]
    statistics = gather_statistics(clips, clips)
    whole = np.concatenate(clips)
    for name in ("motion", "speech"):
        np.testing.assert_allclose(statistics[f"{name}_mean"], whole.mean(axis=0), rtol=1e-5)
        np.testing.assert_allclose(statistics[f"{name}_std"], whole.std(axis=0), rtol=1e-5)
    # What two frames of one clip are apart, of all pairs of each clip.
    apart = [np.square(clip[:, None] - clip).mean(axis=(0, 1)) for clip in clips]
    expected = np.sqrt(np.average(apart, axis=0, weights=[len(clip) for clip in clips]))
    np.testing.assert_allclose(statistics["pose_std"], expected, rtol=1e-5)


def test_unknown_spaces_are_refused():
    with pytest.raises(InputError, match="choose angles or matrix"):
        MotionSpace("quaternions", feature_dim=39)


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
