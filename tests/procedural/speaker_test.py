"""The procedural speaker: seeded, varied, and its hands follow its voice."""

import numpy as np
import pytest

from gesture_jax.procedural import speaker
from gesture_jax.speech.extractor import speech_features

_JOINT = {name: number for number, name in enumerate(speaker.JOINT_NAMES)}


@pytest.fixture(scope="module")
def performances():
    return [
        speaker.perform(identity=number, seed=number, duration_sec=8.0, size=32)
        for number in range(4)
    ]


def test_everything_has_its_shape_and_range(performances):
    for done in performances:
        assert done.frames.shape == (200, 32, 32, 3) and done.frames.dtype == np.uint8
        assert done.audio.shape == (128_000,) and 0.3 < np.abs(done.audio).max() <= 1.0
        assert done.joints.shape == (200, len(speaker.JOINT_NAMES), 2)
        assert ((done.stress_times_sec > 0) & (done.stress_times_sec < 8)).all()
        assert len(done.stress_times_sec) >= 5


def test_a_function_of_identity_and_seed(performances):
    again = speaker.perform(identity=1, seed=1, duration_sec=8.0, size=32)
    np.testing.assert_array_equal(again.frames, performances[1].frames)
    np.testing.assert_array_equal(again.audio, performances[1].audio)
    other = speaker.perform(identity=1, seed=2, duration_sec=8.0, size=32)
    assert (other.frames != again.frames).any() and (other.audio != again.audio).any()


def test_identities_look_different():
    portraits = [speaker.portrait(identity=n, size=32).astype(float) for n in range(6)]
    for first in range(6):
        for second in range(first):
            assert np.abs(portraits[first] - portraits[second]).mean() > 10


def test_any_resolution_shows_the_same(performances):
    large = speaker.perform(identity=0, seed=0, duration_sec=8.0, size=128)
    shrunk = large.frames.reshape(200, 32, 4, 32, 4, 3).mean(axis=(2, 4))
    assert np.abs(shrunk - performances[0].frames).mean() < 2
    np.testing.assert_allclose(large.joints, 4 * performances[0].joints, rtol=1e-5)


def test_joints_lie_on_the_figure(performances):
    """Where the right wrist goes, pixels change."""
    for done in performances:
        wrists = done.joints[:, [_JOINT["left_wrist"], _JOINT["right_wrist"]]]
        assert (wrists > 0).all() and (wrists < 32).all()
        assert np.ptp(wrists[..., 1], axis=0).max() > 3


def test_strokes_land_on_stresses(performances):
    """Hands end a movement at a stress: they are slower right after it than right before it."""
    before, after = [], []
    for done in performances:
        wrists = done.joints[:, [_JOINT["left_wrist"], _JOINT["right_wrist"]]]
        speed = np.linalg.norm(np.diff(wrists, axis=0), axis=-1).max(axis=1)
        for moment in done.stress_times_sec:
            frame = round(moment * 25)
            if 5 < frame < len(speed) - 4:
                before.append(speed[frame - 4 : frame].mean())
                after.append(speed[frame : frame + 3].mean())
    assert np.mean(before) > 1.5 * np.mean(after)


def test_the_mouth_follows_the_sound(performances):
    for done in performances:
        loudness = np.sqrt((done.audio.reshape(200, 640) ** 2).mean(axis=1))
        x, y = (done.joints[:, _JOINT["mouth"]].T).astype(int)
        dark = [
            (done.frames[t, y[t] - 1 : y[t] + 3, x[t] - 2 : x[t] + 3].astype(int).sum(-1)).min()
            for t in range(200)
        ]
        assert np.corrcoef(loudness, dark)[0, 1] < -0.2  # An open mouth is dark.


def test_rest_in_pauses(performances):
    """Where nothing is said for long, hands move less than elsewhere."""
    for done in performances:
        wrists = done.joints[:, [_JOINT["left_wrist"], _JOINT["right_wrist"]]]
        speed = np.linalg.norm(np.diff(wrists, axis=0), axis=-1).mean(axis=1)
        time = (np.arange(199) + 0.5) / 25
        away = np.abs(time[:, None] - done.stress_times_sec).min(axis=1)
        assert speed[away > 0.6].mean() < speed[away < 0.3].mean()


def test_speech_features_hear_the_stresses(performances):
    gaps = []
    for done in performances:
        strength = speech_features(done.audio, num_frames=200)[:, 0]
        frames = np.round(done.stress_times_sec * 25).astype(int)
        near = np.concatenate([strength[f - 4 : f + 1].max()[None] for f in frames if f > 4])
        gaps.append(near.mean() / strength.mean())
    assert np.mean(gaps) > 1.5
