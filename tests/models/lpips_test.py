"""LPIPS on AlexNet: by other means in numpy, from a file as torchvision writes it, and its heads.

The weights of the trunk are the user's to give, so that here they are random ones.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gesture_jax.errors import InputError
from gesture_jax.metrics import perceptual
from gesture_jax.models import alexnet, lpips
from gesture_jax.pretrained import fetch
from tests import torch_file

# Index in torchvision's features: output and input channels, and kernel size.
_PLACES = {0: (64, 3, 11), 3: (192, 64, 5), 6: (384, 192, 3), 8: (256, 384, 3), 10: (256, 256, 3)}
# Stride and padding of each.
_STEPS = (4, 2), (1, 2), (1, 1), (1, 1), (1, 1)


def _trunk(random):
    """Arrays of a random AlexNet, scaled so that features do not vanish."""
    arrays = {"classifier.1.weight": np.zeros((3, 3), np.float32)}
    for place, (width, before, side) in _PLACES.items():
        kernel = random.standard_normal((width, before, side, side), np.float32)
        arrays[f"features.{place}.weight"] = kernel * np.float32((2 / (before * side**2)) ** 0.5)
        arrays[f"features.{place}.bias"] = 0.1 * random.standard_normal(width, np.float32)
    return arrays


def _heads(random):
    return {
        f"lin{block}.model.1.weight": random.random((1, width, 1, 1), np.float32)
        for block, (width, *_) in enumerate(_PLACES.values())
    }


@pytest.fixture(scope="module")
def arrays():
    random = np.random.default_rng(0)
    return _trunk(random) | _heads(random)


@pytest.fixture(scope="module")
def variables(arrays, tmp_path_factory):
    """The metric, read from files in the formats of torchvision and the wheel."""
    folder = tmp_path_factory.mktemp("lpips")
    save = lambda start, name: torch_file.save(
        {key: torch_file.Tensor(array) for key, array in arrays.items() if key.startswith(start)},
        folder / name,
    )
    heads = save("lin", "heads.pth")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fetch, "find", {"lpips": heads}.__getitem__)
        return fetch.load_lpips(save(("features", "classifier"), "alexnet.pth"))


@pytest.fixture(scope="module")
def distance(variables):
    """LPIPS of pictures [b, h, w, 3] in [0, 1], and of the masks."""
    return jax.jit(lambda *pair, masks=(None,): perceptual.lpips(variables, *pair, masks=masks))


def _picture(seed=0, size=(48, 56)):
    return np.random.default_rng(seed).random((1, *size, 3), np.float32)


def _by_numpy(arrays, image):
    """Features of one picture [h, w, 3], by the definition of torchvision's AlexNet."""
    x = (2 * image.astype(np.float64) - 1 - [-0.030, -0.088, -0.188]) / [0.458, 0.448, 0.450]
    features = []
    for place, (stride, padding) in zip(_PLACES, _STEPS, strict=True):
        if place in (3, 6):
            windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(0, 1))[::2, ::2]
            x = windows.max(axis=(-2, -1))
        kernel, bias = (arrays[f"features.{place}.{leaf}"] for leaf in ("weight", "bias"))
        padded = np.pad(x, ((padding, padding), (padding, padding), (0, 0)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, kernel.shape[2:], axis=(0, 1))
        x = np.tensordot(windows[::stride, ::stride], kernel, ((2, 3, 4), (1, 2, 3))) + bias
        x = np.maximum(x, 0)
        features.append(x)
    return features


def test_numpy_finds_the_same(arrays, distance):
    one, other = _picture(0), _picture(1)
    expected = 0.0
    pairs = zip(_by_numpy(arrays, one[0]), _by_numpy(arrays, other[0]), strict=True)
    for block, pair in enumerate(pairs):
        a, b = (x / np.linalg.norm(x, axis=-1, keepdims=True) for x in pair)
        expected += ((a - b) ** 2 * arrays[f"lin{block}.model.1.weight"].ravel()).sum(-1).mean()
    (found,) = distance(one, other)
    np.testing.assert_allclose(found, [expected], rtol=1e-4)


def test_the_distance_is_symmetric_and_zero_for_equal_pictures(distance):
    one, other = _picture(0), _picture(1)
    # XLA may compute the features of both sides in a different order.
    assert float(distance(one, one)[0][0]) < 1e-12
    assert float(distance(one, other)[0][0]) == pytest.approx(float(distance(other, one)[0][0]))


def test_it_grows_with_noise(distance):
    picture = np.full((1, 48, 56, 3), 0.5, np.float32) + 0.3 * (_picture() - 0.5)
    noise = np.random.default_rng(2).standard_normal(picture.shape).astype(np.float32)
    values = [float(distance(picture, picture + s * noise)[0][0]) for s in (0.01, 0.03, 0.1, 0.2)]
    assert values[0] > 0 and (np.diff(values) > 0).all()


def test_masks_limit_the_distance_to_a_region(distance):
    """The pictures differ on the left only, outside of all receptive fields on the right."""
    one = _picture(size=(64, 512))
    other = one.copy()
    other[:, :, :128] = _picture(1, size=(64, 128))
    left, none = np.zeros((2, 1, 64, 512, 1), np.float32)
    left[:, :, :128] = 1.0
    right = np.zeros_like(left)
    right[:, :, 352:] = 1.0
    everywhere = np.ones_like(left)
    masks = (None, everywhere, left, right, none)
    plain, same, strong, nothing, empty = (float(value[0]) for value in distance(
        one, other, masks=masks
    ))  # fmt: skip
    assert same == pytest.approx(plain, rel=1e-5)
    assert strong > 2 * plain
    assert nothing < 1e-12
    assert np.isnan(empty)


def test_masked_mean_by_hand():
    """There are two pixels with distances 4 and 0, and the mask selects among them."""
    one, other = jnp.array([[[[1.0, 0.0], [1.0, 0.0]]]]), jnp.array([[[[0.0, 1.0], [1.0, 0.0]]]])
    heads = [jnp.array([1.0, 3.0])]
    value = lambda *mask: float(
        lpips.lpips_distance([one], [other], heads, jnp.array(mask).reshape(1, 1, 2, 1))[0]
    )
    assert [value(1.0, 0.0), value(0.0, 1.0), value(1.0, 1.0)] == pytest.approx([4, 0, 2])
    assert np.isnan(value(0.0, 0.0))


def test_shapes_down_to_the_smallest_picture():
    image = jax.ShapeDtypeStruct((1, alexnet.MIN_SIZE, alexnet.MIN_SIZE, 3), jnp.float32)
    features, _ = jax.eval_shape(alexnet.AlexNet().init_with_output, jax.random.key(0), image)
    assert [f.shape[1:] for f in features] == [(7, 7, 64), (3, 3, 192)] + [
        (1, 1, width) for width in (384, 256, 256)
    ]


def test_weights_of_another_network_are_refused(arrays, tmp_path, monkeypatch):
    heads = {name: torch_file.Tensor(a) for name, a in arrays.items() if name.startswith("lin")}
    trunk = {name: torch_file.Tensor(a) for name, a in arrays.items() if name not in heads}
    saved = torch_file.save(heads, tmp_path / "heads.pth")
    monkeypatch.setattr(fetch, "find", lambda name: saved)
    del trunk["features.6.bias"]
    with pytest.raises(InputError, match=r"1 missing: features\.6\.bias; give torchvision's Alex"):
        fetch.load_lpips(torch_file.save(trunk, tmp_path / "less.pth"))
    with pytest.raises(InputError, match="no such file"):
        fetch.load_lpips(tmp_path / "none.pth")


def test_heads_of_the_wheel(arrays, tmp_path):
    """Their weights are not negative."""
    trunk = {n: torch_file.Tensor(a) for n, a in arrays.items() if n.startswith("features")}
    try:
        variables = fetch.load_lpips(torch_file.save(trunk, tmp_path / "alexnet.pth"))
    except InputError as error:
        pytest.skip(str(error))
    heads = [variables["heads"][f"block{block}"] for block in range(1, 6)]
    assert [len(head) for head in heads] == [64, 192, 384, 256, 256]
    assert all((head >= 0).all() and head.max() > 0.4 for head in heads)
