"""Pictures of every kind that people have."""

import io

import numpy as np
import pytest
from PIL import Image

from gesture_jax.errors import InputError
from gesture_jax.media import images


@pytest.fixture
def rgb():
    return np.random.default_rng(0).integers(0, 256, (12, 20, 3), dtype=np.uint8)


def _save(tmp_path, image, name="picture.png", **options):
    image.save(tmp_path / name, **options)
    return tmp_path / name


def test_rgb_is_read_as_it_is(tmp_path, rgb):
    read = images.load_image(_save(tmp_path, Image.fromarray(rgb)))
    np.testing.assert_array_equal(read, rgb)


def test_grey_is_repeated(tmp_path, rgb):
    grey = rgb[..., 0]
    read = images.load_image(_save(tmp_path, Image.fromarray(grey)))
    np.testing.assert_array_equal(read, np.repeat(grey[..., None], 3, axis=-1))


def test_transparent_is_laid_over_white(tmp_path, rgb):
    alpha = np.zeros((12, 20, 1), np.uint8)
    alpha[:, 10:] = 255
    read = images.load_image(_save(tmp_path, Image.fromarray(np.concatenate([rgb, alpha], -1))))
    np.testing.assert_array_equal(read[:, 10:], rgb[:, 10:])
    assert (read[:, :10] == 255).all()


def test_palette_with_transparency(tmp_path):
    palette = Image.new("P", (4, 4), 0)
    palette.putpalette([10, 20, 30, 200, 0, 0])
    palette.putpixel((0, 0), 1)
    read = images.load_image(_save(tmp_path, palette, transparency=1))
    assert (read[0, 0] == 255).all()
    np.testing.assert_array_equal(read[1, 1], [10, 20, 30])


def test_16_bits_keep_their_depth(tmp_path):
    deep = np.array([[0, 1000], [30_000, 65_535]], np.uint16)
    read = images.load_image(_save(tmp_path, Image.fromarray(deep)))
    assert read.dtype == np.float32
    np.testing.assert_allclose(read[..., 0], deep / 65_535, atol=1e-6)


def test_exif_rotation_is_undone(tmp_path, rgb):
    exif = Image.Exif()
    exif[0x0112] = 6  # Turned by 90 degrees.
    read = images.load_image(_save(tmp_path, Image.fromarray(rgb), exif=exif))
    np.testing.assert_array_equal(read, np.rot90(rgb, -1))


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "empty"), (b"text", "not a picture"), (None, "no such file"), ("half", "damaged")],
)
def test_bad_files_are_named(tmp_path, rgb, content, reason):
    path = tmp_path / "bad.png"
    if content == "half":
        buffer = io.BytesIO()
        Image.fromarray(rgb.repeat(20, 0)).save(buffer, "png")
        content = buffer.getvalue()[:500]
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=rf"bad\.png: .*{reason}"):
        images.load_image(path)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((2, 2, 5)),
        np.zeros((0, 2, 3)),
        np.zeros(4),
        np.full((2, 2), 7.0),
        np.eye(2, dtype=int),
    ],
)
def test_arrays_that_are_no_pictures(array):
    with pytest.raises(InputError, match="picture"):
        images.to_rgb(array)


def test_square_takes_the_middle_and_keeps_what_fits(rgb):
    np.testing.assert_array_equal(images.square(rgb, size=12), rgb[:, 4:16])
    smaller = images.square(rgb, size=6)
    assert smaller.shape == (6, 6, 3) and smaller.dtype == np.uint8
    floats = images.square(rgb.astype(np.float32) / 255, size=6)
    np.testing.assert_allclose(floats * 255, smaller, atol=1.0)


def test_scaling_down_does_not_alias():
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    assert np.abs(images.square(stripes, size=16).astype(int) - 127).max() < 12


def test_sheet_places_rows(rgb):
    sheet = images.contact_sheet([[rgb, rgb], [rgb.astype(np.float32) / 255]])
    assert sheet.shape == (12 * 2 + 2, 20 * 2 + 2, 3)
    np.testing.assert_array_equal(sheet[:12, 22:], rgb)
    np.testing.assert_array_equal(sheet[14:, :20], rgb)
    assert (sheet[14:, 22:] == 255).all()


def test_nothing_is_half_written(tmp_path, rgb):
    with pytest.raises(InputError, match=r"end it in \.png"):
        images.write_image(tmp_path / "picture.nonsense", rgb)
    assert not list(tmp_path.iterdir())
