"""Drawing a person in poses."""

import pathlib

import numpy as np
import pytest

pytest.importorskip("cv2")

from gesture_jax.media import images
from gesture_jax.people.lips import LIP_JOINTS
from gesture_jax.people.mouth import LipShape
from gesture_jax.procedural import speaker
from gesture_jax.puppets import (
    puppet,
    rig_builder,
)
from tests import photo_person
from tests.photo_person import JOINT, draw, make_rig, psnr, rest_pose

_PORTRAITS = pathlib.Path(__file__).parents[3] / "shared" / "data" / "portraits"


def test_a_person_at_rest_is_the_portrait():
    for hands in (True, False):
        made = make_rig(hands)
        assert len(made.arms) == (2 if hands else 0)
        frame, _ = draw(made, rest_pose(made), size=256)
        portrait = images.square(photo_person.draw_landmarks(hands=hands).picture, size=256)
        assert psnr(frame, portrait) > 30


def test_a_raised_hand_is_drawn_where_its_joints_are():
    rows = rest_pose(make_rig()).arms
    rows[1, :2] = (0, -60)
    frame, joints = draw(make_rig(), rest_pose(make_rig(), arms=rows), size=256)
    still, _ = draw(make_rig(), rest_pose(make_rig()), size=256)
    changed = np.abs(frame.astype(int) - still).max(axis=-1) > 40
    _, xs = np.nonzero(changed)
    assert xs.min() > 140  # The other arm rests.
    tips = joints[[JOINT[f"right_{finger}"] for finger in ("index", "middle", "ring")]]
    x, y = tips.mean(axis=0).round().astype(int)
    assert changed[y - 6 : y + 7, x - 6 : x + 7].any()


def test_the_mouth_opens_and_the_eyes_close():
    still, joints = draw(make_rig(), rest_pose(make_rig()), size=256)
    x, y = joints[JOINT["mouth"]].round().astype(int)
    opened, _ = draw(make_rig(), rest_pose(make_rig(), lips=LipShape(0.42, 0.0)), size=256)
    gap = (slice(y - 2, y + 4), slice(x - 3, x + 4))
    assert opened[gap].mean() < still[gap].mean() - 25
    closed, _ = draw(make_rig(), rest_pose(make_rig(), eyes=0.0), size=256)
    eye = (slice(53, 58), slice(117, 124))
    assert closed[eye].mean() > still[eye].mean() + 15
    assert (closed[100:] == still[100:]).all()


def test_the_head_turns_and_the_feet_stay():
    turned, joints = draw(make_rig(False), rest_pose(make_rig(False), turn=0.03), size=256)
    still, at_rest = draw(make_rig(False), rest_pose(make_rig(False)), size=256)
    assert joints[JOINT["mouth"], 0] > at_rest[JOINT["mouth"], 0] + 1
    np.testing.assert_array_equal(turned[160:], still[160:])


def test_joints_of_a_mirrored_frame_change_sides():
    pose = rest_pose(make_rig(), turn=0.01)
    plain, joints = draw(make_rig(), pose, size=128)
    mirrored, other = draw(make_rig(), pose, view=puppet.View(mirrored=True), size=128)
    np.testing.assert_array_equal(mirrored, plain[:, ::-1])
    names = speaker.JOINT_NAMES
    swap = {"left": "right", "right": "left"}
    for name, place in zip(names, joints, strict=True):
        side, *part = name.split("_")
        twin = "_".join([swap.get(side, side), *part])
        np.testing.assert_allclose(other[JOINT[twin]], (127 - place[0], place[1]), atol=1e-3)


def test_arms_that_do_not_move_have_no_joints():
    _, joints = draw(make_rig(False), rest_pose(make_rig(False)))
    for name, place in zip(speaker.JOINT_NAMES, joints, strict=True):
        known = name in (
            "head", "neck", "mouth", "left_shoulder", "right_shoulder", *LIP_JOINTS
        )  # fmt: skip
        assert np.isfinite(place).all() == known


@pytest.mark.skipif(not _PORTRAITS.exists(), reason="../shared/data/portraits is absent")
def test_a_photograph_moves(tmp_path):
    pytest.importorskip("mediapipe")
    picture = images.load_image(_PORTRAITS / "room_0014.jpg")
    made, still = rig_builder.build_rig(picture)
    assert still == "" and made.side == 768 and all(arm.outward for arm in made.arms)
    frame, _ = draw(made, rest_pose(made), size=256)
    assert psnr(frame, images.square(picture, size=256)) > 32
