"""Two folders of videos compared: what is matched, cut, averaged, counted and shown."""

import json

import numpy as np
import pytest

from gesture_jax.data import media, motion_files
from gesture_jax.errors import InputError
from gesture_jax.evaluation import pictures, videos
from gesture_jax.evaluation.results import Results
from gesture_jax.metrics.scores import Score

_RANDOM = np.random.default_rng(0)


def _write(path, frames, **options):
    media.write_video(path, frames, crf=0, **options)


def _noise(count, size=32):
    return _RANDOM.integers(0, 256, (count, size, size, 3)).astype(np.uint8)


def test_folders_are_matched_by_name_and_nobody_is_left_alone(tmp_path):
    for name in ("real/b.mp4", "real/a.mov", "real/notes.txt", "generated/a.mp4"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    real, generated = (videos.find_videos(tmp_path / side) for side in ("real", "generated"))
    assert [path.name for path in real] == ["a.mov", "b.mp4"]
    assert videos.find_videos(tmp_path / "real", limit=1) == real[:1]
    assert videos.match(real[:1], generated) == [(real[0], generated[0])]
    with pytest.raises(InputError, match=r"1 videos have no generated one by their name \(b\)"):
        videos.match(real, generated)
    (tmp_path / "real/a.webm").touch()
    with pytest.raises(InputError, match="holds two videos by the name of a"):
        videos.find_videos(tmp_path / "real")
    with pytest.raises(InputError, match="no such folder"):
        videos.find_videos(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("stride", "most", "starts"), [(4, 9, [0, 4, 8]), (2, 3, [0, 2, 4]), (7, 9, [0, 7])]
)
def test_clips_are_cut_every_so_many_frames(stride, most, starts):
    frames = np.arange(13)[:, None, None, None]
    clips = list(videos.cut_clips(iter(frames), length=4, stride=stride, most=most))
    assert [clip[:, 0, 0, 0].tolist() for clip in clips] == [
        list(range(start, start + 4)) for start in starts
    ]


def test_what_is_left_over_of_a_video_is_not_read():
    frames = iter(range(100))
    arrays = (np.full((1, 1, 3), number) for number in frames)
    list(videos.cut_clips(arrays, length=4, stride=4, most=2))
    assert next(frames) == 8


def test_scores_of_a_pair_by_hand(tmp_path):
    """An mp4 keeps grey exactly: 10 log10(1 / 0.04) is 13.98 dB, from every frame or from none."""
    grey = lambda level, count: np.full((count, 32, 32, 3), level, np.uint8)
    _write(tmp_path / "real.mp4", grey(102, 11))
    _write(tmp_path / "generated.mp4", grey(153, 9))
    boxes = pictures.Boxes(np.zeros((11, 2, 4)), np.tile([[[0.0, 0.0, 16.0, 32.0]]], (11, 1, 1)))
    boxes.hands[:5, 0] = [2, 2, 20, 20]
    found = pictures.compare(
        tmp_path / "real.mp4", tmp_path / "generated.mp4", {},
        size=32, perceptual_stride=1, boxes=boxes,
    )  # fmt: skip
    assert found.pop("frames_left_out") == 2
    for name in ("psnr", "psnr_hands", "psnr_background"):
        assert found[name] == pytest.approx(-10 * np.log10(0.2**2), abs=0.2), name
    assert set(found) == {
        f"{metric}{region}"
        for metric in ("psnr", "ssim")
        for region in ("", "_hands", "_background")
    }


def test_equal_videos_are_equal_and_a_region_never_seen_has_no_value(tmp_path):
    _write(tmp_path / "video.mp4", _noise(3))
    path = tmp_path / "video.mp4"
    nobody = pictures.Boxes(np.zeros((3, 2, 4)), np.zeros((3, 1, 4)))
    found = pictures.compare(path, path, {}, size=32, perceptual_stride=1, boxes=nobody)
    assert found["psnr"] == 100.0 and found["ssim"] == pytest.approx(1.0, abs=1e-6)
    assert np.isnan([found["psnr_hands"], found["psnr_background"]]).all()


def test_results_are_json_without_what_json_does_not_know(tmp_path):
    results = Results(scores={"bas": Score(0.5, 1)}, missing={"fvd": "no weights"})
    results.add(Results(clips={"a": {"bas": float("nan")}}, protocol={"seed": np.int64(3)}))
    results.write(tmp_path / "out" / "metrics.json")
    content = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert content["bas"] == {"value": 0.5, "count": 1, "low": None, "high": None}
    assert content["fvd"] == {"missing": "no weights"}
    assert content["clips"] == {"a": {"bas": None}} and content["protocol"] == {"seed": 3}


def test_motion_comes_back_from_its_file_and_nothing_else_is_read(tmp_path):
    motion = _RANDOM.standard_normal((5, 7)).astype(np.float32)
    path = tmp_path / "motion.npz"
    motion_files.write_motion(path, motion, np.zeros((4, 4, 3), np.uint8))
    np.testing.assert_array_equal(motion_files.read_motion(path, shape=(5, 7)), motion)
    for name, wanted, sentence in (
        ("motion", (4, 7), "another size than is wanted, which is 4 frames of 7 numbers"),
        ("joints", None, "an .npz that holds 'joints' is wanted"),
        ("portrait", None, "something else than finite floats"),
    ):
        with pytest.raises(InputError, match=sentence):
            motion_files.read_motion(path, name, shape=wanted)
    np.savez(path, motion=np.array([print], object), allow_pickle=True)
    with pytest.raises(InputError, match="cannot be read"):
        motion_files.read_motion(path)
