"""Any portrait: the square that moves, pasting it back, and the watermark on frames."""

import numpy as np
import pytest
from PIL import Image

from gesture_jax.checkpoint import checkpoints
from gesture_jax.data import clips, portrait_framing
from gesture_jax.errors import InputError
from gesture_jax.inference import pipeline
from gesture_jax.inference.animator import Animator
from gesture_jax.inference.network_renderer import NetworkRenderer
from gesture_jax.inference.portraits import Portrait, Style
from gesture_jax.media import images
from gesture_jax.media.framing import Crop
from gesture_jax.media.paste import PasteBack
from gesture_jax.media.video import iterate_pictures
from gesture_jax.media.watermark import Watermark
from gesture_jax.media.writer import write_video
from gesture_jax.people import pose
from gesture_jax.preparation import procedural
from gesture_jax.procedural import speaker
from tests import in_process, tiny

pytestmark = pytest.mark.usefixtures("quickly_compiled")

# The range of the procedural speaker: x, y and distance of the shoulders.
_KNOWN = np.array([[0.48, 0.52], [0.45, 0.48], [0.30, 0.34]])
_needs_pose = pytest.mark.skipif(
    not pose.is_installed(), reason="the extra [pose] is not installed"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("portraits")
    tiny.constant_stages(folder, **{"shoulders": tuple(map(tuple, _KNOWN.tolist()))})
    return folder


@pytest.fixture(scope="module")
def animator(folder):
    return Animator.load(folder / "stage1")


def _noise(height, width):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def _picture(left, top, size=256, identity=1):
    """A drawn person within a larger, plain picture."""
    picture = np.full((480, 640, 3), 205, np.uint8)
    picture[top : top + size, left : left + size] = speaker.portrait(identity=identity, size=size)
    return picture


@pytest.mark.parametrize("box", [(30, 20, 60), (0, 0, 90), (70, 0, 90), (0, 30, 60)])
def test_a_frame_like_the_square_leaves_the_picture_as_it_is(box):
    picture = _noise(90, 160)
    left, top, side = box
    result = PasteBack(picture, box)(picture[top : top + side, left : left + side])
    np.testing.assert_array_equal(result, picture)


def test_there_is_no_visible_seam():
    """The brightness changes in small steps, except where the picture itself ends."""
    picture = np.full((200, 320, 3), 100, np.uint8)
    result = PasteBack(picture, (40, 0, 200))(np.full((64, 64, 3), 160, np.uint8)).astype(int)
    assert (result[:, :40] == 100).all() and (result[:, 240:] == 100).all()
    assert (result[0, 70:210] == 160).all() and (result[-1, 70:210] == 160).all()
    for axis in (0, 1):
        assert np.abs(np.diff(result, axis=axis)).max() <= 60 / 20 * 1.5 + 1


def test_large_pictures_give_frames_of_limited_size():
    result = PasteBack(_noise(300, 600), (100, 50, 200), most_px=150)(_noise(16, 16))
    assert result.shape == (75, 150, 3)


@pytest.mark.parametrize("size", [64, 256])
@pytest.mark.parametrize("level", [0, 128, 255])
def test_the_watermark_is_legible_on_any_ground_and_only_in_its_corner(size, level):
    frame = np.full((size, size, 3), level, np.uint8)
    marked = Watermark()(frame)
    changed = np.argwhere((marked != frame).any(axis=-1))
    low, high = changed.min(axis=0), changed.max(axis=0)
    assert low[0] > 0.7 * size and low[1] > 0.25 * size
    corner = marked[low[0] : high[0] + 1, low[1] : high[1] + 1].astype(int)
    # WCAG asks for a contrast of 4.5 to 1 in luminance.
    light, dark = (((np.percentile(corner, p) / 255) ** 2.2 + 0.05) for p in (99, 10))
    assert light / dark > 4.5
    assert (frame == level).all()  # The input is unchanged.


@pytest.mark.parametrize("text", ["", " ", "x" * 41, "a\nb", "合成"])
def test_a_watermark_that_cannot_be_drawn_is_refused(text):
    with pytest.raises(InputError, match="--watermark="):
        Watermark(text)


def test_a_watermark_too_long_for_the_frame_is_refused():
    with pytest.raises(InputError, match="no room for it in frames of 64x64"):
        Watermark("entirely synthetic")(np.zeros((64, 64, 3), np.uint8))


def test_the_framing_of_people_in_a_data_set_is_measured(tmp_path):
    procedural.write_procedural(
        tmp_path / "data", num_clips=4, num_identities=2, clip_sec=1.0, size=32, seed=0
    )
    source = clips.ClipSource(tmp_path / "data", "train")
    spans = np.array(portrait_framing.shoulders_of(source))
    measures = np.concatenate([
        portrait_framing.measure(clip["joints"] / 32, source.joint_names) for clip in source
    ])  # fmt: skip
    assert (spans[:, 0] >= measures.min(axis=0) - 1e-4).all()
    assert (spans[:, 1] <= measures.max(axis=0) + 1e-4).all()
    inside = (measures >= spans[:, 0] - 1e-4) & (measures <= spans[:, 1] + 1e-4)
    assert inside.mean() > 0.85
    assert not portrait_framing.how_far(np.median(measures, axis=0), spans)


@pytest.mark.parametrize("value", [(1.0,), (("a", "b"),) * 3, ((0, 1), (0, 1), (0, 1)), "abc"])
def test_a_damaged_range_is_refused(value):
    with pytest.raises(InputError, match="runs: shoulders in its config"):
        portrait_framing.read_range(value, name="runs")


@pytest.mark.parametrize(
    ("measured", "words"),
    [
        ((0.5, 0.46, 0.32), ""),
        ((0.5, 0.46, 0.6), "too large"),
        ((0.5, 0.46, 0.1), "too small"),
        ((0.2, 0.46, 0.32), "too far left"),
        ((0.5, 0.9, 0.32), "too far low"),
    ],
)
def test_framing_far_from_training_is_described(measured, words):
    far = portrait_framing.how_far(np.array(measured), _KNOWN)
    assert words in far and bool(far) == bool(words)


def test_crops_are_those_of_prepare(animator, tmp_path):
    images.write_image(tmp_path / "p.png", _noise(48, 64))
    for crop, (left, top, side) in (("center", (8, 0, 48)), ("3,5,20", (3, 5, 20))):
        square = Portrait.open(tmp_path / "p.png", animator, Style(crop)).source.image
        of_array = Portrait.open(_noise(48, 64), animator, Style(crop)).source.image
        np.testing.assert_array_equal(of_array, square)
        cut = _noise(48, 64)[top : top + side, left : left + side]
        np.testing.assert_array_equal(square, images.square(cut, size=animator.resolution))
    for image, name in ((tmp_path / "p.png", "p.png"), (_noise(48, 64), "the portrait")):
        with pytest.raises(InputError, match=f"{name}: 64x48 pixels, outside of which"):
            Portrait.open(image, animator, Style("60,0,20"))
        with pytest.raises(InputError, match=f"{name}: size 999"):
            Portrait.open(image, animator, Style(size=999))


@pytest.mark.skipif(pose.is_installed(), reason="the extra [pose] is installed")
def test_without_the_pose_model_one_note_says_that_the_centre_is_used(animator, capsys):
    pipeline._print_once.cache_clear()  # Other tests of this process may have printed it.
    portraits = [Portrait.open(_noise(48, 64), animator, Style("auto")) for _ in range(2)]
    for portrait in portraits:
        pipeline.print_notices(portrait.notices)
    printed = capsys.readouterr().err
    assert printed.count("note: ") == 1 and 'pip install "gesture_jax[pose]"' in printed
    assert not Portrait.open(_noise(48, 64), animator, Style("center")).notices


@_needs_pose
@pytest.mark.parametrize("corner", [(0, 0), (300, 200)])
def test_the_person_is_brought_to_where_training_frames_have_people(corner):
    """The drawn person's own square has this framing, so that it is found again."""
    box, (notice,) = portrait_framing.choose_square("p.png", _picture(*corner), None, _KNOWN)
    assert f"--crop={','.join(map(str, box))};" in notice
    np.testing.assert_allclose(box, (*corner, 256), atol=26)


@_needs_pose
def test_a_well_framed_portrait_is_not_cropped():
    picture = speaker.portrait(identity=1, size=200)
    assert portrait_framing.choose_square("p.png", picture, None, _KNOWN) == ((0, 0, 200), [])


@_needs_pose
def test_framing_far_from_training_is_warned_of():
    picture = _picture(300, 200)
    _, (notice,) = portrait_framing.choose_square("p.png", picture, Crop(), _KNOWN)
    assert notice.startswith("p.png: framed unlike") and "--crop=auto" in notice
    _, (notice,) = portrait_framing.choose_square(
        "blank.png", np.full((90, 90, 3), 200, "u1"), None, _KNOWN
    )
    assert "nobody is found" in notice


def test_pasted_and_marked_videos(animator, tmp_path):
    """Frames have the picture's size and the watermark; the motion is saved."""
    picture = Image.fromarray(_noise(96, 160)).resize((160, 96))
    picture.save(tmp_path / "p.png")
    frames = speaker.perform(identity=0, seed=0, duration_sec=0.2, size=32).frames
    write_video(tmp_path / "d.mp4", frames)
    style = Style("40,20,64", paste_back=True, watermark="")
    out, motion = tmp_path / "o.mp4", str(tmp_path / "m.npz")
    pipeline.animate(
        animator, str(tmp_path / "p.png"), str(tmp_path / "d.mp4"), str(out), style=style,
        save_motion=motion,
    )  # fmt: skip
    (first, *_) = shown = list(iterate_pictures(out))
    assert len(shown) == len(frames) and first.shape == (96, 160, 3)
    corner = first[-14:, -60:].astype(int)
    assert corner.max() > 200 and np.median(corner) < 130
    with np.load(motion) as saved:
        assert saved["motion"].shape == (len(frames), animator.model.motion_dim)
        own = animator.encode_source(np.asarray(picture)[20:84, 40:104]).motion
        np.testing.assert_allclose(saved["motion"][0], own, atol=1e-4)
    with pytest.raises(InputError, match="drop it, or --paste_back"):
        pipeline.animate(animator, "p", "d", "o.mp4", style=style, side_by_side=True)


@pytest.mark.parametrize(
    ("flag", "size", "code", "message"),
    [
        ("--watermark", (96, 160), 0, ""),
        ("--watermark=ours", (96, 160), 0, ""),
        ("--nowatermark", (96, 160), 0, ""),
        ("--watermark=合成", None, 2, "the font has no sign"),
        ("--crop=left", None, 2, "wanted is auto, center"),
    ],
)
def test_style_flags(folder, tmp_path, flag, size, code, message):
    images.write_image(tmp_path / "p.png", np.full((96, 160, 3), 90, np.uint8))
    write_video(tmp_path / "d.mp4", np.zeros((1, 32, 32, 3), np.uint8))
    paths = {"image": "p.png", "driving": "d.mp4", "out": "o.mp4"}
    arguments = [f"--{name}={tmp_path / path}" for name, path in paths.items()]
    arguments += [f"--stage1={folder}/stage1", "--crop=center", "--paste_back", flag]
    found, errors = in_process.run("animate", *arguments)
    assert found == code and message in errors
    if size:
        (frame,) = iterate_pictures(tmp_path / "o.mp4")
        assert frame.shape[:2] == size
        assert (frame[-8:, -30:].max() > 200) == (flag != "--nowatermark")
    else:
        assert not (tmp_path / "o.mp4").exists()


@pytest.fixture(scope="module")
def reading_animator(folder):
    """The same stage 1, in one file with a reading of poses."""
    path = folder / "with_reading.safetensors"
    reading = np.eye(15, 20, dtype=np.float32)
    checkpoints.pack(folder / "stage1", path, half=False, pose_reading=reading)
    return Animator.load(path)


_NOBODY = np.full((256, 256, 3), 180, np.uint8)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"renderer": "gpu"}, "--renderer=gpu: choose auto, puppet, network"),
        ({"renderer": "puppet", "explain": True}, "drop it or --renderer=puppet"),
    ],
)
def test_renderers_that_cannot_be_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        Style(**changes)


def test_a_stage_1_without_a_reading_has_no_puppets(animator):
    portrait = Portrait.open(_NOBODY, animator)
    assert isinstance(portrait._renderer, NetworkRenderer)
    assert not [notice for notice in portrait.notices if "networks" in notice]
    reason = "the portrait: cannot be a puppet, because this stage 1 has no reading of poses"
    with pytest.raises(InputError, match=reason):
        Portrait.open(_NOBODY, animator, Style(renderer="puppet"))


@_needs_pose
def test_a_picture_without_a_person_is_drawn_by_the_networks(reading_animator, tmp_path):
    path = tmp_path / "wall.png"
    images.write_image(path, _NOBODY)
    reason = "because of its picture: no face (none is found)"
    portrait = Portrait.open(path, reading_animator)
    assert f"{path}: the networks draw it, blurred, {reason}" in portrait.notices
    with pytest.raises(InputError) as refused:
        Portrait.open(path, reading_animator, Style(renderer="puppet"))
    assert str(refused.value) == f"{path}: cannot be a puppet, {reason}"
    # There is no notice where the networks are asked for, and the frames are the same.
    asked = Portrait.open(path, reading_animator, Style(renderer="network"))
    explained = Portrait.open(path, reading_animator, Style(explain=True))
    for other in (asked, explained):
        assert isinstance(other._renderer, NetworkRenderer)
        assert not [notice for notice in other.notices if "networks" in notice]
    motion = portrait.source.motion[None]
    np.testing.assert_array_equal([*portrait.render(motion)], [*asked.render(motion)])


@pytest.mark.skipif(pose.is_installed(), reason="the extra [pose] is installed")
def test_without_the_pose_model_the_networks_draw_everybody(reading_animator):
    portrait = Portrait.open(_NOBODY, reading_animator)
    assert isinstance(portrait._renderer, NetworkRenderer)
    assert [notice for notice in portrait.notices if "no pose model is installed" in notice]
    with pytest.raises(InputError, match="cannot be a puppet, because no pose model"):
        Portrait.open(_NOBODY, reading_animator, Style(renderer="puppet"))


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--renderer=puppet", "cannot be a puppet, because this stage 1 has no reading of poses"),
        ("--renderer=gpu", "--renderer=gpu"),
    ],
)
def test_the_flag_of_renderers(folder, tmp_path, flag, message):
    images.write_image(tmp_path / "p.png", _NOBODY)
    write_video(tmp_path / "d.mp4", np.zeros((1, 32, 32, 3), np.uint8))
    paths = {"image": "p.png", "driving": "d.mp4", "out": "o.mp4"}
    arguments = [f"--{name}={tmp_path / path}" for name, path in paths.items()]
    code, errors = in_process.run(
        "animate", *arguments, f"--stage1={folder}/stage1", "--crop=center", flag
    )
    assert code == 2 and message in errors
    assert not (tmp_path / "o.mp4").exists()
