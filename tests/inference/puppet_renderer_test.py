"""Photographs that move as puppets: a drawn person with a reading made by hand, and a real one."""

import itertools
import pathlib

import jax
import numpy as np
import pytest

pytest.importorskip("cv2")

from gesture_jax.inference import bundled
from gesture_jax.inference.animator import Animator
from gesture_jax.inference.portraits import Portrait, Style
from gesture_jax.inference.puppet_renderer import PuppetRenderer, UnsuitableError, blink
from gesture_jax.media import images
from gesture_jax.models.motion_space import MotionSpace
from gesture_jax.people import pose
from gesture_jax.people.mouth import LipShape
from gesture_jax.puppets import rig_builder
from gesture_jax.puppets.pose_values import NAMES
from gesture_jax.puppets.puppet import Puppet
from tests import photo_person
from tests.photo_person import make_rig, psnr

pytestmark = pytest.mark.usefixtures("quickly_compiled")

_PORTRAITS = pathlib.Path(__file__).parents[3] / "shared" / "data" / "portraits"
_needs_pose = pytest.mark.skipif(
    not pose.is_installed(), reason="the extra [pose] is not installed"
)
# Features of a grid of 3x3 cells. The first angles are the values of the pose, one each.
_SPACE = MotionSpace("angles", 9 * 9 + 3)
_READING = np.eye(_SPACE.dim, len(NAMES), dtype=np.float32)
_OWN_ANGLES = np.random.default_rng(0).uniform(-0.3, 0.3, _SPACE.dim)
_REST = LipShape.from_values(np.zeros(2))
_SIZE = 128


def _motion(**values):
    """The feature of a motion from which these values are read."""
    angles = _OWN_ANGLES.copy()
    for name, value in values.items():
        angles[NAMES.index(name)] += value
    return np.asarray(_SPACE.to_feature(jax.numpy.asarray(angles)), np.float32)


def _values(**values):
    return np.array([values.get(name, 0.0) for name in NAMES])


def _make(*, hands=True, still=""):
    return PuppetRenderer(Puppet(make_rig(hands)), still, _READING, _motion(), _SIZE)


@pytest.fixture(scope="module")
def renderer():
    return _make()


def _render(renderer, motion):
    return np.array([*renderer.begin().render(motion)])


def _changed(frame, other):
    return np.abs(frame.astype(int) - other).max(axis=-1) > 20


def test_values_are_read_relative_to_the_portrait(renderer):
    np.testing.assert_allclose(renderer.read(_motion()), 0.0, atol=1e-6)
    moved = {name: 0.01 * number for number, name in enumerate(NAMES)}
    np.testing.assert_allclose(renderer.read(_motion(**moved)), [*moved.values()], atol=1e-5)
    assert renderer.motion_dim == len(_motion()) and renderer.takes_lips and not renderer.notices


def test_the_portraits_own_motion_gives_the_portrait(renderer):
    renderer.prepare()
    (frame,) = _render(renderer, [_motion()])
    assert frame.shape == (_SIZE, _SIZE, 3) and frame.dtype == np.uint8
    portrait = images.square(photo_person.draw_landmarks().picture, size=_SIZE)
    assert psnr(frame, portrait) > 30


def _clip(num_frames=60):
    """Random gestures, smooth in time; long enough for a blink."""
    random = np.random.default_rng(1)
    names = "left_down", "right_out", "nod", "body_x", "lip_opening"
    phases = random.uniform(0, 6, len(names))
    sizes = 0.2, 0.15, 0.01, 0.02, 0.3
    return [
        _motion(**dict(zip(names, sizes * np.sin(0.3 * frame + phases), strict=True)))
        for frame in range(num_frames)
    ]


def test_frames_do_not_depend_on_the_cut_into_calls(renderer):
    motion = _clip()
    whole = _render(renderer, motion)
    assert len(whole) == len(motion) and _changed(whole[0], whole[20]).any()
    for cut in (1, 7, 59):
        clip = renderer.begin()
        parts = [
            [*clip.render(motion[start : start + cut])] for start in range(0, len(motion), cut)
        ]
        np.testing.assert_array_equal([*itertools.chain(*parts)], whole)
    # Two clips at once do not disturb each other.
    first, second = renderer.begin(), renderer.begin()
    pairs = zip(first.render(motion[:9]), second.render(motion[:9]), strict=True)
    for wanted, pair in zip(whole, pairs, strict=False):
        np.testing.assert_array_equal(pair, [wanted, wanted])


def test_frames_come_while_motion_is_taken(renderer):
    endless = itertools.repeat(_motion())
    frames = renderer.begin().render(endless)
    assert len([*itertools.islice(frames, 3)]) == 3


def test_motion_is_followed_softly_but_wholly(renderer):
    """A clip begins in its first pose; after a jump, the hand arrives within a few frames."""
    raised = _motion(left_down=-0.3, left_out=0.1)
    target = renderer.draw(_values(left_down=-0.3, left_out=0.1), _REST, 1.0)
    np.testing.assert_array_equal(_render(renderer, [raised])[0], target)
    frames = _render(renderer, [_motion()] + 12 * [raised]).astype(float)
    distances = np.abs(frames - target).mean(axis=(1, 2, 3))
    assert distances[0] > 0.5 and 0.1 * distances[0] < distances[1] < distances[0]
    assert distances[2] < 0.7 * distances[0] and distances[-1] < 0.01 * distances[0]


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_hand_goes_up_and_down_alone(renderer, side):
    still, lowered, raised = (
        _render(renderer, [_motion(**{f"{side}_down": value})])[0] for value in (0.0, 0.15, -0.3)
    )
    for frame in (lowered, raised):
        changed = _changed(still, frame)
        own = changed[:, : _SIZE // 2] if side == "left" else changed[:, _SIZE // 2 :]
        assert own.sum() > 50 and own.sum() == changed.sum()
    # Skin has less blue than the wall.
    columns = slice(0, 20) if side == "left" else slice(-20, None)
    tops = [np.nonzero(frame[:, columns, 2] < 160)[0].min() for frame in (raised, still, lowered)]
    assert tops[0] + 5 < tops[1] < tops[2]


def test_outwards_is_away_from_the_body(renderer):
    still, wide = (
        _render(renderer, [_motion(left_out=value, right_out=value)])[0] for value in (0.0, 0.2)
    )
    skin = [np.nonzero((frame[60:, :, 2] < 160).any(axis=0))[0] for frame in (still, wide)]
    assert skin[1].min() < skin[0].min() - 1 and skin[1].max() > skin[0].max() + 1


def test_lips_follow_their_positions_instead_of_the_motion(renderer):
    """The mouth is at (64, 36), 7 pixels wide."""
    motion = _motion(lip_opening=0.4)
    still, read, told, shut = (
        _render(renderer, [feature])[0]
        for feature in (
            _motion(), motion,
            np.append(_motion(), [0.4, 0.0]), np.append(motion, [0.0, 0.0]),
        )
    )  # fmt: skip
    np.testing.assert_array_equal(read, told)
    np.testing.assert_array_equal(shut, still)
    rows, columns = np.nonzero(_changed(still, told))
    assert len(rows) > 5 and rows.min() > 30 and rows.max() < 50
    assert columns.min() > 52 and columns.max() < 76


def test_blinks_are_short_and_come_every_few_seconds():
    eyes = np.array([*itertools.islice(blink(), 25 * 600)])
    np.testing.assert_array_equal(eyes, [*itertools.islice(blink(), len(eyes))])
    assert eyes[0] == 1.0 and eyes.min() == 0.0 and eyes.max() == 1.0
    changes = np.diff(np.concatenate([[0], eyes < 1.0, [0]]).astype(int))
    begins, ends = np.flatnonzero(changes == 1), np.flatnonzero(changes == -1)
    assert 600 / 6 < len(begins) < 600 / 3
    assert set(ends - begins) == {4}  # 160 ms, each with closed eyes in it.
    assert all(eyes[begin:end].min() == 0.0 for begin, end in zip(begins, ends, strict=True))
    gaps = begins[1:] - ends[:-1]
    assert gaps.min() >= 30 and gaps.std() > 20  # 1.2 s at least, and irregular.


def test_eyes_close_in_a_blink_and_nothing_else_moves(renderer):
    """The eyes are at (60, 27) and (68, 27)."""
    eyes = np.array([*itertools.islice(blink(), 200)])
    closed = int(np.flatnonzero(eyes == 0.0)[0])
    frames = _render(renderer, (closed + 4) * [_motion()])
    for number, frame in enumerate(frames):
        assert np.array_equal(frame, frames[0]) == (eyes[number] == 1.0)
    rows, columns = np.nonzero((frames[closed] != frames[0]).any(axis=-1))
    assert rows.min() >= 20 and rows.max() <= 32
    assert columns.min() >= 54 and columns.max() <= 74
    # Skin covers the dark pupils.
    pupils = [frame[26:29, [60, 67]].mean() for frame in (frames[0], frames[closed])]
    assert pupils[1] > pupils[0] + 15


def test_absurd_motion_gives_frames(renderer):
    """Any rotations, as of a stranger's clip: the hands stay at the arms, and nothing fails."""
    random = np.random.default_rng(2)
    for size in (1.0, 1e3):
        wild = PuppetRenderer(renderer._puppet, "", size * _READING, _motion(), _SIZE)
        motion = np.float32(random.uniform(-1, 1, (20, _SPACE.feature_dim)))
        frames = _render(wild, motion)
        assert frames.shape == (20, _SIZE, _SIZE, 3)


def test_without_free_hands_the_head_moves_and_a_notice_says_why():
    landmarks = photo_person.draw_landmarks(hands=False)
    rig, still = rig_builder.build_rig_from_landmarks(landmarks.picture, landmarks)
    renderer = PuppetRenderer(Puppet(rig), still, _READING, _motion(), _SIZE)
    (notice,) = renderer.notices
    assert notice.startswith("the arms do not move, because a hand is not found")
    at_rest, gesture, nod = (
        _render(renderer, [motion])[0]
        for motion in (_motion(), _motion(left_down=-0.3, right_curl=0.5), _motion(nod=0.02))
    )
    np.testing.assert_array_equal(gesture, at_rest)
    rows, _ = np.nonzero(_changed(at_rest, nod))
    assert len(rows) > 20 and rows.max() < 60


@_needs_pose
def test_nobody_is_no_puppet():
    wall = np.full((256, 256, 3), 180, np.uint8)
    with pytest.raises(UnsuitableError, match=r"^of its picture: no face \(none is found\)$"):
        PuppetRenderer.open(wall, _READING, _motion(), size=64)


@_needs_pose
def test_readings_of_other_versions_are_not_used():
    with pytest.raises(UnsuitableError, match="reads 7 values of a pose instead of 20"):
        PuppetRenderer.open(np.zeros((64, 64, 3), np.uint8), _READING[:, :7], _motion(), size=64)


@pytest.mark.skipif(pose.is_installed(), reason="the extra [pose] is installed")
def test_without_the_pose_model_nobody_is_a_puppet():
    with pytest.raises(UnsuitableError, match=r"no pose model is installed; `pip install"):
        PuppetRenderer.open(np.zeros((64, 64, 3), np.uint8), _READING, _motion(), size=64)


@pytest.fixture(scope="module")
def photo():
    """A real photograph with the bundled weights, and their animator."""
    if not _PORTRAITS.exists():
        pytest.skip("../shared/data/portraits is absent")
    if not pose.is_installed():
        pytest.skip("the extra [pose] is not installed")
    animator = Animator.load(bundled.find()["stage1"])
    style = Style(size=256, renderer="puppet")
    return animator, Portrait.open(_PORTRAITS / "room_0014.jpg", animator, style)


def test_a_photograph_at_rest_is_itself(photo):
    _, portrait = photo
    assert isinstance(portrait._renderer, PuppetRenderer)
    assert not [notice for notice in portrait.notices if "arms" in notice]
    (frame,) = portrait.render(portrait.source.motion[None])
    assert psnr(frame, portrait.source.image) > 32


def test_the_bundled_stage_1_reads_poses_of_a_photograph(photo):
    """It extracts the motion of drawn poses, in which each wrist is found again, and the head."""
    animator, portrait = photo
    renderer = portrait._renderer
    moved = {"left_down": 0.25, "right_down": 0.25, "turn": 0.02}
    poses = [_values(**{name: sign * size}) for name, size in moved.items() for sign in (-1, 1)]
    frames = [renderer.draw(values, _REST, 1.0) for values in poses]
    read = [renderer.read(motion) for motion in animator.extract_motion(frames)]
    changes = np.array(read[1::2]) - read[::2]
    for own, row in enumerate(changes):
        shares = np.array([row[NAMES.index(other)] / (2 * moved[other]) for other in moved])
        assert 0.4 < shares[own] < 1.6, shares
        assert np.abs(np.delete(shares, own)).max() < 0.5 * shares[own], shares
