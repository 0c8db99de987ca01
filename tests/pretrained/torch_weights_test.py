"""Reading PyTorch checkpoints, valid and hostile ones, and placing their arrays."""

import collections
import os
import zipfile

import jax
import numpy as np
import pytest

from gesture_jax.errors import InputError
from gesture_jax.inference.animator import abstract_variables
from gesture_jax.models.denoiser import MotionDenoiser
from gesture_jax.models.deviation import DeviationModel
from gesture_jax.pretrained import torch_checkpoint, torch_names, torch_weights
from tests import torch_file
from tests.torch_file import Tensor


@pytest.fixture(params=[torch_file.save, torch_file.save_older], ids=["zip", "older"])
def save(request, tmp_path):
    return lambda content: request.param(content, tmp_path / "model.pt")


def test_tensors_are_read(save):
    weight = np.arange(6, dtype=np.float32).reshape(2, 3)
    content = collections.OrderedDict(
        weight=Tensor(weight), steps=Tensor(np.array(7)), turned=Tensor(weight, strides=(1, 2))
    )
    arrays = torch_checkpoint.read_checkpoint(save(content))
    np.testing.assert_array_equal(arrays["weight"], weight)
    assert arrays["steps"] == 7 and arrays["steps"].dtype == np.int64
    np.testing.assert_array_equal(arrays["turned"], [[0, 2, 4], [1, 3, 5]])


def test_nested_state_dict_and_module_prefix(save):
    content = {"epoch": 3, "state_dict": {"module.a": Tensor(np.ones(2, np.float32))}}
    assert list(torch_checkpoint.read_checkpoint(save(content))) == ["a"]


class _Attack:
    def __reduce__(self):
        return os.system, ("touch attacked",)


def test_a_pickle_that_calls_the_system_is_refused_by_name(save, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"(posix|nt)\.system.*refused"):
        torch_checkpoint.read_checkpoint(save({"a": _Attack()}))
    assert not (tmp_path / "attacked").exists()


@pytest.mark.parametrize("name", ["builtins.eval", "numpy.core.multiarray._reconstruct"])
def test_every_other_name_is_refused(save, tmp_path, name):
    module, _, attribute = name.rpartition(".")
    path = tmp_path / "model.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model/data.pkl", f"c{module}\n{attribute}\n.".encode())
    with pytest.raises(InputError, match=attribute):
        torch_checkpoint.read_checkpoint(path)


@pytest.mark.parametrize(
    "tensor",
    [
        Tensor(np.ones(4, np.float32), offset=2),
        Tensor(np.ones(4, np.float32), strides=(5,)),
        Tensor(np.ones(4, np.float32), strides=(-1,)),
    ],
)
def test_tensors_beyond_their_storage_are_refused(save, tensor):
    with pytest.raises(InputError, match=r"beyond its data|damaged"):
        torch_checkpoint.read_checkpoint(save({"a": tensor}))


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04 broken"])
def test_other_files_are_refused(tmp_path, content):
    path = tmp_path / "model.pt"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"model\.pt: "):
        torch_checkpoint.read_checkpoint(path)
    with pytest.raises(InputError, match="no such file"):
        torch_checkpoint.read_checkpoint(tmp_path / "nothing.pt")


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_truncated_older_files_are_refused(tmp_path, share):
    content = {"a": Tensor(np.ones(400, np.float32))}
    path = torch_file.save_older(content, tmp_path / "model.pt")
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(InputError, match=r"damaged|cut short|wrong size"):
        torch_checkpoint.read_checkpoint(path)


def test_missing_left_over_and_misshapen_are_all_named():
    table = list(torch_names.denoiser_table(8, 2))
    wrong = {name: np.zeros(1, np.float32) for name in table[1:]} | {"stranger": np.zeros(1)}
    model = MotionDenoiser(motion_dim=200, speech_dim=1059, num_prior=1)
    with pytest.raises(InputError) as error:
        torch_weights.denoiser_params(model, wrong)
    sentence = str(error.value)
    assert f"1 missing: {table[0]}" in sentence
    assert "1 left over: stranger" in sentence
    assert "misshapen" in sentence and "more" in sentence


def test_the_table_of_the_deviation_model_reaches_every_parameter():
    from gesture_jax.pretrained import torch_names

    reached = {
        (target.collection, *target.path)
        for targets in torch_names.deviation_table().values()
        for target in targets
    }
    names = jax.tree.leaves_with_path(abstract_variables(DeviationModel()))
    assert len(torch_names.deviation_table()) == 651
    assert reached == {tuple(key.key for key in path) for path, _ in names}
