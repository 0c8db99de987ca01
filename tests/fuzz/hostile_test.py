"""Hostile files that try to run programs, to fill the memory, or to read other files."""

import io
import json
import pickle
import struct
import zipfile
import zlib

import numpy as np
import pytest
import scipy.io.wavfile
from PIL import Image

from gesture_jax.errors import InputError
from gesture_jax.inference import manifest
from gesture_jax.media import images, motion_files
from gesture_jax.media.sound import read_audio
from gesture_jax.media.video import read_video
from gesture_jax.metrics import fgd
from gesture_jax.pretrained import torch_checkpoint
from gesture_jax.storage import safetensors
from tests import bad_media, safetensors_file, torch_file
from tests.fuzz import damage

_VAST = 10**12


@pytest.fixture(autouse=True)
def _little_memory():
    with damage.little_memory():
        yield


def _refused(read, path, sentence=""):
    with pytest.raises(InputError, match=sentence or None):
        read(path)
    assert damage.outcome(read, path) == "refused"


def _archive(path, members, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def _programs(command: str) -> dict[str, bytes]:
    """Returns pickles that run a command when they are loaded, in different ways."""
    text = command.encode()
    return {
        "global": b"cos\nsystem\n(S'" + text + b"'\ntR.",
        "posix": b"cposix\nsystem\n(S'" + text + b"'\ntR.",
        "inst": b"(S'" + text + b"'\nios\nsystem\n.",
        "object": b"(cos\nsystem\nS'" + text + b"'\no.",
        "stack": b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c"
        + bytes([len(text)])
        + text
        + b"\x85R.",
        "eval": b'cbuiltins\neval\n(S\'__import__("os").system("' + text + b"\")'\ntR.",
        "new": b"\x80\x02csubprocess\nPopen\n(]S'" + text + b"'\natt\x81.",
        "numpy": b"cnumpy\nload\n(S'" + text + b"'\ntR.",
        "in a dict": b"\x80\x02}X\x01\x00\x00\x00acos\nsystem\n(S'" + text + b"'\ntRs.",
    }


@pytest.mark.parametrize("kind", _programs(""))
def test_no_program_in_a_file_runs(kind, tmp_path):
    mark = tmp_path / "mark"
    program = _programs(f"touch {mark}")[kind]
    _archive(tmp_path / "a.pt", {"model/data.pkl": program})
    _refused(torch_checkpoint.read_checkpoint, tmp_path / "a.pt", "nothing of it was run")
    older = torch_file.save_older(
        {"a": torch_file.Tensor(np.ones(2, np.float32))}, tmp_path / "older.pt"
    )
    head = older.read_bytes()
    for start in (0, len(pickle.dumps(0x1950A86A20F9469CFC6C, 2))):
        older.write_bytes(head[:start] + program)
        _refused(torch_checkpoint.read_checkpoint, older)
    header = b"\x93NUMPY\x01\x00v\x00" + b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }"
    _archive(tmp_path / "a.npz", {"motion.npy": header.ljust(127) + b"\n" + program})
    _refused(motion_files.read_motion, tmp_path / "a.npz")
    _refused(fgd.read_autoencoder, tmp_path / "a.npz")
    assert not mark.exists()


@pytest.mark.parametrize("kind", ["a tensor's", "a class's"])
def test_no_pickle_sets_what_was_checked(kind, tmp_path):
    """BUILD sets attributes, so that an offset could lead to memory outside of the data."""
    path = torch_file.save({"a": torch_file.Tensor(np.ones(4, np.float32))}, tmp_path / "a.pt")
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    state = b"}X\x06\x00\x00\x00offsetJ" + struct.pack("<i", -4096) + b"s"
    slots = b"N" + state + b"\x86"
    content = members["model/data.pkl"]
    end = content.rindex(b"R") + 1  # The opcode that makes the tensor.
    for change in (state, slots):
        if kind == "a class's":
            program = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n" + change + b"b."
        else:
            program = content[:end] + change + b"b" + content[end:]
        _archive(path, {**members, "model/data.pkl": program})
        _refused(torch_checkpoint.read_checkpoint, path)
    _archive(path, members)
    np.testing.assert_array_equal(torch_checkpoint.read_checkpoint(path)["a"], np.ones(4))


_LAVISH_PICKLES = {
    "a far place": b"\x80\x02}r\xff\xff\xff\x7f.",
    "many bytes": b"\x80\x04\x8e" + struct.pack("<Q", 2**40) + b"abc.",
    "many bytes that can change": b"\x80\x05\x96" + struct.pack("<Q", 2**33) + b"abc.",
    "a long frame": b"\x80\x04\x95" + struct.pack("<Q", 2**40) + b"}.",
    "many objects": b"\x80\x04(" + b"\x8f" * 400_000 + b"l.",
    "doubling dicts": b"\x80\x02}q\x00" + b"".join(
        b"}(X\x01\x00\x00\x00ah%cX\x01\x00\x00\x00bh%cuq%c" % (n, n, n + 1) for n in range(60)
    ) + b".",
}  # fmt: skip


@pytest.mark.parametrize("kind", _LAVISH_PICKLES)
def test_no_pickle_fills_the_memory(kind, tmp_path):
    _archive(tmp_path / "a.pt", {"model/data.pkl": _LAVISH_PICKLES[kind]})
    _refused(torch_checkpoint.read_checkpoint, tmp_path / "a.pt")


def test_no_archive_decompresses_without_limit(tmp_path):
    zeros = bytes(8 << 20)
    for name in ("model/data.pkl", "model/byteorder"):
        members = {"model/data.pkl": b"}.", name: zeros}
        _archive(tmp_path / "a.pt", members, zipfile.ZIP_DEFLATED)
        _refused(torch_checkpoint.read_checkpoint, tmp_path / "a.pt", "is compressed")
    path = tmp_path / "a.npz"
    np.savez_compressed(path, motion=np.zeros((40 << 20, 1), np.float32))
    _refused(motion_files.read_motion, path, "too many to be read")
    np.savez_compressed(path, joints=np.zeros((2, 2)), names=np.zeros(1 << 20, "U4"))
    _refused(motion_files.read_joint_names, path)


@pytest.mark.parametrize("shape", [(_VAST,), (0, -1), (2**40, 2**40), (1,) * 40, (2**62, 2, 0)])
def test_wrong_shapes_are_refused(shape, tmp_path):
    header = str({"descr": "<f4", "fortran_order": False, "shape": shape}).encode().ljust(245)
    npy = b"\x93NUMPY\x01\x00" + struct.pack("<H", 246) + header + b"\n"
    _archive(tmp_path / "a.npz", {"motion.npy": npy + bytes(64)})
    _refused(motion_files.read_motion, tmp_path / "a.npz")
    entry = {"dtype": "F32", "shape": list(shape), "data_offsets": [0, 0 if 0 in shape else 64]}
    _refused(
        safetensors.read,
        safetensors_file.write({"a": entry}, bytes(64), tmp_path / "a.safetensors"),
    )
    tensor = torch_file.Tensor(np.ones(4, np.float32))
    tensor.array = np.lib.stride_tricks.as_strided(tensor.array, (4,), (4,))
    tensor.strides = (0,) * len(shape)
    path = torch_file.save({"a": _Claim(tensor, shape)}, tmp_path / "a.pt")
    if max(shape) > 1 and 0 not in shape:
        _refused(torch_checkpoint.read_checkpoint, path)


class _Claim:
    """A tensor that claims another shape than its data have."""

    def __init__(self, tensor, shape):
        self._tensor, self._shape = tensor, shape

    def __reduce__(self):
        function, (storage, offset, _, _, *rest) = self._tensor.__reduce__()
        return function, (storage, offset, self._shape, (0,) * len(self._shape), *rest)


def test_many_tensors_of_the_same_data_are_refused(tmp_path):
    shared = torch_file.Tensor(np.ones(1 << 18, np.float32))
    path = torch_file.save({"a": shared, "tied": shared}, tmp_path / "a.pt")
    assert len(torch_checkpoint.read_checkpoint(path)) == 2
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    content = members["model/data.pkl"]
    again = content.rindex(b"X\x04\x00\x00\x00tied")
    # The name, and the reference to the tensor.
    entry = content[again : content.rindex(b"u")]
    names = [f"{n:04d}".encode() for n in range(2_000)]
    many = b"".join(entry.replace(b"tied", name) for name in names)
    members["model/data.pkl"] = content[:again] + many + content[content.rindex(b"u") :]
    _archive(path, members)
    _refused(torch_checkpoint.read_checkpoint, path, "larger than the file can hold")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_motion_that_is_not_finite_is_refused(value, tmp_path):
    motion = np.ones((4, 3), np.float32)
    motion[2, 1] = value
    np.savez(tmp_path / "a.npz", motion=motion)
    _refused(motion_files.read_motion, tmp_path / "a.npz", "else than finite floats")


def _png_of(width: int, height: int) -> bytes:
    chunk = lambda kind, body: (
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    )
    head = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(9)))


@pytest.mark.parametrize("side", [7_072, 12_000, 60_000, 2**31 - 1])
def test_absurd_pictures_are_refused(side, tmp_path):
    (tmp_path / "a.png").write_bytes(_png_of(side, side))
    _refused(images.load_image, tmp_path / "a.png")


def test_a_large_transparent_picture_needs_less_than_1_gb(tmp_path):
    Image.new("RGBA", (4_100, 4_100), (9, 9, 9, 99)).save(tmp_path / "a.tiff")
    assert images.load_image(tmp_path / "a.tiff").shape == (4_100, 4_100, 3)


def test_pictures_that_are_programs_are_not_opened(tmp_path):
    """Pillow would hand PostScript to another program."""
    (tmp_path / "a.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nquit\n")
    _refused(images.load_image, tmp_path / "a.png", "not a picture")


@pytest.mark.parametrize("rate", [1, 100, 3_999])
def test_sound_of_a_low_sample_rate_is_refused(rate, tmp_path):
    scipy.io.wavfile.write(tmp_path / "a.wav", rate, np.zeros(100_000, np.int16))
    _refused(read_audio, tmp_path / "a.wav", "samples a second are no speech")


def test_playlists_of_other_files_are_refused(tmp_path):
    other = bad_media.write(tmp_path / "other.mkv", seconds=0.5)
    for content in (
        "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nother.mkv\n#EXT-X-ENDLIST\n",
        f"ffconcat version 1.0\nfile {other.name}\n",
        f"ffconcat version 1.0\nfile {other}\n",
    ):
        (tmp_path / "a.mp4").write_text(content)
        _refused(lambda path: read_video(path, size=8), tmp_path / "a.mp4", "cannot be decod")
        _refused(read_audio, tmp_path / "a.mp4", "cannot be decoded")


@pytest.mark.parametrize(
    "row",
    [
        {"out": "a\0b.mp4"},
        {"out": "\ud800.mp4"},
        {"image": 3},
        {"seed": -1},
        {"seed": 10**30},
        {"seed": True},
        {"seed": 1.5},
        {"seed": 0.0},
        {"seed": None},
        {"save_motion": "/etc/passwd"},
        {"sheet": ["a.png"]},
        {"speaker": {}},
        {"more": "a"},
    ],
)
def test_each_invalid_row_has_an_error(row, tmp_path):
    row = {"image": "a.png", "audio": "b.wav", "out": "c.mp4"} | row
    (tmp_path / "a.jsonl").write_text(json.dumps(row))
    ((_, request),) = manifest.read_requests(str(tmp_path / "a.jsonl"), seed=0)
    assert isinstance(request, InputError)


def test_a_seed_of_many_digits_is_refused(tmp_path):
    (tmp_path / "a.csv").write_text("image,audio,out,seed\na,b,c.mp4," + "9" * 5_000 + "\n")
    ((_, request),) = manifest.read_requests(str(tmp_path / "a.csv"), seed=0)
    assert isinstance(request, InputError)


@pytest.mark.parametrize("name", ["a" * 300, "a\0b", "b/" * 3_000, "\udc80"])
@pytest.mark.parametrize(
    "read",
    [torch_checkpoint.read_checkpoint, safetensors.read, images.load_image, read_audio,
     motion_files.read_motion, fgd.read_autoencoder],
)  # fmt: skip
def test_impossible_file_names_are_refused(name, read):
    with pytest.raises(InputError):
        read(name)


def test_a_large_array_is_read(tmp_path):
    """The limits allow large valid files."""
    motion = np.random.default_rng(0).standard_normal((2_000, 2_307)).astype(np.float32)
    file = io.BytesIO()
    np.savez(file, motion=motion)
    (tmp_path / "a.npz").write_bytes(file.getvalue())
    np.testing.assert_array_equal(motion_files.read_motion(tmp_path / "a.npz"), motion)


def test_names_in_files_do_not_control_the_terminal(tmp_path):
    program = b"cos\n\x1b[2Jsys\ttem" + b"a" * 9_999 + b"\n."
    path = _archive(tmp_path / "a.pt", {"model/data.pkl": program})
    with pytest.raises(InputError) as caught:
        torch_checkpoint.read_checkpoint(path)
    assert str(caught.value).isprintable() and len(str(caught.value)) <= 1000
