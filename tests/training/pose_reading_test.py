"""How poses are read from motion: the calibration on numbers, and the fit on rigs."""

import dataclasses

import numpy as np
import pytest

pytest.importorskip("cv2")

from gesture_jax.errors import InputError
from gesture_jax.inference.animator import Animator
from gesture_jax.puppets import rig
from gesture_jax.puppets.pose_values import NAMES
from gesture_jax.puppets.puppet import Puppet
from gesture_jax.training import pose_reading
from tests import in_process, tiny
from tests.photo_person import make_rig

pytestmark = pytest.mark.usefixtures("quickly_compiled")

_DIM = 12


def _clips(random, make_values, *, people=10, noise=0.0):
    """Two clips of each person; `make_values(causes, who)` makes values [t, p] from causes."""
    clips = []
    for who in range(people):
        for _ in range(2):
            causes = random.standard_normal((60, _DIM))
            motion = causes + noise * random.standard_normal(causes.shape)
            values = make_values(causes, who)
            clips.append((who, motion.astype(np.float32), values.astype(np.float32)))
    return clips


def _slopes(reading, clips):
    """The slopes of the values over those that are read, by numpy."""
    read = np.concatenate([motion @ reading for _, motion, _ in clips])
    values = np.concatenate([values for *_, values in clips])
    return [np.polyfit(x, y, 1)[0] for x, y in zip(read.T, values.T, strict=True)]


def test_a_linear_relation_is_found():
    """Ridge regression alone would shrink it by a third."""
    random = np.random.default_rng(0)
    relation = random.standard_normal((_DIM, 3)) * (1.0, 100.0, 0.01)
    clips = _clips(random, lambda causes, who: causes @ relation)
    reading = pose_reading.calibrate(clips)
    assert reading.shape == (_DIM, 3) and reading.dtype == np.float32
    np.testing.assert_allclose(_slopes(reading, clips), 1.0, rtol=0.01)
    np.testing.assert_allclose(
        reading / relation.std(axis=0), relation / relation.std(axis=0), atol=0.1
    )


@pytest.mark.parametrize("noise", [0.3, 1.0, 3.0])
def test_new_people_are_read_at_their_true_size(noise):
    random = np.random.default_rng(1)
    relation = random.standard_normal((_DIM, 2))
    make = lambda causes, who: causes @ relation
    reading = pose_reading.calibrate(_clips(random, make, noise=noise))
    new = _clips(random, make, noise=noise, people=100)
    np.testing.assert_allclose(_slopes(reading, new), 1.0, rtol=0.12)


def test_what_has_no_relation_is_not_read():
    """One value is noise, one has the opposite relation in every second person, one is real."""
    random = np.random.default_rng(2)

    def make(causes, who):
        noise = random.standard_normal(len(causes))
        return np.stack([noise, causes[:, 0] * (-1) ** who, causes[:, 1]], axis=1)

    # Ten people in five folds: in each fold, both kinds are left out.
    clips = _clips(random, make)
    reading = pose_reading.calibrate(clips)
    sizes = np.std(np.concatenate([motion @ reading for _, motion, _ in clips]), axis=0)
    assert sizes[0] < 0.2 and sizes[1] < 0.2 and sizes[2] == pytest.approx(1.0, abs=0.05)


def test_a_person_cannot_vouch_for_itself():
    """Each person has a relation of its own, which says nothing about the others."""
    random = np.random.default_rng(3)
    make = lambda causes, who: causes[:, who : who + 1]
    clips = _clips(random, make)
    sizes = [np.std(motion @ pose_reading.calibrate(clips)) for _, motion, _ in clips]
    assert max(sizes) < 0.05


@pytest.fixture(scope="module")
def stages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stages")
    tiny.moving_stages(folder)
    return folder


@pytest.fixture(scope="module")
def rigs(tmp_path_factory):
    """Six rigs; one has no arms that move."""
    folder = tmp_path_factory.mktemp("rigs")
    for number, name in enumerate("abcdef"):
        made = make_rig(hands=name != "c")
        wall = np.roll(made.background, 40 * number, axis=1) - np.uint8(10 * number)
        rig.save_rig(folder / f"{name}{rig.ENDING}", dataclasses.replace(made, background=wall))
    return folder


def _paths(rigs, names):
    return {name: rigs / f"{name}{rig.ENDING}" for name in names}


@pytest.fixture(scope="module")
def packed(stages, rigs):
    """Stage 1 in one file, with a reading."""
    path = stages / "with_reading.safetensors"
    code, errors = in_process.run(
        "pack", f"--workdir={stages}/stage1", f"--out={path}", f"--portraits={rigs}", "--half"
    )
    assert code == 0, errors
    return path


def test_the_reading_is_packed_whole(packed, stages):
    """Its values are not rounded to 16 bits, as the weights are."""
    assert Animator.load(stages / "stage1").pose_reading is None
    reading = Animator.load(packed).pose_reading
    assert reading.dtype == np.float32 and reading.shape == (15, len(NAMES))
    assert np.isfinite(reading).all() and (reading != reading.astype(np.float16)).any()


def test_the_fit_reads_wrists_and_follows_from_the_portraits_with_arms(stages, rigs):
    """Even random networks see hands go up and down."""
    animator = Animator.load(stages / "stage1")
    fit = lambda names: pose_reading.fit_pose_reading(animator, _paths(rigs, names), clips_each=1)
    reading = fit("abdef")
    np.testing.assert_array_equal(reading, fit("abcdef"))
    read, values = [], []
    for who, path in enumerate(_paths(rigs, "abdef").values()):
        puppet = Puppet(rig.load_rig(path))
        ((found, motion, shown),) = pose_reading._draw_clips(animator, puppet, who, 1, 0)
        assert found == who and motion.shape == (50, 15) and shown.shape == (50, len(NAMES))
        assert motion.any(
            axis=1
        ).all()  # The pose at rest, which is drawn first, is not among them.
        read.append(motion @ reading)
        values.append(shown)
    read, values = np.concatenate(read), np.concatenate(values)
    for name in ("left_down", "right_down"):
        which = NAMES.index(name)
        assert np.corrcoef(read[:, which], values[:, which])[0, 1] > 0.4


def test_fewer_than_five_portraits_with_arms_are_refused(stages, rigs, tmp_path):
    animator = Animator.load(stages / "stage1")
    with pytest.raises(InputError, match=r"4 portraits have arms .* at least 5 are needed"):
        pose_reading.fit_pose_reading(animator, _paths(rigs, "abcde"))
    for name, path in _paths(rigs, "ac").items():
        (tmp_path / f"{name}{rig.ENDING}").write_bytes(path.read_bytes())
    with pytest.raises(InputError, match="1 portraits have arms"):
        pose_reading.fit_on_portraits(stages / "stage1", tmp_path)


@pytest.mark.parametrize(
    ("workdir", "portraits", "message"),
    [
        ("stage1", "nowhere", "no such folder"),
        ("stage2", "", "this is a checkpoint of stage2, but stage1 is wanted"),
    ],
)
def test_pack_refuses(stages, rigs, tmp_path, workdir, portraits, message):
    code, errors = in_process.run(
        "pack", f"--workdir={stages}/{workdir}", f"--out={tmp_path}/a.safetensors",
        f"--portraits={rigs / portraits}",
    )  # fmt: skip
    assert code == 2 and message in errors
    assert not (tmp_path / "a.safetensors").exists()
