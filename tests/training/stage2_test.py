"""The loss of stage 2 on the joints that the motion of the body moves."""

import jax
import numpy as np
import pytest

from gesture_jax.data import motions
from gesture_jax.models.motion_space import MotionSpace
from gesture_jax.people.lips import LIP_JOINTS
from gesture_jax.training import stage2
from tests import tiny

pytestmark = pytest.mark.usefixtures("quickly_compiled")

_WINDOW = 12
_SPACE = MotionSpace("angles", 9 * 16 + 3)
_WRIST, _HEAD, _NOBODY = 5, 20, 33
"""The angles that move the wrist and the head, and one that moves no joint."""


def _write(path, *, joint_names=("wrist", "head"), damage=None, count=6):
    """Writes motions whose joints follow two of their angles.

    Args:
      path: the folder.
      joint_names: the joints; only these two move with the body.
      damage: a function that changes the joints [t, j, 2] of a clip in place.
      count: number of clips.
    """

    def records(split):
        for clip in range(count if split == "train" else 2):
            random = np.random.default_rng([clip, split == "test"])
            angles = 0.1 * random.standard_normal((40, _SPACE.dim)) + random.standard_normal() / 10
            places = {
                "wrist": np.stack([200 * angles[:, _WRIST], -100 * angles[:, _WRIST]], axis=1),
                "head": np.stack([30 * angles[:, _HEAD], np.zeros(40)], axis=1),
            }
            still = random.uniform(0, 64, (1, 2))
            joints = [places.get(name, 0.0) + still + np.zeros((40, 2)) for name in joint_names]
            joints = np.stack(joints, axis=1) if joints else np.zeros((40, 0, 2))
            for number, name in enumerate(joint_names):
                if name in LIP_JOINTS:  # They move by themselves.
                    joints[:, number] += random.uniform(0, 5, (40, 2))
            if damage:
                damage(clip, joints)
            yield {
                "clip_id": f"{split}#{clip}",
                "speaker": "a",
                "motion": np.asarray(_SPACE.to_feature(jax.numpy.asarray(angles))),
                "speech": random.standard_normal((40, 35)),
                "joints": joints,
            }

    splits = {split: lambda split=split: records(split) for split in ("train", "test")}
    metadata = {
        "stage1_step": 0, "data_path": "", "features": "baseline", "joint_names": [*joint_names],
    }  # fmt: skip
    assert motions.write_motions(path, splits, metadata=metadata)
    return path


@pytest.fixture(scope="module")
def stages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stages")
    tiny.constant_stages(folder)
    return folder


def _task(stages, data, **changes):
    sizes = {"model.window": _WINDOW, "model.latent": 16, "model.feedforward": 16}
    paces = {"schedule.hop": 8, "schedule.look_ahead": 2, "schedule.blend": 2}
    paces |= {"stream_schedule.hop": 6, "stream_schedule.look_ahead": 4, "stream_schedule.blend": 2}
    changes = {"loss.joints": 4.0, "batch_size": 8, "data.path": str(data), **changes}
    return stage2.Stage2(tiny.stage2(stages / "stage1", **sizes, **paces, **changes), "")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return _write(tmp_path_factory.mktemp("data") / "motions")


@pytest.fixture(scope="module")
def task(stages, data):
    return _task(stages, data)


def _measure(task):
    """Returns the loss of a network that always denoises to the portrait's pose.

    It is a function of the real angles [t, d]; it returns the loss and the metrics.
    """
    params, model_state = jax.jit(task.init)(jax.random.key(0))
    params = jax.tree.map(np.zeros_like, params)
    compiled = jax.jit(task.loss, static_argnums=5)
    still = np.zeros((8, task.model.num_prior, _SPACE.dim))

    def to_features(angles):
        features = np.asarray(_SPACE.to_feature(jax.numpy.asarray(angles, "f4")))
        lips = np.zeros((*features.shape[:-1], task.space.num_lips), "f4")
        return np.concatenate([features, lips], axis=-1)

    def measure(angles):
        batch = {
            "motion": to_features(np.tile(angles, (8, 1, 1))),
            "prior": to_features(still), "portrait": to_features(still[:, 0]),
            "speech": np.zeros((8, _WINDOW, 35), "f4"), "speaker": np.zeros(8, "i4"),
        }  # fmt: skip
        batch |= task.draw(jax.random.key(1), batch)
        loss, (metrics, _) = compiled(params, model_state, {}, batch, jax.random.key(2), 0)
        return float(loss), {name: float(value) for name, value in metrics.items()}

    return measure


@pytest.fixture(scope="module")
def measure(task):
    return _measure(task)


def _angles(which=None, size=0.0):
    angles = np.zeros((_WINDOW, _SPACE.dim))
    if which is not None:
        angles[:, which] = size
    return angles


def test_equal_motion_has_no_loss_and_moved_arms_have(measure):
    loss, metrics = measure(_angles())
    assert loss == pytest.approx(0.0, abs=1e-9) and metrics["joints"] == pytest.approx(0, abs=1e-9)
    near, far = (measure(_angles(_WRIST, size))[1] for size in (0.05, 0.1))
    assert near["joints"] > 0.01
    assert far["joints"] == pytest.approx(4 * near["joints"], rel=0.01)
    for angle in (_WRIST, _HEAD, _NOBODY):  # They all count the same among the values of motion.
        found = measure(_angles(angle, 0.1))[1]
        assert found["position"] == pytest.approx(far["position"], rel=0.2)
        share = found["joints"] / far["joints"]
        assert share < 0.02 if angle == _NOBODY else share > 0.2


def test_joints_count_by_their_weight_and_their_speed_too(measure, stages, data):
    angles = _angles(_WRIST, 0.1)
    held = measure(angles)
    angles[::2] = 0.0
    shaken = measure(angles)[1]
    # Half of the positions count, each step does, and each change of a step is twice as large.
    assert shaken["joints"] == pytest.approx((0.5 + 1.0 + 4.0) * held[1]["joints"], rel=1e-3)
    without, metrics = _measure(_task(stages, data, **{"loss.joints": 0.0}))(_angles(_WRIST, 0.1))
    assert "joints" not in metrics
    assert held[0] - without == pytest.approx(4.0 * held[1]["joints"], rel=1e-4)


def test_the_reading_finds_joints_in_their_own_spread(task, data):
    """The head moves by fewer pixels than the wrist, and counts as much."""
    source = motions.MotionSource(data, "train")
    reading = task._joint_reading
    assert reading.shape == (_SPACE.dim, 4)
    scale = np.asarray(task._statistics["pose_std"])
    read, wanted = [], []
    for record in source:
        read.append(np.asarray(_SPACE.from_feature(record["motion"])) / scale @ reading)
        wanted.append(record["joints"].reshape(40, 4))
        read[-1], wanted[-1] = (x[-1] - x[-1].mean(axis=0) for x in (read, wanted))
    read, wanted = np.concatenate(read), np.concatenate(wanted)
    for joint in range(3):
        assert np.corrcoef(read[:, joint], wanted[:, joint])[0, 1] > 0.9
    # A ridge of a half leaves two thirds.
    np.testing.assert_allclose(read.std(axis=0), [2 / 3, 2 / 3, 2 / 3, 0.0], atol=0.12)


def test_lips_are_no_joints_of_the_body(stages, tmp_path):
    with_lips = _write(tmp_path / "a", joint_names=("wrist", *LIP_JOINTS))
    task = _task(stages, with_lips)
    assert task.space.num_lips == 2 and task._joint_reading.shape == (_SPACE.dim, 2)
    _, metrics = _measure(task)(_angles(_WRIST, 0.1))
    assert metrics["joints"] > 0.1 and metrics["lips"] == pytest.approx(0.0, abs=1e-9)


def test_clips_in_which_a_joint_is_hidden_are_left_out(stages, tmp_path):
    def hide(clip, joints):
        if clip < 2:
            joints[3, 1] = np.nan
            joints[:, 0] *= -1  # It would spoil the fit.

    damaged = _task(stages, _write(tmp_path / "a", damage=hide))._joint_reading
    assert np.isfinite(damaged).all()
    first = lambda reading: reading[_WRIST] / np.abs(reading).max(axis=0)
    np.testing.assert_allclose(first(damaged)[:2], [1.0, -1.0])


@pytest.mark.parametrize("names", [(), LIP_JOINTS, ("wrist", "hidden")])
def test_without_whole_clips_of_joints_there_is_no_such_loss(stages, tmp_path, names):
    def hide(clip, joints):
        if "hidden" in names:
            joints[:, -1] = np.nan

    task = _task(stages, _write(tmp_path / "a", joint_names=names, damage=hide))
    assert task._joint_reading is None
    assert "joints" not in _measure(task)(_angles())[1]
