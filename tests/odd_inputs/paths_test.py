"""Paths: manifests, outputs that are inputs, folders with other content, and `~`."""

import csv
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from ml_collections import ConfigDict

from gesture_jax.checkpoint import checkpoints
from gesture_jax.errors import InputError
from gesture_jax.inference import manifest
from gesture_jax.inference.manifest import Request
from gesture_jax.media import images
from gesture_jax.media.motion_files import read_motion
from gesture_jax.media.sound import read_audio
from gesture_jax.media.writer import write_audio, write_video
from gesture_jax.page import settings
from gesture_jax.page.handlers import Handlers
from gesture_jax.page.model_cache import ModelCache, NamedModel
from gesture_jax.page.sessions import Session
from gesture_jax.procedural import speaker
from gesture_jax.storage import output_paths
from tests import in_process, tiny

_FLAGS = dict(image=None, audio=None, out=None, speaker=None, sheet=None)
# `str.splitlines` splits at these characters, which file names may contain.
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


def test_a_badly_quoted_row_does_not_stop_the_others(tmp_path):
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
    write_audio(folder / "speech.wav", np.sin(np.arange(20_000) / 9) / 3, 16_000)
    return folder


@pytest.mark.usefixtures("quickly_compiled")
def test_a_visitor_of_the_page_changes_nothing_for_others(stages):
    desk = Handlers(
        ModelCache([NamedModel("m", str(stages / "stage1"), str(stages / "stage2"))]), 60.0
    )
    generator = desk.models.generator("m")
    portrait = images.load_image(stages / "portrait.png")
    speech = read_audio(stages / "speech.wav")

    def live():
        stream = generator.stream(portrait)
        return [*stream.push(speech), *stream.finish()]

    before = live()
    values = settings.defaults(desk.models.config("m"))
    values[0] = 0.0  # There is no motion.
    assert settings.SETTINGS[0].key == "motion_scale"
    picture, sound = ({"path": str(stages / name)} for name in ("portrait.png", "speech.wav"))
    *_, last = desk.talk(
        Session(stages / "visits"), "m", (picture, None), sound, ("center", False, False), 0,
        None, "dpm", *values,
    )  # fmt: skip
    assert np.ptp(read_motion(last.result.motion), axis=0).max() < 1e-5
    assert np.ptp(np.stack(before).astype(int), axis=0).max() > 100
    np.testing.assert_array_equal(live(), before)
    with pytest.raises(InputError, match="hop"):
        generator.options(schedule={"hop": 9999, "candidates": 1}, control={"motion_scale": 0.0})
    np.testing.assert_array_equal(live(), before)


def _contents(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def _refused(command, *arguments):
    """Runs a command that is refused with exit code 2; returns its one error message."""
    code, said = in_process.run(command, *arguments)
    assert code == 2, said
    (line,) = [line for line in said.splitlines() if line.startswith("error: ")]
    return line


@pytest.fixture
def inputs(stages, tmp_path, monkeypatch):
    """A working folder for one test, with a portrait, sound and a video."""
    monkeypatch.chdir(tmp_path)
    write_video("clip.mp4", np.zeros((5, 32, 32, 3), np.uint8), audio=np.ones(3_200) / 9)
    shutil.copy(stages / "portrait.png", "portrait.png")
    np.savez("motion.npz", motion=np.zeros((5, 147), np.float32))
    os.symlink("clip.mp4", "link.mp4")
    os.link("clip.mp4", "hard.mp4")
    os.symlink(".", "here")
    return tmp_path


_GENERATE = ("generate", "--image=portrait.png", "--audio=clip.mp4")
_AGAIN = ("generate", "--image=portrait.png", "--audio=clip.mp4", "--motion=motion.npz")
_ANIMATE = ("animate", "--image=portrait.png", "--driving=clip.mp4")
_NEW = "--out=new.mp4"


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        ((*_GENERATE, "--out=clip.mp4"), "clip.mp4: out is the same place as audio"),
        ((*_GENERATE, "--out=./here/clip.mp4"), "here/clip.mp4: out is the same place as audio"),
        ((*_GENERATE, "--out=link.mp4"), "link.mp4: out is the same place as audio"),
        ((*_GENERATE, "--out=hard.mp4"), "hard.mp4: out is the same place as audio"),
        ((*_GENERATE, _NEW, "--sheet=here/portrait.png"), "sheet is the same place as image"),
        ((*_AGAIN, _NEW, "--save_motion=motion.npz"), "save_motion is the same place as motion"),
        ((*_ANIMATE, "--out=clip.mp4"), "clip.mp4: out is the same place as driving"),
        ((*_ANIMATE, "--out=here/here/link.mp4"), "link.mp4: out is the same place as driving"),
        ((*_ANIMATE, _NEW, "--save_motion=portrait.png"), "has to end in .npz"),
    ],
)
def test_an_output_must_not_be_an_input(inputs, stages, command, sentence):
    before = _contents(inputs)
    weights = [f"--{stage}={stages / stage}" for stage in ("stage1", "stage2")]
    if command[0] == "animate" or "--motion=motion.npz" in command:
        weights.pop()
    assert sentence in _refused(*command, *weights)
    assert _contents(inputs) == before


def test_no_row_of_a_manifest_overwrites_what_another_reads_or_writes(inputs):
    rows = [
        {"out": "one.mp4"},
        {"out": "link.mp4"},  # The audio of this row.
        {"out": "hard.mp4", "audio": "other.wav"},  # The audio of the first row.
        {"out": "here/one.mp4"},  # The output of the first row.
        {"out": "two.mp4", "save_motion": "saved.npz"},
        {"out": "three.mp4", "motion": "saved.npz"},  # Allowed.
        {"out": "four.mp4", "save_motion": "here/saved.npz"},
        {"out": "five.mp4", "sheet": "portrait.png"},
    ]
    default = {"image": "portrait.png", "audio": "clip.mp4"}
    pathlib.Path("many.jsonl").write_text("".join(json.dumps(default | r) + "\n" for r in rows))
    found = [str(request) for _, request in _read("many.jsonl") if isinstance(request, InputError)]
    wanted = [
        "link.mp4: out is the same place as audio, which",
        "hard.mp4: out of many.jsonl:3 is the same place as audio of many.jsonl:1, which",
        "here/one.mp4: out of many.jsonl:4 is the same place as out of many.jsonl:1, which",
        "here/saved.npz: save_motion of many.jsonl:7 is the same place as save_motion of many.js",
        "portrait.png: sheet is the same place as image, which",
    ]
    assert len(found) == len(wanted)
    for sentence, start in zip(found, wanted, strict=True):
        assert sentence.startswith(start)


def test_paths_in_a_bucket_are_compared_by_name():
    check = lambda out: output_paths.check_outputs({"out": out}, {"in": "s3://bucket/a/b.mp4"})
    for out in ("s3://bucket/a/c.mp4", "gs://bucket/a/b.mp4", "bucket/a/b.mp4"):
        check(out)
    for out in ("s3://bucket/a/b.mp4", "s3://bucket//a/./b.mp4"):
        with pytest.raises(InputError, match="out is the same place as in"):
            check(out)


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        ("prepare --videos=given --out=given", "--out is the same place as --videos"),
        ("prepare --videos=given --out=here/given", "--out is the same place as --videos"),
        ("prepare --portraits=given --out=given", "--out is the same place as --portraits"),
        (
            "prepare --pats_intervals=a.csv --raw_videos=given --out=given",
            "--out is the same place as --raw_videos",
        ),
        ("prepare --procedural=1 --out=given", "is not a data set; choose another folder"),
        (
            "evaluate --real=given --generated=given --out=here/given",
            "--out is the same place as --real",
        ),
        ("extract --stage1=stage1 --data=data --out=data", "are wanted here; choose another fold"),
        ("extract --stage1=stage1 --data=data --out=stage1", "is not a data set; choose another"),
        ("convert --checkpoint=given/clip.mp4 --out=given", "given: holds something else than"),
        ("convert --checkpoint=given/clip.mp4 --out=stage1", "stage1: holds something else than"),
        ("convert --checkpoint=given/clip.mp4 --out=given/clip.mp4", "holds something else than"),
        ("pack --workdir=packed.safetensors --out=packed.safetensors", "is packed already"),
        (
            "train --config=configs/stage1.py:smoke --config.data.path=data --workdir=here/data",
            "--workdir is the same place as --config.data.path",
        ),
    ],
)
def test_a_folder_with_other_content_stays(inputs, stages, data, command, sentence):
    shutil.copytree(stages / "stage1", "stage1")
    shutil.copytree(data, "data")
    pathlib.Path("given").mkdir()
    for name in ("clip.mp4", "portrait.png"):
        shutil.copy(name, "given")
    if command.startswith("pack"):
        code, _ = in_process.run("pack", "--workdir=stage1", "--out=packed.safetensors")
        assert code == 0
    before = _contents(inputs)
    said = _refused(*command.split())
    assert sentence in said and not re.search("remove|delete", said)
    assert _contents(inputs) == before


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A data set of two drawn clips."""
    folder = tmp_path_factory.mktemp("data") / "data"
    arguments = ("--procedural=2", "--num_identities=1", "--clip_sec=1", "--size=16")
    assert in_process.run("prepare", *arguments, f"--out={folder}")[0] == 0
    return folder


def test_converted_weights_replace_others_but_no_run(tmp_path):
    config, empty = ConfigDict({"stage": "stage1", "model": {}}), tmp_path / "empty"
    empty.mkdir()
    checkpoints.check_replaceable(empty, config)
    converted = tmp_path / "converted"
    for _ in range(2):  # The second time they replace the first ones.
        checkpoints.check_replaceable(converted, config)
        checkpoints.write_config(converted, config)
        checkpoints.save_variables(converted, {"params": {"a": np.ones(3, np.float32)}})
    (converted / "checkpoints" / "5").mkdir()
    with pytest.raises(InputError, match="holds something else than converted weights"):
        checkpoints.check_replaceable(converted, config)


# Text flags that are not paths.
_NO_PATHS = "crop", "host", "person", "speaker", "profile_steps", "watermark"
_SHOW_PATHS = """
import importlib, sys
from absl import flags
module = importlib.import_module(sys.argv[1])
found = flags.FLAGS.get_key_flags_for_module(module)
texts = [flag for flag in found if flag.flag_type() == "string"]
names = {flag.name for flag in texts} - set(sys.argv[2:])
flags.FLAGS(["", *(f"--{name}=~/a b" for name in names)])
for name in names:
    print(flags.FLAGS[name].value)
"""


@pytest.mark.parametrize(
    ("command", "count"),
    [
        ("animate", 6), ("app", 1), ("convert", 2), ("evaluate", 8), ("extract", 3),
        ("generate", 12), ("pack", 3), ("personalize", 3), ("prepare", 9),
    ],
)  # fmt: skip
def test_every_path_flag_expands_the_home_folder(command, count, tmp_path):
    program = [sys.executable, "-c", _SHOW_PATHS, f"gesture_jax.{command}", *_NO_PATHS]
    environment = {**os.environ, "HOME": str(tmp_path)}
    done = subprocess.run(program, env=environment, capture_output=True, text=True)
    assert done.stdout.splitlines() == [f"{tmp_path}/a b"] * count, done.stderr


@pytest.fixture
def home(inputs, monkeypatch):
    """A home folder below the working folder."""
    folder = inputs / "home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    return folder


@pytest.mark.usefixtures("quickly_compiled")
def test_outputs_arrive_in_the_home_folder(home, stages):
    shutil.copy("portrait.png", home)
    pathlib.Path("many.jsonl").write_text(
        '{"image": "~/portrait.png", "audio": "clip.mp4", "out": "~/new/a.mp4"}'
    )
    weights = [f"--{stage}={stages / stage}" for stage in ("stage1", "stage2")]
    assert in_process.run("generate", "--manifest=many.jsonl", "--crop=center", *weights)[0] == 0
    assert (home / "new" / "a.mp4").is_file()
    assert not pathlib.Path("~").exists()


def test_the_paths_of_a_config_expand_the_home_folder(home):
    (home / "own.py").write_text(
        "from gesture_jax import presets\n"
        "get_config = lambda preset='paper': presets.load(f'configs/stage1.py:{preset}')\n"
    )
    own, run = "--config=~/own.py", "--workdir=~/run"
    assert f"{home}/none: no" in _refused("train", own, run, "--config.data.path=~/none")
    stage2 = "--config=configs/stage2.py:smoke"
    assert f"{home}/none: no" in _refused("train", stage2, run, "--config.stage1_workdir=~/none")
    assert not pathlib.Path("~").exists()
