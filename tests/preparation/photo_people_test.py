"""Data sets of photo people, of a drawn person."""

import dataclasses

import numpy as np
import pytest

pytest.importorskip("cv2")

from gesture_jax.data import clips
from gesture_jax.errors import InputError
from gesture_jax.media import images
from gesture_jax.preparation.photo_people import rig_library, scenes, takes
from gesture_jax.procedural import speaker
from gesture_jax.puppets import (
    puppet,
    rig,
    rig_builder,
)
from gesture_jax.speech import extractor
from tests import in_process, photo_person
from tests.photo_person import make_rig


def test_views_keep_head_and_hands():
    moved = puppet.Puppet(make_rig())
    for seed in range(20):
        scene = scenes.draw_scene(
            np.random.default_rng(seed), moved, [lambda: make_rig().background]
        )
        view = scene.appearance.view
        assert view.top >= 0 and view.top + view.side <= 1 + 1e-6
        points = np.concatenate([make_rig().face[:, :2], *(arm.points for arm in make_rig().arms)])
        placed = view.to_frame(points, 100)
        assert placed.min() >= 0 and placed.max() <= 100


def test_scenes_are_mirrored_in_half_of_the_clips_unless_told_otherwise():
    moved = puppet.Puppet(make_rig())
    draw = lambda seed, **how: scenes.draw_scene(np.random.default_rng(seed), moved, [], **how)
    mirrored = [draw(seed).appearance.view.mirrored for seed in range(20)]
    assert 4 < sum(mirrored) < 16
    for seed in range(20):
        view, usual = draw(seed, mirror=False).appearance.view, draw(seed).appearance.view
        assert view == dataclasses.replace(usual, mirrored=False)


@pytest.fixture(scope="module")
def rigs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rigs")
    for number, name in enumerate(("ann", "ben", "cy")):
        made = make_rig(hands=name != "cy", background=40 * number)
        rig.save_rig(folder / f"{name}{rig.ENDING}", made)
    return folder


def test_an_own_scene_shows_the_portrait_nearly_as_it_is():
    """In its own colours, a little closer, wholly inside the picture, and not mirrored."""
    moved = puppet.Puppet(make_rig())
    own = puppet.original_appearance(make_rig())
    sides = []
    for seed in range(20):
        scene = scenes.own_scene(np.random.default_rng(seed), moved)
        view = scene.appearance.view
        assert 0.94 <= view.side <= 1.0 and not view.mirrored
        assert min(view.left, view.top) >= 0 and max(view.left, view.top) + view.side <= 1
        same = dataclasses.replace(scene.appearance, view=own.view)
        np.testing.assert_array_equal(puppet.draw_backdrop(same, 64), puppet.draw_backdrop(own, 64))
        sides.append(view.side)
    assert np.ptp(sides) > 0.02


def test_the_framing_of_an_avatar_is_that_of_own_scenes(rigs):
    (clip,) = dataclasses.replace(_take(rigs), framing="own").perform()
    (other,) = dataclasses.replace(_take(rigs, seed=6), framing="own").perform()
    portrait = images.square(photo_person.draw_landmarks().picture, size=64).astype(int)
    for frame in (clip.frames[0], other.frames[0]):
        assert np.abs(frame - portrait).mean() < 25
    assert not np.array_equal(clip.frames[0], other.frames[0])


def _take(rigs, seed=5, name="ann"):
    others = tuple(path for path in sorted(rigs.iterdir()) if not path.name.startswith(name))
    path = rigs / f"{name}{rig.ENDING}"
    return takes.PhotoTake(
        name, path, others, seed, 0.4, 64, "train", "random", "formants",
        extractor.SpeechFeatureExtractor(),
    )  # fmt: skip


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
