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


def _write(path, picture, *, aspect=None, tags=None):
    """A clip of one picture, uint8 or uint16, as another program writes it: x264's own settings.

    Args:
      path: of the file.
      picture: [h, w, 3].
      aspect: width of a pixel over its height.
      tags: transfer function, primaries and matrix, by their numbers in H.273.
    """
    deep = picture.dtype == np.uint16
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25, options={"crf": "1"})
        video.height, video.width = picture.shape[:2]
        video.pix_fmt = "yuv420p10le" if deep else "yuv420p"
        context = video.codec_context
        if aspect:
            context.sample_aspect_ratio = fractions.Fraction(aspect)
        if tags:
            context.color_trc, context.color_primaries, context.colorspace = tags
        for _ in range(3):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb48le" if deep else "rgb24")
            matrix = tags[2] if tags else 5
            container.mux(video.encode(frame.reformat(format=video.pix_fmt, dst_colorspace=matrix)))
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


# Skin, greys, and colours that BT.601 and BT.709 or BT.2020 show unlike each other.
_COLOURS = np.array([
    [[232, 232, 232], [128, 128, 128], [32, 32, 32], [8, 8, 8]],
    [[200, 150, 120], [90, 60, 40], [180, 60, 60], [60, 120, 40]],
    [[60, 80, 160], [200, 180, 90], [210, 60, 50], [60, 180, 60]],
], np.uint8)  # fmt: skip
_GRID = {"rows": 3, "columns": 4}
_BT709_TO_BT2020 = np.array([
    [0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956],
])  # fmt: skip


def _by_bt709(frame):
    """A frame of 8-bit 4:2:0 decoded by the formulas of BT.709, whatever its tags say."""
    planes = [np.frombuffer(plane, np.uint8).reshape(plane.height, -1) for plane in frame.planes]
    y, cb, cr = (p[:, : f.width] for p, f in zip(planes, frame.planes, strict=True))
    y = (y - 16.0) / 219
    cb, cr = ((p.repeat(2, 0).repeat(2, 1) - 128.0) / 224 for p in (cb, cr))
    rgb = y + 1.5748 * cr, y - 0.1873 * cb - 0.4681 * cr, y + 1.8556 * cb
    return np.rint(255 * np.stack(rgb, axis=-1))


@pytest.mark.parametrize("side", [16, 240])
def test_written_videos_say_their_colours_and_have_them(tmp_path, side):
    picture = _patches(_COLOURS, side=side)
    path = tmp_path / "written.mp4"
    media.write_video(path, [picture] * 3, crf=1)
    with av.open(str(path)) as container:
        context = container.streams.video[0].codec_context
        tags = context.color_trc, context.color_primaries, context.colorspace, context.color_range
        frame = next(container.decode(video=0))
    assert tags == (1, 1, 1, 1)
    assert b"colrnclx" in path.read_bytes()  # Which QuickTime wants beside the tags of h264.
    assert np.abs(_middles(_by_bt709(frame), **_GRID) - _middles(picture, **_GRID)).max() < 6
    assert np.abs(_middles(_first(path), **_GRID) - _middles(picture, **_GRID)).max() < 6


@pytest.mark.parametrize("matrix", [1, 5, 6, 9])
def test_tags_of_the_matrix_are_obeyed(tmp_path, matrix):
    path = _write(tmp_path / "a.mp4", _patches(_COLOURS, side=16), tags=(1, 1, matrix))
    assert np.abs(_middles(_first(path), **_GRID) - _COLOURS).max() < 6


def test_hd_without_tags_is_bt709_as_players_assume(tmp_path):
    tagged = _write(tmp_path / "a.mkv", _patches(_COLOURS, side=240), tags=(1, 1, 1))
    untagged = tmp_path / "b.mp4"
    with av.open(str(tagged)) as container:
        frames = list(container.decode(video=0))
    with av.open(str(untagged), "w") as container:
        video = container.add_stream("mpeg4", rate=25, options={"qscale": "1"})
        video.height, video.width, video.pix_fmt = 720, 960, "yuv420p"
        for frame in frames:
            frame.pict_type = 0
            container.mux(video.encode(frame))
        container.mux(video.encode())
    with av.open(str(untagged)) as container:
        assert next(container.decode(video=0)).colorspace == 2
    assert np.abs(_middles(_first(untagged), **_GRID) - _COLOURS).max() < 6


def _encode_pq(nits):
    powers = np.clip(nits / 10_000, 0, 1) ** 0.1593017578125
    return ((0.8359375 + 18.8515625 * powers) / (1 + 18.6875 * powers)) ** 78.84375


def _encode_hlg(nits):
    luminance = (nits @ [0.2627, 0.6780, 0.0593])[..., None] / 1000
    scene = nits / 1000 * np.maximum(luminance, 1e-9) ** (1 / 1.2 - 1)
    logarithm = 0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-9)) + 0.55991073
    return np.where(scene <= 1 / 12, np.sqrt(3 * scene), logarithm)


def _light(picture):
    """A picture of SDR as linear light in BT.2020, where 1 is white."""
    return (picture / 255.0) ** 2.4 @ _BT709_TO_BT2020.T


_WIDE = {
    "PQ": (lambda light: _encode_pq(203 * light), (16, 9, 9)),
    "HLG": (lambda light: _encode_hlg(203 * light), (18, 9, 9)),
    "BT.2020 in SDR": (lambda light: light ** (1 / 2.4), (14, 9, 9)),
}


@pytest.mark.parametrize("name", _WIDE)
def test_wide_colours_become_those_of_sdr(tmp_path, name):
    encode, tags = _WIDE[name]
    deep = np.rint(65535 * encode(_light(_patches(_COLOURS, side=16)))).astype(np.uint16)
    path = _write(tmp_path / "wide.mov", deep, tags=tags)
    shown = _first(path)
    assert shown.shape == (48, 64, 3) and shown.dtype == np.uint8
    assert np.abs(_middles(shown, **_GRID) - _COLOURS).max() < 10
    # Turned and scaled down as others are.
    _set_matrix(path, (0, 1, -1, 0))
    small = _first(path, most_px=32)
    assert small.shape == (32, 24, 3)
    shown = _middles(small, rows=4, columns=3)
    assert np.abs(shown - np.rot90(_COLOURS, -1)).max() < 12


def test_highlights_of_hdr_are_compressed_not_cut(tmp_path):
    nits = np.array([100.0, 203.0, 400.0, 1000.0])
    greys = _encode_pq(np.repeat(nits[:, None, None], 3, axis=2))
    picture = np.rint(65535 * greys.repeat(16, 0).repeat(16, 1)).astype(np.uint16)
    shown = _first(_write(tmp_path / "bright.mov", picture, tags=(16, 9, 9)))
    levels = _middles(shown, rows=4, columns=1)[:, 0, 0]
    assert (np.diff(levels) >= 1).all(), levels
    assert 180 < levels[0] < 200 and 240 < levels[1] < 250
