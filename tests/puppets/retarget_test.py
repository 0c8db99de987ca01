"""Motion within the reach of arms."""

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
