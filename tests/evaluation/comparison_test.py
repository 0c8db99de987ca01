"""Comparing two folders of videos: matching, clips, averages and the report."""

import dataclasses
import json
import re
import shutil
import subprocess

import chex
import jax
import numpy as np
import pytest

from gesture_jax.errors import InputError
from gesture_jax.evaluation import frames as frame_scores
from gesture_jax.evaluation import motion, report, videos
from gesture_jax.evaluation.comparison import Comparison, Settings
from gesture_jax.evaluation.motion import MotionOptions
from gesture_jax.evaluation.results import Results
from gesture_jax.media import motion_files
from gesture_jax.media.writer import write_video
from gesture_jax.metrics.scores import Score
from gesture_jax.procedural import speaker

pytestmark = pytest.mark.usefixtures("quickly_compiled")

_RANDOM = np.random.default_rng(0)


def _write(path, frames, **options):
    write_video(path, frames, crf=0, **options)


def _noise(count, size=32):
    return _RANDOM.integers(0, 256, (count, size, size, 3)).astype(np.uint8)


def test_folders_are_matched_by_name_and_no_video_is_left_alone(tmp_path):
    for name in ("real/b.mp4", "real/a.mov", "real/notes.txt", "generated/a.mp4"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    real, generated = (videos.find_videos(tmp_path / side) for side in ("real", "generated"))
    assert [path.name for path in real] == ["a.mov", "b.mp4"]
    assert videos.find_videos(tmp_path / "real", limit=1) == real[:1]
    assert videos.match(real[:1], generated) == [(real[0], generated[0])]
    with pytest.raises(
        InputError, match=r"1 videos have no generated video with the same name \(b\)"
    ):
        videos.match(real, generated)
    (tmp_path / "real/a.webm").touch()
    with pytest.raises(InputError, match="holds two videos named a"):
        videos.find_videos(tmp_path / "real")
    with pytest.raises(InputError, match="no such folder"):
        videos.find_videos(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("stride", "most", "starts"), [(4, 9, [0, 4, 8]), (2, 3, [0, 2, 4]), (7, 9, [0, 7])]
)
def test_clips_are_cut_every_so_many_frames(stride, most, starts):
    frames = np.arange(13)[:, None, None, None]
    clips = list(videos.cut_clips(iter(frames), length=4, stride=stride, max_clips=most))
    assert [clip[:, 0, 0, 0].tolist() for clip in clips] == [
        list(range(start, start + 4)) for start in starts
    ]


def test_the_rest_of_a_video_is_not_read():
    frames = iter(range(100))
    arrays = (np.full((1, 1, 3), number) for number in frames)
    list(videos.cut_clips(arrays, length=4, stride=4, max_clips=2))
    assert next(frames) == 8


def test_scores_of_a_pair_by_hand(tmp_path):
    """An mp4 keeps grey exactly: 10 log10(1 / 0.04) is 13.98 dB, from every frame or from none."""
    grey = lambda level, count: np.full((count, 32, 32, 3), level, np.uint8)
    _write(tmp_path / "real.mp4", grey(102, 11))
    _write(tmp_path / "generated.mp4", grey(153, 9))
    boxes = frame_scores.Boxes(
        np.zeros((11, 2, 4)), np.tile([[[0.0, 0.0, 16.0, 32.0]]], (11, 1, 1))
    )
    boxes.hands[:5, 0] = [2, 2, 20, 20]
    found = frame_scores.compare(
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


def test_scores_of_any_number_of_frames_compile_once():
    """The last batch is padded; its padding does not count."""
    score = chex.assert_max_traces(lambda rows: {"value": rows}, n=1)
    for count in (1, 2, 5):
        averager = frame_scores._Averager(jax.jit(score), 2)
        for number in range(count):
            averager.add((np.float32(number),))
        assert averager.finish() == {"value": (count - 1) / 2}


def test_equal_videos_are_equal_and_a_region_never_seen_has_no_value(tmp_path):
    _write(tmp_path / "video.mp4", _noise(3))
    path = tmp_path / "video.mp4"
    nobody = frame_scores.Boxes(np.zeros((3, 2, 4)), np.zeros((3, 1, 4)))
    found = frame_scores.compare(path, path, {}, size=32, perceptual_stride=1, boxes=nobody)
    assert found["psnr"] == 100.0 and found["ssim"] == pytest.approx(1.0, abs=1e-6)
    assert np.isnan([found["psnr_hands"], found["psnr_background"]]).all()


def test_a_page_with_few_results_shows_a_video_and_each_reason_once(tmp_path):
    _write(tmp_path / "a.mp4", _noise(3))
    results = Results(missing={"psnr": "not paired", "fgd": "no poses", "ssim": "not paired"})
    report.write(tmp_path / "page.html", results, {"a": (None, tmp_path / "a.mp4")}, size=32)
    page = (tmp_path / "page.html").read_text()
    assert page.count("<video") == 1 and "<h2>Plots" not in page
    assert page.count("<li>psnr, ssim: not paired</li>") == 1 == page.count("not paired")
    assert "not computed: psnr, ssim: not paired" in report.plain_table(results).splitlines()


def test_results_are_valid_json(tmp_path):
    results = Results(scores={"bas": Score(0.5, 1)}, missing={"fvd": "no weights"})
    results.add(Results(clips={"a": {"bas": float("nan")}}, protocol={"seed": np.int64(3)}))
    results.write(tmp_path / "out" / "metrics.json")
    content = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert content["bas"] == {"value": 0.5, "count": 1, "low": None, "high": None}
    assert content["fvd"] == {"missing": "no weights"}
    assert content["clips"] == {"a": {"bas": None}} and content["protocol"] == {"seed": 3}


def test_motion_is_read_from_its_file_and_other_files_are_refused(tmp_path):
    motion = _RANDOM.standard_normal((5, 7)).astype(np.float32)
    path = tmp_path / "motion.npz"
    motion_files.write_motion(path, motion, np.zeros((4, 4, 3), np.uint8))
    np.testing.assert_array_equal(motion_files.read_motion(path, shape=(5, 7)), motion)
    for name, wanted, sentence in (
        ("motion", (4, 7), "another size than is wanted, which is 4 frames of 7 numbers"),
        ("joints", None, "an .npz that holds 'joints' is wanted"),
    ):
        with pytest.raises(InputError, match=sentence):
            motion_files.read_motion(path, name, shape=wanted)
    np.savez(path, joints=motion[..., None], names=["head", "left_wrist"])
    assert motion_files.read_joint_names(path) == ("head", "left_wrist")
    for names in ([1, 2], np.array([print], object)):
        np.savez(path, joints=motion[..., None], names=names)
        with pytest.raises(InputError, match="something else than one string a joint"):
            motion_files.read_joint_names(path)
    for values, sentence in (
        (np.array([print], object), "cannot be read"),
        (np.ones((4, 3), int), "something else than finite floats"),
        (np.full((4, 3), 1e300), "something else than finite floats"),
        (np.ones((0, 3)), "wanted is"),
        (np.ones((4, 3, 3)), "wanted is"),
    ):
        np.savez(path, motion=values, allow_pickle=True)
        with pytest.raises(InputError, match=sentence):
            motion_files.read_motion(path)


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Three drawn clips of 1.2 s, with sound, and their joints beside them."""
    folder = tmp_path_factory.mktemp("clips")
    for number in range(3):
        done = speaker.perform(identity=number % 2, seed=number, duration_sec=1.2, size=32)
        _write(folder / f"clip{number}.mp4", done.frames, audio=done.audio)
        np.savez(folder / f"clip{number}.npz", joints=done.joints)
    return folder


def _settings(real, generated, out, **options):
    measured = MotionOptions(kind="joints", window=16)
    options = dict(paired=True, size=32, perceptual_stride=10, fvd_frames=10, fvd_clips=1) | options
    return Settings(
        real=str(real), generated=str(generated), out=str(out), motion=measured, **options
    )


@pytest.fixture(scope="module")
def equal(clips, tmp_path_factory):
    """An evaluation of a folder against itself."""
    out = tmp_path_factory.mktemp("out")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(motion, "_FIT_STEPS", 30)
        comparison = Comparison(_settings(clips, clips, out))
        comparison.run()
    comparison.write()
    return out


def test_a_folder_is_like_itself(equal):
    found = json.loads((equal / "metrics.json").read_text())
    for name in ("fgd", "fvd"):
        assert found[name]["value"] < 1e-3 and found[name]["count"] == 3
        assert found["controls"]["still"][name]["value"] > 1.0
    # The floor is that of halves, and stands beside halves; FVD's have a clip each here.
    assert "fgd_halves" in found["controls"]["real"] and "fvd_halves" not in found
    assert not {"fgd", "fvd"} & found["controls"]["real"].keys()
    assert found["fgd_halves"] == found["controls"]["real"]["fgd_halves"]
    assert found["psnr"] == {"value": 100.0, "count": 3, "low": 100.0, "high": 100.0}
    assert found["ssim"]["value"] == pytest.approx(1.0, abs=1e-6)
    assert found["st_lpips"]["value"] == pytest.approx(0.0, abs=1e-6)
    for name in ("div", "bas", "beats_per_sec"):
        assert found[name]["value"] == found[f"{name}_real"]["value"] > 0
    assert found["controls"]["still"]["bas"]["value"] == 0
    assert "other speech" in found["controls"]
    assert "alexnet" in found["lpips"]["missing"]
    assert {
        "seed",
        "versions",
        "fvd_weights_sha256",
        "fgd_autoencoder_sha256",
        "bas_sigma_sec",
    } <= set(found["protocol"])
    assert any("examples of 32 features are few" in note for note in found["notes"])


def test_an_autoencoder_is_used_again(clips, equal, tmp_path):
    """FGD by the one that was kept, of clips that move in reverse; nothing is fitted."""
    reverse = tmp_path / "reverse"
    shutil.copytree(clips, reverse)
    for path in reverse.glob("*.npz"):
        np.savez(path, joints=np.load(path)["joints"][::-1])
    settings = _settings(clips, reverse, tmp_path / "out", paired=False, fvd_clips=0)
    options = dataclasses.replace(settings.motion, autoencoder=str(equal / "fgd.npz"))
    comparison = Comparison(dataclasses.replace(settings, motion=options))
    comparison.run()
    assert not (tmp_path / "out").exists()
    found = comparison.results
    protocol = json.loads((equal / "metrics.json").read_text())["protocol"]
    assert found.protocol["fgd_autoencoder_sha256"] == protocol["fgd_autoencoder_sha256"]
    assert found.scores["fgd"].value > 1e-2
    assert found.missing["psnr"].startswith("compares frame by frame") and "fvd" in found.missing


def test_motion_that_is_missing_or_too_short_is_named(clips, equal, tmp_path):
    alone = tmp_path / "alone"
    alone.mkdir()
    shutil.copy(clips / "clip0.mp4", alone)
    with pytest.raises(InputError, match=r"clip0.npz: cannot be read; an .npz that holds 'joints'"):
        Comparison(_settings(clips, alone, tmp_path / "out", paired=False)).run()
    shutil.copy(clips / "clip0.npz", alone)
    settings = _settings(alone, alone, tmp_path / "out", fvd_frames=31)
    options = dataclasses.replace(settings.motion, autoencoder=str(equal / "fgd.npz"))
    with pytest.raises(InputError, match=r"clip0.mp4: is shorter than a window of 31 frames"):
        Comparison(dataclasses.replace(settings, motion=options)).run()


def test_the_page_needs_nothing_else(equal):
    page = (equal / "report.html").read_text()
    assert page.count("<video") == 3 and page.count("<svg") == 3
    assert not re.findall(r"(?:src|href)=['\"](?!data:|#)", page)


_PROBE = """<script>setTimeout(() => { document.body.dataset.ready = [...document.querySelectorAll(
'video')].map(video => video.readyState).join() }, 3000)</script></html>"""


@pytest.mark.skipif(not shutil.which("chromium"), reason="no chromium is installed")
def test_a_browser_plays_the_videos(equal, tmp_path):
    page = tmp_path / "page.html"
    page.write_text((equal / "report.html").read_text().replace("</html>", _PROBE))
    flags = "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking"
    command = [
        "chromium", *flags.split(), "--disable-component-update", "--disable-sync",
        f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=8000", "--dump-dom",
        page.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    # HAVE_ENOUGH_DATA.
    assert 'data-ready="4,4,4"' in done.stdout
