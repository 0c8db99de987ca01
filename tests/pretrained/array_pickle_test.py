"""Pickles of arrays, honest ones and others."""

import os
import pickle

import numpy as np
import pytest

from gesture_jax.errors import InputError
from gesture_jax.pretrained import array_pickle


class _Command:
    """Runs a command when it is unpickled."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


def _write(path, content, protocol=4):
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    return path


@pytest.mark.parametrize("protocol", [3, 4])
def test_arrays_come_back_as_they_were(tmp_path, protocol):
    random = np.random.default_rng(0)
    arrays = {
        "float32": random.random((2, 3, 4), np.float32),
        "big_endian": np.arange(3, dtype=">i4"),
        "by_columns": np.asfortranarray(random.random((4, 5))),
        "scalar": np.array(2, np.uint8),
        "empty": np.zeros((0, 3), np.float16),
    }
    path = _write(tmp_path / "arrays.ckpt", {"params": {"conv": arrays}}, protocol)
    found = array_pickle.read(path)
    assert found.keys() == {"params"} and found["params"]["conv"].keys() == arrays.keys()
    for name, array in found["params"]["conv"].items():
        np.testing.assert_array_equal(array, arrays[name])
        assert array.dtype == arrays[name].dtype


def test_what_a_pickle_would_run_is_not_run(tmp_path):
    mark = tmp_path / "mark"
    path = _write(tmp_path / "hostile.ckpt", {"params": _Command(f"touch {mark}")})
    with pytest.raises(InputError, match=r"asks for posix\.system, .* nothing of it was run"):
        array_pickle.read(path)
    assert not mark.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"object": np.array([{}], object)}, "'O8', not of numbers"),
        ({"text": np.array(["a"])}, "'U1', not of numbers"),
        ({"number": 1.0}, "not a dict by names"),
        ({1: np.zeros(2)}, "not a dict by names"),
        (np.zeros(2), "not a dict by names"),
        ({"dtype": np.dtype("f4")}, "not a dict by names"),
        ({"class": np.ndarray}, "not a dict by names"),
        ({"set": {1, 2}}, "asks for builtins.set|not a dict by names"),
        ({"path": np.float32(1.0)}, "asks for numpy"),
    ],
)
def test_anything_but_arrays_of_numbers_is_refused(tmp_path, content, message):
    with pytest.raises(InputError, match=message):
        array_pickle.read(_write(tmp_path / "other.ckpt", content))


def test_a_dict_within_itself_is_refused(tmp_path):
    content = {}
    content["again"] = content
    with pytest.raises(InputError, match="a dict in more than one place"):
        array_pickle.read(_write(tmp_path / "endless.ckpt", content))


def test_arrays_of_a_wrong_size_are_refused(tmp_path):
    path = _write(tmp_path / "arrays.ckpt", {"a": np.arange(3, dtype=np.float32)})
    # The length in its shape; the data stay.
    path.write_bytes(path.read_bytes().replace(b"K\x03\x85", b"K\x04\x85", 1))
    with pytest.raises(InputError, match="damaged pickle"):
        array_pickle.read(path)


def test_damaged_and_missing_files_are_told(tmp_path):
    path = _write(tmp_path / "cut.ckpt", {"a": np.zeros(100)})
    path.write_bytes(path.read_bytes()[:-60])
    with pytest.raises(InputError, match="damaged pickle"):
        array_pickle.read(path)
    with pytest.raises(InputError, match="no such file"):
        array_pickle.read(tmp_path / "none.ckpt")
