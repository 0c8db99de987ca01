"""SyncNet against a computation in NumPy that follows its authors' PyTorch layers.

No official file of weights was at hand: names and shapes are those of the authors' source.
"""

import numpy as np
import pytest

from gesture_jax.errors import InputError
from gesture_jax.models.syncnet import SyncNet
from gesture_jax.pretrained import syncnet_weights
from tests import syncnet_file, torch_file

_EPSILON = 1e-5


@pytest.fixture(scope="module")
def weights():
    return syncnet_file.state_dict(counts=False)


def _windows(x, kernel, strides):
    """[c, t, h, w] -> [c, t', h', w', *kernel]."""
    views = np.lib.stride_tricks.sliding_window_view(x, kernel, axis=(1, 2, 3))
    return views[:, :: strides[0], :: strides[1], :: strides[2]]


def _conv(weights, name, x, strides, padding):
    kernel = weights[f"{name}.weight"]
    kernel = kernel.reshape(*kernel.shape[:2], -1, *kernel.shape[-2:])
    padded = np.pad(x, [(0, 0), (0, 0), (padding, padding), (padding, padding)])
    views = _windows(padded, kernel.shape[2:], strides)
    out = np.tensordot(kernel, views, axes=[(1, 2, 3, 4), (0, 4, 5, 6)])
    return out + weights[f"{name}.bias"][:, None, None, None]


def _norm(weights, name, x):
    mean, var, scale, bias = (
        weights[f"{name}.{leaf}"].reshape(-1, *[1] * (x.ndim - 1))
        for leaf in ("running_mean", "running_var", "weight", "bias")
    )
    return np.maximum((x - mean) / np.sqrt(var + _EPSILON) * scale + bias, 0)


def _pool(x, strides, padding=0):
    padded = np.pad(
        x, [(0, 0), (0, 0), (padding, padding), (padding, padding)], constant_values=-np.inf
    )
    return _windows(padded, (1, 3, 3), (1, *strides)).max(axis=(-3, -2, -1))


def _head(weights, name, x):
    x = weights[f"{name}.0.weight"] @ x.ravel() + weights[f"{name}.0.bias"]
    return weights[f"{name}.3.weight"] @ _norm(weights, f"{name}.1", x) + weights[f"{name}.3.bias"]


def _block(weights, side, layer, x, stride=1, padding=1):
    x = _conv(weights, f"netcnn{side}.{layer}", x, (1, stride, stride), padding)
    return _norm(weights, f"netcnn{side}.{layer + 1}", x)


def _embed_lips(weights, x):
    x = _pool(_block(weights, "lip", 0, x, 2, 0), (2, 2))
    x = _pool(_block(weights, "lip", 4, x, 2, 1), (2, 2), 1)
    x = _block(weights, "lip", 8, x)
    x = _block(weights, "lip", 11, x)
    x = _pool(_block(weights, "lip", 14, x), (2, 2))
    return _head(weights, "netfclip", _block(weights, "lip", 18, x, 1, 0))


def _embed_sound(weights, x):
    x = _block(weights, "aud", 0, x)
    x = _pool(_block(weights, "aud", 4, x), (1, 2))
    x = _block(weights, "aud", 8, x)
    x = _block(weights, "aud", 11, x)
    x = _pool(_block(weights, "aud", 14, x), (2, 2))
    return _head(weights, "netfcaud", _block(weights, "aud", 18, x, 1, 0))


def test_both_networks_compute_what_their_authors_do(weights):
    random = np.random.default_rng(1)
    faces = random.integers(0, 256, (1, 5, 224, 224, 3)).astype(np.float32)
    mfcc = random.standard_normal((1, 20, 13)).astype(np.float32)
    video, audio = SyncNet().apply(syncnet_weights.syncnet_variables(weights), faces, mfcc)
    blue_green_red = faces[0, ..., ::-1].transpose(3, 0, 1, 2)
    expected = _embed_lips(weights, blue_green_red), _embed_sound(weights, mfcc[0].T[None, None])
    for ours, theirs in zip((video, audio), expected, strict=True):
        assert ours.shape == (1, 1024)
        np.testing.assert_allclose(ours[0], theirs, rtol=2e-3, atol=2e-3 * np.abs(theirs).max())


@pytest.mark.parametrize("write", [torch_file.save, torch_file.save_older])
def test_weights_are_read_from_files_of_old_and_new_versions(weights, write, tmp_path):
    is_new = write is torch_file.save
    arrays = syncnet_file.state_dict(counts=is_new)
    path = write({n: torch_file.Tensor(a) for n, a in arrays.items()}, tmp_path / "sync.model")
    kernel = syncnet_weights.load(path)["params"]["video"]["conv0"]["kernel"]
    # Frame 4, green, in row 2 and column 1, for output channel 7.
    assert kernel.shape == (7, 7, 15, 96)
    assert kernel[2, 1, 13, 7] == weights["netcnnlip.0.weight"][7, 1, 4, 2, 1]


def test_weights_are_read_from_files_that_a_gpu_wrote_before_version_0_4(weights, tmp_path):
    arrays = {name: torch_file.Tensor(array) for name, array in weights.items()}
    path = torch_file.save_older(arrays, tmp_path / "sync.model")
    content = path.read_bytes()
    for new, old in (
        (b"ctorch._utils\n_rebuild_tensor_v2\n", b"ctorch._utils\n_rebuild_tensor\n"),
        (b"ctorch\nFloatStorage\n", b"ctorch.cuda\nFloatStorage\n"),
    ):
        assert new in content
        content = content.replace(new, old)
    path.write_bytes(content)
    bias = syncnet_weights.load(path)["params"]["audio"]["embedding"]["bias"]
    np.testing.assert_array_equal(bias, weights["netfcaud.3.bias"])


def test_other_weights_are_refused_by_name(weights, tmp_path):
    others = {n: torch_file.Tensor(a) for n, a in weights.items() if "netfcaud.3" not in n}
    path = torch_file.save(others, tmp_path / "other.model")
    with pytest.raises(InputError, match=r"other.model: .*2 missing: netfcaud.3.*syncnet_v2.model"):
        syncnet_weights.load(path)
    with pytest.raises(InputError, match=r"^[^:]*absent.model: no such file"):
        syncnet_weights.load(tmp_path / "absent.model")
