"""PATS: a table of intervals and raw videos, on a small raw tree made here."""

import csv
import json

import numpy as np
import pytest

from gesture_jax.data import clips
from gesture_jax.errors import InputError
from gesture_jax.media.framing import Crop
from gesture_jax.media.writer import write_video
from gesture_jax.preparation import pats, videos

_SETTINGS = videos.Settings(size=32, min_sec=0.5, max_sec=1.0)
_COLUMNS = (
    "dataset", "delta_time", "end_time", "interval_id", "speaker", "start_time", "video_fn",
    "video_link",
)  # fmt: skip


def _row(speaker, interval_id, start, end, link, video_fn=""):
    return ("train", "1.0", end, interval_id, speaker, start, video_fn, link)


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    """Raw videos of four speakers; in each the brightness tells the time, the hue the column."""
    root = tmp_path_factory.mktemp("raw")
    audio = np.random.default_rng(0).standard_normal(16_000 * 6).astype(np.float32) * 0.1
    seconds, numbers = np.divmod(np.arange(150)[:, None, None], 25)
    frames = np.zeros((150, 64, 128, 3), np.uint8)
    frames[..., 0] = 8 * numbers + 40  # Red: the frame within the second.
    frames[..., 2] = 30 * seconds + 40  # Blue: the second.
    frames[..., 1] = np.arange(128, dtype=np.uint8) + 40  # Green: column c is c + 40.
    for name in ("oliver/abcdefghijk", "chemistry/zyxwvutsrqp", "jon/1234", "ellen/elLen_-0123"):
        (root / name).parent.mkdir(exist_ok=True)
        write_video(root / f"{name}.mp4", frames, audio=audio, crf=4)
    return root


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    path = tmp_path_factory.mktemp("table") / "cmu_intervals_df.csv"
    tube = "https://www.youtube.com/watch?v="
    rows = [
        _row("oliver", str(n), f"0:00:0{n - 9}.0", f"0:00:0{n - 8}.0", tube + "abcdefghijk")
        for n in range(9, 13)
    ]
    rows += [
        _row("chem", "7", "0 days 00:00:01", "0 days 00:00:04", tube + "zyxwvutsrqp"),
        _row("chem", "8", "00:00:02", "00:00:03", tube + "zyxwvutsrqp"),
        _row("jon", "70", "1.0", "2.0", "http://site/video/1234"),
        _row("jon", "71", "2.0", "3.0", "http://site/video/1234"),
        _row("ellen", "1", "0:00:01", "0:00:02", "", "elLen_-0123.mp4"),
        _row("ellen", "2", "0:00:03", "0:00:04", "", "elLen_-0123.mp4"),
        _row("seth", "5", "0:00:01", "0:00:02", tube + "not_here_00"),
        _row("seth", "6", "0:00:05", "0:00:02", tube + "not_here_00"),
    ]
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([_COLUMNS, *rows])
    return path


@pytest.fixture(scope="module")
def prepared(raw, table, tmp_path_factory):
    out = tmp_path_factory.mktemp("pats") / "data"
    edges = {"ellen": 0.0}
    options = dict(settings=_SETTINGS, left_edges=edges, test_fraction=0.5)
    return out, pats.write_pats(table, raw, out, **options)


def _records(out, split):
    return {record["clip_id"]: record for record in clips.ClipSource(out, split)}


def test_the_last_ids_are_for_testing(prepared):
    out, _ = prepared
    assert _records(out, "train").keys() == {
        "oliver#9", "oliver#10", "chemistry#7", "jon#70", "ellen#1"
    }  # fmt: skip
    assert _records(out, "test").keys() == {
        "oliver#11", "oliver#12", "chemistry#8", "jon#71", "ellen#2"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("clip_id", "second", "left"),
    # Squares of the full height, 64, in a width of 128.
    [("oliver#10", 1, 49), ("chemistry#7", 1, 4), ("jon#70", 1, 64), ("ellen#1", 1, 0)],
)
def test_intervals_and_crops(prepared, clip_id, second, left):
    record = _records(prepared[0], "train")[clip_id]
    frames = clips.decode_frames(record).astype(float)
    assert len(frames) == 25  # One second, or cut to max_sec.
    red, blue = frames[..., 0].mean(axis=(1, 2)), frames[..., 2].mean(axis=(1, 2))
    np.testing.assert_allclose(red, 8 * np.arange(25) + 40, atol=3.9)
    np.testing.assert_allclose(blue, 30 * second + 40, atol=14)
    # Column j of the frames is the mean of two columns of the video.
    green = frames[..., 1].mean(axis=(0, 1))
    np.testing.assert_allclose(green[2:-2], (left + 40.5 + 2 * np.arange(32))[2:-2], atol=2.5)
    assert len(record["audio"]) == 16_000


def test_what_is_missing_is_told_by_video(prepared):
    _, report = prepared
    told = {entry["name"]: entry["detail"] for entry in report["left_out"]["each"]}
    assert told["seth/not_here_00"] == "1 intervals"
    assert [name for name in told if name.startswith("line ")] == [
        "line 13 of cmu_intervals_df.csv"
    ]


def test_a_split_file_decides(raw, table, tmp_path):
    split = tmp_path / "split.json"
    split.write_text(json.dumps({"train": [9, 70], "test": ["chemistry#8"]}))
    pats.write_pats(table, raw, tmp_path / "out", settings=_SETTINGS, split_file=split)
    assert _records(tmp_path / "out", "train").keys() == {"oliver#9", "jon#70"}
    assert _records(tmp_path / "out", "test").keys() == {"chemistry#8"}


def test_ends_of_intervals_are_for_testing(raw, table, tmp_path):
    options = dict(settings=_SETTINGS, test_fraction=0.2, split_within_clips=True)
    pats.write_pats(table, raw, tmp_path / "out", **options)
    train, test = (_records(tmp_path / "out", split) for split in ("train", "test"))
    assert test.keys() == {f"{clip_id}-end" for clip_id in train}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ('{"train": [1], "dev": [2]}', "give JSON as"),
        ('{"train": [1], "test": [1]}', "1 is in both splits"),
        ("train", "cannot be read as JSON"),
    ],
)
def test_bad_split_files(raw, table, tmp_path, content, reason):
    (tmp_path / "split.json").write_text(content)
    with pytest.raises(InputError, match=reason):
        pats.write_pats(
            table, raw, tmp_path / "out", settings=_SETTINGS, split_file=tmp_path / "split.json"
        )


def test_bad_tables_and_folders(raw, table, tmp_path):
    write = lambda **files: pats.write_pats(
        files.get("table", table), files.get("raw", raw), tmp_path / "out", settings=_SETTINGS
    )
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    (tmp_path / "empty").mkdir()
    for files, reason in (
        ({"table": tmp_path / "other.csv"}, "lacks the column speaker"),
        ({"table": tmp_path / "nowhere.csv"}, "cannot be read as a table"),
        ({"raw": tmp_path / "nowhere"}, "no such folder"),
        ({"raw": tmp_path / "empty"}, "none of the 11 intervals"),
    ):
        with pytest.raises(InputError, match=reason):
            write(**files)


def test_left_edges_from_a_file(tmp_path):
    path = tmp_path / "edges.json"
    path.write_text('{"chem": 0.5, "rock": 1}')
    assert pats.read_left_edges(path) == {"chemistry": 0.5, "rock": 1.0}
    path.write_text('{"rock": 3}')
    with pytest.raises(InputError, match="in \\[0, 1\\] of the width"):
        pats.read_left_edges(path)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0:01:23.5", 83.5),
        ("01:00:00", 3600.0),
        ("0 days 00:01:23.450000000", 83.45),
        ("1 days 00:00:01", 86_401.0),
        ("1900-01-01 00:00:02.25", 2.25),
        ("83.5", 83.5),
    ],
)
def test_times(text, seconds):
    assert pats.parse_time(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "soon", "1:2:3:4", "-1:00"])
def test_what_is_no_time(text):
    with pytest.raises(ValueError):
        pats.parse_time(text)


def test_defaults_are_the_references():
    assert pats.LEFT_EDGES == {"oliver": 0.38, "seth": 0.395, "chemistry": 0.031, "jon": 1.0}
    assert Crop(left=pats.LEFT_EDGES["jon"]).find_box(1280, 720) == (560, 0, 720)
