"""An avatar of a portrait and of a video, made with tiny networks; resumed, refused, asked for."""

import pathlib
import re
import signal

import jax
import numpy as np
import pytest

pytest.importorskip("cv2")

from gesture_jax import errors
from gesture_jax.checkpoint import checkpoints, packed
from gesture_jax.data.clips import ClipSource
from gesture_jax.errors import InputError
from gesture_jax.inference import avatar
from gesture_jax.inference.animator import Animator
from gesture_jax.inference.avatar import Consent
from gesture_jax.inference.loading import load_stage2
from gesture_jax.media import images
from gesture_jax.media.writer import write_video
from gesture_jax.models import motion_model
from gesture_jax.models.build import build_model
from gesture_jax.models.motion_space import MotionSpace
from gesture_jax.parallel import sharding
from gesture_jax.people import pose
from gesture_jax.preparation import splits, videos
from gesture_jax.procedural import speaker
from gesture_jax.training import personal
from tests import in_process, tiny
from tests.models.layered_test import NARROW

pytestmark = pytest.mark.usefixtures("quickly_compiled")

_PORTRAITS = pathlib.Path(__file__).parents[3] / "shared" / "data" / "portraits"
_needs_portraits = pytest.mark.skipif(
    not _PORTRAITS.exists() or not pose.is_installed(),
    reason="../shared/data/portraits or the extra [pose] is absent",
)
_CONSENT = Consent("Ann", "ben", "2026-12-01T09:30:00+00:00")
_NUM_STEPS = 3


@pytest.fixture(scope="module")
def donor(tmp_path_factory):
    """Packed files of a layered stage 1 with a reading of poses, and of a stage 2 on it."""
    root = tmp_path_factory.mktemp("donor")
    random = np.random.default_rng(0)
    fill = lambda shape: 0.1 * np.abs(random.standard_normal(shape))
    one = tiny.stage1()
    one.model = {"network": "layered", "resolution": 96, "num_downs": 2, **NARROW}
    model = build_model(**one.model)
    tiny.untrained_stage1(one, root / "stage1")
    reading = np.ones((MotionSpace("angles", model.motion_dim).dim, 20), np.float32)
    file = root / "stage1.safetensors"
    checkpoints.pack(root / "stage1", file, half=True, pose_reading=reading)
    # As if the extractor had been trained for 7 steps.
    arrays = {}
    with packed.reading(file) as found:
        arrays |= {name: np.array(array) for name, array in found.items()}
    packed.write(file, arrays, config=packed.read_config(file, "stage1"), step=7)
    two = tiny.stage2(root / "stage1", **{"sampler.num_steps": 1, "schedule.candidates": 1})
    two.update({"feature_dim": model.motion_dim, "speech_dim": 35, "stage1_step": 7})
    tiny.save(root / "stage2", two, motion_model.abstract_variables(two), fill)
    checkpoints.pack(root / "stage2", root / "stage2.safetensors", half=True)
    return {stage: str(root / f"{stage}.safetensors") for stage in ("stage1", "stage2")}


@pytest.fixture
def few_clips(monkeypatch):
    _make_few_clips(monkeypatch)


def _make_few_clips(patch):
    """Makes two clips of a second of each portrait."""
    patch.setattr(personal, "_NUM_CLIPS", 2)
    patch.setattr(personal, "_CLIP_SEC", 1.0)


def _make(folder, donor, *, name="room_0014.jpg", num_steps=_NUM_STEPS):
    steps = personal.Steps(num_steps)
    return personal.from_portrait(_PORTRAITS / name, folder, _CONSENT, steps, donor=donor)


@pytest.fixture(scope="module")
def made(donor, tmp_path_factory):
    """The workdir of an avatar that the command has made."""
    folder = tmp_path_factory.mktemp("made") / "me"
    with pytest.MonkeyPatch.context() as patch:
        _make_few_clips(patch)
        patch.setattr(personal.bundled, "find", lambda: donor)
        patch.setenv("LOGNAME", "ben")
        code, told = in_process.run(
            "personalize", f"--image={_PORTRAITS}/room_0014.jpg", f"--out={folder}",
            "--i_have_consent", "--person=Ann", f"--num_steps={_NUM_STEPS}",
        )  # fmt: skip
    assert code == 0, told
    return folder


def _params(path):
    """The weights of stage 1, by their names."""
    with packed.reading(path, "stage1") as found:
        return {name: np.array(array) for name, array in found.items()}


def _equal(one, other):
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


@_needs_portraits
def test_a_portrait_becomes_an_avatar_with_a_new_renderer(made, donor):
    """The extractor and the reading of poses are the donor's to the bit."""
    file = made.with_name("me.avatar")
    person = avatar.read(file)
    assert len(person.pictures) == 1
    assert person.rig is not None and person.portrait.shape[0] == person.portrait.shape[1]
    config = checkpoints.read_config(made, stage="stage1")
    assert config.optim.frozen_parts == ("extractor",) and config.keep_checkpoints == 1
    old, new = _params(donor["stage1"]), _params(file)
    assert old.keys() == new.keys()
    kept = [name for name in old if "/extractor/" in name or "pose_reading" in name]
    assert len(kept) > 3
    for name in kept:
        np.testing.assert_array_equal(new[name], old[name])
    # The file has 16 bits a weight, which do not show so few steps.
    old, new = (Animator.load(path)._variables["params"] for path in (donor["stage1"], made))
    changed = {part for part in old if not _equal(old[part], new[part])}
    assert "decoder" in changed and changed <= old.keys() - {"extractor"}
    with packed.reading(file, "stage2") as found, packed.reading(donor["stage2"]) as expected:
        assert all(np.array_equal(found[name], expected[name]) for name in expected)


@_needs_portraits
def test_stage_2_of_the_donor_goes_on_fitting(made, donor):
    """The step of the extractor is carried along by the checkpoint, the packed file, the avatar."""
    for stage1 in (made, made / "stage1.safetensors", made.with_name("me.avatar")):
        assert checkpoints.motion_step(stage1) == 7
        assert checkpoints.newest_step(stage1) == _NUM_STEPS
        animator = Animator.load(stage1)
        assert animator.motion_step == 7 and animator.pose_reading.shape[1] == 20
        config, _ = load_stage2(donor["stage2"], animator)
        assert config.stage1_step == 7
    frames = speaker.perform(identity=0, seed=0, duration_sec=0.2, size=96).frames
    motion = [Animator.load(path).extract_motion(frames) for path in (made, donor["stage1"])]
    np.testing.assert_allclose(*motion, atol=1e-6)


@_needs_portraits
def test_an_interrupted_training_resumes_to_the_same_avatar(
    made, donor, tmp_path, few_clips, monkeypatch
):
    """Ctrl-C ends it after a step, with the one checkpoint that is kept."""
    settle, calls = sharding.settle, []

    def settle_and_signal(*args):
        calls.append(settle(*args))
        if len(calls) == 1:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(sharding, "settle", settle_and_signal)
    with pytest.raises(errors.Stopped, match=f"of {_NUM_STEPS}, which is saved; the same") as ended:
        _make(tmp_path / "me", donor)
    assert ended.value.signal == signal.SIGINT
    assert not (tmp_path / "me.avatar").exists()
    saved = [path.name for path in (tmp_path / "me" / "checkpoints").iterdir()]
    assert len(saved) == 1 and 0 < int(saved[0]) < _NUM_STEPS
    path = _make(tmp_path / "me", donor)
    resumed, straight = _params(path), _params(made.with_name("me.avatar"))
    for name in straight:
        np.testing.assert_array_equal(resumed[name], straight[name])


@_needs_portraits
def test_another_portrait_is_not_mixed_into_the_workdir(made, donor, few_clips):
    before = made.with_name("me.avatar").read_bytes()
    rig = (made / "rigs" / "person.rig.npz").read_bytes()
    with pytest.raises(InputError, match=r"me: holds something else than an avatar of .*0035\.jpg"):
        _make(made, donor, name="room_0035.jpg")
    assert made.with_name("me.avatar").read_bytes() == before
    assert (made / "rigs" / "person.rig.npz").read_bytes() == rig


def _claim_nothing(folder, source):
    """Checks that nothing was written for a workdir that is refused."""
    before = sorted(folder.rglob("*"))
    with pytest.raises(InputError) as refused:
        personal._claim(source[0], source[1])
    assert sorted(folder.rglob("*")) == before
    return str(refused.value)


def test_workdirs_that_cannot_be_used_are_refused(tmp_path):
    portrait = tmp_path / "p.png"
    images.write_image(portrait, np.zeros((8, 8, 3), np.uint8))
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text("{}")
    (tmp_path / "taken.avatar").mkdir()
    for name, sentence in [
        ("me.avatar", "the avatar is written beside it; give --out=me"),
        ("me.safetensors", "give --out=me"),
        ("p.png", "holds something else than an avatar of"),
        ("run", "holds something else than an avatar of"),
        ("taken", "taken.avatar: exists already"),
    ]:
        assert sentence in _claim_nothing(tmp_path, (tmp_path / name, portrait))
    assert personal._claim(tmp_path / "me", portrait) == tmp_path / "me"
    assert personal._claim(tmp_path / "me", portrait) == tmp_path / "me"
    images.write_image(portrait, np.ones((8, 8, 3), np.uint8))
    assert "choose another --out" in _claim_nothing(tmp_path, (tmp_path / "me", portrait))


def test_portraits_without_a_person_are_refused(donor, tmp_path):
    if not pose.is_installed():
        pytest.skip("the extra [pose] is not installed")
    images.write_image(tmp_path / "wall.png", np.full((256, 256, 3), 180, np.uint8))
    with pytest.raises(InputError, match=r"wall\.png: no face \(none is found\)"):
        personal.from_portrait(
            tmp_path / "wall.png", tmp_path / "me", _CONSENT, personal.Steps(1), donor=donor
        )


def _video(path, *, seconds, sound=True):
    frames = np.broadcast_to(
        speaker.portrait(identity=1, size=256), (round(25 * seconds), 256, 256, 3)
    )
    noise = np.random.default_rng(0).normal(0, 0.1, round(16_000 * seconds)).astype(np.float32)
    write_video(path, frames, audio=noise if sound else None)
    return path


def _from_video(video, workdir, donor):
    return personal.from_video(video, workdir, _CONSENT, personal.Steps(1), donor=donor)


def test_videos_that_cannot_be_used_are_refused(donor, tmp_path):
    mute = _video(tmp_path / "mute.mp4", seconds=0.4, sound=False)
    with pytest.raises(InputError, match=r"mute\.mp4: has no sound; give a video of one person"):
        _from_video(mute, tmp_path / "me", donor)
    with pytest.raises(InputError, match=r"nobody\.mp4: no such file"):
        _from_video(tmp_path / "nobody.mp4", tmp_path / "me", donor)
    assert not (tmp_path / "me").exists()
    if not pose.is_installed():
        return
    short = _video(tmp_path / "short.mp4", seconds=4.0)
    with pytest.raises(InputError) as refused:
        _from_video(short, tmp_path / "me", donor)
    sentence = r"short\.mp4: one person who talks is seen in 4\.0 s of it only; 10 s or more"
    assert re.search(sentence, str(refused.value))
    assert not (tmp_path / "me.avatar").exists()


def test_each_clip_of_one_video_is_split_in_time(tmp_path):
    """A long video is cut into clips; the last fifth of each is for testing."""
    video = _video(tmp_path / "talk.mp4", seconds=5.0)
    settings = videos.Settings(size=16, min_sec=1.0, max_sec=2.0)
    videos.write_videos(
        video, tmp_path / "clips", settings=settings, test_fraction=0.2, split_within_clips=True
    )
    lengths = {}
    for split in splits.SPLITS:
        facts = ClipSource(tmp_path / "clips", split).metadata["splits"][split]
        lengths[split] = dict(zip(facts["clip_ids"], facts["num_frames"], strict=True))
    names = [f"talk#talk.{number:03d}" for number in range(3)]
    assert [*lengths["train"]] == names and [*lengths["test"]] == [f"{n}-end" for n in names]
    for name in names:
        whole = lengths["train"][name] + lengths["test"][f"{name}-end"]
        assert lengths["test"][f"{name}-end"] == round(whole / 5)
    assert personal._count_seconds(tmp_path / "clips") == pytest.approx(5.0)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (["--image={}/p.png"], "needs the consent of the person who is shown"),
        (["--video={}/v.mp4"], "confirm it with --i_have_consent"),
        (["--i_have_consent"], "give one of --image=PORTRAIT and --video=VIDEO"),
        (
            ["--i_have_consent", "--image={}/p.png", "--video={}/v.mp4"],
            "give one of --image=PORTRAIT and --video=VIDEO",
        ),
        (["--i_have_consent", "--image={}/me"], "would be overwritten"),
        (["--i_have_consent", "--image={}/nobody.png"], "nobody.png: no such file"),
        (["--i_have_consent", "--image={}/p.png", "--num_steps=-1"], "num_steps"),
    ],
)
def test_the_command_refuses_with_one_sentence_and_writes_nothing(tmp_path, given, sentence):
    if not pose.is_installed() and "nobody.png" in sentence:
        pytest.skip("the extra [pose] is not installed")
    images.write_image(tmp_path / "p.png", np.zeros((64, 64, 3), np.uint8))
    before = sorted(tmp_path.rglob("*"))
    arguments = [word.format(tmp_path) for word in given]
    code, told = in_process.run("personalize", *arguments, f"--out={tmp_path}/me")
    assert code == 2 and sentence in told
    assert told.startswith("error: ") and told.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


@_needs_portraits
def test_the_command_notes_who_confirmed_the_consent_and_when(made):
    consent = avatar.read(made.with_name("me.avatar")).consent
    assert (consent.person, consent.confirmed_by) == ("Ann", "ben")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", consent.time)


def test_no_user_name_is_no_failure(monkeypatch):
    """As in a container whose user has no entry in the list of users."""
    from gesture_jax import personalize

    for error in (KeyError, OSError):

        def fail(error=error):
            raise error("no such user")

        monkeypatch.setattr(personalize.getpass, "getuser", fail)
        assert personalize._find_user().isdecimal()
