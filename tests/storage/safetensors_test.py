"""Files of .safetensors, written here by hand, honest and lying."""

import struct

import jax.numpy as jnp
import numpy as np
import pytest

from gesture_jax.errors import InputError
from gesture_jax.storage import safetensors
from tests import safetensors_file


@pytest.mark.parametrize("dtype", [np.float32, np.float16, jnp.bfloat16, np.int64])
def test_arrays_come_back(tmp_path, dtype):
    arrays = {
        "matrix": np.arange(6).reshape(2, 3).astype(dtype),
        "number": np.array(7).astype(dtype),
        "nothing": np.zeros((0, 4), dtype),
    }
    read = safetensors.read(safetensors_file.save(arrays, tmp_path / "a.safetensors"))
    assert list(read) == list(arrays)
    for name, array in arrays.items():
        assert read[name].dtype == array.dtype
        np.testing.assert_array_equal(read[name], array)
        assert not read[name].flags.writeable


def _entry(**changes):
    return {"a": dict(dtype="F32", shape=[2], data_offsets=[0, 8]) | changes}


@pytest.mark.parametrize(
    ("header", "sentence"),
    [
        (_entry(data_offsets=[4, 12]), "cut short, a ends at byte 12 of 8"),
        (_entry(data_offsets=[0, 4]), "a has 4 bytes"),
        (_entry(data_offsets=[8, 0]), "a has -8 bytes"),
        (_entry(data_offsets=[-8, 0]), "impossible shape or place of a"),
        (_entry(data_offsets=[0]), "does not tell"),
        (_entry(data_offsets=[0.0, 8.0]), "impossible"),
        (_entry(shape=[3]), "a has 8 bytes"),
        (_entry(shape=[-1, -2]), "impossible"),
        (_entry(shape=[True, 2]), "impossible"),
        (_entry(shape=2), "does not tell"),
        (_entry(shape=[1 << 62, 1 << 62]), "a has 8 bytes"),
        (_entry(dtype="F8_E5M2"), "a is F8_E5M2; save it as one of F32"),
        ({"a": None}, "does not tell"),
        ([], "not the JSON"),
        (b"{", "not the JSON"),
        (b"\xff\xff", "not the JSON"),
        (b"[" * 100_000, "not the JSON"),
    ],
)
def test_headers_that_lie_are_refused(tmp_path, header, sentence):
    path = safetensors_file.write(header, bytes(8), tmp_path / "a.safetensors")
    with pytest.raises(InputError, match=rf"a\.safetensors: .*{sentence}"):
        safetensors.read(path)


@pytest.mark.parametrize(
    "content",
    [b"", b"short", struct.pack("<Q", 100) + b"{}", struct.pack("<Q", 1 << 63) + b"{}"],
)
def test_other_files_are_refused(tmp_path, content):
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"a\.safetensors: not a \.safetensors file"):
        safetensors.read(path)


def test_arrays_that_share_bytes_do_not_add_up(tmp_path):
    header = _entry() | {"b": _entry()["a"]}
    path = safetensors_file.write(header, bytes(8), tmp_path / "a.safetensors")
    with pytest.raises(InputError, match="larger than the file can hold"):
        safetensors.read(path)


def test_what_is_written_comes_back(tmp_path):
    """Numbers at places of eight bytes, as a library of C may want them."""
    arrays = {"b": np.arange(6, dtype=np.float32).reshape(2, 3), "a": np.ones(3, jnp.bfloat16)}
    path = tmp_path / "folder" / "a.safetensors"
    safetensors.write(path, arrays, notes={"says": "ü"})
    assert safetensors.read_notes(path) == {"says": "ü"}
    by_hand = safetensors.read(safetensors_file.save(arrays, tmp_path / "a.safetensors"))
    for name, array in safetensors.read(path).items():
        assert array.dtype == by_hand[name].dtype
        np.testing.assert_array_equal(array, by_hand[name])
    assert struct.unpack("<Q", path.read_bytes()[:8])[0] % 8 == 0


def test_notes_that_are_no_texts_are_refused(tmp_path):
    for notes in ([], {"a": 1}):
        header = {"__metadata__": notes, **_entry()}
        path = safetensors_file.write(header, bytes(8), tmp_path / "a.safetensors")
        with pytest.raises(InputError, match=r"a\.safetensors: the notes"):
            safetensors.read_notes(path)


def test_a_file_cut_anywhere_is_refused(tmp_path):
    arrays = {"a": np.ones(3, np.float32), "b": np.ones((2, 2), np.float32)}
    path = safetensors_file.save(arrays, tmp_path / "a.safetensors")
    content = path.read_bytes()
    for end in range(len(content)):
        path.write_bytes(content[:end])
        with pytest.raises(InputError):
            safetensors.read(path)


def test_no_file_is_refused(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        safetensors.read(tmp_path / "a.safetensors")
