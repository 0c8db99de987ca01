"""Where things lie: manifests, outputs that are inputs, folders that hold something else, `~`."""

import csv
import json

import pytest

from gesture_jax import manifest
from gesture_jax.errors import InputError
from gesture_jax.manifest import Request

_FLAGS = dict(image=None, audio=None, out=None, speaker=None, sheet=None)
# What `str.splitlines` takes for the end of a line, and a name of a file may hold.
_ODD = ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e"]


def _read(path):
    return manifest.read_requests(str(path), **_FLAGS, seed=0)


@pytest.mark.parametrize("character", [*_ODD, "\n", "\r", "\r\n"], ids=ascii)
@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_a_row_of_a_manifest_keeps_every_character_of_its_names(tmp_path, character, ending):
    rows = [{"image": f"a{character}b.png", "audio": "c", "out": name} for name in ("d", "e")]
    path = tmp_path / f"many.{ending}"
    with path.open("w", newline="", encoding="utf-8") as file:
        if ending == "csv":
            writer = csv.DictWriter(file, ["image", "audio", "out"])
            writer.writeheader()
            writer.writerows(rows)
        else:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    assert [request for _, request in _read(path)] == [Request(**row) for row in rows]


def test_a_row_of_a_table_that_is_badly_quoted_does_not_end_the_others(tmp_path):
    path = tmp_path / "many.csv"
    path.write_text('image,audio,out\n"a"b,c,d\na,b,c\n')
    (where, bad), (_, good) = _read(path)
    assert where == f"{path}:2" and isinstance(bad, InputError)
    assert good == Request("a", "b", "c")
    path.write_text('"image"x,audio,out\na,b,c\n')
    ((where, bad),) = _read(path)
    assert where == f"{path}:1" and isinstance(bad, InputError)
