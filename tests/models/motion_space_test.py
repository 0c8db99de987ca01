"""Conversion of motion features to standardised vectors and back, and bounds of motion."""

import jax.numpy as jnp
import numpy as np
import pytest

from gesture_jax.errors import InputError
from gesture_jax.metrics import motion as motion_metrics
from gesture_jax.models.motion_space import (
    BOUNDS,
    MotionSpace,
    fit_lip_motion,
    gather_statistics,
    standardise_speech,
)
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
        bounded = space.bound(encoded[:, :3], statistics)
        np.testing.assert_array_equal(prior[:, int(relative) :], bounded)
        assert encoded.shape == (2, 20, dim) and space.dim == dim
        decoded = space.decode(encoded, vectors[:, 0], statistics)
        np.testing.assert_allclose(space.to_feature(decoded), motion, atol=1e-5)
        if relative:
            np.testing.assert_allclose(encoded[:, 0], 0, atol=1e-6)
            # All frames of a clip may be the portrait.
            encoded = np.stack([
                space.encode(vectors, vectors[:, index], statistics) for index in range(20)
            ])  # fmt: skip
        size = np.sqrt(np.square(encoded).mean(axis=tuple(range(encoded.ndim - 1))))
        assert size.max() <= 1.0 + 1e-4 and np.median(size) > 0.99
    np.testing.assert_allclose(encoded.mean(axis=(0, 1)), 0, atol=1e-4)
    heard = np.asarray(standardise_speech(speech, statistics))
    np.testing.assert_allclose(heard.mean(axis=(0, 1)), 0, atol=1e-4)
    np.testing.assert_allclose(heard.std(axis=(0, 1)), 1, atol=1e-3)


def test_still_cells_are_not_scaled_up(motion):
    space = MotionSpace("angles", feature_dim=39)
    vectors = space.from_feature(motion)
    statistics = gather_statistics(vectors, np.zeros((1, 5, 2)))
    assert np.isfinite(space.encode(vectors, vectors[:, 0], statistics)).all()
    assert statistics["motion_std"][0] > 0.05 and statistics["pose_std"][0] > 0.05


def test_relative_windows_do_not_depend_on_the_first_pose(motion):
    """The same changes from another pose give the same window."""
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
    # The distances of all pairs of frames of each clip.
    apart = [np.square(clip[:, None] - clip).mean(axis=(0, 1)) for clip in clips]
    expected = np.sqrt(np.average(apart, axis=0, weights=[len(clip) for clip in clips]))
    np.testing.assert_allclose(statistics["pose_std"], expected, rtol=1e-5)


def test_statistics_hold_the_range_of_motion_except_of_extreme_clips():
    random = np.random.default_rng(0)
    clips = [random.uniform(-1.0, 1.0, (50, 3)) * [1, 5, 2] + [9, 0, 1] for _ in range(300)]
    clips[7] = clips[7] + 1000.0 * (np.arange(50) == 3)[:, None]
    statistics = gather_statistics(clips, clips)
    np.testing.assert_allclose(statistics["pose_reach"], [2.0, 10.0, 4.0], rtol=0.02)
    clips[7] = clips[8]
    statistics = gather_statistics(clips, clips)
    np.testing.assert_allclose(statistics["motion_reach"], [1.0, 5.0, 2.0], rtol=0.03)
    # The distance to the corners of the box, in standard deviations of its content.
    assert 1.5 < statistics["motion_radius"][0] < np.sqrt(3.0)
    apart = [np.square((c[:, None] - c) / statistics["pose_std"]).mean(-1).max() for c in clips]
    np.testing.assert_allclose(statistics["pose_radius"], np.sqrt(np.quantile(apart, 0.99)), 0.01)


@pytest.mark.parametrize("with_bounds", [True, False])
@pytest.mark.parametrize("relative", [True, False])
def test_bounded_motion_is_within_the_range_and_small_motion_is_unchanged(
    motion, relative, with_bounds
):
    space = MotionSpace("angles", feature_dim=39, relative=relative)
    vectors = space.from_feature(motion)
    statistics = gather_statistics(vectors, np.zeros((1, 5, 2)))
    kind = "pose" if relative else "motion"
    reach, radius = statistics[f"{kind}_reach"] / statistics[f"{kind}_std"], 4.0
    if with_bounds:
        radius = statistics[f"{kind}_radius"][0]
    else:
        statistics = {name: x for name, x in statistics.items() if name not in BOUNDS}
        reach = np.full(15, 4.0)
    direction = np.random.default_rng(0).standard_normal((40, 15))
    for size in (1.0, 10.0, 1e3, 1e10, np.inf):
        bounded = np.asarray(space.bound(size * np.sign(direction) * 3.0, statistics))
        assert (np.abs(bounded) <= reach + 1e-5).all()
        assert (np.sqrt(np.square(bounded).mean(-1)) <= radius + 1e-5).all()
        assert (np.sign(bounded) == np.sign(direction)).all()
    little = 0.5 * np.minimum(reach, radius) * np.tanh(direction)
    np.testing.assert_allclose(space.bound(little, statistics), little, rtol=1e-5)


def test_the_network_does_not_get_the_pose_of_a_stranger(motion):
    """It gets the mean pose instead."""
    space = MotionSpace("angles", feature_dim=39)
    vectors = space.from_feature(motion)
    statistics = gather_statistics(vectors, np.zeros((1, 5, 2)))
    random = np.random.default_rng(0)
    known = space.encode_prior(vectors[:, :3], vectors[:, 0], statistics)[:, 0]
    deviation = (vectors[:, 0] - statistics["motion_mean"]) / statistics["motion_std"]
    np.testing.assert_allclose(known, deviation, rtol=1e-4)
    for size in (5.0, 100.0, 1e6):
        stranger = statistics["motion_mean"] + size * random.standard_normal(15)
        held = np.repeat(stranger[None], 3, axis=0)
        np.testing.assert_array_equal(space.encode_prior(held, stranger, statistics), 0.0)
        # Older networks always got a pose; they get one in the same direction.
        older = {name: x for name, x in statistics.items() if name not in BOUNDS}
        prior = np.asarray(space.encode_prior(held, stranger, older))
        np.testing.assert_allclose(np.sqrt(np.square(prior[0]).mean()), 1.5, rtol=1e-4)
        np.testing.assert_array_equal(prior[1:], 0.0)


def test_features_of_strangers_are_rotations_and_translations_in_range():
    space = MotionSpace("angles", feature_dim=39)
    vectors = 100.0 * np.random.default_rng(0).standard_normal((50, 15))
    features = space.to_feature(jnp.asarray(vectors))
    assert np.abs(features).max() <= 1.0 + 1e-6
    matrices, _ = rotation.split_feature(features)
    identity = np.broadcast_to(np.eye(3), matrices.shape)
    np.testing.assert_allclose(matrices @ jnp.swapaxes(matrices, -1, -2), identity, atol=1e-5)


def test_extreme_speech_features_are_clipped():
    speech = np.random.default_rng(0).standard_normal((1, 50, 2))
    statistics = gather_statistics(np.zeros((1, 5, 3)), speech)
    assert np.abs(standardise_speech(1e6 * speech, statistics)).max() <= 5.0


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


def _with_lips(motion, *, relative=True):
    """Returns a space with two lip values, motion with lips, and statistics."""
    random = np.random.default_rng(3)
    lips = random.uniform(0.0, 0.4, (*motion.shape[:2], 2)).astype(np.float32)
    space = MotionSpace("angles", feature_dim=39, relative=relative, num_lips=2)
    lip_motion = {"lip_motion": random.standard_normal((2, 15)).astype(np.float32)}
    both = np.concatenate([motion, lips], axis=-1)
    vectors = space.from_feature(both, lip_motion)
    statistics = gather_statistics(vectors, np.zeros((1, 5, 2))) | lip_motion
    return space, both, lips, statistics


@pytest.mark.parametrize("relative", [True, False])
def test_lips_are_values_of_their_own(motion, relative):
    space, both, lips, statistics = _with_lips(motion, relative=relative)
    vectors = space.from_feature(both, statistics)
    assert space.dim == 17 and vectors.shape[-1] == 17
    np.testing.assert_allclose(space.split(vectors)[1], lips)
    encoded = space.encode(vectors, vectors[:, 7], statistics)
    decoded = space.decode(encoded, vectors[:, 7], statistics)
    np.testing.assert_allclose(space.to_feature(decoded, statistics), motion, atol=1e-5)


def test_lips_do_not_depend_on_the_portraits(motion):
    """A portrait with an open mouth stands for the same person with closed lips."""
    space, both, _, statistics = _with_lips(motion)
    vectors = space.from_feature(both, statistics)
    opened = vectors[:, 0].at[:, -2:].add(0.3)
    one, other = (space.encode(vectors, x, statistics) for x in (vectors[:, 0], opened))
    np.testing.assert_array_equal(one, other)
    own = space.from_feature(motion[:, 0], statistics)  # A stranger, whose lips are not known.
    np.testing.assert_array_equal(space.split(own)[1], 0)


def test_scaling_lips_leaves_the_body(motion):
    space, both, lips, statistics = _with_lips(motion)
    vectors = space.from_feature(both, statistics)
    scaled = space.scale_lips(vectors, 0.5)
    np.testing.assert_array_equal(space.split(scaled)[0], space.split(vectors)[0])
    np.testing.assert_allclose(space.split(scaled)[1], 0.5 * lips)
    still = space.with_lips_of(vectors, jnp.zeros_like(vectors))
    np.testing.assert_array_equal(still, space.scale_lips(vectors, 0.0))


def test_the_motion_of_the_lips_is_found_beside_that_of_the_head():
    """Lips that open when the head nods are not taken for the nod, whose joint is known."""
    random = np.random.default_rng(5)
    lip_motion, head_motion = random.standard_normal((2, 2, 9))
    clips = []
    for offset in (0.0, 30.0):
        joints = random.standard_normal((200, 1, 2))
        lips = 0.5 * joints[:, 0] + 0.2 * random.standard_normal((200, 2)) + 1.0
        vectors = lips @ lip_motion + joints[:, 0] @ head_motion + offset
        joints[3] = np.nan  # One frame in which the joint is not seen.
        clips.append((vectors, lips, joints))
    np.testing.assert_allclose(fit_lip_motion(clips), lip_motion, atol=0.15)
    # Without joints the nod is taken for a part of the lips' motion.
    blind = [(vectors, lips, np.zeros((200, 0, 2))) for vectors, lips, _ in clips]
    assert np.abs(fit_lip_motion(blind) - lip_motion).max() > 0.3
