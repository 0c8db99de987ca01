"""Metrics and rates mean what they claim, also for little, repeated or replaced data."""

import contextlib
import errno
import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time
import tracemalloc

import jax
import numpy as np
import pytest
from orbax.checkpoint.experimental.v1._src.handlers.registration import NoEntryError

from gesture_jax.checkpoint import checkpoints, damage
from gesture_jax.data import clips, motions, pipeline
from gesture_jax.errors import InputError
from gesture_jax.metrics import beats, fgd, scores
from gesture_jax.parallel import sharding
from gesture_jax.preparation import procedural
from gesture_jax.speech import extractor
from gesture_jax.storage import files
from gesture_jax.training import monitor, resumption, stage1, stage2
from tests import ports, safetensors_file, tiny, wavlm_file

pytestmark = pytest.mark.usefixtures("quickly_compiled")

_ROOT = pathlib.Path(__file__).parents[2]
_WINDOW = 12


def _write_motions(path, speech_seeds, *, length=_WINDOW, train_lengths=(40, 40)):
    """Writes motions for `tiny.constant_stages`; the test clips have the speech of these seeds."""

    def records(split):
        seeds = speech_seeds if split == "test" else range(100, 100 + len(train_lengths))
        lengths = train_lengths if split == "train" else [length] * len(seeds)
        for clip, (seed, frames) in enumerate(zip(seeds, lengths, strict=True)):
            random = np.random.default_rng(1000 + clip)
            rotation = np.tile(np.eye(3, dtype=np.float32).ravel(), 16)
            rotation = rotation + 0.1 * random.standard_normal((frames, 9 * 16))
            yield {
                "clip_id": f"{split}#{clip}",
                "speaker": "a",
                "motion": np.concatenate([rotation, np.zeros((frames, 3))], axis=1),
                "speech": np.random.default_rng(seed).standard_normal((frames, 35)),
            }

    splits = {split: lambda split=split: records(split) for split in ("train", "test")}
    metadata = {"stage1_step": 0, "data_path": "", "features": "baseline"}
    assert motions.write_motions(path, splits, metadata=metadata)
    return path


@pytest.fixture(scope="module")
def stages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stages")
    tiny.constant_stages(folder)
    return folder


def _stage2_config(stages, data, **changes):
    sizes = {"model.window": _WINDOW, "model.latent": 16, "model.feedforward": 16}
    paces = {"schedule.hop": 8, "schedule.look_ahead": 2, "schedule.blend": 2}
    paces |= {"stream_schedule.hop": 6, "stream_schedule.look_ahead": 4, "stream_schedule.blend": 2}
    return tiny.stage2(stages / "stage1", **{"data.path": str(data)}, **sizes, **paces, **changes)


def _control_and_value(stages, data, seeds, batch_size):
    """Returns `speed_error` of each real window, with other speech and with its own."""
    config = _stage2_config(stages, _write_motions(data, seeds), batch_size=batch_size)
    task = stage2.Stage2(config, "")
    variables, statistics = jax.jit(task.init)(jax.random.key(0))
    variables = {"params": jax.tree.map(lambda leaf: leaf + 0.05, variables), **statistics}
    batches = list(task.test_batches())
    evaluate = jax.jit(task.evaluate)
    found = [evaluate(variables, task.frozen, batch, jax.random.key(1)) for batch in batches]
    real = np.concatenate([batch["mask"] for batch in batches]) > 0
    names = "speed_error_shuffled_speech", "speed_error"
    return [np.concatenate([values[name] for values in found])[real] for name in names]


@pytest.mark.parametrize(
    ("seeds", "batch_size"), [([1, 2], 8), ([1, 2, 3, 4], 16), ([1, 2, 1, 2], 4), ([1, 2, 3], 2)]
)
def test_shuffled_speech_is_never_the_windows_own(stages, tmp_path, seeds, batch_size):
    """Batches may be padded by repetition, and clips may repeat the speech of others."""
    control, value = _control_and_value(stages, tmp_path / "motions", seeds, batch_size)
    assert len(control) == len(seeds)
    assert np.isfinite(control).all() and (control != value).all()


@pytest.mark.parametrize("seeds", [[1], [1, 1]])
def test_without_other_speech_there_is_no_control(stages, tmp_path, seeds):
    control, value = _control_and_value(stages, tmp_path / "motions", seeds, 8)
    assert np.isnan(control).all() and np.isfinite(value).all()


def test_a_control_without_values_has_no_distance(stages, tmp_path):
    task = stage2.Objective(_stage2_config(stages, tmp_path, feature_dim=147, speech_dim=35))
    latents = np.random.default_rng(0).standard_normal((3, 40, 32))
    tables = dict(zip(("latent_real", "latent", "latent_shuffled_speech"), latents, strict=True))
    assert set(task.summarise(tables)) == {"fgd", "fgd_shuffled_speech"}
    tables["latent_shuffled_speech"][3] = np.nan
    assert set(task.summarise(tables)) == {"fgd"}


def test_the_fit_of_fgd_keeps_each_frame_once(stages, tmp_path):
    """Each frame is part of twelve windows."""
    data = _write_motions(tmp_path / "motions", [1, 2], train_lengths=(2000, 2000))
    config = _stage2_config(stages, data, **{"data.window_stride": 1, "fgd_steps": 1})
    stage2.Stage2(config, str(tmp_path / "compiled"))
    tracemalloc.start()
    task = stage2.Stage2(config, str(tmp_path / "run"))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5 * 4 * 4000 * 147, peak
    assert (tmp_path / "run" / "fgd.npz").is_file() and "fgd" in task.frozen


def test_lazy_windows_equal_cut_windows():
    random = np.random.default_rng(0)
    clips = [random.standard_normal((length, 2)).astype("f4") for length in (15, 3, 12, 40)]
    cut = np.concatenate([fgd.cut_windows(clip, window=12, stride=3) for clip in clips])
    windows = fgd.Windows(clips, window=12, stride=3)
    assert len(windows) == len(cut)
    np.testing.assert_array_equal(windows[np.arange(len(cut))[::-1]], cut[::-1])
    one, other = (fgd.fit_autoencoder(each, num_steps=2, batch_size=4) for each in (windows, cut))
    assert fgd.hash_autoencoder(one) == fgd.hash_autoencoder(other)
    assert not len(fgd.Windows([], window=12, stride=3))


def test_a_resumed_run_keeps_its_autoencoder_for_fgd(stages, tmp_path):
    config = _stage2_config(stages, _write_motions(tmp_path / "motions", [1, 2]), fgd_steps=1)
    workdir = tmp_path / "run"
    first = stage2.Stage2(config, str(workdir)).frozen["fgd"]
    moved = jax.tree.map(lambda leaf: 2 * leaf, first)
    fgd.write_autoencoder(workdir / "fgd.npz", moved)
    find = lambda: fgd.hash_autoencoder(stage2.Stage2(config, str(workdir)).frozen["fgd"])
    assert find() == fgd.hash_autoencoder(first)  # Nothing was saved, so the run starts again.
    fgd.write_autoencoder(workdir / "fgd.npz", moved)
    (workdir / "checkpoints" / "1").mkdir(parents=True)
    assert find() == fgd.hash_autoencoder(moved)
    (workdir / "fgd.npz").write_bytes(b"damaged")
    assert find() == fgd.hash_autoencoder(first)


@pytest.fixture(scope="module")
def frames(tmp_path_factory):
    """The test split of a data set: one clip of 25 frames, 16 pixels wide."""
    path = tmp_path_factory.mktemp("data") / "clips"
    options = {"num_clips": 2, "num_identities": 1, "clip_sec": 1.0, "size": 16, "seed": 3}
    assert procedural.write_procedural(path, **options)
    return clips.ClipSource(path, "test")


@pytest.mark.parametrize("count", [1, 2, 4])
def test_the_other_motion_is_never_the_frames_own(frames, count):
    """A batch of eight repeats the available frames."""
    options = {"batch_size": 8, "seed": 0, "train": False, "frames_per_clip": count}
    (batch,) = pipeline.frame_pairs(frames, **options)
    task = stage1.Objective(tiny.stage1())
    params, _ = jax.jit(task.init)(jax.random.key(0))
    values = jax.jit(task.evaluate)({"params": params}, {}, batch, jax.random.key(0))
    assert np.isfinite(values["psnr"]).all()
    if count == 1:
        assert np.isnan(values["psnr_other_motion"]).all()
        return
    assert (batch["driving"][batch["other"]] != batch["driving"]).any(axis=(1, 2, 3)).all()
    assert (np.asarray(values["psnr_other_motion"]) != values["psnr"]).all()


def test_other_sounds_are_not_the_clips_own_recording():
    """Three clips share one recording, and a fourth has another one."""
    sounds = [np.array([1.0])] * 3 + [np.array([1.1])]
    motion = [[sound] for sound in sounds]
    found = beats.shuffled("onsets", motion, sounds, [2.0] * 4, num_others=1)
    np.testing.assert_allclose(found, [np.exp(-0.5)] * 4)
    assert np.isnan(beats.shuffled("onsets", motion[:3], sounds[:3], [2.0] * 3)).all()


def test_a_rewritten_file_has_another_hash(tmp_path):
    """It is rewritten in place or replaced, with the same length and modification time."""
    path, other = tmp_path / "video.mp4", tmp_path / "other.mp4"
    path.write_bytes(b"one")
    os.utime(path, ns=(10**18, 10**18))
    wanted = lambda: hashlib.sha256(path.read_bytes()).hexdigest()
    assert files.hash_file(path) == wanted()
    path.write_bytes(b"two")
    os.utime(path, ns=(10**18, 10**18))
    assert files.hash_file(path) == wanted()
    other.write_bytes(b"six")
    os.utime(other, ns=(10**18, 10**18))
    os.replace(other, path)
    assert files.hash_file(path) == wanted()


def test_an_unchanged_file_is_read_once(tmp_path):
    path = tmp_path / "video.mp4"
    path.write_bytes(bytes(100))
    time.sleep(2.1)
    first = files.hash_file(path)
    before = files._hash_version.cache_info().hits
    assert files.hash_file(str(path)) == first
    assert files._hash_version.cache_info().hits == before + 1


def test_a_rebuilt_rig_is_loaded_again(tmp_path):
    """The process has loaded the old one before."""
    pytest.importorskip("cv2")
    from gesture_jax.preparation.photo_people import takes
    from gesture_jax.puppets import rig, rig_builder
    from tests import photo_person

    path = tmp_path / f"ann{rig.ENDING}"
    colours = []
    for background in (0, 60):
        landmarks = photo_person.draw_landmarks(background=background)
        rig.save_rig(path, rig_builder.build_rig_from_landmarks(landmarks.picture, landmarks)[0])
        colours.append(takes._load_background(path).mean())
    assert colours[0] > colours[1] + 20


def test_replaced_wavlm_weights_are_loaded(tmp_path):
    hearing = extractor.SpeechFeatureExtractor("wavlm", str(tmp_path / "wavlm.safetensors"))
    sound = np.random.default_rng(0).standard_normal(8_000).astype("f4")
    heard = []
    for seed in (0, 1):
        safetensors_file.save(wavlm_file.state_dict(seed), tmp_path / "wavlm.safetensors")
        heard.append(hearing.extract(sound, num_frames=5))
    assert np.abs(heard[0] - heard[1]).max() > 0.1


def _state(step):
    arrays = {"a": jax.random.normal(jax.random.key(step), (64, 64)), "b": jax.numpy.full(3, step)}
    return {"ema_params": arrays}


def _abstract_state():
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return sharding.place(jax.eval_shape(lambda: _state(0)), device)


@pytest.fixture
def run(tmp_path):
    """A workdir with checkpoints of steps 1 and 2."""
    with contextlib.closing(checkpoints.Checkpointer(tmp_path / "run", keep=2)) as saver:
        for step in (1, 2):
            position = tiny.Position()
            position.position = step
            saver.save(step, _state(step), position)
    return tmp_path / "run"


def _restored_step(workdir):
    position = tiny.Position()
    with contextlib.closing(checkpoints.Checkpointer(workdir, keep=2)) as saver:
        saver.restore(_abstract_state(), position)
    return position.position


def _fails_to_be_read(path):
    path.symlink_to("/proc/self/mem")


def _fails_to_be_opened(path):
    path.symlink_to(path.name)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # Orbax causes it.
@pytest.mark.parametrize(
    ("pattern", "fails"),
    [("state/_METADATA", _fails_to_be_read), ("state/manifest.ocdbt", _fails_to_be_opened)]
    + [("state/ocdbt.process_0/d/*", _fails_to_be_opened)],
)
def test_a_file_that_cannot_be_read_is_not_damaged(run, pattern, fails):
    (path,) = (run / "checkpoints" / "2").glob(pattern)
    path.rename(run / "kept")
    fails(path)
    told = r"2: cannot be read now \((OSError|ValueError): .*; start again"
    with pytest.raises(InputError, match=told):
        _restored_step(run)
    with pytest.raises(InputError, match="2: this checkpoint cannot be read now"):
        checkpoints.load_variables(run, {"params": _abstract_state()["ema_params"]})
    assert not (run / "damaged").exists()
    (run / "kept").replace(path)
    assert _restored_step(run) == 2


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # Orbax causes it.
def test_a_damaged_checkpoint_is_moved_away(run, capfd):
    (path,) = (run / "checkpoints" / "2").glob("state/ocdbt.process_0/d/*")
    os.truncate(path, 100)
    assert _restored_step(run) == 1
    assert "/2: damaged (ValueError: OUT_OF_RANGE: " in capfd.readouterr().err


_CODES = "UNAVAILABLE", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED", "PERMISSION_DENIED", "UNKNOWN"


@pytest.mark.parametrize(
    "error",
    [OSError(errno.EIO, "Input/output error"), ConnectionResetError(), MemoryError()]
    + [RuntimeError("RESOURCE_EXHAUSTED: Out of memory")]
    + [ValueError(f'{code}: Error opening "zarr3" driver') for code in _CODES]
    + [ValueError("FAILED_PRECONDITION: broken pipe [os_error_code='32']")],
    ids=str,
)
def test_errors_of_the_system_are_no_damage_though_orbax_wraps_them(error):
    try:
        try:
            raise error
        except Exception as cause:
            raise NoEntryError("incompatible handler") from cause
    except NoEntryError as wrapped:
        assert not damage.is_damage(wrapped)
        assert damage.describe(wrapped).startswith(type(error).__name__)


def _latents(count, seed):
    return list(np.random.default_rng(seed).standard_normal((count, 5, 16)))


def test_distances_have_a_floor_for_the_same_number_of_windows():
    """Windows from the real distribution reach the floor; more of them would seem better."""
    real = _latents(40, 0)
    wins = 0
    for seed in range(1, 9):
        generated = _latents(80, seed)
        value, floor = scores.halves_scores(real, generated)
        assert value.value == pytest.approx(floor.value, rel=0.35)
        assert scores.frechet_score(real, generated).value < 0.7 * floor.value
        wins += value.value < floor.value
    assert 0 < wins < 8


def test_halves_of_the_real_clips_themselves_are_at_the_floor():
    real = _latents(7, 0)
    value, floor = scores.halves_scores(real, real)
    assert value == floor


def test_few_windows_have_no_floor():
    assert scores.halves_scores(_latents(1, 0), _latents(5, 1)) is None
    assert scores.halves_scores(_latents(4, 0), [np.ones((1, 16))]) is None


def _run_steps(ours, steps, compiled, *, before=lambda step: None):
    """Runs steps of 10 ms each; returns the rates after the last one."""

    def step_fn(x):
        time.sleep(0.01)
        return compiled(x)

    for step in steps:
        before(step)
        with ours.waiting():
            pass
        ours.step(step, step_fn, jax.numpy.ones((3, 3)))
    return ours.read(steps[-1])


@pytest.fixture
def ours(tmp_path):
    with contextlib.closing(monitor.TrainingMonitor(tmp_path, batch_size=4)) as made:
        yield made


def _slow_to_compile(sleep_sec):
    def double(x):
        time.sleep(sleep_sec)  # This runs when it is traced.
        return 2 * x @ x.T

    return jax.jit(double)


def test_rates_count_only_steps(ours):
    """Compilations, evaluations and saves are left out."""
    compiled = _slow_to_compile(1.5)

    def pause(step):
        if step == 4:
            with ours.paused():
                time.sleep(1.5)
        if step == 6:
            compiled.clear_cache()

    rates = _run_steps(ours, range(1, 9), compiled, before=pause)
    assert rates["time/late_compilations"] == 1
    # At most 100, and below 4 if one of the pauses counted; a busy machine takes longer for a step.
    assert 4 < rates["time/steps_per_sec"] < 100


def test_a_first_step_alone_has_no_rate(ours):
    rates = _run_steps(ours, [7], _slow_to_compile(0.0))
    assert not {"time/steps_per_sec", "time/flops_per_sec", "time/input_share"} & rates.keys()
    assert _run_steps(ours, [8, 9], jax.jit(lambda x: x))["time/steps_per_sec"] < 100


def test_a_step_that_is_not_finished_is_not_counted(ours):
    _run_steps(ours, [1], _slow_to_compile(0.0))
    step_fn = jax.jit(lambda x: x)
    for step in (2, 3, 4):
        ours.step(step, step_fn, jax.numpy.ones(3))
    done = ours.read(3)["time/steps_per_sec"]
    assert ours.read(4)["time/steps_per_sec"] > 0 and done > 0
    assert "time/steps_per_sec" not in ours.read(4)


def _resume(stages, workdir, **changes):
    """Does the checks of a run of stage 2 before it resumes."""
    config = _stage2_config(stages, **changes)
    task = stage2.Stage2(config, str(workdir))
    resumption.check_resumable(config, str(workdir))
    return config, task


@pytest.fixture
def begun(stages, tmp_path):
    """A run that has saved a checkpoint, and its data."""
    data = _write_motions(tmp_path / "motions", [1, 2])
    config, _ = _resume(stages, tmp_path / "run", data=data)
    checkpoints.write_config(tmp_path / "run", config)
    (tmp_path / "run" / "checkpoints" / "1").mkdir(parents=True)
    return tmp_path / "run", data


def test_a_run_resumes_with_advised_changes(stages, begun, capsys):
    """These are more processes for reading, and another path of the same data."""
    workdir, data = begun
    _resume(stages, workdir, data=data, **{"data.num_workers": 3})
    moved = data.rename(workdir.parent / "moved")
    config, _ = _resume(stages, workdir, data=moved)
    assert config.data.path == str(moved)


def test_a_run_does_not_resume_with_other_data(stages, begun):
    workdir, data = begun
    shutil.rmtree(data)
    _write_motions(data, [1, 3])
    with pytest.raises(InputError, match=r"was trained on other data than .*motions; choose"):
        _resume(stages, workdir, data=data)
    with pytest.raises(InputError, match=r"another config \(seed\)"):
        shutil.rmtree(data)
        _resume(stages, workdir, data=_write_motions(data, [1, 2]), seed=1)


def test_a_run_of_an_older_version_keeps_its_data_path(stages, begun):
    """It did not save the hash of its data."""
    workdir, data = begun
    config = json.loads((workdir / "config.json").read_text())
    del config["data"]["sha256"]
    (workdir / "config.json").write_text(json.dumps(config))
    _resume(stages, workdir, data=data)
    moved = data.rename(workdir.parent / "moved")
    with pytest.raises(InputError, match=r"another config \(data\.path\)"):
        _resume(stages, workdir, data=moved)


def test_before_the_first_save_any_config_is_accepted(stages, begun):
    """A run that diverges before its first checkpoint advises to change the config."""
    workdir, data = begun
    (workdir / "checkpoints" / "1").rmdir()
    _resume(stages, workdir, data=data, **{"optim.learning_rate": 1e-5})


_TWO_HOSTS = """
import pathlib, sys
import jax, jax.numpy as jnp
from gesture_jax.checkpoint import checkpoints
from gesture_jax.errors import InputError
from gesture_jax.parallel import processes, sharding
from tests.odd_inputs import numbers_test as here

processes.start_processes()
run, fails = pathlib.Path(sys.argv[1]), sys.argv[2]
mesh = sharding.make_mesh({"data": 1, "fsdp": 2}, batch_size=2)
large = lambda step: jax.random.normal(jax.random.key(step), (256, 256))
create = lambda step: {"ema_params": {"a": large(step), "b": jnp.full(3, step)}}
shardings = sharding.state_shardings(jax.eval_shape(lambda: create(0)), mesh)
saver = checkpoints.Checkpointer(run, keep=2)
for step in (1, 2):
    position = here.tiny.Position()
    position.position = step
    saver.save(step, jax.jit(create, out_shardings=shardings)(step), position)
saver.wait()
if jax.process_index() == 0:
    # Only the second process reads this file: its half of the large array.
    (path,) = run.glob("checkpoints/2/state/ocdbt.process_1/d/*")
    path.unlink()
    if fails == "trouble":
        path.symlink_to(path.name)
position = here.tiny.Position()
try:
    jax.experimental.multihost_utils.sync_global_devices("damaged by now")
    saver.restore(sharding.abstract(lambda: create(0), shardings), position)
    print("restored", position.position)
except InputError as error:
    print("told", error)
saver.close()
"""


@pytest.mark.slow
@pytest.mark.parametrize("fails", ["damage", "trouble"])
def test_several_hosts_agree_on_what_is_damaged(tmp_path, fails):
    """Each reads a part of the state, and only one of them reads the damaged file."""
    address = f"127.0.0.1:{ports.free_port()}"
    told = {"JAX_NUM_PROCESSES": "2", "JAX_COORDINATOR_ADDRESS": address, "JAX_PLATFORMS": "cpu"}
    told |= {"JAX_NUM_CPU_DEVICES": "1"}
    running = [
        subprocess.Popen(
            [sys.executable, "-c", _TWO_HOSTS, str(tmp_path / "run"), fails],
            env={**os.environ, **told, "JAX_PROCESS_ID": str(number)},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=_ROOT,
        )
        for number in range(2)
    ]  # fmt: skip
    try:
        said = [process.communicate(timeout=600) for process in running]
    finally:
        for process in running:
            process.kill()
            process.communicate()
    words = [out.splitlines()[-1] if out.splitlines() else error for out, error in said]
    if fails == "damage":
        assert words == ["restored 1"] * 2, said
        assert "another process could not read it" in said[0][1]
        assert len(list((tmp_path / "run" / "damaged").iterdir())) == 1
    else:
        assert all("checkpoints/2: cannot be read now" in each for each in words), said
        assert not (tmp_path / "run" / "damaged").exists()
