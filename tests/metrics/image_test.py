"""PSNR and SSIM, against skimage and by hand; masks of boxes."""

import jax
import numpy as np
import pytest
import scipy.ndimage
from skimage.metrics import structural_similarity

from gesture_jax.metrics import image as metrics
from gesture_jax.ops import image as image_ops

pytestmark = pytest.mark.usefixtures("quickly_compiled")

_RANDOM = np.random.default_rng(0)


def _pictures():
    noise = _RANDOM.random((40, 33, 3))
    smooth = scipy.ndimage.gaussian_filter(noise, (3, 3, 0))
    smooth = (smooth - smooth.min()) / np.ptp(smooth)
    flat = np.full_like(noise, 0.93)
    return {
        "noise": (noise, _RANDOM.random(noise.shape)),
        "noisy": (smooth, np.clip(smooth + 0.05 * _RANDOM.standard_normal(smooth.shape), 0, 1)),
        "shifted": (smooth, np.roll(smooth, 2, axis=1)),
        "darker": (smooth, 0.6 * smooth),
        "inverse": (noise, 1.0 - noise),
        "flat and noisy": (flat, flat + 0.01 * _RANDOM.standard_normal(flat.shape)),
        "smallest": (noise[:11, :11], smooth[:11, :11]),
    }


@pytest.mark.parametrize("pair", _pictures().values(), ids=_pictures())
def test_ssim_is_that_of_skimage(pair):
    # Both get the values that float32 can hold.
    pair = [picture.astype(np.float32) for picture in pair]
    expected = structural_similarity(
        *(picture.astype(np.float64) for picture in pair),
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=1.0,
        channel_axis=-1,
    )
    found = jax.jit(metrics.ssim)(*pair)
    assert found.shape == ()
    assert float(found) == pytest.approx(expected, abs=1e-6)


def test_ssim_of_equal_pictures_is_one_and_of_black_and_white_almost_none():
    noise = _RANDOM.random((2, 5, 16, 16, 3), np.float32)
    np.testing.assert_allclose(metrics.ssim(noise, noise), np.ones((2, 5)), atol=1e-6)
    black = np.zeros((16, 16, 3), np.float32)
    assert float(metrics.ssim(black, black + 1)) == pytest.approx(9.999e-5, abs=1e-8)


def test_ssim_is_the_same_either_way_and_picture_by_picture():
    one, other = _RANDOM.random((2, 4, 16, 20, 3), np.float32)
    values = metrics.ssim(one, other)
    np.testing.assert_allclose(values, metrics.ssim(other, one), atol=1e-6)
    np.testing.assert_allclose(values[2], metrics.ssim(one[2], other[2]), atol=1e-6)


def test_ssim_needs_a_window():
    small = np.zeros((2, 16, 10, 3), np.float32)
    with pytest.raises(ValueError, match=r"11 pixels or more a side, not \(16, 10\)"):
        metrics.ssim(small, small)


def test_psnr_by_hand():
    black = np.zeros((2, 8, 8, 3), np.float32)
    grey = black + np.array([0.1, 0.01], np.float32)[:, None, None, None]
    np.testing.assert_allclose(metrics.psnr(grey, black), [20.0, 40.0], rtol=1e-5)
    np.testing.assert_allclose(metrics.psnr(black, black), [100.0, 100.0])


def test_psnr_inside_a_mask():
    target = np.zeros((3, 8, 8, 3), np.float32)
    image, mask = target + 0.5, np.zeros((3, 8, 8, 1), np.float32)
    image[0, 2, 3], mask[0, 2, 3] = (0.1, 0.1, 0.1), 1.0
    image[1, :, :2], mask[1, :, :2] = (0.3, 0.0, 0.0), 1.0  # A third of 0.09.
    values = metrics.psnr(image, target, mask)
    np.testing.assert_allclose(values[:2], [20.0, -10 * np.log10(0.03)], rtol=1e-5)
    assert np.isnan(values[2])


def test_a_mask_of_everything_hides_nothing():
    one, other = _RANDOM.random((2, 4, 16, 20, 3), np.float32)
    whole = np.ones((4, 16, 20, 1), np.float32)
    np.testing.assert_allclose(metrics.psnr(one, other, whole), metrics.psnr(one, other), rtol=1e-6)


def test_boxes_cover_pixels_by_their_centres():
    box = np.array([[1.0, 0.0, 3.0, 2.0]], np.float32)
    mask = image_ops.box_mask(box, height=3, width=4)
    assert mask.shape == (3, 4, 1) and mask.dtype == np.float32
    np.testing.assert_array_equal(mask[..., 0], [[0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0]])
    # A tenth of a pixel past the centres 0.5 and 2.5 takes both in; a tenth before, neither.
    for by, columns in ((0.1, [1, 1, 1, 0]), (-0.1, [0, 1, 0, 0])):
        box = np.array([[0.5 - by, 0.0, 2.5 + by, 1.0]], np.float32)
        np.testing.assert_array_equal(image_ops.box_mask(box, height=1, width=4)[0, :, 0], columns)


def test_boxes_unite_and_empty_ones_cover_nothing():
    boxes = np.zeros((2, 5, 3, 4), np.float32)
    boxes[1, 2, 0] = 0, 0, 2, 2
    boxes[1, 2, 1] = 1, 1, 3, 3  # Shares one pixel with the first.
    mask = jax.jit(image_ops.box_mask, static_argnames=("height", "width"))(
        boxes, height=6, width=8
    )
    assert mask.shape == (2, 5, 6, 8, 1)
    assert mask.sum() == mask[1, 2].sum() == 4 + 4 - 1
    assert not image_ops.box_mask(np.zeros((2, 0, 4)), height=4, width=4).any()
    # Boxes that reach beyond the picture cover what there is of it; turned ones nothing.
    beyond = np.array([[-5.0, -5.0, 99.0, 99.0]], np.float32)
    assert image_ops.box_mask(beyond, height=4, width=4).all()
    assert not image_ops.box_mask(np.array([[3.0, 0, 1.0, 4]]), height=4, width=4).any()


def test_masked_ssim_is_the_mean_of_the_map_inside_the_mask():
    one, other = _pictures()["noisy"]
    one, other = one.astype(np.float32), other.astype(np.float32)
    _, full = structural_similarity(
        one.astype(np.float64), other.astype(np.float64), gaussian_weights=True, sigma=1.5,
        use_sample_covariance=False, data_range=1.0, channel_axis=-1, full=True,
    )  # fmt: skip
    mask = np.zeros((40, 33, 1), np.float32)
    mask[12:20, 9:21] = 1
    found = metrics.ssim(one, other, mask)
    assert float(found) == pytest.approx(full[12:20, 9:21].mean(), abs=1e-6)
    # Outside of where the window fits nothing counts.
    assert np.isnan(metrics.ssim(one, other, np.zeros_like(mask)))
