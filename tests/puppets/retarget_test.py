"""Motion within the reach of arms."""

import dataclasses

import numpy as np
import pytest

pytest.importorskip("cv2")

from gesture_jax.procedural.identity import make_identity
from gesture_jax.procedural.motion import gesture
from gesture_jax.procedural.voice import speak
from gesture_jax.puppets import retarget
from tests.photo_person import make_rig


def test_arms_go_where_the_speaker_s_go():
    who, arms = make_identity(3), make_rig().arms
    poses = gesture(who, speak(who.voice, seed=1, num_frames=150), seed=1)
    for side, arm in enumerate(arms):
        track = retarget.plan_arm(arm, side, who, poses, 1.0)
        posed = [retarget.pose_arm(arm, side, row) for row in track]
        wrists = np.array([pose.wrist for pose in posed])
        height = np.array([pose.wrists[side, 1] - pose.body[1] for pose in poses])
        assert np.corrcoef(height, wrists[:, 1])[0, 1] > 0.8
        assert np.ptp(wrists[:, 1]) > 20
        upper = np.linalg.norm(arm.shoulder - arm.elbow)
        assert np.linalg.norm(np.diff(track[:, :2], axis=0), axis=1).max() < 0.35 * upper
        for pose in posed:
            stretch = pose.length / pose.rest_length
            assert 0.6 <= stretch <= 2.0
            assert np.linalg.norm(pose.wrist - pose.elbow) == pytest.approx(pose.length)


@pytest.mark.parametrize(
    ("outward", "reach"),
    [(True, (0.46, 0.36, 0.28, 0.26)), (False, (0.42, 0.24, 0.22, 0.22))],
)
def test_offsets_of_a_wrist_stay_within_its_reach(outward, reach):
    """By hand: up, down, inwards and outwards; a quarter more is never reached."""
    arm = dataclasses.replace(make_rig().arms[0], outward=outward)
    up, down, inwards, outside = reach
    for size in (10.0, 1e9, np.inf):
        found = [*retarget.limit_offset(arm, size, size), *retarget.limit_offset(arm, -size, -size)]
        limits = 1.25 * np.array([outside, down, -inwards, -up])
        np.testing.assert_allclose(found, limits, rtol=1e-6)
    small = np.linspace(-0.05, 0.05, 11)
    for found in retarget.limit_offset(arm, small, small[::-1]):
        np.testing.assert_allclose(np.abs(found), np.abs(small), rtol=0.02)
    steps = np.linspace(-1, 1, 101)
    for found in retarget.limit_offset(arm, steps, steps):
        assert (np.diff(found) > 0).all() and (np.diff(found) <= np.diff(steps) + 1e-9).all()
        assert found[50] == 0.0  # Without a step in the middle either.
