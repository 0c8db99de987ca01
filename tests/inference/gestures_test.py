"""The body follows given motion, and the lips follow the speech."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest

from gesture_jax.errors import InputError
from gesture_jax.inference.gestures import back_and_forth
from gesture_jax.inference.portraits import Portrait
from gesture_jax.media import images
from gesture_jax.media.motion_files import read_motion, write_motion
from gesture_jax.media.video import read_video
from gesture_jax.media.writer import write_audio, write_video
from gesture_jax.procedural import speaker
from tests import compilations, in_process, tiny
from tests.inference.generator_test import make_generator

pytestmark = pytest.mark.usefixtures("quickly_compiled")


@pytest.fixture(scope="module")
def generator():
    return make_generator(num_lips=2)


@pytest.fixture(scope="module")
def portrait():
    return speaker.portrait(identity=0, size=32)


@pytest.fixture(scope="module")
def audio():
    return speaker.perform(identity=0, seed=1, duration_sec=4.0, size=16).audio


@pytest.fixture(scope="module")
def source(generator, portrait):
    return Portrait.open(portrait, generator.animator).source


@pytest.fixture(scope="module")
def given(generator, source):
    """Motion of a stranger, mouth included: it begins at another pose than the portrait's."""
    random = np.random.default_rng(3)
    space, times = generator._space, np.arange(120)[:, None]
    wave = np.sin(times / 25 * random.uniform(1, 4, space.body_dim)) * random.uniform(0.02, 0.2)
    vectors = np.asarray(_vectors(generator, source.motion)) + 0.1 + wave
    lips = 0.15 * np.sin(times / 25 * np.array([9, 13]))
    vectors = jnp.asarray(np.hstack([vectors, lips]))
    return np.asarray(space.to_feature(vectors, _statistics(generator)))


def _statistics(generator):
    return {name: np.asarray(x) for name, x in generator._variables["statistics"].items()}


def _vectors(generator, motion):
    """Returns the vectors of motion features, in which the lips are not yet told apart."""
    return np.asarray(generator._space.from_feature(motion, _statistics(generator)))[..., :-2]


def _split(generator, changes):
    """Splits changes of vectors into what the lips explain, [t, 2], and the rest."""
    statistics = _statistics(generator)
    scale = statistics["pose_std"][:-2]
    explained, wanted = (statistics["lip_motion"] / scale).T, (changes / scale).T
    lips = np.linalg.lstsq(explained, wanted)[0]
    return lips.T, (wanted - explained @ lips).T


def _move(generator, portrait, audio, *, gestures=None, **control):
    options = generator.options(control=control)
    clip = generator.generate(portrait, audio, 16_000, seed=5, gestures=gestures, options=options)
    return _vectors(generator, clip.motion)


def test_the_body_follows_the_gestures_and_the_lips_follow_the_speech(
    generator, portrait, audio, source, given
):
    own = _vectors(generator, source.motion)
    moved = _move(generator, portrait, audio, gestures=given)
    lips, body = _split(generator, moved - own)
    retargeted = np.stack(list(generator.animator.retarget(source, given)))[:100]
    own_lips, wanted = _split(generator, _vectors(generator, retargeted) - own)
    np.testing.assert_allclose(body, wanted, atol=2e-3)
    assert np.abs(wanted).max() > 1 and np.abs(own_lips).max() > 0.05

    speaking, silent = (_move(generator, portrait, audio, mouth_scale=x) for x in (1, 0))
    spoken, rest = _split(generator, speaking - silent)
    np.testing.assert_allclose(rest, 0, atol=2e-3)
    np.testing.assert_allclose(lips, spoken, atol=1e-4)
    assert np.ptp(spoken, axis=0).min() > 0.02
    assert np.abs(speaking - moved).max() > 0.05


def test_the_mouth_scale_changes_the_lips_alone(generator, portrait, audio, source, given):
    still = itertools.repeat(given[0])
    own = _vectors(generator, source.motion)
    changes = {
        scale: _move(generator, portrait, audio, gestures=still, mouth_scale=scale) - own
        for scale in (0, 1, 2)
    }
    np.testing.assert_allclose(changes[0], 0, atol=1e-5)
    np.testing.assert_allclose(changes[2], 2 * changes[1], atol=1e-5)
    assert np.abs(changes[1]).max() > 0.01


def test_the_other_scales_apply_to_the_gestures(generator, portrait, audio, source, given):
    own = _vectors(generator, source.motion)
    whole = _move(generator, portrait, audio, gestures=given) - own
    half = _move(generator, portrait, audio, gestures=given, motion_scale=0.5) - own
    np.testing.assert_allclose(half, whole / 2, atol=1e-5)
    rested = _move(generator, portrait, audio, gestures=given, rest_sec=1.0) - own
    np.testing.assert_allclose(rested[-1], 0, atol=1e-5)


def test_positions_of_the_lips_after_motion_features_have_no_effect(
    generator, portrait, audio, given
):
    """Clips whose mouth the renderer moves have them."""
    lips = np.full((len(given), 2), 0.1, np.float32)
    moved = _move(generator, portrait, audio, gestures=np.hstack([given, lips]))
    np.testing.assert_array_equal(moved, _move(generator, portrait, audio, gestures=given))


def test_short_gestures_run_back_and_forth_without_a_jump(generator, portrait, audio, given):
    long = _move(generator, portrait, audio, gestures=given, mouth_scale=0)
    short = _move(generator, portrait, audio, gestures=given[:30], mouth_scale=0)
    order = [*range(30), *range(28, -1, -1), *range(1, 30), *range(28, 16, -1)]
    np.testing.assert_allclose(short, long[order], atol=1e-6)
    steps = lambda vectors: np.abs(np.diff(vectors, axis=0)).max()
    assert steps(short) <= steps(long[:30]) + 1e-6


def test_items_run_back_and_forth():
    first = lambda items, **how: "".join(itertools.islice(back_and_forth(items, **how), 9))
    assert first("abcd") == "abcdcbabc"
    assert first("ab") == "ababababa"
    assert first("a") == "aaaaaaaaa"
    assert first("abcdef", most_kept=3) == "abcdefede"


def test_no_more_gestures_are_read_than_are_needed(generator, portrait, audio, given):
    """To the end of the last hop at most."""
    endless = (given[0] for _ in itertools.count())
    generator.generate(portrait, audio[:16_000], 16_000, gestures=endless)
    counted = iter(range(10**6))
    motion = (given[0] for _ in counted)
    generator.generate(portrait, audio[:16_000], 16_000, gestures=motion)
    assert next(counted) <= generator.defaults.schedule.hop + 1


def test_other_gestures_compile_nothing_new(generator, portrait, audio, given):
    make = lambda gestures, **how: generator.generate(
        portrait, audio, 16_000, gestures=gestures, **how
    )
    make(None)
    make(given)
    with compilations.recorded() as compiled:
        make(given[:7], seed=1)
        make(None, seed=2)
    assert not compiled


@pytest.mark.parametrize(
    ("motion", "sentence"),
    [
        (np.zeros((4, 5), np.float32), r"gestures: a frame has motion of shape \(5,\)"),
        (np.full((1, 147), np.nan, np.float32), "147 finite floats"),
        (np.zeros((1, 147), int), "147 finite floats"),
        ([], "there is no frame of motion"),
        ("none.mp4", r"none\.mp4: no such file"),
        ("none.NPZ", r"none\.NPZ: "),
    ],
)
def test_gestures_that_are_not_motion(generator, portrait, audio, motion, sentence):
    with pytest.raises(InputError, match=sentence):
        generator.generate(portrait, audio, 16_000, gestures=motion)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gestures")
    tiny.moving_stages(folder, num_lips=2)
    images.write_image(folder / "p.png", speaker.portrait(identity=1, size=48))
    done = speaker.perform(identity=0, seed=1, duration_sec=2.0, size=16)
    write_audio(folder / "s.wav", done.audio, 16_000)
    write_video(folder / "d.mp4", done.frames[10:35])
    return folder


def test_a_video_and_its_motion_file_give_the_same_video(folder, monkeypatch):
    monkeypatch.chdir(folder)
    stages = "--image=p.png", "--stage1=stage1"
    animate = "--driving=d.mp4", "--out=a.mp4", "--save_motion=d.npz"
    code, errors = in_process.run("animate", *stages, *animate)
    assert code == 0, errors
    generate = lambda name, *more: in_process.run(
        "generate", *stages, "--stage2=stage2", "--audio=s.wav", f"--out={name}.mp4",
        f"--save_motion={name}.npz", *more,
    )  # fmt: skip
    for name, more in {
        "plain": (), "video": ("--gestures=d.mp4",), "motion": ("--gestures=d.npz",),
        "loud": ("--gestures=d.npz", "--mouth_scale=2"),
    }.items():  # fmt: skip
        code, errors = generate(name, *more)
        assert code == 0, errors
    moved = {name: read_motion(f"{name}.npz") for name in ("plain", "video", "motion", "loud")}
    np.testing.assert_allclose(moved["video"], moved["motion"], atol=1e-4)
    assert len(read_video("video.mp4", size=16)) == len(moved["video"]) == 50
    for other in ("plain", "loud"):
        assert np.abs(moved[other] - moved["video"]).max() > 0.01
    # There and back: frame 24 is the turning point.
    code, errors = generate("silent", "--gestures=d.mp4", "--mouth_scale=0")
    assert code == 0, errors
    silent = read_motion("silent.npz")
    np.testing.assert_array_equal(silent[25:49], silent[23::-1])


def test_a_row_of_a_manifest_may_name_gestures(folder, monkeypatch):
    monkeypatch.chdir(folder)
    write_motion("wrong.npz", np.zeros((3, 5), np.float32), np.zeros((16, 16, 3), np.uint8))
    rows = "r.mp4,d.mp4,r.npz", "t.mp4,r.mp4,t.npz", "u.mp4,wrong.npz,u.npz"
    lines = "".join(f"p.png,s.wav,{row}\n" for row in rows)
    (folder / "many.csv").write_text("image,audio,out,gestures,save_motion\n" + lines)
    code, errors = in_process.run(
        "generate", "--manifest=many.csv", "--stage1=stage1", "--stage2=stage2"
    )
    assert code == 2 and "1 of 3 rows failed; many.csv:4: wrong.npz: a frame has" in errors
    assert len(read_motion("t.npz")) == 50 and not (folder / "u.mp4").exists()
