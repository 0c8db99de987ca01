"""An avatar is one file with a person and both stages; damaged and hostile ones are refused."""

import io
import json

import jax
import numpy as np
import pytest
from PIL import Image

pytest.importorskip("cv2")

from gesture_jax.checkpoint import checkpoints, packed
from gesture_jax.errors import InputError
from gesture_jax.inference import avatar
from gesture_jax.inference.animator import Animator
from gesture_jax.inference.avatar import Avatar, Consent
from gesture_jax.inference.generator import GestureGenerator
from gesture_jax.inference.network_renderer import NetworkRenderer
from gesture_jax.inference.portraits import Portrait, Style
from gesture_jax.inference.puppet_renderer import PuppetRenderer
from gesture_jax.media import images
from gesture_jax.media.sound import read_audio
from gesture_jax.media.video import read_video
from gesture_jax.media.writer import write_audio, write_video
from gesture_jax.procedural import speaker
from gesture_jax.storage import safetensors
from tests import in_process, photo_person, tiny
from tests.photo_person import make_rig, psnr

pytestmark = pytest.mark.usefixtures("quickly_compiled")

_CONSENT = Consent("Ann", "ben", "2026-12-01T09:30:00+00:00")
_STILL = "a hand is not found"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Both stages as packed files, an avatar of them with a rig, and one without."""
    folder = tmp_path_factory.mktemp("avatar")
    tiny.moving_stages(folder)
    reading = np.eye(15, 20, dtype=np.float32)
    checkpoints.pack(
        folder / "stage1", folder / "stage1.safetensors", half=False, pose_reading=reading
    )
    checkpoints.pack(folder / "stage2", folder / "stage2.safetensors", half=True)
    _write(folder, "ann.avatar", Avatar(_pictures(), _CONSENT, make_rig(), _STILL))
    _write(folder, "plain.avatar", Avatar(_pictures(), _CONSENT))
    done = speaker.perform(identity=0, seed=5, duration_sec=1.0, size=32)
    write_audio(folder / "speech.wav", done.audio, 16_000)
    write_video(folder / "driving.mp4", done.frames[:3])
    images.write_image(folder / "ann.png", _pictures()[0])
    return folder


def _pictures():
    first = photo_person.draw_landmarks().picture
    return first, first[64:448, 64:448][:, ::-1].copy()


def _write(folder, name, person):
    stages = {stage: folder / f"{stage}.safetensors" for stage in ("stage1", "stage2")}
    avatar.write(folder / name, person, **stages)


def _equal(one, other):
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


def test_the_person_survives_writing_and_reading(folder):
    found = avatar.read(folder / "ann.avatar")
    assert found.consent == _CONSENT and found.still == _STILL
    assert len(found.pictures) == 2
    for picture, written in zip(found.pictures, _pictures(), strict=True):
        assert picture.dtype == np.uint8 and picture.shape == written.shape
        assert psnr(picture, written) > 38
    np.testing.assert_array_equal(found.portrait, found.pictures[0])
    rig, written = found.rig, make_rig()
    np.testing.assert_allclose(rig.face, written.face, atol=1e-3)
    np.testing.assert_array_equal(rig.body.alpha, written.body.alpha)
    assert [arm.outward for arm in rig.arms] == [arm.outward for arm in written.arms]
    assert psnr(rig.background, written.background) > 35
    plain = avatar.read(folder / "plain.avatar")
    assert plain.rig is None and plain.still == ""


def test_the_stages_are_those_of_the_packed_files_to_the_bit(folder):
    file = folder / "ann.avatar"
    for stage in ("stage1", "stage2"):
        source = folder / f"{stage}.safetensors"
        with packed.reading(file, stage) as found, packed.reading(source, stage) as expected:
            assert found.keys() == expected.keys()
            assert all(found[name].dtype == expected[name].dtype for name in found)
            assert all(np.array_equal(found[name], expected[name]) for name in found)
        assert packed.read_config(file, stage) == packed.read_config(source, stage)
        assert packed.read_step(file, stage) == packed.read_step(source, stage)
        assert checkpoints.newest_step(file, stage=stage) == packed.read_step(source, stage)
    assert checkpoints.motion_step(file) == checkpoints.motion_step(folder / "stage1.safetensors")


def test_files_are_as_readable_as_others(folder):
    (folder / "other").touch()
    modes = {name: (folder / name).stat().st_mode for name in ("other", "ann.avatar")}
    assert modes["ann.avatar"] == modes["other"]


def test_both_stages_are_loaded_from_the_avatar(folder):
    """The motion and the frames are those of the packed files."""
    made, speech = [], read_audio(folder / "speech.wav")
    for stage1, stage2 in [("ann.avatar",) * 2, ("stage1.safetensors", "stage2.safetensors")]:
        generator = GestureGenerator.load(stage1=folder / stage1, stage2=folder / stage2)
        clip = generator.generate(folder / "plain.avatar", speech, 16_000, seed=3)
        made.append((clip.motion, np.array([*clip.frames])))
    assert len(made[0][1]) == 25
    np.testing.assert_array_equal(made[0][0], made[1][0])
    np.testing.assert_array_equal(made[0][1], made[1][1])
    assert _equal(*(Animator.load(folder / name)._variables for name in ("ann.avatar", "stage1")))


def test_the_portrait_of_an_avatar_moves_by_its_own_rig(folder):
    animator = Animator.load(folder / "ann.avatar")
    portrait = Portrait.open(folder / "ann.avatar", animator, Style("auto"))
    assert isinstance(portrait._renderer, PuppetRenderer)
    assert [notice for notice in portrait.notices if _STILL in notice]
    square = images.square(avatar.read(folder / "ann.avatar").portrait, size=portrait.source.size)
    np.testing.assert_array_equal(portrait.source.image, square)
    plain = Portrait.open(folder / "plain.avatar", animator, Style("auto"))
    assert isinstance(plain._renderer, NetworkRenderer)
    with pytest.raises(InputError, match=r"plain\.avatar: cannot be a puppet.* has no rig"):
        Portrait.open(folder / "plain.avatar", animator, Style(renderer="puppet"))
    with pytest.raises(InputError, match=r"ann\.avatar: the portrait of an avatar is square; drop"):
        Portrait.open(folder / "ann.avatar", animator, Style("0,0,99"))


@pytest.mark.parametrize("name", ["a.safetensors", "a", "avatar"])
def test_other_endings_are_refused(folder, tmp_path, name):
    with pytest.raises(InputError, match=rf"{name}: give the avatar a name that ends in \.avatar"):
        _write(tmp_path, name, Avatar(_pictures(), _CONSENT))
    assert not [*tmp_path.iterdir()]
    with pytest.raises(InputError, match=r"ends in \.avatar"):
        avatar.read(tmp_path / name)


def _jpeg(width, height):
    file = io.BytesIO()
    Image.new("RGB", (width, height)).save(file, "jpeg")
    return np.frombuffer(file.getvalue(), np.uint8)


def _png():
    file = io.BytesIO()
    Image.new("RGB", (16, 16)).save(file, "png")
    return np.frombuffer(file.getvalue(), np.uint8)


def _note(**changes):
    return lambda arrays, note: note.update(changes)


def _picture(content):
    return lambda arrays, note: arrays.update({"avatar/picture0": content})


def _rig(**changes):
    return lambda arrays, note: arrays.update({f"avatar/rig/{k}": x for k, x in changes.items()})


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (_note(version=2), "not an avatar of this version"),
        (_note(version=None), "not an avatar of this version"),
        (_note(num_pictures=0), "not an avatar"),
        (_note(num_pictures=10**9), "not an avatar"),
        (_note(num_pictures=True), "not an avatar"),
        (_note(num_pictures="2"), "not an avatar"),
        (_note(num_pictures=3), "a picture of the avatar is damaged"),
        (_note(still=None), "not an avatar"),
        (_note(still="a\x1b[2J"), "not an avatar"),
        (_note(consent=None), "not an avatar"),
        (_note(consent=[]), "not an avatar"),
        (_note(consent={"person": "Ann"}), "not an avatar"),
        (_note(consent={"person": 1, "confirmed_by": "b", "time": "c"}), "not an avatar"),
        (lambda arrays, note: note.clear(), "not an avatar"),
        (lambda arrays, note: arrays.pop("avatar/picture1"), "a picture of the avatar is damaged"),
        (_picture(np.zeros(0, np.uint8)), "a picture of the avatar is damaged"),
        (_picture(np.zeros((4, 4), np.uint8)), "a picture of the avatar is damaged"),
        (_picture(np.zeros(9, np.float32)), "a picture of the avatar is damaged"),
        (_picture(_png()), "a picture of the avatar is damaged"),
        (_picture(_jpeg(64, 48)), "a picture of the avatar is damaged"),
        (_picture(_jpeg(4104, 4104)), "a picture of the avatar is damaged"),
        (_picture(_jpeg(64, 64)[:-200]), "a picture of the avatar is damaged"),
        (_rig(version=np.array(7)), "a rig of version 7 instead of 1"),
        (_rig(side=np.array([3, 4])), "not a rig, or a damaged one"),
        (_rig(face=np.full((478, 3), np.nan, np.float32)), "positions that are far outside"),
        (_rig(body_alpha=np.zeros(4, np.uint8)), "not a rig, or a damaged one"),
        (lambda arrays, note: arrays.pop("avatar/rig/pose"), "not a rig, or a damaged one"),
    ],
)
def test_hostile_avatars_are_refused_with_one_sentence(folder, tmp_path, change, sentence):
    arrays = dict(safetensors.read(folder / "ann.avatar"))
    metadata = dict(safetensors.read_metadata(folder / "ann.avatar"))
    note = json.loads(metadata["avatar"])
    change(arrays, note)
    metadata["avatar"] = json.dumps(note)
    del metadata["sha256"]
    packed.write_entries(tmp_path / "bad.avatar", arrays, metadata)
    _check_refused(tmp_path / "bad.avatar", sentence)


def _check_refused(path, sentence):
    with pytest.raises(InputError) as refused:
        avatar.read(path)
    assert str(refused.value).startswith(f"{path}: ") and sentence in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("note", ["", "1", "[]", "null", "{", "[" * 10**5, '"version"'])
def test_notes_that_are_no_objects_are_refused(tmp_path, note):
    packed.write_entries(tmp_path / "bad.avatar", {}, {"avatar": note})
    _check_refused(tmp_path / "bad.avatar", "not an avatar of this version")


def test_damaged_files_and_other_files_are_refused(folder, tmp_path):
    path, content = tmp_path / "bad.avatar", (folder / "ann.avatar").read_bytes()
    for damaged, sentence in [
        (content[:-1000], "not a .safetensors file, or damaged"),
        (content[:-100] + bytes([content[-100] ^ 4]) + content[-99:], "damaged"),
        (b"", "not a .safetensors file"),
        ((folder / "ann.png").read_bytes(), "not a .safetensors file"),
        ((folder / "stage1.safetensors").read_bytes(), "holds no avatar of gesture_jax"),
    ]:
        path.write_bytes(damaged)
        _check_refused(path, sentence)
    with pytest.raises(InputError, match=r"holds no avatar .* make .* `python -m gesture_jax\.per"):
        Animator.load(path)
    _check_refused(tmp_path / "nobody.avatar", "no such file")


@pytest.mark.parametrize("command", ["generate", "animate"])
@pytest.mark.parametrize("flag", ["--image={}/ann.png", "--stage1={}/stage1", "--preset=photo"])
def test_an_avatar_stands_for_portrait_and_weights(folder, tmp_path, command, flag):
    taken = {"generate": "--audio={}/speech.wav", "animate": "--driving={}/driving.mp4"}[command]
    given = [f"--avatar={folder}/ann.avatar", taken.format(folder), flag.format(folder)]
    code, errors = in_process.run(command, *given, f"--out={tmp_path}/a.mp4")
    assert (
        code == 2 and errors.startswith("error: --avatar stands for --image") and "drop" in errors
    )
    assert not [*tmp_path.iterdir()]


def test_commands_take_avatars(folder, tmp_path):
    """Rows of a manifest without a portrait show the avatar; others keep their own portrait."""
    person = f"--avatar={folder}/ann.avatar"
    driving = f"--driving={folder}/driving.mp4"
    code, errors = in_process.run("animate", person, driving, f"--out={tmp_path}/moved.mp4")
    assert code == 0, errors
    assert len(read_video(tmp_path / "moved.mp4", size=16)) == 3
    rows = [
        {"out": f"{tmp_path}/0.mp4", "save_motion": f"{tmp_path}/0.npz"},
        {"out": f"{tmp_path}/2.mp4", "image": f"{folder}/speech.wav"},
    ]
    rows = [{"audio": f"{folder}/speech.wav", **row} for row in rows]
    (tmp_path / "many.jsonl").write_text("\n".join(map(json.dumps, rows)))
    options = [person, "--renderer=network"]
    code, errors = in_process.run("generate", *options, f"--manifest={tmp_path}/many.jsonl")
    assert code == 2 and "1 of 2 rows failed" in errors and "speech.wav: not a picture" in errors
    single = [f"--audio={folder}/speech.wav", f"--out={tmp_path}/1.mp4"]
    single += [f"--save_motion={tmp_path}/1.npz"]
    code, errors = in_process.run("generate", *options, *single)
    assert code == 0, errors
    assert len(read_video(tmp_path / "0.mp4", size=16)) == 25
    with np.load(tmp_path / "0.npz") as row, np.load(tmp_path / "1.npz") as alone:
        for name in ("motion", "portrait"):
            np.testing.assert_array_equal(row[name], alone[name])


def test_animate_needs_a_portrait_or_an_avatar(folder, tmp_path):
    given = [f"--driving={folder}/driving.mp4", f"--out={tmp_path}/a.mp4"]
    code, errors = in_process.run("animate", *given)
    assert code == 2 and "--image is missing; give a portrait, or an --avatar" in errors
