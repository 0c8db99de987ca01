"""How commands end: by a signal, on a full disk, or because another command runs already."""

import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from gesture_jax.checkpoint import checkpoints
from gesture_jax.errors import InputError
from gesture_jax.media import images
from gesture_jax.media.writer import write_audio
from gesture_jax.preparation import parts, procedural
from gesture_jax.procedural import speaker
from gesture_jax.storage import files
from gesture_jax.training import loop
from gesture_jax.training.metrics_writer import read_metrics
from tests import page_client, ports, tiny

_ROOT = pathlib.Path(__file__).parents[2]
_WAIT_SEC = 300


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """Small models, a portrait, and speech of one second and of ten minutes."""
    root = tmp_path_factory.mktemp("endings")
    tiny.constant_stages(root / "runs")
    done = speaker.perform(identity=0, seed=0, duration_sec=1.0, size=32)
    images.write_image(root / "portrait.png", done.frames[0])
    write_audio(root / "speech.wav", done.audio, 16_000)
    write_audio(root / "long.wav", np.tile(done.audio, 600), 16_000)
    return root


def _start(module, *arguments, temp, cwd):
    """Starts a module, or a program with `-c`, as the leader of a process group.

    It writes its temporary files to `temp`.
    """
    called = [module] if module == "-c" else ["-m", module]
    environment = {
        **os.environ, "TMPDIR": str(temp), "PYTHONPATH": str(_ROOT), "PYTHONUNBUFFERED": "1",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
    }  # fmt: skip
    return subprocess.Popen(
        [sys.executable, *called, *arguments], cwd=cwd, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip


def _wait_for(seen, process):
    deadline = time.monotonic() + _WAIT_SEC
    while not seen():
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _end(process):
    """Waits for a process; returns its exit code and output."""
    try:
        said, _ = process.communicate(timeout=_WAIT_SEC)
    finally:
        if process.poll() is None:
            process.kill()
    return process.returncode, said


def _names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_uploads_are_removed_when_the_page_ends(inputs, tmp_path):
    pytest.importorskip("gradio", reason="the extra [app] is not installed")
    port = ports.free_port()
    command = "gesture_jax.app", f"--workdirs={inputs}/runs", f"--port={port}"
    process = _start(*command, temp=tmp_path, cwd=inputs)
    try:
        assert "Running on" in process.stdout.readline()
        path = page_client.upload(f"http://127.0.0.1:{port}", inputs / "speech.wav")
        assert path.read_bytes() == (inputs / "speech.wav").read_bytes()
        assert tmp_path in path.parents
        process.terminate()
    finally:
        code, said = _end(process)
    assert code == 128 + signal.SIGTERM, said
    assert "Traceback" not in said
    assert _names(tmp_path) == []


_LASTING = """
from gesture_jax.storage import files
print(files.lasting_folder(), flush=True)
input()
"""


def _lasting(temp):
    """Starts a process with a lasting folder; returns both."""
    environment = {**os.environ, "TMPDIR": str(temp)}
    process = subprocess.Popen(
        [sys.executable, "-c", _LASTING], cwd=_ROOT, env=environment, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    folder = pathlib.Path(process.stdout.readline().strip())
    (folder / "voice.wav").write_bytes(b"x")
    return process, folder


def test_the_next_start_removes_the_folders_of_killed_processes(tmp_path):
    """Folders of running processes and of other programs stay."""
    mine = tmp_path / "gesture_jax-mine"
    mine.mkdir()
    killed, abandoned = _lasting(tmp_path)
    living, kept = _lasting(tmp_path)
    killed.kill()
    killed.communicate()
    assert (abandoned / "voice.wav").exists()
    last, folder = _lasting(tmp_path)
    assert not abandoned.exists() and mine.exists()
    assert (kept / "voice.wav").exists() and (folder / "voice.wav").exists()
    for process in (living, last):
        process.communicate("\n")
        assert process.returncode == 0
    assert _names(tmp_path) == ["gesture_jax-mine"]


def test_an_unfinished_video_is_removed(inputs, tmp_path):
    (tmp_path / "temp").mkdir()
    (tmp_path / "out").mkdir()
    options = [f"--stage1={inputs}/runs/stage1", f"--stage2={inputs}/runs/stage2"]
    given = ["--image=portrait.png", "--audio=long.wav", f"--out={tmp_path}/out/video.mp4"]
    command = "gesture_jax.generate", *given, *options
    process = _start(*command, temp=tmp_path / "temp", cwd=inputs)
    try:
        _wait_for(lambda: list((tmp_path / "out").glob(".video.mp4.*/video.mp4")), process)
        process.terminate()
    finally:
        code, said = _end(process)
    assert code == 128 + signal.SIGTERM, said
    assert "Traceback" not in said
    assert _names(tmp_path / "out") == _names(tmp_path / "temp") == []


@pytest.mark.parametrize("ignored", [False, True])
def test_a_lost_terminal_ends_a_command(tmp_path, ignored):
    """A command started by `nohup` goes on."""
    program = (
        "import os, signal\n"
        "from gesture_jax.parallel import signals; from gesture_jax.storage import files\n"
        "signals.end_in_order()\n"
        "with files.temporary_folder() as folder: os.kill(os.getpid(), signal.SIGHUP); print(1)"
    )
    nohup = ["nohup"] if ignored else []
    done = subprocess.run(
        [*nohup, sys.executable, "-c", program], cwd=_ROOT, capture_output=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )  # fmt: skip
    assert (done.returncode, done.stdout) == ((0, b"1\n") if ignored else (129, b""))
    assert _names(tmp_path) == []


@pytest.mark.slow
def test_a_terminated_preparation_keeps_finished_parts(tmp_path):
    """Its workers end as well, and the same command finishes the data set."""
    (tmp_path / "temp").mkdir()
    command = ["gesture_jax.prepare", "--procedural=40", "--clip_sec=2", "--size=32", "--out=data"]
    many = [*command, "--num_workers=2"]
    process = _start(*many, temp=tmp_path / "temp", cwd=tmp_path)
    parts = tmp_path / "data.parts"
    try:
        _wait_for(lambda: len(list(parts.glob("[!.]*"))) >= 3, process)
        process.terminate()
    finally:
        code, said = _end(process)
    assert code == 128 + signal.SIGTERM, said
    assert "Traceback" not in said
    done = _names(parts)
    assert 3 <= len(done) < 40 and not [name for name in done if name.startswith(".")]
    assert _names(tmp_path / "temp") == []
    code, said = _end(_start(*command, temp=tmp_path / "temp", cwd=tmp_path))
    assert code == 0, said
    assert _names(tmp_path) == ["data", "temp"] and _names(tmp_path / "temp") == []


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """A data set for the smallest training."""
    workdir = tmp_path_factory.mktemp("data")
    loop.TASKS["stage1"](tiny.stage1(), str(workdir))
    return str(workdir / "dataset")


def _train(dataset, workdir, temp, **changes):
    """Starts a training of many steps."""
    changes = {
        "data.path": dataset, "num_steps": 10_000, "checkpoint_every_steps": 10_000,
        "eval_every_steps": 10_000,
    } | changes  # fmt: skip
    flags = [f"--config.{k}={v}" for k, v in tiny.flags(tiny.stage1(**changes)).items()]
    command = "gesture_jax.train", "--config=configs/stage1.py:smoke", f"--workdir={workdir}"
    return _start(*command, *flags, temp=temp, cwd=_ROOT)


@pytest.mark.parametrize(
    "number",
    [
        signal.SIGINT,
        pytest.param(signal.SIGTERM, marks=pytest.mark.slow),
        pytest.param(signal.SIGHUP, marks=pytest.mark.slow),
    ],
)
def test_a_training_saves_when_it_gets_a_signal(dataset, tmp_path, number):
    """The processes that read data get the signal too; after SIGHUP there is no terminal."""
    has_terminal = number != signal.SIGHUP
    process = _train(dataset, tmp_path / "run", tmp_path, **{"data.num_workers": 2 * has_terminal})
    with process.stdout:
        _wait_for(lambda: len(read_metrics(tmp_path / "run")) > 2, process)
        if not has_terminal:
            process.stdout.close()
        os.killpg(process.pid, number)
        code = process.wait(_WAIT_SEC)
        said = process.stdout.read() if has_terminal else ""
    step = checkpoints.newest_step(tmp_path / "run")
    assert code == 128 + number, said
    assert step >= 3 and "Traceback" not in said
    if has_terminal:
        assert "stopping: the state is saved after this step; Ctrl-C again ends at once" in said
        assert f"stopped at step {step} of 10000, which is saved; the same command" in said
    assert _names(tmp_path) == ["run"]


_TWO_SIGNALS = """
import signal
from gesture_jax.training import stopping

with stopping.stop_on_signal() as stop:
    signal.raise_signal(signal.SIGINT)
    print("the step goes on", flush=True)
    signal.raise_signal(signal.SIGINT)
    print("saves")
"""


def test_a_second_ctrl_c_ends_a_training_at_once(tmp_path):
    """Both signals arrive during one step: this process could not send them in time."""
    code, output = _end(_start("-c", _TWO_SIGNALS, temp=tmp_path, cwd=tmp_path))
    assert code == -signal.SIGINT, output
    assert "Ctrl-C" in output and "the step goes on" in output
    assert "saves\n" not in output and "Traceback" not in output


def test_a_second_training_in_a_workdir_is_refused(dataset, tmp_path):
    """The first one goes on, and its workdir is free after its end."""
    first = _train(dataset, tmp_path / "run", tmp_path)
    try:
        _wait_for((tmp_path / "run" / ".lock").exists, first)
        with pytest.raises(InputError, match="run: another training is running here; wait for it"):
            loop.train(tiny.stage1(**{"data.path": dataset}), str(tmp_path / "run"))
        assert first.poll() is None
    finally:
        first.kill()
        first.communicate()
    with files.alone_in(tmp_path / "run", busy="the lock of a killed process stays"):
        assert (tmp_path / "run" / ".lock").exists()
    assert not (tmp_path / "run" / ".lock").exists()


def test_a_second_preparation_of_a_data_set_is_refused(tmp_path):
    """The first one goes on and finishes."""
    refused = []

    def prepare(run=parts.make_parts):
        options = {"num_clips": 2, "num_identities": 1, "clip_sec": 1.2, "size": 32}
        return procedural.write_procedural(tmp_path / "data", seed=3, run=run, **options)

    def make_parts(parts_dir, takes):
        with pytest.raises(InputError) as told:
            prepare()
        refused.append(str(told.value))
        parts.make_parts(parts_dir, takes)

    assert prepare(make_parts)["recordings"] == 2
    told = f"{tmp_path}/data: another process is preparing this data set; wait for it to end"
    assert refused == [told] and _names(tmp_path) == ["data"]
    assert prepare() is None


def test_locks_need_a_folder_that_can_be_written(tmp_path):
    """A lock removes the folders that it created; where it cannot be written, there is none."""
    with files.locked(tmp_path / "new" / "deep" / "lock", busy="is held"):
        assert (tmp_path / "new" / "deep" / "lock").exists()
        with (
            pytest.raises(InputError, match="is held"),
            files.locked(tmp_path / "new" / "deep" / "lock", busy="is held"),
        ):
            raise AssertionError("two hold it")
    assert _names(tmp_path) == []
    (tmp_path / "file").touch()
    with files.locked(tmp_path / "file" / "lock", busy="is held"):
        assert _names(tmp_path) == ["file"]


_FULL_DISK = """
import numpy as np
from gesture_jax import cli
from gesture_jax.checkpoint import checkpoints
from gesture_jax.media import images, motion_files, writer
from gesture_jax.preparation import procedural

frames = np.random.default_rng(0).integers(0, 256, (8, 64, 64, 3), np.uint8)
scenes = dict(num_clips=2, num_identities=1, clip_sec=1.2, size=32, seed=3)
kinds = {
    "v.mp4": lambda: writer.write_video("full/v.mp4", frames),
    "s.wav": lambda: writer.write_audio("full/s.wav", np.zeros(9000), 16_000),
    "p.png": lambda: images.write_image("full/p.png", frames[0]),
    "m.npz": lambda: motion_files.write_motion("full/m.npz", np.zeros((9000, 12), "f4"), frames[0]),
    "data": lambda: procedural.write_procedural("full/data", **scenes),
    "run": lambda: checkpoints.save_variables("full/run", {"params": {"w": np.zeros(9000)}}),
}
for name, write in kinds.items():
    try:
        cli.one_sentence(lambda argv: write())([])
    except SystemExit as end:
        print("code", end.code)
"""


def test_a_full_disk_is_reported_with_the_file_that_did_not_fit(tmp_path):
    """No partly written file stays."""
    (tmp_path / "full").mkdir()
    (tmp_path / "full.py").write_text(_FULL_DISK)
    script = (
        "mount -t tmpfs -o size=64k tmpfs full && (cat /dev/zero > full/fill 2> /dev/null; "
        f"{sys.executable} full.py 2>&1; find full -type f)"
    )
    if not shutil.which("unshare") or subprocess.run(["unshare", "-rm", "true"]).returncode:
        pytest.skip("no file system can be mounted")
    done = subprocess.run(
        ["unshare", "-rm", "bash", "-c", script], cwd=tmp_path, text=True, capture_output=True,
        env={**os.environ, "PYTHONPATH": str(_ROOT)},
    )  # fmt: skip
    lines = [line for line in re.split(r"[\r\n]+", done.stdout) if line.startswith(("e", "c", "f"))]
    for name in ("v.mp4", "s.wav", "p.png", "m.npz", "data", "run"):
        sentence, code = lines.pop(0), lines.pop(0)
        assert re.match(rf"error: \S*full/{name}\S*: no space left on the disk; make", sentence)
        assert code == "code 2"
    assert lines == ["full/fill"], done.stdout + done.stderr
