"""Files as the world has them: each becomes a clip in step with its sound, or is left out."""

import os

import numpy as np
import pytest
import scipy.io.wavfile

from gesture_jax.data import clips
from gesture_jax.errors import InputError
from gesture_jax.media.sound import read_audio
from gesture_jax.media.video import read_video
from gesture_jax.media.writer import write_audio
from gesture_jax.preparation import dataset, videos
from tests import bad_media

_SETTINGS = videos.Settings(size=32, min_sec=1.0, max_sec=30.0)

# What is read right, and how it is made.
_RIGHT = {
    "25": {},
    "23.976": {"fps": "24000/1001"},
    "29.97": {"fps": "30000/1001"},
    "50": {"fps": "50"},
    "60": {"fps": "60"},
    "variable rate": {
        "times": [*np.arange(0, 1, 1 / 12), *np.arange(1, 2, 1 / 30), *np.arange(2, 4, 1 / 24)]
    },
    "10 bits": {"pix_fmt": "yuv420p10le"},
    "odd sizes": {"size": (67, 45), "pix_fmt": "yuv444p"},
    "8 kHz": {"rate": 8_000},
    "96 kHz stereo": {"rate": 96_000, "layout": "stereo"},
    "44.1 kHz 5.1": {"rate": 44_100, "layout": "5.1"},
    "longer sound": {"audio_seconds": 6.0},
    "shorter sound": {"audio_seconds": 3.0},
    "mkv": {"name": "a.mkv", "sound_codec": "libopus"},
    "webm": {"name": "a.webm", "codec": "libvpx", "sound_codec": "libopus"},
    "avi": {"name": "a.avi", "codec": "mjpeg", "pix_fmt": "yuvj420p", "sound_codec": "pcm_s16le"},
}


@pytest.mark.parametrize("kind", _RIGHT)
def test_picture_and_sound_stay_together(tmp_path, kind):
    making = dict(_RIGHT[kind])
    path = bad_media.write(tmp_path / making.pop("name", "a.mp4"), **making)
    frames, audio = read_video(path, size=32), read_audio(path)
    assert abs(len(frames) - 100) <= 2
    # Half a frame of ours, plus the 5 ms that the burst is searched in.
    assert bad_media.flash_sec(frames) == pytest.approx(bad_media.FLASH_SEC, abs=0.0201)
    assert bad_media.burst_sec(audio) == pytest.approx(bad_media.FLASH_SEC, abs=0.01)


@pytest.mark.parametrize("start_sec", [0.5, 1.3, 1.9])
def test_an_interval_is_found_by_seeking(tmp_path, start_sec):
    path = bad_media.write(tmp_path / "a.mp4", fps="30000/1001", rate=44_100)
    span = {"start_sec": start_sec, "stop_sec": 3.5}
    frames, audio = read_video(path, size=32, **span), read_audio(path, **span)
    assert len(frames) == round((3.5 - start_sec) * 25)
    assert len(audio) == round((3.5 - start_sec) * 16_000)
    expected = bad_media.FLASH_SEC - start_sec
    assert bad_media.flash_sec(frames) == pytest.approx(expected, abs=0.0201)
    assert bad_media.burst_sec(audio) == pytest.approx(expected, abs=0.01)


def test_damage_in_the_middle_does_not_shift_the_rest(tmp_path):
    path = bad_media.write(tmp_path / "a.mkv", sound_codec="libopus")
    bad_media.corrupt(path, 0.25, 0.35)
    frames, audio = read_video(path, size=32), read_audio(path)
    assert abs(len(frames) - 100) <= 2
    assert bad_media.flash_sec(frames) == pytest.approx(bad_media.FLASH_SEC, abs=0.0401)
    assert bad_media.burst_sec(audio) == pytest.approx(bad_media.FLASH_SEC, abs=0.02)


def test_a_header_that_lies_about_the_length_is_not_believed(tmp_path):
    path = bad_media.claim_two_hours(bad_media.write(tmp_path / "a.mp4", seconds=2.4))
    assert abs(len(read_video(path, size=32)) - 60) <= 1
    assert len(read_audio(path)) / 16_000 == pytest.approx(2.4, abs=0.1)


def test_turned_pictures_are_upright(tmp_path):
    upright = read_video(bad_media.write(tmp_path / "a.mp4", size=(64, 64)), size=32)[0]
    turned = read_video(bad_media.turn(tmp_path / "a.mp4"), size=32)[0]
    assert upright[4, 4, 0] > 200 > 100 > upright[4, 4, 1]  # The red mark, upper left.
    np.testing.assert_allclose(turned, np.rot90(upright, -1), atol=2)


@pytest.fixture(scope="module")
def bad_folder(tmp_path_factory):
    """A good video among bad ones."""
    root = tmp_path_factory.mktemp("bad") / "videos"
    root.mkdir()
    write = lambda name, **making: bad_media.write(root / name, **making)
    write("good.mp4")
    write("dubbed.mp4", audio_seconds=0)
    write_audio(root / "dubbed.wav", read_audio(root / "good.mp4"), 16_000)
    bad_media.truncate(write("index_lost.mp4"), 0.8)
    bad_media.truncate(write("cut.mp4", options={"movflags": "faststart"}), 0.6)
    (root / "empty.mp4").write_bytes(b"")
    write("mute.mp4", audio_seconds=0)
    write("short.mp4", seconds=0.6)
    (root / "words.mp4").write_text("these are words\n" * 50)
    (root / "noise.mp4").write_bytes(np.random.default_rng(0).bytes(50_000))
    (root / "playlist.mp4").write_text("#EXTM3U\n#EXTINF:10,\n/etc/passwd\n")
    (root / "sound.mp4").write_bytes((root / "dubbed.wav").read_bytes())
    bad_media.claim_two_hours(write("liar.mp4", seconds=2.4))
    bad_media.corrupt(write("scratched.mkv"), 0.4, 0.5)
    outside = bad_media.write(root.parent / "outside.mp4")
    (root / "link.mp4").symlink_to(outside)
    (root / "dangling.mp4").symlink_to(root / "nothing.mp4")
    (root / "folder.mp4").mkdir()
    return root


_LEFT_OUT = {
    "index_lost.mp4": ("cannot be read", "cannot be decoded"),
    "empty.mp4": ("cannot be read", "0 bytes"),
    "mute.mp4": ("cannot be read", "no audio stream"),
    "short#short": ("too short", "lasts 0.60 s"),
    "words.mp4": ("cannot be read", "cannot be decoded"),
    "noise.mp4": ("cannot be read", "cannot be decoded"),
    "playlist.mp4": ("cannot be read", "cannot be decoded"),
    "sound.mp4": ("cannot be read", "no video stream"),
    "link.mp4": ("leaves the folder", "a link"),
    "dangling.mp4": ("cannot be read", "a link to nowhere"),
}


@pytest.fixture(scope="module")
def prepared(bad_folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("prepared") / "data"
    return out, videos.write_videos(bad_folder, out, settings=_SETTINGS)


def test_bad_files_are_left_out_by_name(prepared):
    _, report = prepared
    named = {entry["name"]: entry for entry in report["left_out"]["each"]}
    assert named.keys() == _LEFT_OUT.keys()
    for name, (reason, detail) in _LEFT_OUT.items():
        assert named[name]["reason"] == reason and detail in named[name]["detail"]


def test_what_is_whole_of_damaged_files_is_used(prepared):
    out, report = prepared
    assert report["speakers"].keys() == {"good", "dubbed", "cut", "liar", "scratched"}
    seconds = {name: facts["hours"] * 3600 for name, facts in report["speakers"].items()}
    assert seconds["good"] == pytest.approx(4.0, abs=0.2)
    assert seconds["liar"] == pytest.approx(2.4, abs=0.2)
    assert 1.0 < seconds["cut"] < 4.0
    source = clips.ClipSource(out, "train")
    for record in source:
        assert len(record["audio"]) == 640 * record["num_frames"] == 640 * len(record["frames"])
        assert np.isfinite(record["speech"]).all()


def test_a_wav_beside_a_video_is_its_sound(prepared):
    out, _ = prepared
    records = {r["clip_id"]: r for r in clips.ClipSource(out, "test")}
    good, dubbed = records["good#good-end"], records["dubbed#dubbed-end"]
    np.testing.assert_allclose(dubbed["audio"], good["audio"], atol=1e-3)


def test_the_report_adds_up(prepared):
    out, report = prepared
    assert dataset.read_report(out) == report
    kept = sum(facts["clips"] for facts in report["splits"].values())
    assert kept == report["kept"]["clips"] == 10
    assert sum(report["left_out"]["by_reason"].values()) == report["left_out"]["count"]
    page = (out / dataset.CONTACT_SHEET_FILE).read_text()
    assert page.count("<figure>") == kept and "no audio stream" in page
    assert "http" not in page.replace("http-equiv", "")  # Nothing beside it is needed.
    assert "cannot be read" in dataset.format_report(report)


def test_nothing_usable_names_the_files(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.mp4").write_text("words")
    with pytest.raises(InputError, match=r"nothing could be used; a\.mp4: cannot be read"):
        videos.write_videos(tmp_path / "in", tmp_path / "out", settings=_SETTINGS)
    assert os.listdir(tmp_path) == ["in"]


def test_samples_that_are_no_numbers_are_heard_as_silence(tmp_path):
    samples = np.full(16_000, 0.25, np.float32)
    samples[100:200] = np.nan
    scipy.io.wavfile.write(tmp_path / "a.wav", 16_000, samples)
    heard = read_audio(tmp_path / "a.wav")
    assert len(heard) == 16_000 and np.isfinite(heard).all()
    assert heard[:50] == pytest.approx(0.25) and not heard[120:180].any()


def test_time_stamps_that_never_end_are_damage(tmp_path):
    path = bad_media.write(tmp_path / "a.mkv", times=[0.0, 0.04, 0.08, 25_000.0])
    with pytest.raises(InputError, match="time stamps leap from 0 s to 25000 s"):
        read_video(path, size=8)
