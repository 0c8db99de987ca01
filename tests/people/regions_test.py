"""Boxes of hands and mouth: by hand, around what was drawn, and in the mirror."""

import numpy as np
import pytest

from gesture_jax.people import pose
from gesture_jax.people.regions import REGIONS, mirror_boxes, region_boxes
from gesture_jax.procedural import speaker

_FINGERS = ("thumb", "index", "middle", "ring", "little")


@pytest.fixture(scope="module")
def drawn():
    return speaker.perform(identity=1, seed=2, duration_sec=2.0, size=64)


def _boxes(points, *, size):
    """Of one frame with joints {name: (x, y)}."""
    joints = np.array([[*points.values()]], np.float32)
    return dict(zip(REGIONS, region_boxes(joints, [*points], size=size)[0], strict=True))


def test_fingertips_by_hand():
    """From 20 to 40 across and 50 to 60 down: a square of 20, and 2 more on each side."""
    tips = [(20, 52), (25, 50), (30, 50), (35, 51), (40, 53)]
    hand = {f"left_{name}": tip for name, tip in zip(_FINGERS, tips, strict=True)}
    boxes = _boxes({"left_wrist": (30, 60), **hand}, size=100)
    np.testing.assert_allclose(boxes["left_hand"], [18, 43, 42, 67], atol=1e-4)
    assert not boxes["right_hand"].any() and not boxes["mouth"].any()


def test_knuckles_by_hand():
    """Fingers reach beyond them: the tips are guessed at 1.9 times their way from the wrist."""
    knuckles = {"thumb": (110, 90), "index": (105, 80), "little": (95, 80)}
    hand = {f"right_{name}_knuckle": point for name, point in knuckles.items()}
    boxes = _boxes({"right_wrist": (100, 100), **hand}, size=200)
    # 90.5 to 119 across, 62 to 100 down: 38 and 8 on each side.
    np.testing.assert_allclose(boxes["right_hand"], [77.75, 54, 131.75, 108], atol=1e-4)
    # A hand towards the viewer has all its joints in one place.
    hand = dict.fromkeys(hand, (100, 100))
    boxes = _boxes({"right_wrist": (100, 100), **hand}, size=200)
    np.testing.assert_allclose(boxes["right_hand"], [82, 82, 118, 118], atol=1e-4)


def test_mouths_by_hand():
    by_corners = _boxes({"mouth_right": (60, 40), "mouth_left": (40, 40)}, size=100)
    np.testing.assert_allclose(by_corners["mouth"], [34, 24, 66, 56], atol=1e-4)
    by_middle = _boxes({"mouth": (50, 40)}, size=100)
    np.testing.assert_allclose(by_middle["mouth"], [47, 37, 53, 43], atol=1e-4)


def test_drawn_hands_and_mouths_lie_inside(drawn):
    boxes = region_boxes(drawn.joints, speaker.JOINT_NAMES, size=64)
    assert boxes.shape == (len(drawn.joints), 3, 4) and boxes.dtype == np.float32
    assert boxes.min() >= 0 and boxes.max() <= 64
    names = {
        0: [f"left_{part}" for part in ("wrist", *_FINGERS)],
        1: [f"right_{part}" for part in ("wrist", *_FINGERS)],
        2: ["mouth"],
    }
    for region, wanted in names.items():
        left, top, right, bottom = boxes[:, region].T
        for name in wanted:
            x, y = drawn.joints[:, speaker.JOINT_NAMES.index(name)].T
            assert ((left <= x) & (x <= right) & (top <= y) & (y <= bottom)).all(), name
    # The rest of the picture is most of it.
    sides = boxes[..., 2:] - boxes[..., :2]
    assert (sides > 0).all() and sides.max() < 0.3 * 64


def test_boxes_scale_with_the_picture(drawn):
    one = region_boxes(drawn.joints, speaker.JOINT_NAMES, size=64)
    other = region_boxes(4 * drawn.joints, speaker.JOINT_NAMES, size=256)
    np.testing.assert_allclose(4 * one, other, rtol=1e-5, atol=1e-4)


def test_what_is_not_known_is_empty():
    joints = np.random.default_rng(0).uniform(20, 40, (5, 25, 2)).astype(np.float32)
    assert not region_boxes(joints[:, :0], (), size=64).any()
    assert not region_boxes(joints, [f"joint{k}" for k in range(25)], size=64).any()
    assert region_boxes(joints, pose.JOINT_NAMES, size=64).any(axis=-1).all()
    joints[1, pose.JOINT_NAMES.index("left_index_knuckle")] = np.nan
    joints[2] = np.nan
    joints[3] += (100, 0)  # All outside.
    boxes = region_boxes(joints, pose.JOINT_NAMES, size=64)
    known = [[True] * 3, [False, True, True], [False] * 3, [False] * 3, [True] * 3]
    np.testing.assert_array_equal(boxes.any(axis=-1), known)
    assert np.isfinite(boxes).all()


def test_a_mirrored_person_has_mirrored_boxes(drawn):
    swap = {"left": "right", "right": "left"}
    names = ["_".join(swap.get(word, word) for word in n.split("_")) for n in speaker.JOINT_NAMES]
    mirrored = np.array([64, 0]) + drawn.joints * [-1, 1]
    boxes = region_boxes(drawn.joints, speaker.JOINT_NAMES, size=64)
    expected = region_boxes(mirrored.astype(np.float32), names, size=64)
    np.testing.assert_allclose(mirror_boxes(boxes, size=64), expected, atol=1e-4)
    boxes[0, 0] = 0.0
    twice = mirror_boxes(mirror_boxes(boxes, size=64), size=64)
    np.testing.assert_allclose(twice, boxes, atol=1e-4)
    assert not mirror_boxes(boxes, size=64)[0, 1].any()  # Empty is still empty, on the other side.
