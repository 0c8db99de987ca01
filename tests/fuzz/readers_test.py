"""Each reader reads a damaged file or refuses it with one sentence, and needs less than 1 GB."""

import collections
import importlib.util
import io
import json
import struct
import zipfile
import zlib

import hypothesis
import hypothesis.strategies as st
import jax
import numpy as np
import pytest
from PIL import Image

from gesture_jax.checkpoint import checkpoints, packed
from gesture_jax.data import clips, motions, records
from gesture_jax.errors import InputError
from gesture_jax.inference import avatar, manifest
from gesture_jax.media import images, motion_files
from gesture_jax.media.sound import has_audio, read_audio
from gesture_jax.media.video import read_video
from gesture_jax.media.writer import write_audio
from gesture_jax.metrics import fgd
from gesture_jax.pretrained import torch_checkpoint
from gesture_jax.storage import safetensors
from tests import bad_media, safetensors_file, tiny, torch_file
from tests.fuzz import damage

_RANDOM = np.random.default_rng(0)
_ARRAYS = {f"layer{k}.weight": _RANDOM.standard_normal((4, 3), np.float32) for k in range(4)}
_WEIGHTS = {f"ema_params/{name}": array for name, array in _ARRAYS.items()}
_TENSORS = {name: torch_file.Tensor(array) for name, array in _ARRAYS.items()}


@pytest.fixture(autouse=True)
def _little_memory():
    with damage.little_memory():
        yield


def _write_picture(path, channels=3, **options):
    pixels = _RANDOM.integers(0, 256, (24, 20, channels), dtype=np.uint8)
    Image.fromarray(pixels).save(path, **options)


def _write_text(path, *lines):
    path.write_text("\n".join(lines) + "\n")


_ROW = '{"image": "a.png", "audio": "b.wav", "out": "c.mp4", "seed": 3, "speaker": "eve"}'
_JOINTS = {"joints": _RANDOM.standard_normal((10, 4, 2)), "names": np.array(["a", "b", "c", "d"])}


def _read_movie(path):
    frames = read_video(path, size=8, stop_sec=2.0)
    assert frames.shape[1:] == (8, 8, 3)
    if has_audio(path):
        assert np.isfinite(read_audio(path)).all()


def _read_joints(path):
    joints = motion_files.read_motion(path, "joints")
    assert np.isfinite(joints).all() and len(motion_files.read_joint_names(path)) >= 0


def _read_packed(path):
    assert checkpoints.read_config(path, stage="stage1").model.resolution
    shapes = {k: jax.ShapeDtypeStruct(x.shape, x.dtype) for k, x in _ARRAYS.items()}
    variables, step = checkpoints.load_variables(path, {"params": shapes})
    assert step >= 0
    for name, array in _ARRAYS.items():  # The digest reveals any change.
        np.testing.assert_array_equal(variables["params"][name], array)


def _write_avatar(path):
    folder, person = path.with_suffix(""), np.arange(32 * 32 * 3, dtype=np.uint8).reshape(32, 32, 3)
    stages = {stage: folder / f"{stage}.safetensors" for stage in ("stage1", "stage2")}
    for file in stages.values():
        packed.write(file, _WEIGHTS, config=json.dumps(tiny.stage1().to_dict()), step=4)
    consent = avatar.Consent("Ann", "ben", "2026-12-01T09:30:00+00:00")
    rig = None
    if importlib.util.find_spec("cv2"):
        from tests.photo_person import make_rig

        rig = make_rig()
    avatar.write(path, avatar.Avatar((person, person), consent, rig), **stages)


def _read_avatar(path):
    found = avatar.read(path)
    assert all(len(picture) == picture.shape[1] for picture in found.pictures)
    _read_packed(path)


def _read_rows(path):
    for _, row in manifest.read_requests(str(path), seed=0):
        assert isinstance(row, manifest.Request | InputError)


# By the name of a file: a function that writes a valid one, and the reader.
_FORMATS = {
    "packed.safetensors": (
        lambda p: packed.write(p, _WEIGHTS, config=json.dumps(tiny.stage1().to_dict()), step=4),
        _read_packed,
    ),
    "ann.avatar": (_write_avatar, _read_avatar),
    "a.pt": (lambda p: torch_file.save(_TENSORS, p), torch_checkpoint.read_checkpoint),
    "older.pt": (lambda p: torch_file.save_older(_TENSORS, p), torch_checkpoint.read_checkpoint),
    "a.safetensors": (lambda p: safetensors_file.save(_ARRAYS, p), safetensors.read),
    "motion.npz": (
        lambda p: motion_files.write_motion(p, np.ones((9, 12)), np.zeros((8, 8, 3), np.uint8)),
        motion_files.read_motion,
    ),
    "joints.npz": (lambda p: np.savez(p, **_JOINTS), _read_joints),
    "fgd.npz": (lambda p: np.savez(p, **{"statistics/mean": np.ones(3)}), fgd.read_autoencoder),
    "a.wav": (
        lambda p: write_audio(p, 0.1 * _RANDOM.standard_normal(4000), 16_000),
        read_audio,
    ),
    "a.mp4": (lambda p: bad_media.write(p, seconds=0.6, size=(32, 32)), _read_movie),
    "a.png": (_write_picture, images.load_image),
    "transparent.png": (lambda p: _write_picture(p, 4), images.load_image),
    "a.jpg": (_write_picture, images.load_image),
    "a.webp": (_write_picture, images.load_image),
    "a.avif": (_write_picture, images.load_image),
    "a.bmp": (_write_picture, images.load_image),
    "a.gif": (_write_picture, images.load_image),
    "a.tiff": (_write_picture, images.load_image),
    "a.csv": (lambda p: _write_text(p, "image,audio,out,seed", "a.png,b.wav,c.mp4,3"), _read_rows),
    "a.jsonl": (lambda p: _write_text(p, _ROW, _ROW), _read_rows),
}


def _zip_around(name: str):
    """Returns a function that mutates a member of an archive, which stays valid."""

    def rewrap(content: bytes, seed) -> bytes:
        file = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(file, "w") as new:
            for member in old.namelist():
                inner = old.read(member)
                new.writestr(member, damage.mutate(inner, seed) if name in member else inner)
        return file.getvalue()

    return rewrap


def _png_around(content: bytes, seed) -> bytes:
    """Mutates a PNG, and corrects its checksums."""
    content = damage.mutate(content, seed)
    place, chunks = 8, [content[:8]]
    while place + 12 <= len(content):
        length = int.from_bytes(content[place : place + 4], "big")
        body = content[place + 4 : place + 8 + length]
        chunks.append(struct.pack(">I", length) + body + struct.pack(">I", zlib.crc32(body)))
        place += 12 + length
    return b"".join(chunks)


def _header_around(content: bytes, seed) -> bytes:
    (length,) = struct.unpack("<Q", content[:8])
    header = damage.mutate(content[8 : 8 + length], seed)
    return struct.pack("<Q", len(header)) + header + content[8 + length :]


_INSIDE = {
    "a.pt": _zip_around("data.pkl"),
    "motion.npz": _zip_around("motion"),
    "joints.npz": _zip_around("names"),
    "fgd.npz": _zip_around("mean"),
    "a.png": _png_around,
    "transparent.png": _png_around,
    "a.safetensors": _header_around,
    "packed.safetensors": _header_around,
    "ann.avatar": _header_around,
}


@pytest.fixture(scope="module")
def valid(tmp_path_factory):
    folder = tmp_path_factory.mktemp("valid")
    for name, (write, _) in _FORMATS.items():
        write(folder / name)
    return folder


def _report(name: str, outcomes: collections.Counter) -> None:
    print(f"{name}: {outcomes.total()} tried, {dict(outcomes)}")


@pytest.mark.parametrize("name", _FORMATS)
def test_random_bytes_are_refused(name, tmp_path):
    _, read = _FORMATS[name]
    path = tmp_path / name

    @damage.examples(30)
    @hypothesis.given(st.binary(max_size=300))
    def property_(content):
        path.write_bytes(content)
        damage.outcome(read, path)

    property_()


@pytest.mark.parametrize(
    ("name", "change"),
    [*((name, damage.mutate) for name in _FORMATS), *_INSIDE.items()],
    ids=[*_FORMATS, *(f"inside {name}" for name in _INSIDE)],
)
def test_mutations_are_read_or_refused(name, change, valid, tmp_path):
    _, read = _FORMATS[name]
    content, path, outcomes = (valid / name).read_bytes(), tmp_path / name, collections.Counter()

    @damage.examples(200)
    @hypothesis.given(damage.mutations)
    def property_(seed):
        path.write_bytes(change(content, seed))
        outcomes[damage.outcome(read, path)] += 1

    property_()
    _report(name, outcomes)


def test_arrays_inside_avatars_are_read_or_refused(valid, tmp_path):
    """Mutations of the whole file fail at its digest, and do not reach pictures and rig."""
    arrays = safetensors.read(valid / "ann.avatar")
    metadata = safetensors.read_metadata(valid / "ann.avatar")
    names = sorted(name for name in arrays if name.startswith("avatar/"))
    path, outcomes = tmp_path / "ann.avatar", collections.Counter()

    @damage.examples(100)
    @hypothesis.given(st.sampled_from(names), damage.mutations)
    def property_(name, seed):
        array = arrays[name]
        content = damage.mutate(array.tobytes(), seed)
        content = content[: len(content) // array.itemsize * array.itemsize]
        changed = np.frombuffer(content, array.dtype)
        if changed.size == array.size:
            changed = changed.reshape(array.shape)
        packed.write_entries(path, {**arrays, name: changed}, metadata)
        outcomes[damage.outcome(avatar.read, path)] += 1

    property_()
    _report("inside an avatar", outcomes)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Two data sets of two clips each: one of clips, one of motions."""
    folder = tmp_path_factory.mktemp("datasets")
    table = np.ones((4, 5), np.float32)
    made = [
        clips.encode_clip(
            clips.Clip(
                f"eve#{number}", "eve", np.full((4, 16, 16, 3), 99, np.uint8),
                np.zeros(4 * 640), table, np.zeros((4, 0, 2)), np.zeros(0),
            )
        )
        for number in range(2)
    ]  # fmt: skip
    notes = records.SplitNotes(["a", "b"], [4, 4], {"eve"}, {"speech": 5, "joints": 0})
    facts = {"size": 16, "fps": 25, "joint_names": []}
    frames = [frame for _, each in made for frame in each]
    records.write_dataset(
        folder / "clips",
        {
            clips.ClipRecords: {"train": lambda: [record for record, _ in made]},
            clips.FrameRecords: {"train": lambda: frames},
        },
        finish=lambda _: facts | records.summarise({"train": notes}, fps=25),
        arguments={},
    )
    moves = [
        {"clip_id": f"eve#{n}", "speaker": "eve", "motion": table, "speech": table}
        for n in range(2)
    ]
    motions.write_motions(folder / "motions", {"train": lambda: moves}, metadata={})
    return folder


def _read_clips(path):
    source = clips.ClipSource(path, "train")
    assert [clips.decode_frames(record).shape for record in source] == [(4, 16, 16, 3)] * 2


def _read_motions(path):
    source = motions.MotionSource(path, "train")
    assert all(record["motion"].shape == (4, source.motion_dim) for record in source)


@pytest.mark.parametrize("kind", ["clips", "motions"])
def test_data_sets_are_read_or_refused(kind, dataset):
    read = {"clips": _read_clips, "motions": _read_motions}[kind]
    read(dataset / kind)
    files = sorted(path for path in (dataset / kind).rglob("*") if path.is_file())
    contents = {path: path.read_bytes() for path in files}
    outcomes = collections.Counter()

    @damage.examples(200)
    @hypothesis.given(st.sampled_from(files), damage.mutations)
    def property_(path, seed):
        path.write_bytes(damage.mutate(contents[path], seed))
        try:
            outcomes[damage.outcome(read, dataset / kind)] += 1
        finally:
            path.write_bytes(contents[path])

    property_()
    _report(kind, outcomes)


@pytest.mark.parametrize("builder_class", [clips.ClipRecords, clips.FrameRecords])
def test_records_inside_valid_files_are_read_or_refused(builder_class, dataset, tmp_path):
    """Mutations of whole files fail at ArrayRecord's checksums, and do not reach the records."""
    (path,) = (dataset / "clips" / builder_class.name).rglob("*.array_record*")
    before = path.read_bytes()
    reader = records.ArrayRecordDataSource([path])
    contents = [reader[n] for n in range(len(reader))]

    @damage.examples(100)
    @hypothesis.given(damage.mutations)
    def property_(seed):
        writer = records.open_writer(path)
        for number, content in enumerate(contents):
            writer.write(content if number else damage.mutate(content, seed))
        writer.close()
        try:
            damage.outcome(_read_clips, dataset / "clips")
        finally:
            path.write_bytes(before)

    property_()


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("workdir")
    checkpoints.write_config(folder, tiny.stage1())
    return folder


def test_configs_of_runs_are_read_or_refused(workdir):
    path = workdir / "config.json"
    before, outcomes = path.read_bytes(), collections.Counter()

    @damage.examples(200)
    @hypothesis.given(damage.mutations)
    def property_(seed):
        path.write_bytes(damage.mutate(before, seed))
        read = lambda folder: checkpoints.read_config(folder, stage="stage1")
        outcomes[damage.outcome(read, workdir)] += 1

    property_()
    path.write_bytes(before)
    _report("config.json", outcomes)
