"""Where things lie: manifests, outputs that are inputs, folders that hold something else, `~`."""

import csv
import json

import numpy as np
import pytest

from gesture_jax import manifest
from gesture_jax.data import images, media, speaker
from gesture_jax.data.motion_files import read_motion
from gesture_jax.errors import InputError
from gesture_jax.manifest import Request
from gesture_jax.page import settings
from gesture_jax.page.desk import Desk
from gesture_jax.page.models import NamedModel, Shelf
from gesture_jax.page.visits import Visit
from tests import tiny

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


@pytest.fixture(scope="module")
def stages(tmp_path_factory):
    """Workdirs of both stages, a portrait and speech."""
    folder = tmp_path_factory.mktemp("stages")
    tiny.moving_stages(folder)
    images.write_image(folder / "portrait.png", speaker.portrait(identity=0, size=32))
    media.write_audio(folder / "speech.wav", np.sin(np.arange(20_000) / 9) / 3, 16_000)
    return folder


@pytest.mark.usefixtures("quickly_compiled")
def test_a_visitor_of_the_page_sets_nothing_for_others(stages):
    desk = Desk(Shelf([NamedModel("m", str(stages / "stage1"), str(stages / "stage2"))]), 60.0)
    generator = desk.shelf.generator("m")
    portrait = images.load_image(stages / "portrait.png")
    speech = media.read_audio(stages / "speech.wav")

    def live():
        stream = generator.stream(portrait)
        return [*stream.push(speech), *stream.finish()]

    before = live()
    values = settings.defaults(desk.shelf.config("m"))
    values[0] = 0.0  # Nothing moves.
    assert settings.SETTINGS[0].key == "motion_scale"
    uploads = ({"path": str(stages / name)} for name in ("portrait.png", "speech.wav"))
    *_, last = desk.talk(
        Visit(stages / "visits"), "m", *uploads, ("center", False, False), 0,
        None, "dpm", *values,
    )  # fmt: skip
    assert np.ptp(read_motion(last.result.motion), axis=0).max() < 1e-5
    assert np.ptp(np.stack(before).astype(int), axis=0).max() > 100
    np.testing.assert_array_equal(live(), before)
    with pytest.raises(InputError, match="hop"):
        generator.options(pace={"hop": 9999, "candidates": 1}, control={"motion_scale": 0.0})
    np.testing.assert_array_equal(live(), before)
