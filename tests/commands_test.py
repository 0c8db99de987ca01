"""Every command of the README from end to end, and the messages for bad input."""

import contextlib
import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from typing import NamedTuple

import av
import flax
import jupytext
import numpy as np
import pytest

from gesture_jax.inference.animator import abstract_variables
from gesture_jax.media import images
from gesture_jax.media.sound import has_audio, read_audio
from gesture_jax.media.video import read_video
from gesture_jax.media.writer import write_audio, write_video
from gesture_jax.models.deviation import DeviationModel
from gesture_jax.pretrained import torch_names
from gesture_jax.procedural import speaker
from tests import in_process, tiny, torch_file

_ROOT = pathlib.Path(__file__).parents[1]
_BLOCKS = re.compile(r"```(bash|python)\n(.*?)```", re.DOTALL)
_COMMAND = re.compile(r"python -m gesture_jax\.(\w+) (.*)")

pytestmark = pytest.mark.usefixtures("quickly_compiled")


def _run(command, cwd):
    """Runs a line of the shell as users do: a process of its own, compiled as it is for them."""
    # A command in an activated environment finds this interpreter as `python`.
    path = f"{pathlib.Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PYTHONPATH": str(_ROOT), "PATH": path}
    del environment["XLA_FLAGS"]
    return subprocess.run(
        ["bash", "-c", command], cwd=cwd, env=environment, capture_output=True, text=True
    )


def _run_here(command, cwd):
    """Runs a line of the shell; commands of this package in this process, which saves a start."""
    ours = _COMMAND.fullmatch(command)
    if not ours:
        return _run(command, cwd)
    with contextlib.chdir(cwd):
        code, errors = in_process.run(ours[1], *shlex.split(ours[2], comments=True))
    return subprocess.CompletedProcess(command, code, "", errors)


def readme(language):
    """The README's blocks of a language, shrunk to sizes that tests can afford."""
    text = (_ROOT / "README.md").read_text()
    return [shrink(block) for kind, block in _BLOCKS.findall(text) if kind == language]


def shrink(command):
    """The same command on small pictures, by the smallest preset.

    Its videos show nobody whom a pose model finds, so that they are not evaluated.
    """
    command = command.replace("--generated=talks", "--generated=videos")
    return command.replace(":demo", ":smoke").replace("--size=64", "--size=32")


def _readme_commands():
    """The README's lines in their order, without released weights, avatars and the web page.

    Those have tests of their own.
    """
    elsewhere = "make demo", "gesture_jax.convert", "gesture_jax.personalize", "gesture_jax.app"
    for block in readme("bash"):
        if not any(name in block for name in elsewhere):
            yield from block.strip().splitlines()


def _write_inputs(root, *, video_sec):
    """Writes the files that the README assumes: videos, a portrait, speech, a driving video."""
    (root / "videos").mkdir()
    for identity in range(2):
        done = speaker.perform(identity=identity, seed=5, duration_sec=video_sec, size=64)
        write_video(root / "videos" / f"p{identity}#1.mp4", done.frames, audio=done.audio)
    (root / "raw" / "oliver").mkdir(parents=True)
    shutil.copy(root / "videos" / "p1#1.mp4", root / "raw" / "oliver" / "abcdefghijk.mp4")
    columns = "speaker,interval_id,start_time,end_time,video_link\n"
    rows = [f"oliver,{n},{4 * n},{4 * n + 4},watch?v=abcdefghijk\n" for n in range(4)]
    (root / "cmu_intervals_df.csv").write_text(columns + "".join(rows))
    images.write_image(root / "portrait.png", speaker.portrait(identity=0, size=100))
    write_audio(root / "speech.wav", done.audio[:100_000], 16_000)  # 6.25 s: two windows.
    write_video(root / "driving.mp4", done.frames[:6], audio=done.audio[:3_840])


class _Runs(NamedTuple):
    """Where commands have run, how to run another one there, and sizes of what they write."""

    folder: pathlib.Path
    run: Callable[[str, pathlib.Path], subprocess.CompletedProcess]
    side: int  # Of a frame, in pixels.
    motion_dim: int  # Numbers a frame.


@pytest.fixture(scope="module")
def small_runs(tmp_path_factory):
    """The README's commands for one's own two stages, which are small and have random weights."""
    root = tmp_path_factory.mktemp("small")
    _write_inputs(root, video_sec=8.0)
    tiny.moving_stages(root / "runs")
    # Each is tested elsewhere: training, bundled weights, evaluation, other sources of data.
    left_out = ("gesture_jax.train", "--image=portrait.png --audio=speech.wav --out=mine.mp4")
    left_out += ("--preset", "gesture_jax.evaluate", "--pats_intervals", "--procedural")
    for command in _readme_commands():
        if not any(words in command for words in left_out):
            done = _run_here(command.replace("--size=32", "--size=16"), root)
            assert done.returncode == 0, f"{command}\n{done.stderr}"
    return _Runs(root, _run_here, side=16, motion_dim=9 * 2 * 2 + 3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The folder in which the README's commands run as users run them."""
    root = tmp_path_factory.mktemp("readme")
    _write_inputs(root, video_sec=17.0)
    return root


@pytest.fixture(scope="module")
def readme_runs(folder):
    """All of the README's commands, as users run them: for slow tests."""
    for command in _readme_commands():
        done = _run(command, folder)
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return _Runs(folder, _run, side=32, motion_dim=9 * 4 * 4 + 3)


@pytest.fixture(
    scope="module", params=["small_runs", pytest.param("readme_runs", marks=pytest.mark.slow)]
)
def runs(request):
    return request.getfixturevalue(request.param)


@pytest.mark.slow
def test_the_readme_promises_files(readme_runs):
    names = [
        "talk.mp4", "talk.png", "talks/1.mp4", "moved.mp4", "data/drawn/example.wav",
        "runs/report/report.html",
    ]  # fmt: skip
    assert not [name for name in names if not (readme_runs.folder / name).is_file()]


def test_the_video_is_as_long_as_the_speech_and_carries_it(runs):
    speech = read_audio(runs.folder / "speech.wav")
    with av.open(str(runs.folder / "talk.mp4")) as container:
        video, sound = container.streams.video[0], container.streams.audio[0]
        assert sound.codec_context.name == "aac" and video.codec_context.name == "h264"
        assert abs(video.frames / 25 - len(speech) / 16_000) <= 1 / 25
        assert "gesture_jax" in container.metadata["comment"]
    heard = read_audio(runs.folder / "talk.mp4")[: len(speech)]
    assert np.corrcoef(heard, speech)[0, 1] > 0.98


def test_the_animated_video_keeps_length_and_sound(runs):
    assert len(read_video(runs.folder / "moved.mp4", size=32)) == 6
    assert has_audio(runs.folder / "moved.mp4")
    with av.open(str(runs.folder / "compared.mp4")) as container:
        video = container.streams.video[0]
        assert (video.width, video.height, video.frames) == (3 * runs.side, runs.side, 6)


def test_the_same_seed_gives_the_same_video(runs):
    command = (
        "python -m gesture_jax.generate --image=portrait.png --audio=speech.wav --out={out}.mp4 "
        "--stage1=runs/stage1 --stage2=runs/stage2 --seed={seed} --save_motion={out}.npz"
    )
    for out, seed in (("same", 0), ("other", 3)):
        done = runs.run(command.format(out=out, seed=seed), runs.folder)
        assert done.returncode == 0, done.stderr
    read = lambda name: (runs.folder / name).read_bytes()
    assert read("same.mp4") == read("talk.mp4")
    assert read("other.mp4") != read("talk.mp4")
    with np.load(runs.folder / "same.npz") as motion:
        assert motion["motion"].shape == (156, runs.motion_dim)


def test_saved_motion_is_rendered_to_the_same_video(runs):
    assert (runs.folder / "again.mp4").read_bytes() != (runs.folder / "talk.mp4").read_bytes()
    # The encoder's threads sometimes choose other bytes for the same frames on a busy machine.
    again, calm = (read_video(runs.folder / f"{name}.mp4", size=32) for name in ("again", "calm"))
    assert again.shape == calm.shape and np.abs(again.astype(int) - calm).mean() < 0.5
    with np.load(runs.folder / "calm.npz") as saved:
        start, end = saved["motion"][[0, -1]]
    # Both are the portrait's own pose, or nearly.
    assert np.abs(end - start).max() < 0.05


def test_a_bad_row_of_a_manifest_does_not_end_the_others(runs):
    rows = ["nobody.png,speech.wav,talks/2.mp4", "portrait.png,driving.mp4,talks/3.mp4"]
    (runs.folder / "many.csv").write_text("image,audio,out\n" + "\n".join(rows) + "\n")
    options = "--manifest=many.csv --stage1=runs/stage1 --stage2=runs/stage2"
    done = runs.run(f"python -m gesture_jax.generate {options}", runs.folder)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "error: 1 of 2 rows failed; many.csv:2: nobody.png: no such file" in done.stderr
    assert (runs.folder / "talks/3.mp4").is_file() and not (runs.folder / "talks/2.mp4").exists()


@pytest.mark.slow
def test_the_readmes_python_runs(readme_runs):
    (program,) = readme("python")
    program += "\nprint(len(clip.frames), len(frames), frames.dtype)"
    done = _run(f"python -c {shlex.quote(program)}", readme_runs.folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["156", "6", "float32"]


def test_the_metadata_of_a_video_are_shown_as_the_documents_say(runs):
    page = (_ROOT / "docs" / "responsible_use.md").read_text()
    done = _run(re.search(r"^python -c .*", page, re.MULTILINE)[0], runs.folder)
    assert "Synthetic video" in done.stdout, done.stderr


@pytest.mark.slow
def test_both_stages_are_launched_in_one_go(readme_runs):
    done = _run(f"{_ROOT}/launch/both_stages.sh smoke data/mine runs/launched", readme_runs.folder)
    assert done.returncode == 0, done.stderr
    straight, launched = (
        readme_runs.folder / "runs" / name for name in ("stage1", "launched/stage1")
    )
    assert tiny.records(straight) == tiny.records(launched)
    assert _run(f"{_ROOT}/launch/both_stages.sh smoke", readme_runs.folder).returncode == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    "notebook", sorted((_ROOT / "notebooks").glob("*.py")), ids=lambda path: path.stem
)
def test_notebooks_run_and_are_paired(notebook, readme_runs):
    """With what the README's commands have trained: nothing is trained twice."""
    given = "STAGE1=runs/stage1 STAGE2=runs/stage2 AUDIO=speech.wav PRESET=smoke MPLBACKEND=agg"
    done = _run(f"{given} python {shlex.quote(str(notebook))}", readme_runs.folder)
    assert done.returncode == 0, done.stderr
    pair = jupytext.read(notebook.with_suffix(".ipynb"))
    cells = lambda notebook: [(c.cell_type, c.source) for c in notebook.cells]
    assert cells(pair) == cells(jupytext.read(notebook)), "make notebooks"


@pytest.mark.slow
def test_training_again_resumes_and_finishes_at_once(readme_runs):
    train = next(line for b in readme("bash") for line in b.splitlines() if "stage1.py" in line)
    before = (readme_runs.folder / "runs/stage1/metrics.jsonl").read_text()
    assert _run(train, readme_runs.folder).returncode == 0
    assert (readme_runs.folder / "runs/stage1/metrics.jsonl").read_text() == before


@pytest.fixture(scope="module")
def released(folder):
    """A checkpoint with the names and shapes of the paper's 651 arrays, and small random values."""
    wanted = flax.traverse_util.flatten_dict(abstract_variables(DeviationModel()))
    random = np.random.default_rng(0)
    content = {}
    for name, targets in torch_names.deviation_table().items():
        if not targets:
            content[name] = torch_file.Tensor(np.zeros((), np.int64))
            continue
        shape = wanted[targets[0].collection, *targets[0].path].shape
        if len(shape) == 4:  # Ours is [h, w, in, out], PyTorch's [out, in, h, w].
            shape = shape[3], shape[2], *shape[:2]
        array = random.standard_normal(shape, np.float32) * np.float32(0.02)
        content[name] = torch_file.Tensor(np.abs(array) if "var" in name else array)
    return torch_file.save({"state_dict": content}, folder / "model.pt")


@pytest.mark.slow
def test_released_weights_are_converted_and_animate(folder, released):
    """At the reference's full size."""
    (block,) = [block for block in readme("bash") if "gesture_jax.convert" in block]
    for command in block.strip().splitlines():
        done = _run(command, folder)
        assert done.returncode == 0, f"{command}\n{done.stderr}"
    assert read_video(folder / "released.mp4", size=256).shape == (6, 256, 256, 3)
    released.unlink()
    shutil.rmtree(folder / "runs" / "released")


@pytest.fixture(scope="module")
def bad(small_runs):
    """Files whose content does not fit their names."""
    root = small_runs.folder
    (root / "words.mp4").write_text("these are words, not a video\n" * 99)
    (root / "empty.png").write_bytes(b"")
    write_video(root / "silent.mp4", np.zeros((5, 32, 32, 3), np.uint8))
    with zipfile.ZipFile(root / "attack.pt", "w") as archive:
        archive.writestr("model/data.pkl", b"cos\nsystem\n(S'touch attacked'\ntR.")
    (root / "bad.jsonl").write_text('{"image": "portrait.png", "sound": "speech.wav"}\n')
    return root


_GENERATE = "generate --stage1=runs/stage1 --stage2=runs/stage2 --out=new.mp4 "
_ANIMATE = "animate --stage1=runs/stage1 --out=new.mp4 "


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        (_GENERATE + "--image=nobody.png --audio=speech.wav", "nobody.png: no such file"),
        (_GENERATE + "--image=portrait.png --audio=nothing.wav", "nothing.wav: no such file"),
        (_GENERATE + "--image=empty.png --audio=speech.wav", "empty.png: is empty"),
        (_GENERATE + "--image=portrait.png --audio=silent.mp4", "silent.mp4: has no audio stream"),
        (_GENERATE + "--image=portrait.png --audio=words.mp4", "words.mp4: cannot be decoded"),
        (_GENERATE + "--image=portrait.png", "--audio is missing"),
        (_ANIMATE + "--image=portrait.png --driving=words.mp4", "words.mp4: cannot be decoded"),
        (_ANIMATE + "--image=portrait.png --driving=speech.wav", "speech.wav: has no video stream"),
        (
            "generate --stage1=runs/stage1 --stage2=runs/stage2 --manifest=bad.jsonl",
            "bad.jsonl:1: not a row with keys among image, audio, out",
        ),
        (
            "animate --image=portrait.png --driving=driving.mp4 --stage1=runs/stage2 --out=new.mp4",
            "runs/stage2: this is a checkpoint of stage2, but stage1 is wanted",
        ),
        (
            "generate --image=portrait.png --audio=speech.wav --stage1=runs/stage1 "
            "--stage2=runs/stage1 --out=new.mp4",
            "runs/stage1: this is a checkpoint of stage1, but stage2 is wanted",
        ),
        (
            "generate --image=portrait.png --audio=speech.wav --stage1=runs/stage1 --out=new.mp4",
            "--stage2 is missing",
        ),
        (
            _GENERATE + "--image=portrait.png --audio=speech.wav --motion=calm.npz",
            "--motion is rendered as it is; drop --stage2",
        ),
        (
            _GENERATE + "--image=portrait.png --audio=speech.wav --gestures=driving.mp4",
            "gestures are given, but this stage 2 does not know the lips; use one that was",
        ),
        (
            _GENERATE + "--image=portrait.png --audio=speech.wav --mouth_scale=2",
            "mouth_scale is 2, but this stage 2 does not know the lips; use one that was",
        ),
        (
            "generate --image=portrait.png --audio=speech.wav --stage1=runs/stage1 --out=new.mp4 "
            "--motion=calm.npz --gestures=driving.mp4",
            "calm.npz: motion is rendered as it is; drop motion or gestures",
        ),
        (
            "generate --image=portrait.png --audio=speech.wav --stage1=runs/stage1 --out=new.mp4 "
            "--motion=portrait.png",
            "portrait.png: cannot be read; an .npz that holds 'motion' is wanted",
        ),
        (
            "generate --image=portrait.png --audio=driving.mp4 --stage1=runs/stage1 --out=new.mp4 "
            "--motion=calm.npz",
            "calm.npz: motion has another size than is wanted, which is 6 frames of 39 numbers",
        ),
        (
            _GENERATE + "--image=portrait.png --audio=speech.wav --speaker=eve",
            "speaker 'eve' is not known to this stage 2; known: none",
        ),
        ("extract --stage1=nowhere --data=data/mine", "nowhere: no stage1 checkpoint here"),
        (
            "evaluate --real=nowhere --generated=videos --out=new",
            "nowhere: no such folder; give one with videos in it",
        ),
        (
            "evaluate --real=videos --generated=raw/oliver --out=new --paired",
            "2 videos have no generated video with the same name (p0#1, p1#1)",
        ),
        ("train --config=configs/stage1.py:huge --workdir=new", "unknown preset 'huge'"),
        ("train --config=configs/stage9.py:demo --workdir=new", "configs/stage9.py"),
        (
            "train --config=configs/stage1.py:smoke --config.optim.lerning_rate=1 --workdir=new",
            "lerning_rate",
        ),
        ("train --config=configs/stage1.py --workdir=new", "new/dataset: no dataset here"),
        ("prepare --videos=nowhere --out=new", "nowhere: no such folder"),
        ("prepare --out=new", "give one of --videos=DIR, --pats_intervals=CSV, --procedural"),
        ("prepare --videos=videos --crop=left --out=new", "--crop=left: wanted is auto, center"),
        ("prepare --videos=videos --features=both --out=new", "give --wavlm=FILE"),
        ("prepare --pats_intervals=pats.csv --out=new", "--raw_videos is missing"),
        (
            "prepare --videos=videos --wavlm=words.mp4 --features=wavlm --out=new",
            "words.mp4: weights of WavLM end in one of .safetensors",
        ),
        (
            "train --config=configs/stage2.py:smoke --config.stage1_workdir=runs/stage1 "
            "--config.data.features=both --workdir=new",
            "holds speech features 'baseline', but 'both' are wanted",
        ),
        (
            "generate --image=portrait.png --audio=speech.wav --stage1=runs/stage1 "
            "--stage2=runs/stage2 --wavlm=words.mp4 --out=new.mp4",
            "runs/stage2: was trained on speech features 'baseline' and has no use for --wavlm",
        ),
        ("prepare --procedural=8 --sise=64 --out=new", "sise"),
        ("convert --checkpoint=attack.pt --out=new", "attack.pt: its pickle asks for os.system"),
        ("convert --checkpoint=portrait.png --out=new", "portrait.png: not a checkpoint"),
    ],
)
def test_bad_input_gets_one_sentence(bad, command, sentence, monkeypatch):
    monkeypatch.chdir(bad)
    code, said = in_process.run(*shlex.split(command))
    assert code == 2, said
    # Progress bars aside, one line.
    lines = [line for line in re.split(r"[\r\n]", said) if line.startswith("error: ")]
    assert len(lines) == 1 and sentence in lines[0]
    assert not [name for name in ("new", "new.mp4", "attacked") if (bad / name).exists()]


def test_an_error_is_one_line(tmp_path):
    done = _run("python -m gesture_jax.evaluate --real=no --generated=videos --out=x", tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: no: no such folder; give one with videos in it\n"


def test_config_of_a_run_is_json(runs):
    config = json.loads((runs.folder / "runs/stage2/config.json").read_text())
    assert config["stage"] == "stage2" and config["feature_dim"] == runs.motion_dim
