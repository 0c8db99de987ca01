"""A packed file replaces a workdir wherever a trained stage is read."""

import json
import os

import jax
import numpy as np
import pytest

from gesture_jax.checkpoint import checkpoints, packed
from gesture_jax.errors import InputError
from gesture_jax.inference import bundled
from gesture_jax.inference.animator import Animator, abstract_variables
from gesture_jax.inference.generator import load_stage2
from gesture_jax.media import images
from gesture_jax.media.video import read_video
from gesture_jax.media.writer import write_audio
from gesture_jax.models import motion_model
from gesture_jax.models.build import build_model
from gesture_jax.preparation import procedural
from gesture_jax.procedural import speaker
from gesture_jax.storage import safetensors
from gesture_jax.training import datasets
from gesture_jax.training.extraction import default_folder, extract_motions
from tests import in_process, tiny

pytestmark = pytest.mark.usefixtures("quickly_compiled")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Both stages with random weights, packed too, and a data set."""
    root = tmp_path_factory.mktemp("runs")
    facts = {"num_clips": 2, "num_identities": 1, "clip_sec": 3.4, "size": 16, "seed": 0}
    procedural.write_procedural(root / "data", **facts)
    first = tiny.stage1(**{"data.path": str(root / "data"), "data.procedural_clips": 0})
    model = build_model(**first.model)
    _save(root, first, abstract_variables(model), np.random.default_rng(0).normal)
    second = tiny.stage2(root / "stage1")
    second.update({"feature_dim": model.motion_dim, "speech_dim": 35})
    # Statistics are positive.
    _save(root, second, motion_model.abstract_variables(second), np.random.default_rng(0).uniform)
    return root


def _save(root, config, abstract, draw):
    """Saves a workdir, and packs it with whole and with half precision."""
    workdir = root / config.stage
    tiny.save(workdir, config, abstract, lambda shape: 0.1 * draw(size=shape))
    for half in (False, True):
        name = f"{config.stage}{'_half' * half}.safetensors"
        checkpoints.pack(workdir, root / name, half=half)


def _equal(one, other):
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


def test_packed_weights_render_exactly_the_same(runs):
    frames = np.random.default_rng(1).integers(0, 256, (4, 16, 16, 3), dtype=np.uint8)
    rendered = []
    for name in ("stage1", "stage1.safetensors"):
        animator = Animator.load(runs / name)
        motion = animator.extract_motion(frames)
        rendered.append(animator.render(animator.encode_source(frames[0]), motion))
    assert np.ptp(rendered[0]) > 0.1
    np.testing.assert_array_equal(*rendered)


def test_stage_2_and_its_statistics_are_packed(runs):
    animator = Animator.load(runs / "stage1.safetensors")
    config, variables = load_stage2(runs / "stage2", animator)
    packed_config, packed_variables = load_stage2(runs / "stage2.safetensors", animator)
    assert _equal(variables, packed_variables)
    config.stage1_workdir = ""
    assert packed_config.to_dict() == config.to_dict()


def test_half_precision_rounds_weights_but_not_statistics(runs):
    animator = Animator.load(runs / "stage1")
    _, whole = load_stage2(runs / "stage2", animator)
    _, half = load_stage2(runs / "stage2_half.safetensors", animator)
    assert _equal(whole["statistics"], half["statistics"])
    assert not _equal(whole["params"], half["params"])
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=2.0**-11, atol=2.0**-25)
    jax.tree.map(close, whole["params"], half["params"])
    sizes = [(runs / f"stage2{name}.safetensors").stat().st_size for name in ("", "_half")]
    assert sizes[1] < 0.7 * sizes[0]


@pytest.mark.parametrize("half", [False, True])
def test_a_reading_of_poses_is_packed_to_the_bit(runs, tmp_path, half):
    dim = Animator.load(runs / "stage1").model.motion_dim // 3 + 2
    reading = np.random.default_rng(3).standard_normal((dim, 20)).astype(np.float32)
    path = tmp_path / "a.safetensors"
    checkpoints.pack(runs / "stage1", path, half=half, pose_reading=reading)
    found = Animator.load(path)
    np.testing.assert_array_equal(found.pose_reading, reading)
    assert found.pose_reading.dtype == np.float32
    # Networks and features are those of the file without it.
    plain = Animator.load(runs / f"stage1{'_half' * half}.safetensors")
    assert plain.pose_reading is None
    assert _equal(found._variables, plain._variables)


def test_the_step_of_the_extractor_is_packed(runs, tmp_path):
    """Where it was frozen, it is older than the newest step."""
    path = _rewritten(
        runs, tmp_path / "a.safetensors", lambda arrays, config: config.update(motion_step=7) or 9
    )
    assert checkpoints.newest_step(path) == 9 and checkpoints.motion_step(path) == 7
    assert Animator.load(path).motion_step == 7
    old = _rewritten(
        runs, tmp_path / "b.safetensors", lambda arrays, config: config.pop("motion_step") or 9
    )
    assert checkpoints.motion_step(old) == Animator.load(old).motion_step == 9


def test_older_files_have_no_reading_of_poses(runs, tmp_path):
    """Their configs lack its size."""
    path = _rewritten(
        runs, tmp_path / "a.safetensors", lambda arrays, config: config.pop("num_pose_values") or 0
    )
    assert "num_pose_values" not in packed.read_config(path, "stage1")
    assert Animator.load(path).pose_reading is None


def test_no_path_of_this_machine_is_packed(runs):
    for stage in ("stage1", "stage2"):
        assert str(runs).encode() not in (runs / f"{stage}.safetensors").read_bytes()


def test_motions_are_extracted_by_packed_weights(runs):
    """Stage 2 finds the motions in the folder with the file's name."""
    file = runs / "stage1.safetensors"
    config = tiny.stage2(file)
    with pytest.raises(InputError, match=rf"--data=DATASET --out={runs}/stage1/motions"):
        datasets.ensure_motions(config)
    extract_motions(file, str(runs / "data"), default_folder(file))
    assert datasets.ensure_motions(config) == str(runs / "stage1" / "motions")


def test_commands_accept_packed_weights(runs):
    options = [f"--stage1={runs}/stage1.safetensors", f"--data={runs}/data"]
    assert in_process.run("extract", *options, f"--out={runs}/again")[0] == 0
    code, told = in_process.run("pack", f"--workdir={runs}/stage1", f"--out={runs}/stage1.bin")
    assert code == 2 and "give the file a name that ends in .safetensors" in told
    made = f"{runs}/made.safetensors"
    assert in_process.run("pack", f"--workdir={runs}/stage1", f"--out={made}")[0] == 0
    read = lambda name: (safetensors.read(runs / name), safetensors.read_metadata(runs / name))
    assert _equal(read("made.safetensors"), read("stage1.safetensors"))
    code, told = in_process.run("pack", f"--workdir={made}", f"--out={runs}/twice.safetensors")
    assert code == 2 and "is packed already" in told


def test_stages_are_not_mistaken_for_each_other(runs):
    with pytest.raises(InputError, match="checkpoint of stage2, but stage1 is wanted"):
        Animator.load(runs / "stage2.safetensors")
    with pytest.raises(InputError, match=r"nobody\.safetensors: no such file"):
        Animator.load(runs / "nobody.safetensors")


def _rewritten(runs, path, change):
    arrays = dict(safetensors.read(runs / "stage1.safetensors"))
    config = json.loads(packed.read_config(runs / "stage1.safetensors", "stage1"))
    step = change(arrays, config) or 0
    packed.write(path, arrays, config=json.dumps(config), step=step)
    return path


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda arrays, config: config["model"].update(width=16), "does not fit its config"),
        (lambda arrays, config: config["model"].update(width=10**6), "model.width is 1000000"),
        (lambda arrays, config: config.update(more=1), "more is no part of a config"),
        (lambda arrays, config: arrays.popitem() and None, "does not fit its config"),
        (lambda arrays, config: config.update(num_pose_values=20), "does not fit its config"),
        (lambda arrays, config: config.update(num_pose_values=10**9), "does not fit its config"),
        (lambda arrays, config: config.update(num_pose_values=-1), "num_pose_values is -1"),
        (lambda arrays, config: -1, "its step is no number of steps"),
        (lambda arrays, config: 10**12, "its step is no number of steps"),
    ],
)
def test_files_whose_parts_do_not_fit_are_refused(runs, tmp_path, change, sentence):
    path = _rewritten(runs, tmp_path / "a.safetensors", change)
    with pytest.raises(InputError, match=rf"a\.safetensors: .*{sentence}"):
        Animator.load(path)


def test_a_flipped_bit_is_detected(runs, tmp_path):
    content = bytearray((runs / "stage1.safetensors").read_bytes())
    content[-100] ^= 4
    (tmp_path / "a.safetensors").write_bytes(content)
    with pytest.raises(InputError, match="damaged, its arrays have changed"):
        Animator.load(tmp_path / "a.safetensors")


def test_weights_without_a_config_are_no_stage(tmp_path):
    safetensors.write(tmp_path / "a.safetensors", {"a": np.ones(3, np.float32)}, metadata={})
    with pytest.raises(InputError, match=r"holds no stage of gesture_jax .*gesture_jax\.pack"):
        Animator.load(tmp_path / "a.safetensors")


def test_weights_too_large_for_16_bits_are_refused(tmp_path):
    checkpoints.write_config(tmp_path / "run", tiny.stage1())
    huge = {"params": {"a": np.full(3, 1e5, np.float32)}}
    checkpoints.save_variables(tmp_path / "run", huge)
    with pytest.raises(InputError, match="pack without --half"):
        checkpoints.pack(tmp_path / "run", tmp_path / "a.safetensors", half=True)
    assert not (tmp_path / "a.safetensors").exists()


def _is_bundled(preset):
    try:
        return bool(bundled.find(preset))
    except InputError:
        return False


# `make weights` makes them in hours.
_BUNDLED = [preset for preset in bundled.PRESETS if _is_bundled(preset)]


def test_bundled_weights_are_small():
    files = [path for preset in _BUNDLED for path in bundled.find(preset).values()]
    assert sum(os.path.getsize(path) for path in files) <= 25e6


@pytest.mark.parametrize("preset", bundled.PRESETS)
def test_bundled_stages_fit_each_other(preset):
    if preset not in _BUNDLED:
        with pytest.raises(InputError, match="make weights"):
            bundled.find(preset)
        return
    found = bundled.find(preset)
    config, _ = load_stage2(found["stage2"], Animator.load(found["stage1"]))
    assert config.preset == preset and config.stage1_workdir == ""


def test_bundled_weights_are_the_default_and_are_named(tmp_path):
    done = speaker.perform(identity=0, seed=5, duration_sec=0.4, size=64)
    images.write_image(tmp_path / "a.png", done.frames[0])
    write_audio(tmp_path / "a.wav", done.audio, 16_000)
    given = [f"--image={tmp_path}/a.png", f"--audio={tmp_path}/a.wav", f"--out={tmp_path}/a.mp4"]
    code, told = in_process.run("generate", *given)
    if _BUNDLED:
        assert code == 0 and "the bundled ones (photo)" in told
        frames = read_video(tmp_path / "a.mp4", size=256)
        assert frames.shape == (10, 256, 256, 3)
        # The first frame is the portrait, enlarged from 64 pixels.
        portrait = images.square(done.frames[0], size=256)
        assert np.abs(frames[0].astype(float) - portrait).mean() < 10
    else:
        assert code == 2 and "make weights" in told


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--stage2=nowhere"], "--stage1 is missing"),
        (["--stage1=nowhere", "--stage2=nowhere", "--preset=demo"], "--preset chooses among"),
        (["--preset=paper"], "should be one of"),
    ],
)
def test_weights_are_not_mixed(flags, sentence):
    given = ["--image=a.png", "--audio=a.wav", "--out=a.mp4"]
    code, told = in_process.run("generate", *given, *flags)
    assert code == 2 and sentence in told
