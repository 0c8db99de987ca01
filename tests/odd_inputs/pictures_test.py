"""Pictures and videos as telephones and cameras store them: turned, stretched, HDR, huge."""

import fractions
import struct

import av
import numpy as np
import pytest

from gesture_jax.data import media, videos
from gesture_jax.errors import InputError
from tests import bad_media

# Red, green, blue and yellow quarters, so that each of the eight orientations looks different.
_QUARTERS = np.array([[[220, 40, 40], [40, 180, 40]], [[40, 40, 220], [220, 220, 60]]], np.uint8)
# What the stored picture has to go through to look right: (x, y) to the sides where it is shown.
_ORIENTATIONS = {
    "as stored": ((1, 0, 0, 1), lambda p: p),
    "mirrored left to right": ((-1, 0, 0, 1), lambda p: p[:, ::-1]),
    "mirrored top to bottom": ((1, 0, 0, -1), lambda p: p[::-1]),
    "upside down": ((-1, 0, 0, -1), lambda p: p[::-1, ::-1]),
    "clockwise": ((0, 1, -1, 0), lambda p: np.rot90(p, -1)),
    "counter-clockwise": ((0, -1, 1, 0), lambda p: np.rot90(p, 1)),
    "transposed": ((0, 1, 1, 0), lambda p: p.swapaxes(0, 1)),
    "transposed the other way": ((0, -1, -1, 0), lambda p: np.rot90(p, 2).swapaxes(0, 1)),
}


def _patches(colours, *, side):
    """[h, w, 3]: a square of each colour [r, c, 3]."""
    return np.repeat(np.repeat(np.asarray(colours, np.uint8), side, axis=0), side, axis=1)


def _middles(picture, *, rows, columns):
    """[r, c, 3]: the colour in the middle of each patch."""
    height, width = picture.shape[:2]
    y = (np.arange(rows) + 0.5) * height / rows
    x = (np.arange(columns) + 0.5) * width / columns
    return picture[np.ix_(y.astype(int), x.astype(int))].astype(int)


def _write(path, picture, *, aspect=None, frames=3, codec="libx264", tags=None):
    """A clip of one picture by another program's settings."""
    with av.open(str(path), "w") as container:
        video = container.add_stream(codec, rate=25, options={"crf": "1"})
        video.height, video.width = picture.shape[:2]
        video.pix_fmt = "yuv420p"
        if aspect:
            video.codec_context.sample_aspect_ratio = fractions.Fraction(aspect)
        for name, value in (tags or {}).items():
            setattr(video.codec_context, name, value)
        for _ in range(frames):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            matrix = (tags or {}).get("colorspace", 5)
            container.mux(video.encode(frame.reformat(format="yuv420p", dst_colorspace=matrix)))
        container.mux(video.encode())
    return path


def _set_matrix(path, matrix):
    """Writes a, b, c, d of the display matrix into the header of an mp4."""
    a, b, c, d = (value << 16 for value in matrix)
    content = bytearray(path.read_bytes())
    place = content.index(b"tkhd") + 44
    struct.pack_into(">9i", content, place, a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(content)


def _first(path, **options):
    return next(media.iterate_pictures(path, **options))


@pytest.mark.parametrize("name", _ORIENTATIONS)
@pytest.mark.parametrize("most_px", [None, 32])
def test_all_eight_orientations(tmp_path, name, most_px):
    matrix, turn = _ORIENTATIONS[name]
    stored = np.pad(_patches(_QUARTERS, side=32), ((0, 0), (0, 32), (0, 0)), mode="edge")
    path = _write(tmp_path / "turned.mp4", stored)
    _set_matrix(path, matrix)
    shown, wanted = _first(path, most_px=most_px), turn(stored)
    scale = 1 if most_px is None else 3
    assert shown.shape[:2] == tuple(round(side / scale) for side in wanted.shape[:2])
    grid = {"rows": 2, "columns": 3} if wanted.shape[1] == 96 else {"rows": 3, "columns": 2}
    difference = _middles(shown, **grid) - _middles(wanted, **grid)
    assert np.abs(difference).max() < 12


@pytest.mark.parametrize(
    ("aspect", "shape"), [("64/45", (90, 160)), ("8/9", (101, 112)), ("1/2", (180, 112))]
)
@pytest.mark.parametrize("turned", [False, True])
def test_pixels_that_are_not_square(tmp_path, aspect, shape, turned):
    stored = _patches(_QUARTERS, side=64)[:90, :112]
    path = _write(tmp_path / "dv.mp4", stored, aspect=aspect)
    if turned:
        _set_matrix(path, (0, 1, -1, 0))
        shape = shape[::-1]
    height, width = _first(path).shape[:2]
    assert (height, width) == pytest.approx(shape, abs=1)
    height, width = _first(path, most_px=60).shape[:2]
    assert max(height, width) == 60 and width / height == pytest.approx(shape[1] / shape[0], 0.02)


def test_training_frames_have_square_pixels(tmp_path):
    folder = tmp_path / "videos"
    folder.mkdir()
    path = bad_media.write(folder / "dv.mp4", size=(90, 64), aspect="64/45")
    settings = videos.Settings(size=64, min_sec=1.0)
    (take,), _ = videos.find_takes(folder, settings=settings, crop=videos.Crop())
    (clip,) = take.perform()
    shown = np.asarray(_first(path))
    assert shown.shape == (64, 128, 3)
    np.testing.assert_array_equal(clip.frames[0], shown[:, 32:96])


def test_a_shape_of_pixels_that_nobody_means(tmp_path):
    path = _write(tmp_path / "line.mp4", _patches(_QUARTERS, side=32), aspect="40")
    with pytest.raises(InputError, match=r"line\.mp4: .* 40 times as wide as high"):
        _first(path)
