"""Augmentation: both frames and their boxes alike, and each change what its name says."""

import numpy as np
import pytest

from gesture_jax.data.augment import Augmentation, colour_matrix


@pytest.fixture(scope="module")
def pair():
    random = np.random.default_rng(0)
    return random.integers(40, 216, (2, 8, 10, 3), dtype=np.uint8)


# In frames 10 wide: of the source, then of the driving frame, whose mouth is not known.
_BOXES = np.array(
    [
        [[1, 2, 3, 4], [6, 2, 9, 5], [4, 0, 6, 1]],
        [[0, 3, 2, 5], [7, 1, 8, 2], [0, 0, 0, 0]],
    ],
    np.float32,
)
_MIRRORED_BOXES = np.array(
    [
        [[1, 2, 4, 5], [7, 2, 9, 4], [4, 0, 6, 1]],
        [[2, 1, 3, 2], [8, 3, 10, 5], [0, 0, 0, 0]],
    ],
    np.float32,
)


# A corner of each box of a hand, and a joint that is not seen.
_POINTS = np.array([[[1, 2], [7, 2], [np.nan, 1]], [[2, 1], [8, 3], [np.nan, 0]]], np.float32)


def _apply(pair, seed=0, **options):
    """The pair and its boxes."""
    return _apply_all(pair, seed, **options)[:2]


def _apply_all(pair, seed=0, **options):
    """The pair, its boxes and its points."""
    augmentation = Augmentation(**dict(swap=0.0, mirror=0.0, jitter=0.0) | options)
    change = augmentation.choose(np.random.default_rng(seed))
    return change.draw(pair), *change.place(_BOXES, _POINTS, size=pair.shape[2])


def _assert_equal(done, pair, boxes):
    np.testing.assert_array_equal(done[0], pair)
    np.testing.assert_array_equal(done[1], boxes)


def test_nothing_by_default_of_zeros(pair):
    _assert_equal(_apply(pair), pair, _BOXES)


def test_swap_and_mirror_of_pictures_and_boxes(pair):
    _assert_equal(_apply(pair, swap=1.0, mirror=1.0), pair[::-1], _BOXES[::-1])
    _assert_equal(_apply(pair, mirror=1.0), pair[:, :, ::-1], _MIRRORED_BOXES)


def test_points_move_with_the_pictures(pair):
    np.testing.assert_array_equal(_apply_all(pair)[2], _POINTS)
    np.testing.assert_array_equal(_apply_all(pair, swap=1.0)[2], _POINTS[::-1])
    width = pair.shape[2]
    mirrored = [[[width - 1, 2], [width - 7, 2]], [[width - 2, 1], [width - 8, 3]]]
    np.testing.assert_array_equal(_apply_all(pair, mirror=1.0)[2][:, :2], mirrored)


def test_odds_are_the_published_ones(pair):
    """Half swapped, a quarter mirrored."""
    done = [_apply(pair, seed, swap=0.5, mirror=0.5)[0] for seed in range(800)]
    share = lambda wanted: np.mean([np.array_equal(one, wanted) for one in done])
    assert share(pair[::-1]) == pytest.approx(0.5, abs=0.05)
    assert share(pair[:, :, ::-1]) == pytest.approx(0.25, abs=0.05)


def test_colours_change_alike_in_both_frames(pair):
    same = np.stack([pair[0], pair[0]])
    done, boxes = _apply(same, 3, jitter=0.1)
    np.testing.assert_array_equal(done[0], done[1])
    np.testing.assert_array_equal(boxes, _BOXES)
    assert np.abs(done[0].astype(int) - pair[0]).max() > 3


def test_the_same_generator_the_same_result(pair):
    one, other = (_apply(pair, 5, swap=0.5, mirror=0.5, jitter=0.1) for _ in range(2))
    _assert_equal(one, *other)


def _map(colour, **changes):
    zeros = dict(brightness=0.0, contrast=0.0, saturation=0.0, hue=0.0)
    matrix = colour_matrix(**zeros | changes)
    return matrix[:, :3] @ colour + matrix[:, 3]


def test_colours_by_hand():
    colour, grey = np.array([200.0, 100.0, 50.0]), np.full(3, 90.0)
    np.testing.assert_allclose(_map(colour), colour)
    np.testing.assert_allclose(_map(colour, brightness=0.1), 1.1 * colour)
    np.testing.assert_allclose(_map(colour, contrast=0.1), 1.1 * (colour - 127.5) + 127.5)
    luminance = np.dot([0.299, 0.587, 0.114], colour)
    np.testing.assert_allclose(_map(colour, saturation=-1.0), luminance)
    np.testing.assert_allclose(_map(colour, hue=1 / 3), [50.0, 200.0, 100.0], atol=1e-9)
    np.testing.assert_allclose(_map(grey, hue=0.07, saturation=0.4), grey)
