"""Building rigs, on a drawn person."""

import dataclasses

import numpy as np
import pytest

pytest.importorskip("cv2")

from gesture_jax.puppets import rig_builder
from tests import photo_person
from tests.photo_person import make_rig


def test_behind_the_person_is_the_wall():
    wall = np.median(make_rig().background[:60, :60].reshape(-1, 3), axis=0)
    middle = make_rig().background[150:400, 200:300].reshape(-1, 3)
    assert np.abs(np.median(middle, axis=0) - wall).max() < 8


def test_who_does_not_serve_is_declined_by_name():
    usual = photo_person.draw_landmarks()
    several = dataclasses.replace(usual, num_faces=3)
    unseen = dataclasses.replace(usual, face=None)
    turned = usual.face.copy()
    turned[1, 0] = turned[234, 0] + 2
    small = dataclasses.replace(usual, face=usual.face * 0.3)
    for landmarks, reason in (
        (several, "several people"),
        (unseen, "no face"),
        (dataclasses.replace(usual, face=turned), "face turned away"),
        (small, "too small"),
    ):
        with pytest.raises(rig_builder.UnsuitablePortraitError) as declined:
            rig_builder.build_rig_from_landmarks(landmarks.picture, landmarks)
        assert declined.value.reason == reason


def test_why_arms_rest():
    usual = photo_person.draw_landmarks()
    assert rig_builder.describe_arm_obstacle(usual) == ""
    left, right = usual.hands
    together = dataclasses.replace(usual, hands=(left + (135, 0), right - (135, 0)))
    assert "together" in rig_builder.describe_arm_obstacle(together)
    cut = dataclasses.replace(usual, hands=(left - (90, 0), right))
    assert "in the picture" in rig_builder.describe_arm_obstacle(cut)
    assert "not found" in rig_builder.describe_arm_obstacle(
        photo_person.draw_landmarks(hands=False)
    )
