"""Reading and writing .safetensors files; hand-written damaged ones are refused."""

import os
import stat
import struct

import jax.numpy as jnp
import numpy as np
import pytest

from gesture_jax.errors import InputError
from gesture_jax.storage import safetensors
from tests import safetensors_file


@pytest.mark.parametrize("dtype", [np.float32, np.float16, jnp.bfloat16, np.int64])
def test_arrays_are_read_as_others_wrote_them(tmp_path, dtype):
    arrays = {
        "matrix": np.arange(6).reshape(2, 3).astype(dtype),
        "number": np.array(7).astype(dtype),
        "nothing": np.zeros((0, 4), dtype),
    }
    read = safetensors.read(safetensors_file.save(arrays, tmp_path / "a.safetensors"))
    assert read.keys() == arrays.keys()
    for name, array in arrays.items():
        assert read[name].dtype == array.dtype
        np.testing.assert_array_equal(read[name], array)


def _entry(**changes):
    return {"a": dict(dtype="F32", shape=[2], data_offsets=[0, 8]) | changes}


@pytest.mark.parametrize(
    "header",
    [
        _entry(data_offsets=[4, 12]),
        _entry(data_offsets=[0, 4]),
        _entry(data_offsets=[8, 0]),
        _entry(data_offsets=[-8, 0]),
        _entry(data_offsets=[0]),
        _entry(data_offsets=[0.0, 8.0]),
        _entry(shape=[3]),
        _entry(shape=[-1, -2]),
        _entry(shape=[True, 2]),
        _entry(shape=2),
        _entry(shape=[1 << 62, 1 << 62]),
        _entry(shape=[1] * 80 + [2]),  # More axes than NumPy has.
        _entry(dtype="F4", shape=[16]),  # Nor has NumPy this type.
        _entry() | {"b": _entry()["a"]},  # The same bytes twice.
        {"__metadata__": [], **_entry()},
        {"__metadata__": {"a": 1}, **_entry()},
        {"a": None},
        [],
        b"{",
        b"\xff\xff",
        b"[" * 100_000,
    ],
)
def test_wrong_headers_are_refused(tmp_path, header):
    path = safetensors_file.write(header, bytes(8), tmp_path / "a.safetensors")
    with pytest.raises(InputError, match=r"a\.safetensors: not a \.safetensors file, or damaged"):
        safetensors.read(path)


@pytest.mark.parametrize(
    "content",
    [b"", b"short", struct.pack("<Q", 100) + b"{}", struct.pack("<Q", 1 << 63) + b"{}"],
)
def test_other_files_are_refused(tmp_path, content):
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)
    for read in (safetensors.read, safetensors.read_metadata):
        with pytest.raises(InputError, match=r"a\.safetensors: not a \.safetensors file"):
            read(path)


def test_written_files_are_as_readable_as_others(tmp_path):
    before = os.umask(0o027)
    try:
        safetensors.write(tmp_path / "a.safetensors", {"a": np.ones(3)}, metadata={})
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.safetensors").stat().st_mode) == 0o640


def test_written_arrays_and_texts_are_read_again(tmp_path):
    columns = np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3))
    arrays = {"b": columns, "a": np.ones(3, jnp.bfloat16), "c": np.array(7)}
    path = tmp_path / "folder" / "a.safetensors"
    safetensors.write(path, arrays, metadata={"text": "ü"})
    assert safetensors.read_metadata(path) == {"text": "ü"}
    read = safetensors.read(path)
    assert read.keys() == arrays.keys()
    for name, array in arrays.items():
        assert read[name].dtype == array.dtype and read[name].shape == array.shape
        np.testing.assert_array_equal(read[name], array)


def test_a_file_without_metadata_has_no_texts(tmp_path):
    path = safetensors_file.write(_entry(), bytes(8), tmp_path / "a.safetensors")
    assert safetensors.read_metadata(path) == {}


def test_truncated_files_are_refused(tmp_path):
    arrays = {"a": np.ones(3, np.float32), "b": np.ones((2, 2), np.float32)}
    path = safetensors_file.save(arrays, tmp_path / "a.safetensors")
    content = path.read_bytes()
    for end in range(len(content)):
        path.write_bytes(content[:end])
        with pytest.raises(InputError):
            safetensors.read(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"a\.safetensors: no such file"):
        safetensors.read(tmp_path / "a.safetensors")
