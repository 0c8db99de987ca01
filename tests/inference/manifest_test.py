"""Requests from flags, from CSV and from JSON lines; and bad rows."""

import pytest

from gesture_jax.errors import InputError
from gesture_jax.inference.manifest import Request, read_requests

_FLAGS = dict(image=None, audio=None, out=None, speaker=None, sheet=None)
_ROW = {"image": "a", "audio": "b", "out": "c"}


def test_flags_are_one_request():
    assert read_requests(None, **_FLAGS | _ROW, seed=4) == [("", Request(**_ROW, seed=4))]
    with pytest.raises(InputError, match="--image is missing"):
        read_requests(None, **_FLAGS, seed=4)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("many.jsonl", '{"image": "a", "audio": "b", "out": "c"}\n\n'
         '{"image": "a", "audio": "b", "out": "d", "seed": 9, "speaker": "ann"}\n'),
        ("many.csv", "image,audio,out,seed,speaker\na,b,c,,\na,b,d,9,ann\n"),
        ("windows.CSV", "\ufeffimage,audio,out,seed,speaker\r\na,b,c,,\r\na,b,d,9,ann\r\n"),
    ],
)  # fmt: skip
def test_a_manifest_is_csv_or_json_lines(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content.encode())
    (_, first), (where, second) = read_requests(str(path), **_FLAGS, seed=4)
    assert first == Request(**_ROW, seed=4)
    assert second == Request("a", "b", "d", seed=9, speaker="ann")
    assert where == f"{path}:3"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("many.jsonl", '{"audio": "b", "out": "c"}\n{"image": "a", "audio": "b", "out": "d"}\n'),
        ("many.csv", "image,audio,out\n,b,c\na,b,d\n"),
    ],
)
def test_rows_without_a_portrait_show_the_avatar(tmp_path, name, content):
    (tmp_path / name).write_text(content)
    read = lambda avatar: read_requests(str(tmp_path / name), **_FLAGS, seed=0, avatar=avatar)
    shown = [request.image for _, request in read("ann.avatar")]
    assert shown == ["ann.avatar", "a"]
    first, second = (request for _, request in read(None))
    assert isinstance(first, InputError) and second.image == "a"
    with pytest.raises(InputError, match="its rows name all files; drop the other flags"):
        read_requests(str(tmp_path / name), **_FLAGS | {"audio": "b"}, seed=0, avatar="ann.avatar")


def test_an_avatar_is_the_portrait_of_flags():
    given = _FLAGS | {"audio": "b", "out": "c"}
    ((_, request),) = read_requests(None, **given, seed=4, avatar="ann.avatar")
    assert request == Request("ann.avatar", "b", "c", seed=4)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "not a row with keys among image, audio, out"),
        ("[1, 2]", "not a row with keys"),
        ('{"image": "a", "audio": "b"}', "not a row with keys"),
        ('{"image": "a", "audio": "b", "out": "c", "sound": "d"}', "not a row with keys"),
        ('{"image": "a", "audio": 1, "out": "c"}', "audio is 1; str is wanted"),
        ('{"image": "a", "audio": "b", "out": "c", "seed": "x"}', "seed is 'x'; int is wanted"),
        ('{"image": "a", "audio": "b", "out": "c", "seed": -1}', "seed is -1"),
    ],
)
def test_a_bad_row_does_not_end_the_others(tmp_path, line, reason):
    path = tmp_path / "many.jsonl"
    path.write_text(f'{line}\n{{"image": "a", "audio": "b", "out": "c"}}\n')
    (where, bad), (_, good) = read_requests(str(path), **_FLAGS, seed=0)
    assert where == f"{path}:1" and isinstance(bad, InputError) and reason in str(bad)
    assert good == Request(**_ROW)


def test_files_that_are_not_a_manifest(tmp_path):
    (tmp_path / "empty.jsonl").write_text("\n")
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00")
    for name, reason in [
        ("empty.jsonl", "is empty"), ("binary.csv", "cannot be read"), ("none.csv", "cannot be")
    ]:  # fmt: skip
        with pytest.raises(InputError, match=f"{name}: {reason}"):
            read_requests(str(tmp_path / name), **_FLAGS, seed=0)
    with pytest.raises(InputError, match="its rows name all files; drop the other flags"):
        read_requests(str(tmp_path / "empty.jsonl"), **_FLAGS | {"image": "a"}, seed=0)
