"""Beat alignment and its variants, on toys with known values."""

import dataclasses
import math

import numpy as np
import pytest

from gesture_jax.errors import InputError
from gesture_jax.metrics import beats as metrics
from gesture_jax.metrics import motion as motion_metrics
from gesture_jax.metrics import motion_rates
from gesture_jax.people.pose import JOINT_NAMES

_RANDOM = np.random.default_rng(0)
_FPS = 25


def _circle(frames):
    """The same speed and jerk at all times."""
    angle = 0.2 * np.arange(frames)
    return np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)


def _swing(frames, *, hertz, first_turn_sec):
    """Oscillates, and turns every half period."""
    time = np.arange(frames) / _FPS - first_turn_sec
    return np.cos(2 * np.pi * hertz * time)[:, None].repeat(3, axis=1).astype(np.float32)


@pytest.mark.parametrize("offset_frames", [-0.3, 0.0, 0.3])
def test_beats_of_a_swing_are_where_it_turns(offset_frames):
    """It turns every 20 frames; between two frames, but for the offset, as the speed lies there."""
    first = (10.5 + offset_frames) / _FPS
    motion = _swing(200, hertz=_FPS / 40, first_turn_sec=first)
    expected = (10.5 + 20 * np.arange(10)) / _FPS
    np.testing.assert_allclose(metrics.motion_beats(motion), expected)


def test_beats_move_with_the_motion():
    motion = _RANDOM.standard_normal((150, 4)).cumsum(axis=0).astype(np.float32)
    late = np.concatenate([motion[:1].repeat(40, axis=0), motion])
    beats = metrics.motion_beats(motion)
    inner = beats[(beats > 1) & (beats < 5)]
    assert len(inner) > 3
    later = metrics.motion_beats(late)
    assert np.abs(inner[:, None] + 40 / _FPS - later).min(axis=1).max() < 1e-9
    assert (np.diff(beats) > 0).all()


@pytest.mark.parametrize("frames", [0, 1, 2, 5, 60])
def test_rest_and_even_motion_have_no_beats(frames):
    even = 0.37 * np.arange(frames, dtype=np.float32)[:, None]
    for motion in (np.zeros((frames, 3), np.float32), even, _circle(frames)):
        assert metrics.motion_beats(motion).shape == (0,)


def test_onsets_are_where_sounds_begin():
    times = [0.4, 0.83, 1.2, 1.61, 2.0, 2.47]
    audio = np.zeros(3 * 16_000, np.float32)
    for time in times:
        start = round(time * 16_000)
        audio[start : start + 3_000] = np.hanning(6_000)[3_000:] * _RANDOM.standard_normal(3_000)
    onsets = metrics.audio_onsets(audio)
    np.testing.assert_allclose(onsets, times, atol=0.035)


@pytest.mark.parametrize("samples", [0, 1, 1_000, 40_000])
def test_silence_has_no_onsets(samples):
    assert metrics.audio_onsets(np.zeros(samples, np.float32)).shape == (0,)


def test_alignment_by_hand():
    """Gaps of 0, one sigma and two: (1 + e^-0.5 + e^-2) / 3."""
    found = metrics.beat_alignment(np.array([1.0, 2.1, 9.0]), np.array([1.0, 2.0, 8.8]))
    assert found == pytest.approx((1 + math.exp(-0.5) + math.exp(-2)) / 3)
    found = metrics.beat_alignment(np.array([1.3]), np.array([1.0]), sigma_sec=0.3)
    assert found == pytest.approx(math.exp(-0.5))


def test_alignment_is_averaged_over_the_beats_of_the_sound():
    """More beats of the motion take nothing away; more of the sound do."""
    assert metrics.beat_alignment(np.array([1.0, 50.0]), np.array([1.0])) == 1.0
    assert metrics.beat_alignment(np.array([1.0]), np.array([1.0, 50.0])) == pytest.approx(0.5)


def test_alignment_lies_between_none_and_all_and_knows_no_clock():
    for _ in range(20):
        motion, audio = _RANDOM.uniform(0, 10, 12), _RANDOM.uniform(0, 10, 9)
        value = metrics.beat_alignment(motion, audio)
        assert 0 < value < 1
        assert metrics.beat_alignment(motion + 3, audio + 3) == pytest.approx(value)
        assert metrics.beat_alignment(motion[::-1], audio) == pytest.approx(value)
    assert metrics.beat_alignment(audio, audio) == 1.0


def test_alignment_where_one_side_has_no_beats():
    beats, none = np.array([1.0, 2.0]), np.zeros(0)
    assert metrics.beat_alignment(none, beats) == 0.0
    assert math.isnan(metrics.beat_alignment(beats, none))
    assert math.isnan(metrics.beat_alignment(none, none))


def test_alignment_may_be_averaged_over_the_beats_of_the_motion():
    """Now more beats of the motion take away, and more of the sound do not."""
    over = {"over": "motion"}
    assert metrics.beat_alignment(np.array([1.0]), np.array([1.0, 50.0]), **over) == 1.0
    found = metrics.beat_alignment(np.array([1.0, 50.0]), np.array([1.0]), **over)
    assert found == pytest.approx(0.5)
    variant = dataclasses.replace(metrics.VARIANTS["onsets"], over="motion")
    found = metrics.align(variant, [np.array([1.0, 5.0])], np.array([1.0]), duration_sec=9)
    assert found == pytest.approx(0.5)


def _arms(frames, *, fps=_FPS):
    """Joints at rest, [t, 25, 2], both arms hanging, and the times of the frames."""
    poses = np.zeros((frames, len(JOINT_NAMES), 2))
    for side, x in (("right", 1.0), ("left", -1.0)):
        for y, part in enumerate(("shoulder", "elbow", "wrist")):
            poses[:, JOINT_NAMES.index(f"{side}_{part}")] = x, 0.3 + y
    return poses, np.arange(frames) / fps


def _step(time, turns_sec, *, depth=1.0):
    """A way whose speed is a second's period of 1 - depth cos: least `turns_sec` after 0."""
    phase = 2 * np.pi * (time - turns_sec)
    return time - depth * np.sin(phase) / (2 * np.pi)


def _moving(name, turns_sec, *, seconds=10, fps=_FPS, depth=1.0):
    """[t, 25, 2]; one joint moves, slowest `turns_sec` after each full second."""
    poses, time = _arms(seconds * fps, fps=fps)
    poses[:, JOINT_NAMES.index(name), 0] += _step(time, turns_sec, depth=depth)
    return poses


def _bending(turns_sec, *, seconds=10, fps=_FPS):
    """[t, 25, 2]; forearms turn about their elbows, slowest `turns_sec` after each full second."""
    poses, time = _arms(seconds * fps, fps=fps)
    angle = 0.25 * _step(time, turns_sec)
    offset = np.stack([np.sin(angle), np.cos(angle)], axis=1)
    for side in ("right", "left"):
        elbow = JOINT_NAMES.index(f"{side}_elbow")
        poses[:, JOINT_NAMES.index(f"{side}_wrist")] = poses[:, elbow] + offset
    return poses


# Nowhere in the middle of two frames, at which a strict minimum would be none.
_SLOW_SEC = 0.51
_KNOWN = {
    "onsets": _moving("nose", _SLOW_SEC),
    "bailando": _moving("nose", _SLOW_SEC),
    "ha2g": _bending(_SLOW_SEC),
    "beat": _moving("left_wrist", _SLOW_SEC),
    "emage": _moving("nose", _SLOW_SEC, depth=0.5),
}


@pytest.mark.parametrize("name", metrics.VARIANTS)
def test_each_variant_finds_where_it_is_slowest(name):
    beats = metrics.find_motion_beats(name, _KNOWN[name])
    np.testing.assert_allclose(beats[0], _SLOW_SEC + np.arange(10), atol=0.5001 / _FPS)
    assert all(len(other) == 0 for other in beats[1:])
    assert metrics.beats_per_sec(beats, 10.0) == pytest.approx(1.0 / len(beats))


@pytest.mark.parametrize("fps", [15, 30, 60])
@pytest.mark.parametrize("name", metrics.VARIANTS)
def test_times_are_in_seconds_whatever_the_rate(name, fps):
    make = {"ha2g": _bending, "beat": lambda *a, **k: _moving("left_wrist", *a, **k)}.get(
        name, lambda *a, **k: _moving("nose", *a, depth=0.5, **k)
    )
    beats = metrics.find_motion_beats(name, make(_SLOW_SEC, fps=fps), fps=fps)
    np.testing.assert_allclose(beats[0], _SLOW_SEC + np.arange(10), atol=0.5001 / fps)


@pytest.mark.parametrize("name", metrics.VARIANTS)
@pytest.mark.parametrize("frames", [0, 1, 2, 3, 200])
def test_rest_has_no_beats_and_scores_nothing(name, frames):
    poses, _ = _arms(frames)
    beats = metrics.find_motion_beats(name, poses)
    assert not sum(map(len, beats))
    assert metrics.align(name, beats, np.array([2.5]), duration_sec=8.0) == 0.0


@pytest.mark.parametrize("name", metrics.VARIANTS)
def test_depth_and_place_do_not_matter_but_a_third_axis_may_be_there(name):
    poses = _KNOWN[name]
    expected = metrics.find_motion_beats(name, poses)
    for other in (3 * poses + 7, np.pad(poses, ((0, 0), (0, 0), (0, 1)))):
        for one, two in zip(expected, metrics.find_motion_beats(name, other), strict=True):
            np.testing.assert_allclose(one, two)


def test_beat_looks_at_the_persons_right_wrist_alone():
    poses = _KNOWN["beat"].copy()
    others = [place for place, name in enumerate(JOINT_NAMES) if name != "left_wrist"]
    poses[:, others] += _RANDOM.standard_normal(poses[:, others].shape)
    (found,) = metrics.find_motion_beats("beat", poses)
    np.testing.assert_array_equal(found, metrics.find_motion_beats("beat", _KNOWN["beat"])[0])


def test_beat_wants_the_least_speed_of_two_frames_at_15_a_second():
    """Speeds of 3 2 3 1 3: the first dip is two frames from a lower one, at 15 a second."""
    poses, _ = _arms(9)
    wrist = JOINT_NAMES.index("left_wrist")
    poses[1:, wrist, 0] += np.cumsum([4, 4, 3, 2, 3, 1, 3, 4])
    (found,) = metrics.find_motion_beats("beat", poses, fps=15)
    np.testing.assert_allclose(found, [5.5 / 15])
    (found,) = metrics.find_motion_beats("beat", poses, fps=7.5)
    np.testing.assert_allclose(found, [3.5 / 7.5, 5.5 / 7.5])


def test_ha2g_leaves_out_what_is_shallow_beside_usual_changes():
    poses = _bending(_SLOW_SEC)
    typical = metrics.typical_rates("ha2g", [poses])
    assert typical.shape == (4,)
    assert typical == pytest.approx([0, 0.25 / np.pi / _FPS] * 2, rel=1e-2)
    count = lambda typical: len(metrics.find_motion_beats("ha2g", poses, typical=typical)[0])
    # A mean of four angles, two of which change, by 0.12 of the usual less than two frames later.
    assert count(typical) == 10
    assert count(100 * typical) == 0


def test_emage_scores_joints_apart_and_leaves_out_where_they_stop():
    """The head's beats meet the sound, one wrist's are 0.4 s off, the other five have none."""
    poses = _moving("nose", _SLOW_SEC, depth=0.5)
    wrist = JOINT_NAMES.index("right_wrist")
    poses[:, wrist] = _moving("right_wrist", 0.11, depth=0.5)[:, wrist]
    beats = metrics.find_motion_beats("emage", poses)
    assert len(beats) == 7
    found = metrics.align("emage", beats, np.array([4.52]), duration_sec=10.0)
    assert found == pytest.approx((1 + math.exp(-0.5 * (0.4 / 0.3) ** 2)) / 7, abs=5e-3)
    assert not sum(map(len, metrics.find_motion_beats("emage", _moving("nose", _SLOW_SEC))))


def test_emage_cuts_two_seconds_at_both_ends():
    beats, sounds = [np.array([1.0, 3.0])], np.array([1.0, 3.1, 6.5])
    expected = math.exp(-0.5 * (0.1 / 0.3) ** 2)
    assert metrics.align("emage", beats, sounds, duration_sec=8) == pytest.approx(expected)
    assert math.isnan(metrics.align("emage", beats, sounds, duration_sec=4))


def test_joints_are_wanted_by_all_but_one_and_by_their_names():
    features = _RANDOM.standard_normal((50, 6))
    for name in metrics.VARIANTS.keys() - {"onsets"}:
        with pytest.raises(InputError, match="has no joints"):
            metrics.find_motion_beats(name, features)
    assert len(metrics.find_motion_beats("onsets", features)[0])
    with pytest.raises(InputError, match="3 joints need as many names, not 25"):
        metrics.find_motion_beats("bailando", features.reshape(50, 3, 2))
    with pytest.raises(InputError, match=r"are missing: \['left_wrist'\]"):
        metrics.find_motion_beats("beat", features.reshape(50, 3, 2), names="abc")
    with pytest.raises(InputError, match="tango: no such beat alignment; one of onsets, bailando"):
        metrics.find_motion_beats("tango", features)
    with pytest.raises(InputError, match="two frames or more"):
        metrics.typical_rates("onsets", [features[:1]])


def test_callers_may_name_joints_otherwise():
    order = _RANDOM.permutation(len(JOINT_NAMES))
    names = [JOINT_NAMES[place] for place in order]
    for name, poses in _KNOWN.items():
        found = metrics.find_motion_beats(name, poses[:, order], names=names)
        np.testing.assert_allclose(found[0], metrics.find_motion_beats(name, poses)[0])


def test_the_default_is_the_minimum_of_the_speed():
    motion = _RANDOM.standard_normal((150, 4)).cumsum(axis=0)
    curve = np.asarray(motion_metrics.speed(motion))
    np.testing.assert_allclose(
        metrics._smooth(motion_rates.feature_speed(motion), 2.0)[:, 0], curve, 1e-5
    )
    places = np.rint(metrics.motion_beats(motion) * _FPS - 0.5).astype(int)
    assert len(places) > 3
    assert (curve[places] < curve[places - 1]).all() and (curve[places] < curve[places + 1]).all()


def _clicks(times_sec, seconds):
    audio = np.zeros(seconds * 16_000, np.float32)
    for time in times_sec:
        start = round(time * 16_000)
        audio[start : start + 3_000] = np.hanning(6_000)[3_000:] * _RANDOM.standard_normal(3_000)
    return audio


@pytest.mark.parametrize("name", metrics.VARIANTS)
def test_speech_on_the_beat_scores_more_than_speech_off_it(name):
    at = lambda offset: metrics.bas(name, _KNOWN[name], _clicks(offset + np.arange(9), 12))
    best = 1 / 7 if name == "emage" else 1.0  # The other joints have no beats.
    assert best >= at(_SLOW_SEC) > 0.6 * best > 0.5 * best > at(1.0)
    assert math.isnan(metrics.bas(name, _KNOWN[name], np.zeros(16_000, np.float32)))


def test_sound_after_the_motion_is_not_heard():
    motion = _KNOWN["onsets"][:125]
    audio = _clicks([0.5, 1.5, 2.5, 3.5, 4.5], 9) + _clicks([6.0, 7.0, 8.0], 9)
    assert metrics.bas("onsets", motion, audio) > 0.9


def test_backtracked_onsets_lie_in_the_quiet_before():
    """Noise that swells for 0.2 s is noticed late."""
    audio = np.zeros(3 * 16_000, np.float32)
    for start in (12_000, 30_000):
        audio[start : start + 4_000] = np.hanning(8_000)[:4_000] * _RANDOM.standard_normal(4_000)
    late = metrics.audio_onsets(audio, hop=512)
    early = metrics.audio_onsets(audio, hop=512, backtracked=True)
    assert len(late) and len(early)
    for moved, times in (((early[0], late[0]), 12_000), ((early[-1], late[-1]), 30_000)):
        assert moved[0] <= moved[1]
        assert moved[0] <= times / 16_000 + 0.07  # A window of 128 ms sees what is to come.
    assert not len(metrics.audio_onsets(np.zeros(9_000), backtracked=True))


def test_shuffled_is_the_mean_over_the_sounds_of_others():
    """Beats at 1 s: sound of the next at 1.1 s, of the one after that none, then one at 1.2 s."""
    beats = [[np.array([1.0])], [np.zeros(0)], [np.array([1.1])], [np.array([9.0])]]
    sounds = [np.array([1.0]), np.array([1.1]), np.zeros(0), np.array([1.2])]
    found = metrics.shuffled("onsets", beats, sounds, [2.0, 2.0, 2.0, 10.0])
    near, far = math.exp(-0.5), math.exp(-2)
    np.testing.assert_allclose(found, [(near + far) / 2, 0, (near + near + 1) / 3, 0], atol=1e-12)
    found = metrics.shuffled("onsets", beats, sounds, [2.0] * 4, num_others=1)
    np.testing.assert_allclose(found, [near, np.nan, near, 0])
    assert np.isnan(metrics.shuffled("onsets", beats[:1], sounds[:1], [2.0])).all()
