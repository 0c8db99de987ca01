"""The procedural speaker: seeded, varied, and its hands follow its voice."""

import numpy as np
import pytest

from gesture_jax.procedural import speaker
from gesture_jax.procedural.identity import make_identity
from gesture_jax.procedural.motion import gesture
from gesture_jax.procedural.voice import speak
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
        assert done.audio.shape == (128_000,) and 0.2 < np.abs(done.audio).max() <= 1.0
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
        upper, lower = (done.joints[:, _JOINT[f"{lip}_lip"]] for lip in ("upper", "lower"))
        opening = np.linalg.norm(upper - lower, axis=-1)
        assert np.corrcoef(loudness, opening)[0, 1] > 0.4


def test_an_open_mouth_is_dark(performances):
    for done in performances:
        upper, lower = (done.joints[:, _JOINT[f"{lip}_lip"]] for lip in ("upper", "lower"))
        opening = np.linalg.norm(upper - lower, axis=-1)
        x, y = (0.5 * (upper + lower)).T.astype(int)
        dark = [
            (done.frames[t, y[t] - 1 : y[t] + 3, x[t] - 2 : x[t] + 3].astype(int).sum(-1)).min()
            for t in range(200)
        ]
        assert np.corrcoef(opening, dark)[0, 1] < -0.3


def test_hands_are_at_rest_soon_after_speech_ends():
    """Within 0.3 s of the start of a pause that is long enough."""
    resting, speaking = [], []
    for number in range(6):
        who = make_identity(number)
        speech = speak(who.voice, seed=40 + number, num_frames=500)
        poses = gesture(who, speech, seed=40 + number)
        below = np.array([pose.wrists[:, 1] - who.style.rest_y for pose in poses])
        time = np.arange(500) / 25
        for start, end in speech.pauses(0.8):
            resting.append(below[(time > start + 0.3) & (time < end - 0.4)].ravel())
        speaking += [below[int(25 * phone.middle_sec)] for phone in speech.phones]
    resting = np.concatenate(resting)
    assert len(resting) > 100 and np.quantile(resting, 0.02) > -0.06
    assert np.quantile(speaking, 0.2) < -0.1  # Above the place at rest.


def test_a_listener_nods():
    """The head goes down after the other person's phrases."""
    for number in range(20):
        who = make_identity(number)
        speech = speak(who.voice, seed=number, num_frames=300)
        nods = [moment for moment in speech.nod_times_sec if moment < 11.9]
        if nods:
            poses = gesture(who, speech, seed=number)
            lows = [poses[int(25 * moment)].nod for moment in nods]
            assert np.mean(lows) > 0.6 * who.style.nod
            return
    raise AssertionError("nobody listened")


def test_speech_features_hear_the_stresses(performances):
    gaps = []
    for done in performances:
        strength = speech_features(done.audio, num_frames=200)[:, 0]
        frames = np.round(done.stress_times_sec * 25).astype(int)
        near = np.concatenate([strength[f - 4 : f + 1].max()[None] for f in frames if f > 4])
        gaps.append(near.mean() / strength.mean())
    assert np.mean(gaps) > 1.5
