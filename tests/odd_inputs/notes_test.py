"""What users are told about odd inputs, and what is taken from them all the same."""

import codecs
import io
import json

import numpy as np
import pytest
from PIL import Image

from gesture_jax.data import clips, media, people, pose, speaker
from tests import in_process

_NAN = (np.nan,) * 3
# As of the procedural speaker: low and high of x, y and distance of the shoulders.
_KNOWN = np.array([[0.48, 0.52], [0.45, 0.48], [0.30, 0.34]])
_needs_pose = pytest.mark.skipif(
    not pose.is_installed(), reason="the extra [pose] is not installed"
)


@pytest.mark.parametrize(
    ("found", "agreed"),
    [
        # What the pose model saw of one drawn person at five sizes: the first is wrong.
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
def test_a_person_is_where_two_sizes_say_so(found, agreed):
    told = people.agree(np.array(found), size=lambda row: row[2])
    if agreed is None:
        assert told is None
    else:
        np.testing.assert_allclose(told, agreed, atol=0.02)


@_needs_pose
@pytest.mark.parametrize(
    ("identity", "size", "colour", "corner"),
    [(28, (256, 192), (202, 169, 103), (92, 26)), (24, (153, 256), (208, 92, 154), (20, 46))],
)
def test_png_and_jpeg_of_a_picture_are_cut_alike(identity, size, colour, corner):
    """Of these drawn people one size finds another place in one of the files."""
    picture = Image.new("RGB", size, colour)
    picture.paste(Image.fromarray(speaker.portrait(identity=identity, size=128)), corner)
    squares = []
    for quality in (None, 95, 75):
        file = io.BytesIO()
        picture.save(file, "PNG") if quality is None else picture.save(
            file, "JPEG", quality=quality
        )
        shown = np.asarray(Image.open(file))
        square, notices = people.choose_square("p.png", shown, None, _KNOWN)
        assert f"--crop={','.join(map(str, square))};" in notices[0]
        squares.append(square)
    np.testing.assert_allclose(squares, [(*corner, 128)] * 3, atol=16)


@_needs_pose
def test_the_square_around_a_person_is_told_where_training_framing_is_unknown():
    picture = np.full((480, 640, 3), 205, np.uint8)
    picture[200:456, 300:556] = speaker.portrait(identity=1, size=256)
    (left, top, side), (notice,) = people.choose_square("p.png", picture, None, None)
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
        media.write_video(folder / "raw" / f"{name}.mp4", frames, audio=sound)
    return folder


def _prepare_pats(folder, out, rows, *flags, mark=b""):
    """Exit code and errors of `prepare`, of a table with rows (speaker, id, start, end)."""
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


def test_an_interval_that_cannot_be_used_is_named_and_another_is_for_testing(pats, tmp_path):
    beyond = ("ann", "3", "0:00:07", "0:00:09")
    code, told = _prepare_pats(pats, tmp_path / "data", [*_ROWS, beyond])
    assert code == 0 and "left out ann#3: cannot be read" in told
    assert _ids(tmp_path / "data", "train") == ["ann#1"]
    assert _ids(tmp_path / "data", "test") == ["ann#2"]


def test_the_end_of_a_single_interval_is_for_testing(pats, tmp_path):
    code, _ = _prepare_pats(pats, tmp_path / "data", [("bob", "1", "0:00:00", "0:00:02")])
    assert code == 0
    assert _ids(tmp_path / "data", "train") == ["bob#1"]
    assert _ids(tmp_path / "data", "test") == ["bob#1-end"]


def test_a_split_of_which_nothing_can_be_used_is_told(pats, tmp_path):
    (tmp_path / "split.json").write_text(json.dumps({"train": [1, 2], "test": [3]}))
    rows = [*_ROWS, ("ann", "3", "0:00:07", "0:00:09")]
    code, told = _prepare_pats(pats, tmp_path / "data", rows, f"--split={tmp_path}/split.json")
    assert code == 2 and "the split 'test' would be empty" in told and "ann#3" in told
    assert "Traceback" not in told and not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("row", "told"),
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
def test_a_bad_row_is_named(pats, tmp_path, row, told):
    code, errors = _prepare_pats(pats, tmp_path / "data", [*_ROWS, row])
    assert code == 0 and told in errors


def test_a_table_of_bad_rows_names_one(pats, tmp_path):
    code, told = _prepare_pats(pats, tmp_path / "data", [("ann", "1", "x", "0:00:01")])
    assert (
        code == 2 and "no row can be used; line 2 of data.csv: start_time of ann#1 is 'x'" in told
    )


def test_tables_may_begin_with_a_byte_order_mark(pats, tmp_path):
    split, edges = tmp_path / "split.json", tmp_path / "edges.json"
    split.write_bytes(codecs.BOM_UTF8 + json.dumps({"train": [1], "test": [2]}).encode())
    edges.write_bytes(codecs.BOM_UTF8 + json.dumps({"ann": 0.5}).encode())
    flags = f"--split={split}", f"--left_edges={edges}"
    code, told = _prepare_pats(pats, tmp_path / "data", _ROWS, *flags, mark=codecs.BOM_UTF8)
    assert (code, _ids(tmp_path / "data", "test")) == (0, ["ann#2"]), told


def test_a_list_of_portraits_may_begin_with_a_byte_order_mark(tmp_path):
    pytest.importorskip("cv2")  # Of the extra [pose].
    from gesture_jax.data.photo_people import takes

    names = tmp_path / "names.txt"
    names.write_bytes(codecs.BOM_UTF8 + b"ann\nbob\n")
    assert takes.read_names([str(names)]) == ["ann", "bob"]
