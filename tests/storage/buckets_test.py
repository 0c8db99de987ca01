"""Data sets and media in buckets, and workdirs in gs://, equal those on a disk bit for bit."""

import contextlib
import os
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from gesture_jax.checkpoint import checkpoints
from gesture_jax.data import clips
from gesture_jax.errors import InputError
from gesture_jax.inference import animator, pipeline
from gesture_jax.inference.generator import GestureGenerator
from gesture_jax.inference.manifest import read_requests
from gesture_jax.media import images
from gesture_jax.media.video import read_video
from gesture_jax.preparation import procedural, videos
from gesture_jax.storage import files
from gesture_jax.storage.files import as_path
from gesture_jax.training import extraction, loop
from gesture_jax.training.metrics_writer import MetricsWriter, read_metrics
from tests import bad_media, bucket_servers, in_process, tiny

pytestmark = pytest.mark.usefixtures("quickly_compiled", "own_cache")


@pytest.fixture(scope="module")
def own_cache(tmp_path_factory):
    """A cache for this module, to which folders of buckets are downloaded."""
    before = dict(os.environ)
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="module")
def buckets(own_cache):
    with bucket_servers.gs() as gs, bucket_servers.s3() as s3:
        yield {"gs": gs, "s3": s3}


@pytest.fixture(params=["gs", "s3"])
def place(buckets, request):
    """A folder in a bucket for one test."""
    return f"{buckets[request.param]}/{request.node.originalname}"


@pytest.fixture
def gs_place(buckets, request):
    """A folder in a bucket of gs:// for one test."""
    return f"{buckets['gs']}/{request.node.originalname}"


@pytest.fixture(scope="module")
def on_disk(tmp_path_factory):
    """Two steps of stage 1 without an interruption."""
    root = str(tmp_path_factory.mktemp("disk"))
    _prepare(root)
    return root, loop.train(_stage1(root), f"{root}/stage1")


@pytest.fixture(scope="module")
def in_bucket(buckets, on_disk):
    """Data, both stages and a video in a bucket; stage 1 is interrupted after one step."""
    root = f"{buckets['gs']}/all"
    _prepare(root)
    loop.train(_stage1(root, num_steps=1), f"{root}/stage1")
    state = loop.train(_stage1(root), f"{root}/stage1")
    extraction.extract_motions(f"{root}/stage1", f"{root}/data", f"{root}/stage1/motions")
    stage2 = tiny.stage2(f"{root}/stage1", num_steps=1)
    loop.train(stage2, f"{root}/stage2")
    _generate(root)
    return root, state


def _prepare(root):
    data = tiny.stage1().data
    procedural.write_procedural(
        f"{root}/data",
        num_clips=data.procedural_clips,
        num_identities=data.procedural_identities,
        clip_sec=data.procedural_clip_sec,
        size=16,
        seed=0,
    )


def _stage1(root, **changes):
    steps = {"num_steps": 2, "checkpoint_every_steps": 1, "eval_every_steps": 2}
    return tiny.stage1(**{"data.path": f"{root}/data", "loss.adversarial": 0.0} | steps | changes)


def _generate(root):
    loaded = animator.Animator.load(f"{root}/stage1")
    requests = read_requests(
        None,
        seed=0,
        image=f"{root}/data/example.png",
        audio=f"{root}/data/example.wav",
        out=f"{root}/talk.mp4",
        sheet=f"{root}/talk.png",
        save_motion=f"{root}/talk.npz",
    )
    generator = GestureGenerator.load(stage1=loaded, stage2=f"{root}/stage2")
    pipeline.write_requests(loaded, generator, requests)


def _equal(one, other):
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


def _untimed(root):
    timed = lambda name: name.startswith("time/")
    records = read_metrics(f"{root}/stage1")
    return [{k: v for k, v in record.items() if not timed(k)} for record in records]


def test_a_run_in_a_bucket_resumes_and_equals_one_on_a_disk(on_disk, in_bucket):
    assert _equal(in_bucket[1], on_disk[1])
    steps = [record["step"] for record in _untimed(in_bucket[0]) if "loss" in record]
    assert steps == [1, 2]
    assert _untimed(in_bucket[0])[-1] == _untimed(on_disk[0])[-1]


def test_all_outputs_are_in_the_bucket(in_bucket):
    root = as_path(in_bucket[0])
    found = {str(path.relative_to(root)) for path in files.find_files(root)}
    for stage in ("stage1", "stage2"):
        names = {f"{stage}/{name}" for name in ("config.json", "metrics.jsonl", "heartbeat.json")}
        assert names <= found
        assert any(name.startswith(f"{stage}/tensorboard/events") for name in found)
    assert {"stage1/samples/step_0000002.png", "data/contact_sheet.html", "talk.png"} <= found
    assert not any("incomplete" in name or ".parts" in name for name in found)


def test_checkpoints_data_and_media_equal_those_on_a_disk(in_bucket, tmp_path):
    """A copy of all folders on a disk gives the same video and motion."""
    for name in ("data", "stage1", "stage2"):
        shutil.copytree(files.local_folder(f"{in_bucket[0]}/{name}"), tmp_path / name)
    _generate(tmp_path)
    for name in ("talk.mp4", "talk.png"):
        assert (as_path(in_bucket[0]) / name).read_bytes() == (tmp_path / name).read_bytes()
    one, other = (
        np.load(files.local_copy(f"{root}/talk.npz"))["motion"] for root in (in_bucket[0], tmp_path)
    )
    assert np.array_equal(one, other)


def test_an_existing_data_set_is_not_made_again(in_bucket):
    root, _ = in_bucket
    arguments = {"num_clips": 2, "num_identities": 1, "clip_sec": 4.0, "size": 16, "seed": 0}
    assert procedural.write_procedural(f"{root}/data", **arguments) is None
    with pytest.raises(InputError, match=f"{root}/data: holds a data set made with seed 0, not 1"):
        procedural.write_procedural(f"{root}/data", **arguments | {"seed": 1})


def test_videos_and_sound_are_read_and_written_in_a_bucket(place, tmp_path):
    local = bad_media.write(tmp_path / "anna#1.mp4")
    with files.write_beside(f"{place}/videos/anna#1.mp4") as beside:
        shutil.copy(local, beside)
    assert np.array_equal(
        read_video(f"{place}/videos/anna#1.mp4", size=16), read_video(local, size=16)
    )
    settings = videos.Settings(size=16, min_sec=1.0)
    report = videos.write_videos(
        f"{place}/videos", f"{place}/data", settings=settings, split_within_clips=True
    )
    assert report["kept"]["clips"] == 2
    source = clips.ClipSource(f"{place}/data", "train")
    assert source.read_frames(0, [0, 5]).shape == (2, 16, 16, 3)
    with pytest.raises(InputError, match=f"{place}/none.png: no such file"):
        images.load_image(f"{place}/none.png")


def test_a_changed_file_is_downloaded_again(place):
    for text in ("one", "two, longer"):
        with files.write_beside(f"{place}/a.txt") as beside:
            beside.write_text(text)
        assert files.local_copy(f"{place}/a.txt").read_text() == text
        assert (files.local_folder(place) / "a.txt").read_text() == text


def test_a_partly_uploaded_folder_is_no_data_set_and_is_replaced(place):
    out = as_path(f"{place}/data")

    @contextlib.contextmanager
    def making():
        with files.folder_beside(out, prefix="x", last="last") as beside:
            (beside / "last").write_text("last")
            (beside / "first").write_text("first")
            yield beside

    with pytest.raises(OSError), making() as beside:
        os.mkfifo(beside / "pipe")
        (beside / "last").unlink()
        (beside / "last").symlink_to(beside / "nowhere")
        raise OSError("interrupted")
    assert files.is_free(out)
    (out / ".incomplete").write_bytes(b"")
    (out / "first").write_bytes(b"half")
    assert files.is_free(out)
    with making():
        pass
    assert not files.is_free(out)
    assert {path.name: path.read_text() for path in files.find_files(out)} == {
        "first": "first", "last": "last"
    }  # fmt: skip


def test_metrics_after_the_checkpoint_are_dropped_and_earlier_ones_stay(place):
    writer = MetricsWriter(place)
    for step in range(1, 6):
        writer.write_scalars(step, {"loss": float(step)})
    writer.flush()
    assert [record["step"] for record in read_metrics(place)] == [1, 2, 3, 4, 5]
    writer.write_scalars(6, {"loss": 6.0})  # The process is killed here.
    resumed = MetricsWriter(place, step=4)
    resumed.write_scalars(5, {"loss": 7.0})
    resumed.close()
    assert [record["loss"] for record in read_metrics(place)] == [1.0, 2.0, 3.0, 4.0, 7.0]
    writer._files = resumed._files  # The killed writer uploads nothing.
    writer.close()


class _Position:
    """The part of an iterator over data that checkpoints use."""

    def __init__(self, position=0):
        self.position = position

    def get_state(self):
        return {"position": self.position}

    def set_state(self, state):
        self.position = state["position"]


def _state(step):
    return {"a": jax.random.normal(jax.random.key(step), (64, 64)), "b": jax.numpy.full(3, step)}


def _resume(workdir):
    saver, position = checkpoints.Checkpointer(workdir, keep=2), _Position()
    abstract = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), _state(0)
    )
    try:
        return saver.restore(abstract, position), position.position
    finally:
        saver.close()


@pytest.fixture
def saved(gs_place):
    """A workdir with the last two of three checkpoints."""
    saver = checkpoints.Checkpointer(gs_place, keep=2)
    for step in (1, 2, 3):
        saver.save(step, _state(step), _Position(step))
    saver.close()
    return as_path(gs_place)


def test_the_newest_checkpoint_is_restored_and_old_ones_are_removed(saved):
    state, position = _resume(saved)
    assert position == 3 and _equal(state, _state(3))
    assert checkpoints.newest_step(saved) == 3
    assert {path.name for path in (saved / "checkpoints").iterdir()} == {"2", "3"}


def test_a_partly_uploaded_checkpoint_does_not_count(saved):
    (saved / "checkpoints" / "3" / "commit_success.txt").unlink()
    assert checkpoints.newest_step(saved) == 2
    state, position = _resume(saved)
    assert position == 2 and _equal(state, _state(2))


def test_a_damaged_checkpoint_is_set_aside(saved, capfd):
    for path in files.find_files(saved / "checkpoints" / "3" / "state"):
        if "/d/" in str(path):
            path.write_bytes(path.read_bytes()[:-10])
    state, position = _resume(saved)
    assert position == 2 and _equal(state, _state(2))
    assert f"{saved}/checkpoints/3: damaged" in capfd.readouterr().err
    assert checkpoints.newest_step(saved) == 2
    assert [path.name[:2] for path in (saved / "damaged").iterdir()] == ["3-"]


_VECTOR = {"params": {"a": jax.ShapeDtypeStruct((3,), np.float32)}}


def _save_vector(workdir, value):
    checkpoints.save_variables(workdir, {"params": {"a": jax.numpy.full(3, value)}})


def test_converted_weights_replace_others(gs_place):
    for value in (1.0, 2.0):
        _save_vector(gs_place, value)
    variables, step = checkpoints.load_variables(gs_place, _VECTOR)
    assert step == 0 and variables["params"]["a"].tolist() == [2.0] * 3


def test_converted_weights_replace_no_run(saved):
    before = sorted(files.find_files(saved))
    config = ConfigDict({"stage": "stage1", "model": {}})
    with pytest.raises(InputError, match="holds something else than converted weights"):
        checkpoints.check_replaceable(saved, config)
    assert sorted(files.find_files(saved)) == before


@pytest.mark.parametrize(
    "command",
    ["train --config=configs/stage1.py:smoke --workdir={}", "convert --checkpoint=a.pt --out={}"],
)
def test_workdirs_are_not_written_to_s3(buckets, command):
    run = f"{buckets['s3']}/run"
    name, *arguments = command.format(run).split()
    code, stderr = in_process.run(name, *arguments)
    assert code == 2 and f"error: {run}: checkpoints can be written to a disk or to gs://" in stderr
    assert not list(files.find_files(run))


def test_a_workdir_copied_to_s3_is_read_there(buckets, tmp_path):
    _save_vector(tmp_path, 3.0)
    place = as_path(f"{buckets['s3']}/copied")
    for path in files.find_files(tmp_path):
        if path.is_file():
            (place / path.relative_to(tmp_path).as_posix()).write_bytes(path.read_bytes())
    variables, step = checkpoints.load_variables(place, _VECTOR)
    assert step == 0 and variables["params"]["a"].tolist() == [3.0] * 3


@pytest.mark.parametrize(
    "program, sentence",
    [
        ("", "error: az://b: no such place; give a path, gs://BUCKET/... or s3://BUCKET/..."),
        (
            "sys.modules['gcsfs'] = None; ",
            "error: gs://b: the library for gs:// is not installed; run "
            '`pip install "gesture_jax[gcs]"`',
        ),
    ],
)
def test_unknown_schemes_and_missing_libraries_are_named(program, sentence):
    place = sentence.split()[1].removesuffix(":")
    program = (
        f"import sys; {program}from gesture_jax import cli; from gesture_jax.storage import files; "
        f"cli.run(lambda _: files.as_path('{place}/run'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr.strip()) == (2, sentence)
