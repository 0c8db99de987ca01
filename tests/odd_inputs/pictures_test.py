"""Pictures and videos as telephones and cameras store them: turned, stretched, HDR, huge."""

import fractions
import json
import struct
import subprocess
import sys

import av
import numpy as np
import pytest
from PIL import Image

from gesture_jax.errors import InputError
from gesture_jax.inference import pipeline
from gesture_jax.inference.animator import Animator
from gesture_jax.inference.generator import GestureGenerator
from gesture_jax.inference.manifest import Request
from gesture_jax.inference.portraits import Portrait, Style
from gesture_jax.media import images
from gesture_jax.media.framing import Crop
from gesture_jax.media.sound import read_audio
from gesture_jax.media.video import iterate_pictures
from gesture_jax.media.writer import Recording, write_video
from gesture_jax.preparation import videos
from tests import bad_media, tiny

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
    return next(iterate_pictures(path, **options))


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
    (take,), _ = videos.find_takes(folder, settings=settings, crop=Crop())
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
    write_video(path, [picture] * 3, crf=1)
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


@pytest.mark.parametrize("name", ["photo.avif", "avif_with_this_name.jpg"])
def test_avif_is_read(tmp_path, name):
    Image.fromarray(_patches(_COLOURS, side=16)).save(tmp_path / name, format="AVIF", quality=95)
    assert np.abs(_middles(images.load_image(tmp_path / name), **_GRID) - _COLOURS).max() < 8


def test_heic_is_read_by_its_extra(tmp_path):
    pillow_heif = pytest.importorskip("pillow_heif")
    picture = Image.fromarray(_patches(_COLOURS, side=16))
    pillow_heif.from_pillow(picture).save(tmp_path / "photo.heic", quality=95)
    read = images.load_image(tmp_path / "photo.heic")
    assert np.abs(_middles(read, **_GRID) - _COLOURS).max() < 8


def test_heic_without_its_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)  # As where it is not installed.
    head = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"
    (tmp_path / "photo.heic").write_bytes(head + bytes(100))
    with pytest.raises(InputError, match=r"photo\.heic: is a HEIC picture; save it as JPEG, or"):
        images.load_image(tmp_path / "photo.heic")


def _read_alone(path):
    """A photo read by a new process: shape, size and reduction; and by how many MB that grew."""
    program = (
        "import json, resource, sys; from PIL import Image; from gesture_jax.media import images\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "Image.init(); before = peak(); photo = images.load_photo(sys.argv[1])\n"
        "print(json.dumps([photo.picture.shape, photo.size, photo.reduction, peak() - before]))"
    )
    command = [sys.executable, "-W", "error", "-c", program, str(path)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    *found, grown_kb = json.loads(done.stdout)
    return found, grown_kb / 1024


def test_a_photo_of_50_megapixels_is_scaled_down_while_it_is_decoded(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # Stored lying, as telephones do.
    photo = Image.fromarray(_patches(_COLOURS, side=8)).resize((8161, 6144), Image.Resampling.BOX)
    photo.save(tmp_path / "photo.jpg", quality=60, exif=exif)
    (shape, size, reduction), grown_mb = _read_alone(tmp_path / "photo.jpg")
    assert (shape, size, reduction) == ([4081, 3072, 3], [6144, 8161], 2)
    assert grown_mb < 160  # 8161x6144 pixels take 150 MB once, and 200 MB as Pillow holds them.


@pytest.mark.parametrize(
    ("mode", "ending"), [("RGB", "png"), ("RGBA", "tiff"), ("P", "png"), ("I;16", "png")]
)
def test_other_large_pictures_are_scaled_down_too(tmp_path, monkeypatch, mode, ending):
    monkeypatch.setattr(images, "_KEPT_PIXELS", 1000)
    if mode == "I;16":
        deep = _patches(_COLOURS[..., :1], side=16)[..., 0].astype(np.uint16) * 257
        picture = Image.fromarray(deep)
    else:
        picture = Image.fromarray(_patches(_COLOURS, side=16)).convert(mode)
    picture.save(tmp_path / f"large.{ending}")
    photo = images.load_photo(tmp_path / f"large.{ending}")
    assert (photo.picture.shape, photo.size, photo.reduction) == ((24, 32, 3), (64, 48), 2)
    wanted = _COLOURS[..., :1] if mode == "I;16" else _COLOURS
    shown = images.to_uint8(photo.picture)
    # The palette of 216 colours is made by Pillow, with dots of others between them.
    assert np.abs(_middles(shown, **_GRID) - wanted).max() < (60 if mode == "P" else 2)


def test_a_square_is_given_in_pixels_of_the_file(tmp_path, monkeypatch):
    tiny.constant_stages(tmp_path)
    animator = Animator.load(tmp_path / "stage1")
    Image.fromarray(_patches(_COLOURS, side=16)).save(tmp_path / "large.png")
    open_square = lambda *box: Portrait.open(
        tmp_path / "large.png", animator, Style(crop=Crop(box_px=box))
    )
    whole = open_square(16, 32, 16).source.image
    monkeypatch.setattr(images, "_KEPT_PIXELS", 1000)
    np.testing.assert_allclose(open_square(16, 32, 16).source.image, whole, atol=1e-6)
    with pytest.raises(InputError, match=r"large\.png: 64x48 pixels, outside of which .* 40,0,30"):
        open_square(40, 0, 30)


def _display_p3():
    """An ICC profile of the primaries of Display P3 and a gamma of 2.2."""
    fixed = lambda *numbers: b"".join(struct.pack(">i", round(65536 * v)) for v in numbers)
    xyz = lambda *numbers: b"XYZ " + bytes(4) + fixed(*numbers)
    gamma = b"curv" + bytes(4) + struct.pack(">IH", 1, round(2.2 * 256)) + bytes(2)
    text = b"desc" + bytes(4) + struct.pack(">I", 3) + b"P3\0" + bytes(79)
    entries = {
        b"desc": text, b"wtpt": xyz(0.9642, 1.0, 0.8249), b"cprt": b"text" + bytes(8),
        b"rXYZ": xyz(0.5151, 0.2412, -0.0011), b"gXYZ": xyz(0.2920, 0.6922, 0.0419),
        b"bXYZ": xyz(0.1571, 0.0666, 0.7841), b"rTRC": gamma, b"gTRC": gamma, b"bTRC": gamma,
    }  # fmt: skip
    place, table, body = 132 + 12 * len(entries), struct.pack(">I", len(entries)), b""
    for name, content in entries.items():
        content += bytes(-len(content) % 4)
        table += name + struct.pack(">II", place + len(body), len(content))
        body += content
    head = b"".join([
        struct.pack(">I", place + len(body)), b"lcms", b"\2\x10\0\0", b"mntrRGB XYZ ", bytes(12),
        b"acsp", bytes(28), fixed(0.9642, 1.0, 0.8249), bytes(48),
    ])  # fmt: skip
    return head + table + body


@pytest.mark.parametrize("ending", ["png", "jpg", "avif"])
def test_profiles_are_obeyed(tmp_path, ending):
    to_p3 = np.array([[0.8225, 0.1774, 0.0], [0.0332, 0.9669, 0.0], [0.0171, 0.0724, 0.9108]])
    stored = np.rint(255 * ((_COLOURS / 255.0) ** 2.2 @ to_p3.T) ** (1 / 2.2)).astype(np.uint8)
    path = tmp_path / f"iphone.{ending}"
    picture = Image.fromarray(_patches(stored, side=16))
    picture.save(path, quality=98, icc_profile=_display_p3())
    read = images.load_image(path)
    assert (
        np.abs(_middles(read, **_GRID) - _COLOURS).max()
        < 10
        < np.abs(stored - 1.0 * _COLOURS).max()
    )
    # A damaged profile is passed over.
    picture.save(path, quality=98, icc_profile=_display_p3()[:150])
    assert np.abs(_middles(images.load_image(path), **_GRID) - stored).max() < 8


def _tones(rate_hz, hertz, *, seconds=1.0):
    """[n, channels]: a tone of its own in each channel."""
    times = np.arange(round(seconds * rate_hz)) / rate_hz
    return np.stack([0.3 * np.sin(2 * np.pi * hz * times) for hz in hertz], axis=-1)


def _save_sound(path, sound, rate_hz, layout):
    with av.open(str(path), "w") as container:
        track = container.add_stream("pcm_s16le", rate=rate_hz, layout=layout)
        samples = np.rint(32767 * sound).astype(np.int16).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(samples, format="s16", layout=layout)
        frame.sample_rate = rate_hz
        container.mux(track.encode(frame))
        container.mux(track.encode())
    return path


def _written_sound(path):
    """Rate, layout and [n, channels] of a file's sound."""
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray().T for frame in container.decode(audio=0)]
        track = container.streams.audio[0]
        return track.rate, track.layout.name, np.concatenate(frames)


def _pitches(sound, rate_hz):
    """The loudest pitch in each channel, in Hz."""
    middle = sound[rate_hz // 4 : rate_hz * 3 // 4]
    return np.abs(np.fft.rfft(middle, axis=0)).argmax(axis=0) * 2


_SOUNDS = {  # Rate and layout of the original, and of the result.
    "stereo of 44.1 kHz": (44_100, "stereo", 44_100, "stereo"),
    "5.1 of 48 kHz": (48_000, "5.1", 48_000, "5.1"),
    "mono of 8 kHz": (8_000, "mono", 8_000, "mono"),
    "stereo of 11.5 kHz": (11_500, "stereo", 12_000, "stereo"),
    "stereo of 192 kHz": (192_000, "stereo", 96_000, "stereo"),
}


@pytest.mark.parametrize("name", _SOUNDS)
def test_sound_keeps_its_rate_and_channels(tmp_path, name):
    rate_hz, layout, *wanted = _SOUNDS[name]
    hertz = [440, 660, 880, 60, 1100, 1320][: len(av.AudioLayout(layout).channels)]
    sound = _save_sound(tmp_path / "a.wav", _tones(rate_hz, hertz), rate_hz, layout)
    frames = np.zeros((25, 16, 16, 3), np.uint8)
    write_video(tmp_path / "a.mp4", frames, audio=Recording(sound))
    *found, written = _written_sound(tmp_path / "a.mp4")
    assert found == wanted
    assert 0 <= len(written) / found[0] - 1.0 < 1024 / found[0] + 0.01  # AAC's last block.
    np.testing.assert_allclose(_pitches(written, found[0]), hertz, atol=2)
    heard, copied = read_audio(sound), read_audio(tmp_path / "a.mp4")
    assert np.corrcoef(heard, copied[: len(heard)])[0, 1] > 0.98


def test_sound_that_begins_late_stays_late(tmp_path):
    with av.open(str(tmp_path / "late.mkv"), "w") as container:
        video = container.add_stream("mpeg4", rate=25)
        video.height = video.width = 16
        track = container.add_stream("pcm_s16le", rate=48_000, layout="stereo")
        picture = av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8), format="rgb24")
        container.mux(video.encode(picture))
        container.mux(video.encode())
        samples = np.full((1, 2 * 48_000), 9_000, np.int16)
        frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="stereo")
        frame.sample_rate, frame.pts = 48_000, 24_000
        container.mux(track.encode(frame))
        container.mux(track.encode())
    frames = np.zeros((38, 16, 16, 3), np.uint8)
    write_video(tmp_path / "a.mp4", frames, audio=Recording(tmp_path / "late.mkv"))
    *_, written = _written_sound(tmp_path / "a.mp4")
    assert np.abs(written[:22_000]).max() < 0.01 < 0.2 < np.abs(written[26_000:60_000]).min()


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_arrays_of_channels_are_written(tmp_path, channels):
    sound = _tones(44_100, [440, 660, 880][:channels])
    frames = np.zeros((25, 16, 16, 3), np.uint8)
    write_video(tmp_path / "a.mp4", frames, audio=sound, sample_rate_hz=44_100)
    rate_hz, layout, written = _written_sound(tmp_path / "a.mp4")
    # Three channels without names are mixed.
    assert (rate_hz, layout) == (44_100, "stereo" if channels == 2 else "mono")
    assert len(written) >= 44_100


def test_results_carry_the_sound_that_was_given(tmp_path):
    tiny.constant_stages(tmp_path)
    animator = Animator.load(tmp_path / "stage1")
    sound = _save_sound(tmp_path / "a.wav", _tones(44_100, [440, 660]), 44_100, "stereo")
    Image.fromarray(_patches(_COLOURS, side=16)).save(tmp_path / "p.png")
    generator = GestureGenerator.load(stage1=animator, stage2=tmp_path / "stage2")
    request = Request(image=str(tmp_path / "p.png"), audio=str(sound), out=str(tmp_path / "g.mp4"))
    pipeline.write_request(animator, generator, request)
    pipeline.animate(animator, request.image, request.out, str(tmp_path / "a.mp4"))
    clip = generator.generate(images.load_image(request.image), _tones(44_100, [440, 660]), 44_100)
    clip.write(tmp_path / "c.mp4")
    for name in ("g.mp4", "a.mp4", "c.mp4"):
        rate_hz, layout, written = _written_sound(tmp_path / name)
        assert (rate_hz, layout) == (44_100, "stereo"), name
        np.testing.assert_allclose(_pitches(written, rate_hz), [440, 660], atol=2)
