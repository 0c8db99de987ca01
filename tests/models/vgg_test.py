"""VGG and ST-LPIPS: parts computed by hand, and published weights against published values."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage

from gesture_jax.errors import InputError
from gesture_jax.models import vgg
from gesture_jax.models.lpips import lpips_distance
from gesture_jax.models.vgg import VGG, VGG16, VGG19
from gesture_jax.pretrained import fetch, torch_names
from tests import torch_file

pytestmark = pytest.mark.usefixtures("quickly_compiled")


@pytest.fixture(scope="module")
def weights():
    try:
        return fetch.load_vgg16()
    except InputError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def distance(weights):
    """A function that computes ST-LPIPS of two pictures [h, w, 3] in [0, 1]."""
    see = jax.jit(lambda image: VGG().apply({"params": weights["params"]}, image))
    heads = [weights["heads"][f"block{block}"] for block in range(1, 6)]
    return lambda one, other: float(lpips_distance(see(one[None]), see(other[None]), heads)[0])


@pytest.fixture(scope="module")
def picture():
    """A picture with blobs at several scales."""
    noise = np.random.default_rng(0).random((64, 64, 3))
    layers = [scipy.ndimage.gaussian_filter(noise, (s, s, 0), mode="wrap") for s in (1, 3, 8)]
    picture = sum((layer - layer.mean()) / layer.std() for layer in layers)
    return np.clip(0.5 + 0.12 * picture, 0.0, 1.0).astype(np.float32)


def test_a_picture_is_no_distance_from_itself(distance, picture):
    assert distance(picture, picture) == 0.0


def test_the_package_itself_finds_the_same(distance, picture):
    """Values of stlpips-pytorch 0.0.2 under PyTorch 2.13, `net="vgg"`, for the same arrays."""
    noise = np.random.default_rng(1).standard_normal(picture.shape).astype(np.float32)
    noisy = np.clip(picture + 0.1 * noise, 0, 1)
    blurred = scipy.ndimage.gaussian_filter(picture, (2.0, 2.0, 0))
    for one, other, expected in (
        (picture, noisy, 0.0914013),
        (picture, blurred, 0.5213543),
        (picture, np.roll(picture, 4, axis=1), 0.1437305),
        (picture, 0.5 * picture, 0.4294548),
        (picture[:40, :33], noisy[:40, :33], 0.1348821),  # Odd sides.
    ):
        assert distance(one, other) == pytest.approx(expected, rel=1e-5)


def test_the_distance_grows_with_noise_and_blur(distance, picture):
    noise = np.random.default_rng(1).standard_normal(picture.shape).astype(np.float32)
    noisy = [distance(picture, np.clip(picture + s * noise, 0, 1)) for s in (0.02, 0.05, 0.1, 0.2)]
    blurred = [
        distance(picture, scipy.ndimage.gaussian_filter(picture, (s, s, 0)))
        for s in (0.5, 1.0, 2.0, 4.0)
    ]
    for values in (noisy, blurred):
        assert values[0] > 0 and all(np.diff(values) > 0)


def test_small_shifts_are_small_and_grow(distance, picture):
    shifted = [distance(picture, np.roll(picture, pixels, axis=1)) for pixels in (1, 2, 4, 8)]
    assert all(np.diff(shifted) > 0)
    blurred = scipy.ndimage.gaussian_filter(picture, (2.0, 2.0, 0))
    assert shifted[0] < 0.3 * distance(picture, blurred)


def test_blur_pool_by_scipy():
    x = np.random.default_rng(0).random((1, 12, 9, 2)).astype(np.float32)
    largest = scipy.ndimage.maximum_filter(x[0], (2, 2, 1), origin=(-1, -1, 0))[:-1, :-1]
    padded = np.pad(largest, ((2, 2), (2, 2), (0, 0)), mode="reflect")
    kernel = np.outer([1, 2, 1], [1, 2, 1])[..., None] / 16
    blurred = scipy.ndimage.correlate(padded, kernel)[1:-1, 1:-1][::2, ::2]
    np.testing.assert_allclose(vgg._blur_pool(jnp.asarray(x))[0], blurred, atol=1e-6)


def test_the_distance_of_two_pixels_by_hand():
    one, other = jnp.array([[[[3.0, 4.0]]]]), jnp.array([[[[1.0, 0.0]]]])
    # Unit vectors (0.6, 0.8) and (1, 0): squares of the difference 0.16 and 0.64.
    value = lpips_distance([one], [other], [jnp.array([1.0, 2.0])])
    np.testing.assert_allclose(value, [0.16 + 2 * 0.64], rtol=1e-6)


def test_gradients_are_finite_for_zero_features():
    loss = lambda x: lpips_distance([x], [jnp.ones((1, 2, 2, 3))], [jnp.ones(3)]).sum()
    assert np.isfinite(jax.grad(loss)(jnp.zeros((1, 2, 2, 3)))).all()


@pytest.mark.parametrize("config", [VGG16, VGG19])
def test_shapes_down_to_the_smallest_picture(config):
    image = jax.ShapeDtypeStruct((1, config.min_size, config.min_size, 3), jnp.float32)
    features, _ = jax.eval_shape(VGG(config).init_with_output, jax.random.key(0), image)
    assert [f.shape[-1] for f in features] == [64, 128, 256, 512, 512]
    assert all(f.shape[1] >= 1 for f in features)


def test_vgg19_from_the_users_file(tmp_path):
    """The file has torchvision's names, and may contain more arrays than are used."""
    random = np.random.default_rng(0)
    arrays, before = {"classifier.0.weight": np.zeros((3, 3), np.float32)}, 3
    places = {0: 64, 2: 64, 5: 128, 7: 128, 10: 256, 12: 256, 14: 256, 16: 256}
    places |= {19: 512, 21: 512, 23: 512, 25: 512, 28: 512, 30: 512}
    for place, width in places.items():
        arrays[f"features.{place}.weight"] = random.standard_normal((width, before, 3, 3), "f4")
        arrays[f"features.{place}.bias"] = random.standard_normal(width, "f4")
        before = width
    tensors = {name: torch_file.Tensor(array) for name, array in arrays.items()}
    variables = fetch.load_vgg19(torch_file.save(tensors, tmp_path / "vgg19.pth"))
    kernel = variables["params"]["conv5_1"]["kernel"]
    np.testing.assert_array_equal(kernel[1, 2, 3, 4], arrays["features.28.weight"][4, 3, 1, 2])
    del tensors["features.19.bias"]
    with pytest.raises(InputError, match=r"1 missing: features\.19\.bias; give torchvision's"):
        fetch.load_vgg19(torch_file.save(tensors, tmp_path / "less.pth"))


def test_every_array_of_the_wheel_is_used():
    assert len(torch_names.vgg16_table()) == 37


def test_damaged_caches_and_offline_machines_are_reported(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PIP_INDEX_URL", "file:///nowhere")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(InputError, match=r"could not be downloaded with pip \(offline\?\)"):
        fetch.find("vgg16")
    assert not list(tmp_path.rglob("*.pth"))
    folder = tmp_path / "gesture_jax" / "pretrained"
    folder.mkdir(parents=True)
    wanted = fetch.FILES["vgg16"].sha256
    (folder / f"vgg16-{wanted[:16]}.pth").write_bytes(b"damaged")
    with pytest.raises(InputError, match="is damaged"):
        fetch.find("vgg16")


def test_linen_pools_as_torch_does():
    x = jnp.arange(25.0).reshape(1, 5, 5, 1)
    np.testing.assert_array_equal(nn.max_pool(x, (2, 2), (2, 2))[0, ..., 0], [[6, 8], [16, 18]])
