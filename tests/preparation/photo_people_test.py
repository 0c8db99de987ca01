"""Photo people: layers, motion, joints, files and data sets, on a drawn person."""

import dataclasses
import functools
import pathlib

import numpy as np
import pytest

pytest.importorskip("cv2")

from gesture_jax.data import clips
from gesture_jax.errors import InputError
from gesture_jax.media import images
from gesture_jax.preparation.photo_people import rig_library, scenes, takes
from gesture_jax.procedural import speaker
from gesture_jax.procedural.identity import make_identity
from gesture_jax.procedural.motion import Pose, gesture
from gesture_jax.procedural.voice import speak
from gesture_jax.puppets import (
    geometry,
    inpainting,
    mattes,
    puppet,
    rendering,
    retarget,
    rig,
    rig_builder,
)
from gesture_jax.puppets.poses import PuppetPose
from gesture_jax.speech import extractor
from tests import in_process, photo_person

_JOINT = {name: number for number, name in enumerate(speaker.JOINT_NAMES)}
_PORTRAITS = pathlib.Path(__file__).parents[3] / "shared" / "data" / "portraits"
_STILL = Pose(np.zeros((2, 2)), np.zeros(2), np.zeros((2, 3)), np.zeros(2))


@functools.cache
def _rig(hands: bool = True, background: int = 0) -> rig.Rig:
    landmarks = photo_person.draw_landmarks(hands=hands, background=background)
    return rig_builder.build_rig_from_landmarks(landmarks.picture, landmarks)[0]


def _rest_rows(of: rig.Rig) -> np.ndarray:
    return np.array([retarget.rest(arm) for arm in of.arms]).reshape(-1, 6)


def _draw(of: rig.Rig, pose: Pose, rows=None, *, view=puppet.View(), size=128):  # noqa: B008
    moved = puppet.Puppet(of)
    look = dataclasses.replace(puppet.original_appearance(of), view=view, shadow=0.0)
    posed = PuppetPose.of_speaker(pose, _rest_rows(of) if rows is None else rows)
    frame = moved.draw(look, posed, size=size, backdrop=puppet.draw_backdrop(look, size))
    return frame, moved.joints(view, posed, size=size)


def _psnr(first, second):
    return 10 * np.log10(255**2 / np.mean((first.astype(float) - second.astype(float)) ** 2))


# What the parts are made of, by hand.


def test_a_limb_by_hand():
    distance, along = geometry.limb(np.array([10.0, 10]), np.array([30.0, 10]), (4, 2), 40)
    assert distance[10, 20] == pytest.approx(-3)  # On the axis, halfway: a radius of 3.
    assert distance[15, 20] == pytest.approx(2)
    assert distance[10, 5] == pytest.approx(1)  # Five before the start, whose radius is 4.
    assert along[10, 20] == pytest.approx(0.5) and along[0, 30] == pytest.approx(1)


def test_a_triangle_by_hand():
    """A right triangle, twice as large in the frame as in the layer."""
    corners = np.array([[0.0, 0], [8, 0], [0, 8]])
    drawn = np.full((10, 10, 2), rendering.NOWHERE, np.float32)
    rendering.rasterise(corners, corners / 2, np.array([[0, 1, 2]], np.int32), drawn)
    np.testing.assert_allclose(drawn[2, 4], (2, 1), atol=1e-5)
    np.testing.assert_allclose(drawn[8, 0], (0, 4), atol=1e-5)
    assert drawn[5, 5, 0] == rendering.NOWHERE and drawn[0, 9, 0] == rendering.NOWHERE


def test_layers_mix_by_hand():
    picture = np.full((1, 2, 3), 100, np.float32)
    layer = np.array([[[200, 0, 100, 51], [7, 7, 7, 0]]], np.uint8)
    rendering.composite(picture, layer)
    np.testing.assert_allclose(picture[0], [[120, 80, 100], [100, 100, 100]], rtol=1e-5)


def test_what_is_known_stays_and_the_rest_is_between():
    picture = np.zeros((32, 32, 1), np.float32)
    picture[:, 16:] = 90
    known = np.ones((32, 32), bool)
    known[10:20, 8:24] = False
    filled = inpainting.push_pull(np.where(known[..., None], picture, 500), known)[..., 0]
    np.testing.assert_array_equal(filled[known], picture[..., 0][known])
    assert filled[~known].min() >= 0 and filled[~known].max() <= 90


def test_a_table_goes_on_behind_a_person():
    picture = np.full((64, 64, 3), 200, np.uint8)
    picture[40:] = 60
    known = np.ones((64, 64), bool)
    known[10:, 24:40] = False
    filled = inpainting.fill_background(np.where(known[..., None], picture, 0).astype("u1"), known)
    assert np.abs(filled[:34] - 200).max() < 12 and np.abs(filled[46:] - 60).max() < 12


def test_the_guided_filter_keeps_the_edges_of_the_picture():
    guide = np.zeros((40, 40, 3), np.float32)
    guide[:, 20:] = 1
    mask = np.zeros((40, 40), np.float32)
    mask[:, 22:] = 1  # Two pixels off.
    smooth = mattes.guided_filter(guide, mask, 5)
    assert smooth[20, 19] < 0.2 and smooth[20, 20] > 0.5
    flat = mattes.guided_filter(np.zeros_like(guide), mask, 2)
    mean = lambda x: np.mean([mask[20, k - 2 : k + 3].mean() for k in range(x - 2, x + 3)])
    assert flat[20, 21] == pytest.approx(mean(21), abs=1e-3)


# Rigs.


def test_a_person_at_rest_is_the_portrait():
    for hands in (True, False):
        made = _rig(hands)
        assert len(made.arms) == (2 if hands else 0)
        frame, _ = _draw(made, _STILL, size=256)
        portrait = images.square(photo_person.draw_landmarks(hands=hands).picture, size=256)
        assert _psnr(frame, portrait) > 30


def test_behind_the_person_is_the_wall():
    wall = np.median(_rig().background[:60, :60].reshape(-1, 3), axis=0)
    middle = _rig().background[150:400, 200:300].reshape(-1, 3)
    assert np.abs(np.median(middle, axis=0) - wall).max() < 8


def test_who_does_not_serve_is_declined_by_name():
    usual = photo_person.draw_landmarks()
    several = dataclasses.replace(usual, num_faces=3)
    unseen = dataclasses.replace(usual, face=None)
    turned = usual.face.copy()
    turned[1, 0] = turned[234, 0] + 2
    small = dataclasses.replace(usual, face=usual.face * 0.3)
    for landmarks, reason in (
        (several, "several people"),
        (unseen, "no face"),
        (dataclasses.replace(usual, face=turned), "face turned away"),
        (small, "too small"),
    ):
        with pytest.raises(rig_builder.UnsuitablePortraitError) as declined:
            rig_builder.build_rig_from_landmarks(landmarks.picture, landmarks)
        assert declined.value.reason == reason


def test_why_arms_rest():
    usual = photo_person.draw_landmarks()
    assert rig_builder.describe_arm_obstacle(usual) == ""
    left, right = usual.hands
    together = dataclasses.replace(usual, hands=(left + (135, 0), right - (135, 0)))
    assert "together" in rig_builder.describe_arm_obstacle(together)
    cut = dataclasses.replace(usual, hands=(left - (90, 0), right))
    assert "in the picture" in rig_builder.describe_arm_obstacle(cut)
    assert "not found" in rig_builder.describe_arm_obstacle(
        photo_person.draw_landmarks(hands=False)
    )


def test_a_rig_comes_back_from_its_file(tmp_path):
    for hands in (True, False):
        path = tmp_path / f"{hands}{rig.ENDING}"
        rig.save_rig(path, _rig(hands))
        assert path.stat().st_size < 900_000
        back = rig.load_rig(path)
        assert len(back.arms) == len(_rig(hands).arms)
        np.testing.assert_allclose(back.face, _rig(hands).face, atol=1e-3)
        np.testing.assert_array_equal(back.body.alpha, _rig(hands).body.alpha)
        assert _psnr(back.background, _rig(hands).background) > 35
        assert _psnr(_draw(back, _STILL)[0], _draw(_rig(hands), _STILL)[0]) > 35


def test_damaged_rigs_are_told_in_one_sentence(tmp_path):
    path = tmp_path / f"a{rig.ENDING}"
    rig.save_rig(path, _rig())
    whole = dict(np.load(path))
    changes = [
        {"version": np.array(99)},
        {"side": np.array(10**6)},
        {"face": np.full((478, 3), np.nan, np.float32)},
        {"face": np.zeros((478, 3), np.float32)},
        {"pose": np.zeros((33, 2), np.float32)},
        {"pose": np.zeros((5, 2), np.float32)},
        {"body_corner": np.array([400, -1])},
        {"hand0_alpha": np.frombuffer(b"no picture", np.uint8)},
        {"body_alpha": whole["hand0_alpha"]},
        {"background": whole["body_colours"]},
        {"arm1": np.zeros(9, np.float32)},
    ]
    for change in changes:
        np.savez(path, **{**whole, **change})
        with pytest.raises(InputError, match=r"a\.rig\.npz"):
            rig.load_rig(path)
    for gone in ("face", "points1", "forearm0_colours"):
        np.savez(path, **{key: value for key, value in whole.items() if key != gone})
        with pytest.raises(InputError, match=r"a\.rig\.npz"):
            rig.load_rig(path)
    np.savez(path, **whole)
    content = path.read_bytes()
    for bytes_ in (b"", content[:1000], content[:-30], b"x" * 500):
        path.write_bytes(bytes_)
        with pytest.raises(InputError, match=r"a\.rig\.npz"):
            rig.load_rig(path)


# Motion.


def test_arms_go_where_the_speaker_s_go():
    who, arms = make_identity(3), _rig().arms
    poses = gesture(who, speak(who.voice, seed=1, num_frames=150), seed=1)
    for side, arm in enumerate(arms):
        track = retarget.plan_arm(arm, side, who, poses, 1.0)
        posed = [retarget.pose_arm(arm, side, row) for row in track]
        wrists = np.array([pose.wrist for pose in posed])
        height = np.array([pose.wrists[side, 1] - pose.body[1] for pose in poses])
        assert np.corrcoef(height, wrists[:, 1])[0, 1] > 0.8
        assert np.ptp(wrists[:, 1]) > 20
        upper = np.linalg.norm(arm.shoulder - arm.elbow)
        assert np.linalg.norm(np.diff(track[:, :2], axis=0), axis=1).max() < 0.35 * upper
        for pose in posed:
            stretch = pose.length / pose.rest_length
            assert 0.6 <= stretch <= 2.0
            assert np.linalg.norm(pose.wrist - pose.elbow) == pytest.approx(pose.length)


def test_a_raised_hand_is_drawn_where_its_joints_are():
    rows = _rest_rows(_rig())
    rows[1, :2] = (0, -60)
    frame, joints = _draw(_rig(), _STILL, rows, size=256)
    still, _ = _draw(_rig(), _STILL, size=256)
    changed = np.abs(frame.astype(int) - still).max(axis=-1) > 40
    _, xs = np.nonzero(changed)
    assert xs.min() > 140  # The other arm rests.
    tips = joints[[_JOINT[f"right_{finger}"] for finger in ("index", "middle", "ring")]]
    x, y = tips.mean(axis=0).round().astype(int)
    assert changed[y - 6 : y + 7, x - 6 : x + 7].any()


def test_the_mouth_opens_and_the_eyes_close():
    still, joints = _draw(_rig(), _STILL, size=256)
    x, y = joints[_JOINT["mouth"]].round().astype(int)
    opened, _ = _draw(_rig(), Pose(**{**vars(_STILL), "mouth_open": 1.0}), size=256)
    gap = (slice(y - 2, y + 4), slice(x - 3, x + 4))
    assert opened[gap].mean() < still[gap].mean() - 25
    closed, _ = _draw(_rig(), Pose(**{**vars(_STILL), "eyes": 0.0}), size=256)
    eye = (slice(53, 58), slice(117, 124))
    assert closed[eye].mean() > still[eye].mean() + 15
    assert (closed[100:] == still[100:]).all()


def test_the_head_turns_and_the_feet_stay():
    turned, joints = _draw(_rig(False), Pose(**{**vars(_STILL), "turn": 0.03}), size=256)
    still, at_rest = _draw(_rig(False), _STILL, size=256)
    assert joints[_JOINT["mouth"], 0] > at_rest[_JOINT["mouth"], 0] + 1
    np.testing.assert_array_equal(turned[160:], still[160:])


def test_joints_of_a_mirrored_frame_change_sides():
    pose = Pose(**{**vars(_STILL), "turn": 0.01})
    plain, joints = _draw(_rig(), pose, size=128)
    mirrored, other = _draw(_rig(), pose, view=puppet.View(mirrored=True), size=128)
    np.testing.assert_array_equal(mirrored, plain[:, ::-1])
    names = speaker.JOINT_NAMES
    swap = {"left": "right", "right": "left"}
    for name, place in zip(names, joints, strict=True):
        side, *part = name.split("_")
        twin = "_".join([swap.get(side, side), *part])
        np.testing.assert_allclose(other[_JOINT[twin]], (127 - place[0], place[1]), atol=1e-3)


def test_arms_that_do_not_move_have_no_joints():
    _, joints = _draw(_rig(False), _STILL)
    for name, place in zip(speaker.JOINT_NAMES, joints, strict=True):
        known = name in ("head", "neck", "mouth", "left_shoulder", "right_shoulder")
        assert np.isfinite(place).all() == known


def test_views_keep_head_and_hands():
    moved = puppet.Puppet(_rig())
    for seed in range(20):
        scene = scenes.draw_scene(np.random.default_rng(seed), moved, [lambda: _rig().background])
        view = scene.appearance.view
        assert view.top >= 0 and view.top + view.side <= 1 + 1e-6
        points = np.concatenate([_rig().face[:, :2], *(arm.points for arm in _rig().arms)])
        placed = view.to_frame(points, 100)
        assert placed.min() >= 0 and placed.max() <= 100


# Data sets.


@pytest.fixture(scope="module")
def rigs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rigs")
    for number, name in enumerate(("ann", "ben", "cy")):
        made = _rig(hands=name != "cy", background=40 * number)
        rig.save_rig(folder / f"{name}{rig.ENDING}", made)
    return folder


def _take(rigs, seed=5, name="ann"):
    others = tuple(path for path in sorted(rigs.iterdir()) if not path.name.startswith(name))
    path = rigs / f"{name}{rig.ENDING}"
    return takes.PhotoTake(
        name, path, others, seed, 0.4, 64, "train", extractor.SpeechFeatureExtractor()
    )


def test_a_clip_follows_from_its_seed(rigs):
    (first,) = _take(rigs).perform()
    takes._load_puppet.cache_clear()
    (again,) = _take(rigs).perform()
    assert first.clip_id == "ann#5" and first.speaker == "ann"
    assert first.frames.shape == (10, 64, 64, 3) and first.frames.dtype == np.uint8
    assert first.joints.shape == (10, len(speaker.JOINT_NAMES), 2)
    for key, value in vars(first).items():
        np.testing.assert_array_equal(value, getattr(again, key))
    (other,) = _take(rigs, seed=6).perform()
    assert (other.frames != first.frames).any() and (other.audio != first.audio).any()


def test_takes_know_what_they_follow_from(rigs):
    one, same = _take(rigs).cache_key(), _take(rigs).cache_key()
    assert one == same
    assert one != _take(rigs, seed=6).cache_key()
    assert one != _take(rigs, name="ben").cache_key()


_SHORT = {"clip_sec": 0.4, "size": 32, "seed": 0}


def _names(path, split):
    source = clips.ClipSource(path, split)
    return [source[k]["clip_id"] for k in range(len(source))]


def test_the_last_clips_of_each_portrait_are_for_testing(rigs, tmp_path):
    report = takes.write_photo_people(rigs, tmp_path / "data", clips_each=3, **_SHORT)
    assert report["splits"]["train"]["clips"] == 6 and report["left_out"]["count"] == 0
    assert _names(tmp_path / "data", "test") == ["ann#2", "ben#5", "cy#8"]
    assert takes.write_photo_people(rigs, tmp_path / "data", clips_each=3, **_SHORT) is None


def test_held_out_portraits_are_the_test(rigs, tmp_path):
    held = {"test_portraits": ["ben"], "clips_each": 1}
    takes.write_photo_people(rigs, tmp_path / "data", **held, **_SHORT)
    assert _names(tmp_path / "data", "test") == ["ben#1"]
    assert _names(tmp_path / "data", "train") == ["ann#0", "cy#2"]
    source = clips.ClipSource(tmp_path / "data", "train")
    assert source.joint_names == speaker.JOINT_NAMES
    with pytest.raises(InputError, match="no portrait dan"):
        takes.write_photo_people(rigs, tmp_path / "no", test_portraits=["dan"], **_SHORT)
    with pytest.raises(InputError, match="two clips"):
        takes.write_photo_people(rigs, tmp_path / "no", clips_each=1, **_SHORT)


def test_drawn_people_may_join_them(rigs, tmp_path):
    code, said = in_process.run(
        "prepare", f"--portraits={rigs}", "--clips_per_portrait=2", "--procedural=2",
        "--num_identities=1", "--clip_sec=0.4", "--size=32", "--num_workers=0",
        f"--out={tmp_path / 'data'}",
    )  # fmt: skip
    assert code == 0, said
    assert _names(tmp_path / "data", "train") == ["ann#0", "ben#2", "cy#4", "procedural0#0"]


def test_portraits_become_rigs_once_and_who_does_not_serve_is_named(tmp_path, monkeypatch):
    found = {40: photo_person.draw_landmarks(), 41: photo_person.draw_landmarks(num_faces=2)}
    (tmp_path / "portraits").mkdir()
    for name, shade in (("ann", 40), ("ben", 41)):
        picture = np.full((600, 512, 3), shade, np.uint8)
        images.write_image(tmp_path / "portraits" / f"{name}.png", picture)
    (tmp_path / "portraits" / "cy.jpg").write_bytes(b"not a picture")
    looked = []

    def find(picture):
        assert picture.shape == (512, 512, 3)
        looked.append(int(picture[0, 0, 0]))
        return found[looked[-1]]

    monkeypatch.setattr(rig_builder, "find_landmarks", find)
    for _ in range(2):
        rigs, left_out = rig_library.find_rigs(
            tmp_path / "portraits", tmp_path / "rigs", num_workers=0
        )
        assert list(rigs) == ["ann"] and rig.load_rig(rigs["ann"]).side == 512
        assert {entry.name: entry.reason for entry in left_out} == {
            "ben": "several people", "cy": "cannot be read"
        }  # fmt: skip
    assert looked == [40, 41]


def test_folders_without_portraits_are_told(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        rig_library.find_rigs(tmp_path / "nowhere", tmp_path)
    with pytest.raises(InputError, match="no pictures"):
        rig_library.find_rigs(tmp_path, tmp_path / "rigs")


@pytest.mark.skipif(not _PORTRAITS.exists(), reason="../shared/data/portraits is absent")
def test_a_photograph_moves(tmp_path):
    pytest.importorskip("mediapipe")
    picture = images.load_image(_PORTRAITS / "room_0014.jpg")
    made, still = rig_builder.build_rig(picture)
    assert still == "" and made.side == 768 and all(arm.outward for arm in made.arms)
    frame, _ = _draw(made, _STILL, size=256)
    assert _psnr(frame, images.square(picture, size=256)) > 32
