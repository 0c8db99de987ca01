"""A run that was stopped, killed or damaged ends like a run that was not interrupted."""

import errno
import gc
import json
import multiprocessing
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from gesture_jax.checkpoint import checkpoints, fingerprints
from gesture_jax.errors import InputError, Stopped
from gesture_jax.training import loop
from gesture_jax.training.metrics_writer import MetricsWriter, read_metrics
from tests import tiny

pytestmark = [
    pytest.mark.usefixtures("quickly_compiled"),
    # Orbax leaves coroutines unfinished when it reads a damaged checkpoint.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
_ROOT = pathlib.Path(__file__).parents[2]
# How often a run is killed; more can be set by hand.
_KILLS = int(os.environ.get("GESTURE_JAX_TEST_KILLS", "3"))


@pytest.fixture(scope="module", autouse=True)
def _collect_coroutines():
    """Collects what Orbax left unfinished here: in other files its warnings are errors."""
    yield
    gc.collect()


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """The data set, which a task creates where it is missing."""
    workdir = tmp_path_factory.mktemp("data")
    loop.TASKS["stage1"](tiny.stage1(), str(workdir))
    return str(workdir / "dataset")


def _config(dataset, **changes):
    changes = {"num_steps": 12, "eval_every_steps": 100, "data.path": dataset} | changes
    return tiny.stage1(**changes)


@pytest.fixture(scope="module")
def straight(dataset, tmp_path_factory):
    """Twelve uninterrupted steps, saved every other step; three checkpoints are kept."""
    workdir = tmp_path_factory.mktemp("straight")
    return workdir, loop.train(_config(dataset), str(workdir))


def _equal(one, other):
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


def _same_run(workdir, state, straight):
    assert _equal(state, straight[1])
    assert tiny.records(workdir) == tiny.records(straight[0])


def _signal_at(step, monkeypatch):
    """Raises SIGTERM right after the metrics of `step` are written, so in the middle of a run."""
    write_scalars = MetricsWriter.write_scalars

    def write_and_signal(self, written_step, scalars):
        write_scalars(self, written_step, scalars)
        if written_step == step:
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(MetricsWriter, "write_scalars", write_and_signal)


def test_sigterm_saves_and_reports_the_step(dataset, straight, tmp_path, monkeypatch):
    config = _config(dataset, checkpoint_every_steps=100)
    stopped = r"step \d+ of 12.* saved"
    with monkeypatch.context() as patch, pytest.raises(Stopped, match=stopped) as told:
        _signal_at(3, patch)
        loop.train(config, str(tmp_path))
    step = checkpoints.newest_step(tmp_path)
    assert f"step {step} of" in str(told.value) and 3 <= step < 12
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert [record["step"] for record in tiny.records(tmp_path)] == list(range(1, step + 1))
    _same_run(tmp_path, loop.train(config, str(tmp_path)), straight)


def _train_in_child(config, workdir, num_devices):
    jax.config.update("jax_num_cpu_devices", num_devices)
    jax.config.update("jax_disable_most_optimizations", True)
    loop.train(config, workdir)


def _start(*arguments):
    """Starts a training in a child of a process that has imported everything but used no device."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    process = context.Process(target=_train_in_child, args=arguments)
    process.start()
    return process


def _restored(config, workdir):
    """Returns the last state of a finished run."""
    return loop.train(config, str(workdir))


@pytest.mark.slow
def test_a_run_killed_at_any_moment_resumes(dataset, straight, tmp_path):
    """SIGKILL comes some seconds after each start: during a step, a save or a restart."""
    draw, config = random.Random(0), _config(dataset, checkpoint_every_steps=1)
    kills, runs = 0, 0
    while kills < _KILLS:
        workdir = tmp_path / str(runs)
        process = _start(config, str(workdir), 8)
        known = len(read_metrics(workdir))
        deadline = time.monotonic() + 100
        while len(read_metrics(workdir)) in (0, known) and time.monotonic() < deadline:
            time.sleep(0.01)
            if not process.is_alive():
                break
        process.join(draw.uniform(0, 6))
        process.kill()
        process.join()
        assert process.exitcode in (0, -signal.SIGKILL)
        killed = process.exitcode != 0
        kills, runs = (
            kills + killed,
            runs + (not killed),
        )  # A finished run is followed by a new one.
    for workdir in tmp_path.iterdir():
        _same_run(workdir, loop.train(config, str(workdir)), straight)


def test_a_fine_tuned_run_needs_its_initial_weights_once(dataset, straight, tmp_path):
    shutil.copytree(straight[0], tmp_path / "donor")
    config = _config(dataset, init_from=str(tmp_path / "donor"))
    tuned = loop.train(config, str(tmp_path / "run"))
    assert not _equal(tuned, straight[1])
    shutil.rmtree(tmp_path / "donor")
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "12")
    assert _equal(_restored(config, tmp_path / "run"), tuned)


def test_initial_weights_that_do_not_fit_leave_no_files(dataset, straight, tmp_path):
    """The corrected command can then start from scratch."""
    changes = {"init_from": str(straight[0]), "model.width": 32}
    with pytest.raises(InputError, match=r"model\.width is 64 there and 32 here"):
        loop.train(_config(dataset, **changes), str(tmp_path))
    assert not [*tmp_path.iterdir()]


def test_a_run_resumes_on_another_number_of_devices(dataset, straight, tmp_path):
    """It moves from eight devices along `data` to two along `fsdp`, and back."""
    shutil.copytree(straight[0], tmp_path / "run")
    for step in ("10", "12"):
        shutil.rmtree(tmp_path / "run" / "checkpoints" / step)
    mesh = {"mesh.data": 1, "mesh.fsdp": 2}
    process = _start(_config(dataset, **mesh), str(tmp_path / "run"), 2)
    process.join()
    assert process.exitcode == 0
    state = _restored(_config(dataset), tmp_path / "run")
    assert len(jax.tree.leaves(state)[0].sharding.device_set) == 8
    for one, other in zip(tiny.records(tmp_path / "run"), tiny.records(straight[0]), strict=True):
        assert one["step"] == other["step"]
        if "loss" in one:
            assert one["loss"] == pytest.approx(other["loss"], rel=1e-4)


def _truncate(path):
    os.truncate(path, path.stat().st_size // 2)


def _flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x10
    path.write_bytes(content)


@pytest.fixture(scope="module")
def damaged_runs(straight, tmp_path_factory):
    """A function that copies the straight run and applies `how` to the largest file of step 12."""

    def damage(how):
        workdir = tmp_path_factory.mktemp("damaged") / "run"
        shutil.copytree(straight[0], workdir)
        files = [path for path in (workdir / "checkpoints" / "12").rglob("*") if path.is_file()]
        how(max(files, key=lambda path: path.stat().st_size))
        return workdir

    return damage


@pytest.mark.parametrize(
    "how", [pytest.param(_truncate, marks=pytest.mark.slow), _flip, pathlib.Path.unlink]
)
def test_a_damaged_checkpoint_falls_back_to_the_newest_whole_one(
    dataset, straight, damaged_runs, how, capfd
):
    workdir = damaged_runs(how)
    try:  # Inference reads only some of the files.
        averages = straight[1].ema_params
        loaded, _ = checkpoints.load_variables(workdir, {"params": _shapes(averages)})
        assert _equal(loaded["params"], averages)
    except InputError as error:
        assert "checkpoints/12: this checkpoint is damaged" in str(error)
    _same_run(workdir, loop.train(_config(dataset), str(workdir)), straight)
    told = capfd.readouterr().err
    assert "checkpoints/12: damaged (" in told and "going on from step 10" in told
    assert [path.name[:3] for path in (workdir / "damaged").iterdir()] == ["12-"]


@pytest.fixture
def small_disk(tmp_path):
    """A folder with room for a checkpoint and a half, and a function that makes room for more."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = lambda *arguments: subprocess.run(["mount", *arguments, str(disk)], capture_output=True)
    if not shutil.which("mount") or mount("-t", "tmpfs", "-o", "size=3m", "tmpfs").returncode:
        pytest.skip("a small disk is mounted by root alone")
    yield disk, lambda: mount("-o", "remount,size=100m")
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def test_a_full_disk_is_reported_and_loses_nothing(dataset, straight, small_disk):
    disk, make_room = small_disk
    config = _config(dataset, checkpoint_every_steps=1, keep_checkpoints=20)
    with pytest.raises(OSError, match="No space left") as told:
        loop.train(config, str(disk / "run"))
    assert told.value.errno == errno.ENOSPC  # The command line turns this into a sentence.
    assert told.value.filename == str(disk / "run" / "checkpoints")
    assert checkpoints.newest_step(disk / "run") == 1
    make_room()
    _same_run(disk / "run", loop.train(config, str(disk / "run")), straight)


def _shapes(tree):
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), tree)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Checkpoints of steps 1 and 2 of a small state."""
    workdir = tmp_path_factory.mktemp("small")
    saver, position = checkpoints.Checkpointer(workdir, keep=2), tiny.Position()
    for step in (1, 2):
        position.position = step
        saver.save(step, _small_state(step), position)
    saver.close()
    return workdir


def _small_state(step):
    noise = jax.random.normal(jax.random.key(step), (64, 64))
    return {"a": noise, "b": {"c": jax.numpy.full(3, step), "d": jax.numpy.bool_(True)}}


def test_no_damaged_file_leads_to_a_wrong_state(small, tmp_path):
    """The restored state is that of step 2, if the damage does no harm, or that of step 1."""
    files = [path for path in (small / "checkpoints" / "2").rglob("*") if path.is_file()]
    fallen_back = 0
    for number, path in enumerate(files):
        for how in (_truncate, _flip):
            workdir = tmp_path / f"{number}{how.__name__}"
            shutil.copytree(small, workdir)
            how(workdir / path.relative_to(small))
            saver, position = checkpoints.Checkpointer(workdir, keep=2), tiny.Position()
            state = saver.restore(_placed(_small_state(0)), position)
            saver.close()
            assert position.position in (1, 2)
            assert _equal(state, _small_state(position.position))
            fallen_back += position.position == 1
    assert fallen_back >= len(files)


def _placed(tree):
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), tree
    )


def test_without_an_intact_checkpoint_nothing_is_restored_or_moved(small, tmp_path):
    shutil.copytree(small, tmp_path / "run")
    for path in list((tmp_path / "run" / "checkpoints").rglob("*")):
        if path.is_file() and path.stat().st_size:
            _truncate(path)
    saver = checkpoints.Checkpointer(tmp_path / "run", keep=2)
    with pytest.raises(InputError, match="no checkpoint is whole, or none fits: step 2: "):
        saver.restore(_placed(_small_state(0)), tiny.Position())
    saver.close()
    assert not (tmp_path / "run" / "damaged").exists()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int32", "uint8", "bool"])
def test_any_flipped_bit_changes_the_fingerprint(dtype):
    values = np.asarray(jax.random.bernoulli(jax.random.key(0), shape=(3, 5)).astype(dtype))
    first = int(fingerprints._fingerprint(values))
    bits = 1 if dtype == "bool" else 8 * values.dtype.itemsize
    for bit in range(bits):
        changed = values.copy()
        changed.view(f"u{values.dtype.itemsize}")[1, 2] ^= 1 << bit
        assert int(fingerprints._fingerprint(changed)) != first
    assert int(fingerprints._fingerprint(values[::-1])) != first


@pytest.mark.slow
def test_a_terminated_command_saves_and_reports_it(dataset, tmp_path):
    """The message and the exit code both show that the run was stopped by SIGTERM."""
    config = "--config=configs/stage1.py:smoke"
    small = [
        f"--config.{name}={value}"
        for name, value in tiny.flags(_config(dataset, num_steps=10_000)).items()
    ]
    command = [sys.executable, "-m", "gesture_jax.train", config, f"--workdir={tmp_path}", *small]
    running = subprocess.Popen(command, cwd=_ROOT, stderr=subprocess.PIPE, text=True)
    while not read_metrics(tmp_path) and running.poll() is None:
        time.sleep(0.05)
    running.terminate()
    _, told = running.communicate(timeout=100)
    assert running.returncode == 128 + signal.SIGTERM, told
    assert "is saved, and the same command goes on from it" in told.splitlines()[-1]
    assert "Traceback" not in told
    beat = json.loads((tmp_path / "heartbeat.json").read_text())
    assert beat["step"] >= 1 and beat["pid"] == running.pid
    rates = read_metrics(tmp_path)[-1]
    assert rates["time/steps_per_sec"] > 0 and 0 <= rates["time/input_share"] <= 1
    assert rates["time/late_compilations"] == 0
