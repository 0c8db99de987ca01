"""The launchers: the commands that a dry run shows, and processes that they start."""

import os
import pathlib
import shlex
import shutil
import subprocess
import sys
import time

import pytest

from gesture_jax.errors import InputError
from gesture_jax.parallel import processes
from gesture_jax.training.metrics_writer import read_metrics
from tests import ports

_ROOT = pathlib.Path(__file__).parents[1]
_WAIT_SEC = 300
_SCRIPTS = sorted((_ROOT / "launch").glob("*.sh"))
# Characters that a shell would expand or split must arrive unchanged.
_FLAGS = [
    "--config=configs/stage1.py:paper",
    "--workdir=/disk/my run",
    "--config.data.path=$HOME's",
]
_TRAIN = ["-m", "gesture_jax.train", *_FLAGS]


def _launch(script, *arguments, **environment):
    return subprocess.run(
        [f"launch/{script}", *map(str, arguments)],
        cwd=_ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )


def _shown(script, *arguments, flags=_FLAGS):
    """Returns the commands that a dry run shows, split into words, without comments."""
    done = _launch(script, *arguments, "--dry_run", "--", *flags)
    assert done.returncode == 0, done.stderr
    return [shlex.split(line) for line in done.stdout.splitlines() if not line.startswith("#")]


def test_shellcheck_passes():
    if not shutil.which("shellcheck"):
        pytest.skip("shellcheck is not installed")
    done = subprocess.run(
        ["shellcheck", "-x", *map(str, _SCRIPTS)], cwd=_ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout


def test_local_processes_get_devices_and_a_process_id(monkeypatch):
    monkeypatch.delenv("XLA_FLAGS")
    scheduler = "XLA_FLAGS= --xla_cpu_enable_concurrency_optimized_scheduler=false"
    shown = _shown("local.sh", "--processes=3", "--devices=4", "--port=1234")
    assert shown == [
        [
            "env", "JAX_PLATFORMS=cpu", "JAX_NUM_CPU_DEVICES=4",
            scheduler,
            "JAX_COORDINATOR_ADDRESS=127.0.0.1:1234", "JAX_NUM_PROCESSES=3",
            f"JAX_PROCESS_ID={number}", "python", *_TRAIN, "&",
        ]
        for number in range(3)
    ]  # fmt: skip


def test_one_gpu_prepares_data_trains_both_stages_and_packs():
    shown = _shown("one_gpu.sh", "--portraits=my photos", "--out=runs/w", flags=["--config.seed=1"])
    assert [words[2] for words in shown] == [
        f"gesture_jax.{name}"
        for name in ("prepare", "prepare", "train", "extract", "train", "pack", "pack")
    ]
    prepare, talk, stage1, extract, stage2, *packs = (
        [word.partition("=")[::2] for word in w[3:]] for w in shown
    )
    assert ("--portraits", "my photos") in prepare and ("--out", "runs/w/data") in prepare
    assert ("--framing", "auto") in talk and ("--out", "runs/w/talk") in talk
    assert ("--data", "runs/w/talk") in extract and ("--out", "runs/w/motions") in extract
    assert ("--config.data.path", "runs/w/motions") in stage2
    assert ("--config.data.path", "runs/w/data") in stage1 and ("--config.seed", "1") in stage1
    assert ("--config.stage1_workdir", "runs/w/stage1") in stage2
    files = [dict(pack)["--out"] for pack in packs]
    assert files == [f"runs/w/photo_stage{number}.safetensors" for number in (1, 2)]
    done = _launch("one_gpu.sh", "--out=runs/w", "--dry_run")
    assert done.returncode == 2 and "--portraits=... is missing" in done.stderr


_POD = ["--name=pod", "--zone=us-west4-a"]
_ON_POD = ["gcloud", "compute", "tpus", "tpu-vm", "ssh", "pod", "--zone=us-west4-a"]
_MAKE_POD = [
    ["gcloud", "compute", "tpus", "queued-resources", "create", "pod", "--node-id=pod",
     "--zone=us-west4-a", "--accelerator-type=v5litepod-16",
     "--runtime-version=v2-alpha-tpuv5-lite", "--spot"],
    ["gcloud", "compute", "tpus", "tpu-vm", "describe", "pod", "--zone=us-west4-a",
     "--format=value(state)"],
]  # fmt: skip
_DELETE_POD = [
    "gcloud", "compute", "tpus", "queued-resources", "delete", "pod", "--zone=us-west4-a",
    "--force", "--quiet",
]  # fmt: skip
_PACK = [
    ["mkdir", "-p", "build"],
    ["git", "archive", "--format=tar.gz", "--prefix=gesture_jax/",
     "--output=build/gesture_jax.tar.gz", "HEAD"],
]  # fmt: skip


def _remote(*variables):
    """Returns the words into which the shell of a host splits the command that it gets."""
    start = ["launch/detached.sh", "start", "run", "env", *variables, ".venv/bin/python", *_TRAIN]
    return ["cd", "gesture_jax", "&&", *start]


def test_a_pod_is_created_installed_started_and_followed():
    shown = _shown("tpu_pod.sh", "up", *_POD, "--spot=true", "--setup=sudo mount /disk")
    start = shown.pop(7)
    assert shown == [
        _DELETE_POD,
        *_MAKE_POD,
        *_PACK,
        ["gcloud", "compute", "tpus", "tpu-vm", "scp", "build/gesture_jax.tar.gz", "pod:",
         "--zone=us-west4-a", "--worker=all"],
        [*_ON_POD, "--worker=all", "--command=sudo mount /disk && tar -xzf gesture_jax.tar.gz && "
         "cd gesture_jax && launch/install.sh tpu"],
        [*_ON_POD, "--worker=0", "--command=cd gesture_jax && launch/detached.sh follow run"],
        [*_ON_POD, "--worker=0", "--command=cd gesture_jax && launch/detached.sh code run"],
        [*_ON_POD, "--worker=all", "--command=cd gesture_jax && launch/detached.sh stop run"],
    ]  # fmt: skip
    *command, remote = start
    assert command == [*_ON_POD, "--worker=all"]
    words = shlex.split(remote.removeprefix("--command="))
    assert words == _remote("JAX_NUM_PROCESSES=auto")


def test_each_step_of_a_pod_is_an_action():
    assert _shown("tpu_pod.sh", "create", *_POD, "--spot=true") == _MAKE_POD
    assert _shown("tpu_pod.sh", "delete", *_POD) == [_DELETE_POD]
    assert _shown("tpu_pod.sh", "create", *_POD, "--queued=false", "--project=mine") == [[
        "gcloud", "compute", "tpus", "tpu-vm", "create", "pod", "--zone=us-west4-a",
        "--project=mine", "--accelerator-type=v5litepod-16", "--version=v2-alpha-tpuv5-lite",
    ]]  # fmt: skip


def test_ssh_hosts_use_the_first_as_coordinator():
    shown = _shown("ssh_hosts.sh", "up", "--hosts=me@one,two", "--port=1234")
    ssh, scp = ["ssh", "-o", "BatchMode=yes"], ["scp", "-q", "-o", "BatchMode=yes"]
    install = "tar -xzf gesture_jax.tar.gz && cd gesture_jax && launch/install.sh cuda"
    assert shown[:6] == [
        *_PACK,
        [*scp, "build/gesture_jax.tar.gz", "me@one:"],
        [*ssh, "me@one", install],
        [*scp, "build/gesture_jax.tar.gz", "two:"],
        [*ssh, "two", install],
    ]
    for number, host in enumerate(("me@one", "two")):
        *command, remote = shown[6 + number]
        assert command == [*ssh, host]
        assert shlex.split(remote) == _remote(
            "JAX_COORDINATOR_ADDRESS=one:1234", "JAX_NUM_PROCESSES=2", f"JAX_PROCESS_ID={number}"
        )
    follow = "cd gesture_jax && launch/detached.sh follow run"
    assert shown[8:] == [[*ssh, "me@one", follow]]


def test_slurm_starts_a_process_per_gpu():
    assert _shown("slurm.sh", "--nodes=3", "--gpus=4", "--partition=gpu") == [[
        "sbatch", "--job-name=gesture_jax", "--nodes=3", "--ntasks-per-node=4",
        "--gpus-per-node=4", "--cpus-per-task=8", "--time=24:00:00", "--requeue",
        "--open-mode=append", "--output=gesture_jax-%j.log", "--partition=gpu",
        "launch/slurm_job.sh", *_FLAGS,
    ]]  # fmt: skip


def test_gke_by_xpk_and_by_a_jobset():
    place = ["--name=run1", "--image=repo/image:1"]
    *command, remote = _shown("gke.sh", "xpk", *place, "--cluster=c", "--zone=us-west4-a")[0]
    assert command == [
        "xpk", "workload", "create", "--cluster=c", "--zone=us-west4-a", "--workload=run1",
        "--tpu-type=v5litepod-16", "--num-slices=1", "--docker-image=repo/image:1",
        "--max-restarts=20",
    ]  # fmt: skip
    train = ["env", "JAX_NUM_PROCESSES=auto", "python", *_TRAIN]
    assert shlex.split(remote.removeprefix("--command=")) == train
    assert _shown("gke.sh", "image", *place) == [
        ["docker", "build", "--file=launch/Dockerfile", "--build-arg=DEVICE=tpu",
         "--tag=repo/image:1", "."],
        ["docker", "push", "repo/image:1"],
    ]  # fmt: skip
    yaml = pytest.importorskip("yaml")
    applied = _launch("gke.sh", "apply", *place, "--hosts=2", "--dry_run", "--", *_FLAGS).stdout
    first, rest = applied.split("\n", 1)
    assert first == "kubectl apply --filename=- <<'END'" and rest.endswith("\nEND\n")
    jobset = yaml.safe_load(rest.removesuffix("END\n"))
    assert jobset["metadata"]["name"] == "run1"
    assert jobset["spec"]["failurePolicy"] == {"maxRestarts": 20}
    job = jobset["spec"]["replicatedJobs"][0]["template"]["spec"]
    assert job["parallelism"] == job["completions"] == 2
    pod = job["template"]["spec"]
    assert pod["nodeSelector"]["cloud.google.com/gke-tpu-topology"] == "4x4"
    container = pod["containers"][0]
    assert container["image"] == "repo/image:1"
    assert container["command"] == train
    assert container["resources"]["limits"] == {"google.com/tpu": 4}


@pytest.mark.parametrize(
    ("script", "arguments", "message"),
    [
        ("local.sh", ["--process=2", "--", "--x"], "unknown option --process"),
        ("local.sh", [], "flags of gesture_jax.train are missing"),
        ("tpu_pod.sh", ["up", "--name=a"], "--zone=... is missing"),
        ("tpu_pod.sh", ["fly", "--name=a", "--zone=b"], "unknown action fly"),
        ("ssh_hosts.sh", ["up", "--hosts=a", "b"], "unexpected argument b"),
        ("gke.sh", ["xpk", "--name=a", "--image=b", "--zone=c"], "--cluster=... is missing"),
        ("slurm.sh", ["--nodes=2"], "flags of gesture_jax.train are missing"),
    ],
)
def test_mistakes_get_one_line(script, arguments, message):
    done = _launch(script, *arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and message in done.stderr
    assert done.stdout == "" and done.stderr.count("\n") == 1


def test_a_detached_command_runs_once_and_keeps_its_exit_code(tmp_path):
    run = tmp_path / "run"
    command = ["bash", "-c", "echo $0; until [[ -e $1 ]]; do sleep 0.1; done; exit 3"]
    command += ["two words", tmp_path / "go"]
    assert "started" in _launch("detached.sh", "start", run, *command).stdout
    assert "already running" in _launch("detached.sh", "start", run, "false").stdout
    assert _launch("detached.sh", "code", run).stdout == ""
    (tmp_path / "go").touch()
    followed = _launch("detached.sh", "follow", run)
    assert (followed.returncode, followed.stdout) == (3, "two words\n")
    assert _launch("detached.sh", "code", run).stdout == "3\n"


def _becomes_true(condition):
    """Waits for a condition: a busy machine may take long to make it true."""
    deadline = time.monotonic() + _WAIT_SEC
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def test_a_detached_command_is_stopped_with_its_children(tmp_path):
    run, child = tmp_path / "run", tmp_path / "child"
    _launch("detached.sh", "start", run, "bash", "-c", f"sleep 600 & echo $! >{child}; wait")
    assert _becomes_true(lambda: child.exists() and child.read_text().strip())
    assert _launch("detached.sh", "stop", run).returncode == 0
    status = pathlib.Path("/proc") / child.read_text().strip() / "stat"
    # Gone, or dead and waiting for the process that adopted it.
    assert _becomes_true(lambda: not status.exists() or status.read_text().split()[2] == "Z")
    ended = _launch("detached.sh", "follow", run)
    assert ended.returncode == 1 and "ended without an exit code" in ended.stderr


@pytest.mark.parametrize(
    "variables",
    [
        {"JAX_NUM_PROCESSES": "2"},
        {"JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": "0"},
        {
            "JAX_NUM_PROCESSES": "2",
            "JAX_PROCESS_ID": "2",
            "JAX_COORDINATOR_ADDRESS": "127.0.0.1:1",
        },
        {"JAX_NUM_PROCESSES": "two"},
    ],
)
def test_incomplete_process_variables_are_refused(monkeypatch, variables):
    for name in ("JAX_PROCESS_ID", "JAX_COORDINATOR_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match="needs JAX_PROCESS_ID"):
        processes.start_processes()


_MEETING = """
import sys, time
from jax.experimental import multihost_utils
from gesture_jax.parallel import processes

processes.start_processes()
with processes.ending_with_the_others():
    for number in range(10_000):
        multihost_utils.sync_global_devices(f"meeting {number}")
        print(number, flush=True)
        time.sleep(0.1)
"""


@pytest.mark.slow
def test_when_a_process_dies_the_other_one_ends_with_an_error():
    address = f"127.0.0.1:{ports.free_port()}"
    shared = {"JAX_NUM_PROCESSES": "2", "JAX_COORDINATOR_ADDRESS": address, "JAX_PLATFORMS": "cpu"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": _ROOT}
    first, second = (
        subprocess.Popen(
            [sys.executable, "-c", _MEETING],
            env={**os.environ, **shared, "JAX_PROCESS_ID": str(number)},
            **pipes,
        )
        for number in range(2)
    )
    for process in (first, second):
        assert "0\n" in iter(process.stdout.readline, "")  # Gloo prints to stdout as well.
    second.kill()
    second.communicate()
    _, errors = first.communicate(timeout=_WAIT_SEC)
    assert first.returncode == 1, errors
    assert errors.splitlines()[-1].startswith("error: process 0 of 2 ends: ")
    assert errors.splitlines()[-1].endswith("continues from the newest checkpoint")


def _train_locally(workdir, data, *flags, **options):
    """Trains a small stage 1 for three steps, with a save after the second; returns the metrics."""
    small = (
        "width",
        "fine_width",
        "extractor_width",
        "field_width",
        "warp_feature_width",
        "num_bins",
    )
    options["port"] = ports.free_port()
    done = _launch(
        "local.sh",
        *(f"--{name}={value}" for name, value in options.items()),
        f"--python={sys.executable}",
        "--",
        "--config=configs/stage1.py:smoke",
        f"--workdir={workdir}",
        f"--config.data.path={data}",
        "--config.num_steps=3",
        "--config.eval_every_steps=3",
        "--config.data.procedural_clip_sec=1.0",
        "--config.loss.adversarial=0.0",
        "--config.loss.warp=0.0",
        *(f"--config.model.{name}=16" for name in small),
        *flags,
        # Compilation takes most of the time.
        JAX_DISABLE_MOST_OPTIMIZATIONS="true",
    )
    assert done.returncode == 0, done.stderr
    return read_metrics(workdir)


@pytest.mark.slow
def test_two_processes_train_like_one(tmp_path):
    """They use the same batches in the same order, and write one record per step."""
    two = _train_locally(tmp_path / "two", tmp_path / "data", processes=2, devices=1)
    one = _train_locally(tmp_path / "one", tmp_path / "data", processes=1, devices=1)
    losses = [[record["loss"] for record in run if "loss" in record] for run in (one, two)]
    assert len(losses[0]) == 3
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    # The parameters differ by three steps of rounding errors, and so does the evaluation.
    assert [r.keys() for r in two] == [r.keys() for r in one]
    psnr = [next(r["test/psnr"] for r in run if "test/psnr" in r) for run in (one, two)]
    assert psnr[1] == pytest.approx(psnr[0], rel=1e-4)
    assert len(list((tmp_path / "two" / "tensorboard").iterdir())) == 1
    names = {path.name for path in (tmp_path / "two" / "checkpoints").iterdir()}
    assert names == {"2", "3"}
    # One process resumes from the checkpoint of two, with its state sharded in another way.
    shutil.rmtree(tmp_path / "two" / "checkpoints" / "3")
    on = _train_locally(
        tmp_path / "two", tmp_path / "data", "--config.mesh.fsdp=2", processes=1, devices=2
    )
    assert [record["step"] for record in on] == [record["step"] for record in one]
    assert [r["loss"] for r in on if "loss" in r] == pytest.approx(losses[0], rel=1e-5)
