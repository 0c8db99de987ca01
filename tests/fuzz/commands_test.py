"""Every command on damaged input works, or prints one sentence and leaves no files behind."""

import math
import pathlib
import re
import shutil

import flax
import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import stage1 as stage1_config
from configs import stage2 as stage2_config
from gesture_jax.checkpoint import config_check
from gesture_jax.data import clips, motions
from gesture_jax.errors import InputError
from gesture_jax.inference.animator import Animator, abstract_variables
from gesture_jax.media import images, motion_files
from gesture_jax.media.writer import write_audio, write_video
from gesture_jax.models import motion_model
from gesture_jax.models.build import build_model
from gesture_jax.preparation import procedural
from gesture_jax.procedural import speaker
from gesture_jax.training import loop, optim
from gesture_jax.training.extraction import extract_motions
from tests import in_process, tiny, torch_file
from tests.fuzz import damage

pytestmark = pytest.mark.usefixtures("quickly_compiled")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """A folder with a valid input of each kind."""
    root = tmp_path_factory.mktemp("inputs")
    facts = {"num_clips": 2, "num_identities": 1, "clip_sec": 3.4, "size": 16, "seed": 0}
    procedural.write_procedural(root / "data", **facts)
    config = tiny.stage1(**{"data.path": str(root / "data"), "data.procedural_clips": 0})
    _save(root / "stage1", config, abstract_variables(build_model(**config.model)))
    extract_motions(root / "stage1", str(root / "data"), root / "stage1" / "motions")
    _untrained_stage2(root)
    done = speaker.perform(identity=0, seed=5, duration_sec=1.0, size=32)
    images.write_image(root / "portrait.png", done.frames[0])
    write_audio(root / "speech.wav", done.audio, 16_000)
    for name in ("videos", "generated", "raw/eve"):
        write_video(root / name / "a.mp4", done.frames, audio=done.audio)
        np.savez(root / name / "a.npz", joints=done.joints, names=speaker.JOINT_NAMES)
    own = np.repeat(Animator.load(root / "stage1").extract_motion(done.frames[:1]), 25, axis=0)
    motion_files.write_motion(root / "motion.npz", own, done.frames[0])
    torch_file.save({"a": torch_file.Tensor(np.ones((2, 2), np.float32))}, root / "model.pt")
    columns = "speaker,interval_id,start_time,end_time,video_fn\n"
    (root / "pats.csv").write_text(columns + "eve,1,0:00:00,0:00:01,a.mp4\neve,2,0,1.0,a.mp4\n")
    (root / "split.json").write_text('{"train": ["1"], "test": ["2"]}')
    (root / "edges.json").write_text('{"eve": 0.5}')
    row = "portrait.png,speech.wav,{out},{motion}\n".format
    rows = [row(out=root / f"out/{n}.mp4", motion=root / "motion.npz") for n in range(2)]
    text = "image,audio,out,motion\n" + "".join(rows)
    for name in ("portrait.png", "speech.wav"):
        text = text.replace(name, str(root / name))
    (root / "many.csv").write_text(text)
    return root


def _untrained_stage2(root: pathlib.Path) -> None:
    config = tiny.stage2(root / "stage1", **{"sampler.num_steps": 1, "schedule.candidates": 1})
    source = motions.MotionSource(root / "stage1" / "motions", "train")
    config.feature_dim, config.speech_dim = source.motion_dim, source.speech_dim
    _save(root / "stage2", config, motion_model.abstract_variables(config))


def _save(workdir: pathlib.Path, config, abstract) -> None:
    tiny.save(workdir, config, abstract, lambda shape: np.full(shape, 0.01))


_COMMANDS = {
    "generate": "--image={in}/portrait.png --audio={in}/speech.wav --stage1={in}/stage1 "
    "--stage2={in}/stage2 --out={in}/out/a.mp4 --sheet={in}/out/a.png",
    "generate again": "--image={in}/portrait.png --audio={in}/speech.wav --stage1={in}/stage1 "
    "--motion={in}/motion.npz --out={in}/out/a.mp4",
    "generate many": "--manifest={in}/many.csv --stage1={in}/stage1 --motion={in}/motion.npz",
    "animate": "--image={in}/portrait.png --driving={in}/videos/a.mp4 --stage1={in}/stage1 "
    "--out={in}/out/a.mp4",
    "extract": "--stage1={in}/stage1 --data={in}/data --out={in}/out/motions",
    "pack": "--workdir={in}/stage1 --half --out={in}/out/a.safetensors",
    "convert": "--checkpoint={in}/model.pt --out={in}/out/stage1",
    "prepare": "--videos={in}/videos --size=16 --min_sec=0.4 --nojoints --norequire_person "
    "--num_workers=0 --out={in}/out/data",
    "prepare pats": "--pats_intervals={in}/pats.csv --raw_videos={in}/raw --split={in}/split.json "
    "--left_edges={in}/edges.json --size=16 --min_sec=0.4 --nojoints --norequire_person "
    "--num_workers=0 --out={in}/out/data",
    "evaluate": "--real={in}/videos --generated={in}/generated --motion=joints --window=12 "
    "--fvd_clips=0 --autoencoder={in}/model.pt --out={in}/out/report",
    "train": "--config=configs/stage2.py:smoke --config.stage1_workdir={in}/stage1 "
    "--config.num_steps=1 --config.model.num_heads=3 --workdir={in}/out/stage2",
}
# The inputs of each command; a folder stands for all of its files.
_READ = {
    "generate": ["portrait.png", "speech.wav", "stage1", "stage2"],
    "generate again": ["motion.npz", "speech.wav"],
    "generate many": ["many.csv"],
    "animate": ["portrait.png", "videos/a.mp4", "stage1"],
    "extract": ["data", "stage1"],
    "pack": ["stage1"],
    "convert": ["model.pt"],
    "prepare": ["videos/a.mp4"],
    "prepare pats": ["pats.csv", "split.json", "edges.json", "raw/eve/a.mp4"],
    "evaluate": ["videos/a.mp4", "videos/a.npz", "generated/a.npz"],
    "train": ["stage1"],
}
_WORKING = {"generate", "generate again", "animate", "extract", "pack", "prepare", "prepare pats"}
_CONFIGS = pathlib.Path(stage1_config.__file__).parent


def _run(inputs: pathlib.Path, command: str) -> tuple[int, str]:
    shutil.rmtree(inputs / "out", ignore_errors=True)
    arguments = [word.format(**{"in": inputs}) for word in _COMMANDS[command].split()]
    if command == "generate many":
        arguments.pop()
    return in_process.run(command.split()[0], *arguments)


def _made(inputs: pathlib.Path) -> list[pathlib.Path]:
    """Lists the outputs, without finished takes, which the next preparation reuses."""
    made = (path for path in (inputs / "out").rglob("*") if path.is_file())
    return [path for path in made if "data.parts" not in path.parts]


def _files(inputs: pathlib.Path, command: str) -> list[pathlib.Path]:
    found = []
    for name in _READ[command]:
        path = inputs / name
        found += sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    return found


@pytest.mark.parametrize("command", _COMMANDS)
def test_damaged_input_is_refused_and_leaves_nothing(command, inputs):
    code, stderr = _run(inputs, command)
    assert code == (0 if command in _WORKING else 2), stderr
    assert bool(_made(inputs)) == (command in _WORKING)
    files = _files(inputs, command)
    contents = {path: path.read_bytes() for path in files}

    @damage.examples(6)
    @hypothesis.given(st.sampled_from(files), damage.mutations)
    def property_(path, seed):
        path.write_bytes(damage.mutate(contents[path], seed))
        try:
            code, stderr = _run(inputs, command)
        finally:
            path.write_bytes(contents[path])
        assert code in (0, 2)
        sentences = re.findall("^error: .+$", stderr, re.MULTILINE)
        assert len(sentences) == (1 if code else 0), stderr
        if code and command != "generate many":  # There, other rows may succeed.
            assert not _made(inputs)

    property_()


def _absurd(value) -> list:
    """Returns unlikely or impossible values of the same type."""
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [0, -1, 1, 7, 10**12]
    if isinstance(value, float):
        return [0.0, -1.0, math.nan, math.inf, 1e300]
    if isinstance(value, str):
        return ["", "nobody"]
    return [(), (0, 0), ("a",), (1,) * 9]


def _overrides(config):
    flat = flax.traverse_util.flatten_dict(config.to_dict(), sep=".")
    return [(key, odd) for key, value in flat.items() for odd in _absurd(value)]


def _try(config, workdir) -> None:
    """Does what training does before its first step, with shapes instead of arrays."""
    config_check.check(config)
    mesh = loop._make_mesh(config)
    task = loop.TASKS[config.stage](config, workdir)
    optimizer = optim.make_optimizer(config.optim, num_steps=config.num_steps)
    batch = next(task.train_batches())
    state = jax.eval_shape(lambda: loop.create_state(task, optimizer, seed=config.seed))
    step = loop.make_step(
        task, optimizer, ema_decay=config.optim.ema_decay, mesh=mesh,
        num_parts=config.accumulate_steps,
    )  # fmt: skip
    key = jax.random.key(0)
    jax.eval_shape(step, state, task.frozen, batch, key)
    tested = next(iter(task.test_batches()))
    jax.eval_shape(task.evaluate, state.variables, task.frozen, tested, key)


@pytest.mark.parametrize("stage", ["stage1", "stage2"])
def test_absurd_values_of_a_config_are_refused_or_work(stage, inputs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make = {
        "stage1": lambda: tiny.stage1(
            **{"data.path": str(inputs / "data"), "data.procedural_clips": 0}
        ),
        "stage2": lambda: tiny.stage2(inputs / "stage1", **{"data.extract_missing": False}),
    }[stage]

    @damage.examples(12)
    @hypothesis.given(st.sampled_from(_overrides(make())))
    def property_(override):
        key, value = override
        config = make()
        config.update_from_flattened_dict({key: value})
        try:
            _try(config, str(tmp_path / "run"))
        except InputError as error:
            assert "\n" not in str(error)

    property_()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("module", [stage1_config, stage2_config])
@pytest.mark.parametrize("preset", ["paper", "photo", "demo", "smoke"])
def test_our_presets_pass_the_check(module, preset):
    config_check.check(module.get_config(preset))


@pytest.mark.parametrize(
    "argument",
    [
        "--config.optim.learning_rate=nan",
        "--config.batch_size=-1",
        "--config.loss.pixel=1e300",
        "--config.num_steps=0",
        "--config.model.resolution=1000000",
        "--config.data.num_workers=-1",
    ],
)
def test_absurd_flags_end_with_one_sentence(argument, tmp_path):
    config = "--config=configs/stage1.py:smoke"
    code, stderr = in_process.run("train", config, argument, f"--workdir={tmp_path}/run")
    name = argument.split("=")[0].removeprefix("--config.")
    assert code == 2 and stderr.startswith("error: ") and name in stderr
    assert not list(tmp_path.iterdir())


def test_inputs_are_restored(inputs):
    """The tests above restore the files that they change."""
    assert len(clips.ClipSource(inputs / "data", "train")) == 1
    assert jnp.isfinite(Animator.load(inputs / "stage1").extract_motion(
        np.zeros((1, 16, 16, 3), np.uint8)
    )).all()  # fmt: skip
