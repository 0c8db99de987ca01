"""The pose of a puppet as values, which mean the same for every portrait."""

import dataclasses

import numpy as np
import pytest

pytest.importorskip("cv2")

from gesture_jax.people.mouth import LipShape
from gesture_jax.puppets import pose_values, retarget
from gesture_jax.puppets.pose_values import NAMES
from tests.photo_person import make_rig, rest_pose

_LIPS = LipShape(0.2, -0.1, 0.3)
_WRISTS = [NAMES.index(f"{side}_{name}") for side in ("left", "right") for name in ("out", "down")]


def _pose(values, arms=None):
    arms = make_rig().arms if arms is None else arms
    return pose_values.to_pose(arms, values, lips=_LIPS, eyes=0.5)


def _values(**changes):
    values = np.zeros(len(NAMES))
    for name, value in changes.items():
        values[NAMES.index(name)] = value
    return values


def _larger(arm):
    """The same arm in a picture that is half as large again."""
    return dataclasses.replace(
        arm, shoulder=1.5 * arm.shoulder, elbow=1.5 * arm.elbow, points=1.5 * arm.points
    )


def test_the_portraits_pose_has_the_value_zero():
    rig = make_rig()
    rest = rest_pose(rig)
    np.testing.assert_array_equal(pose_values.to_values(rig.arms, rest), np.zeros(len(NAMES)))
    pose = _pose(np.zeros(len(NAMES)))
    np.testing.assert_allclose(pose.arms, rest.arms)
    assert (pose.lips, pose.eyes) == (_LIPS, 0.5)
    assert (pose.nod, pose.turn, pose.tilt, pose.brows, *pose.body) == (0.0,) * 6


def test_every_value_by_its_name():
    """Wrists are in lengths of the forearm, outwards and down, so that left and right agree."""
    rig = make_rig()
    rest = rest_pose(rig)
    pose = dataclasses.replace(
        rest, body=np.array([0.01, 0.02]), nod=0.03, turn=0.04, tilt=0.05, brows=0.6,
        lips=LipShape(0.3, -0.2),
    )  # fmt: skip
    length = retarget.forearm_length(rig.arms[0])
    pose.arms[0] += (-0.2 * length, 0.1 * length, 0.3, -0.1, 0.2, 0.3)
    pose.arms[1] += (0.2 * length, 0.1 * length, 0.3, -0.1, 0.2, 0.3)
    arm = {"out": 0.2, "down": 0.1, "bend": 0.3, "spread": -0.1, "index_curl": 0.2, "curl": 0.3}
    wanted = {f"{side}_{name}": value for side in ("left", "right") for name, value in arm.items()}
    wanted |= {"body_x": 0.01, "body_y": 0.02, "nod": 0.03, "turn": 0.04, "tilt": 0.05}
    wanted |= {"brows": 0.6, "lip_opening": 0.3, "lip_widening": -0.2}
    found = dict(zip(NAMES, pose_values.to_values(rig.arms, pose), strict=True))
    assert found == pytest.approx(wanted)


@pytest.mark.parametrize("outward", [True, False])
def test_a_pose_within_reach_is_found_again(outward):
    arms = [dataclasses.replace(arm, outward=outward) for arm in make_rig().arms]
    random = np.random.default_rng(0)
    for _ in range(50):
        values = random.uniform(-0.1, 0.1, len(NAMES))
        values[NAMES.index("brows")] = random.uniform()
        values[-2:] = _LIPS.opening, _LIPS.widening
        values[_WRISTS] *= 0.3
        found = pose_values.to_values(arms, _pose(values, arms))
        np.testing.assert_allclose(found, values, rtol=0.01, atol=1e-9)


def test_values_do_not_depend_on_the_size_of_the_person():
    values = np.random.default_rng(1).uniform(-0.2, 0.2, len(NAMES))
    arms = make_rig().arms
    larger = [*map(_larger, arms)]
    found, at_larger = (pose_values.to_values(each, _pose(values, each)) for each in (arms, larger))
    np.testing.assert_allclose(found, at_larger, atol=1e-9)
    shifts = [_pose(values, each).arms[:, :2] for each in (arms, larger)]
    np.testing.assert_allclose(1.5 * shifts[0], shifts[1])


@pytest.mark.parametrize("size", [1.0, 10.0, 1e6, 1e300])
def test_absurd_values_leave_arms_within_their_reach(size):
    arms = make_rig().arms
    random = np.random.default_rng(2)
    reach = 1.25 * 0.46  # The most of `retarget.limit_offset` in any direction.
    for _ in range(20):
        values = size * random.choice([-1.0, 0.0, 1.0], len(NAMES))
        pose = _pose(values)
        assert np.isfinite(pose.arms).all()
        assert (pose.arms[:, 3:] >= 0).all() and (pose.arms[:, 3:] <= 1).all()
        assert 0 <= pose.brows <= 1
        assert np.abs(pose_values.to_values(arms, pose)[_WRISTS]).max() <= reach
        for side, (arm, row) in enumerate(zip(arms, pose.arms, strict=True)):
            offset = retarget.pose_arm(arm, side, row).wrist - arm.wrist
            assert np.linalg.norm(offset) <= 1.5 * retarget.forearm_length(arm)


def test_larger_values_move_wrists_further():
    """The limit is soft: no two values give the same pose up to far beyond the reach."""
    for name in ("left_out", "left_down", "right_out", "right_down"):
        steps = np.linspace(-1, 1, 21)
        poses = [_pose(_values(**{name: step})) for step in steps]
        found = [
            dict(zip(NAMES, pose_values.to_values(make_rig().arms, pose), strict=True))[name]
            for pose in poses
        ]
        assert (np.diff(found) > 0).all()
        assert (np.abs(found) <= np.abs(steps) + 1e-9).all()


def test_arms_that_do_not_move_have_no_values():
    rig = make_rig(hands=False)
    assert not rig.arms
    values = np.full(len(NAMES), 0.1)
    pose = _pose(values, rig.arms)
    assert pose.arms.shape == (0, 6) and pose.nod == pytest.approx(0.1)
    found = pose_values.to_values(rig.arms, pose)
    np.testing.assert_array_equal(found[: pose_values.ARM_VALUES], 0.0)
    np.testing.assert_allclose(found[pose_values.ARM_VALUES : -2], 0.1)
