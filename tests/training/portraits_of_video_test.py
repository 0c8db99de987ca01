"""Pictures of an avatar are chosen from a video: the best portrait, and others that differ most."""

import pathlib

import numpy as np
import pytest

pytest.importorskip("cv2")

from gesture_jax.errors import InputError
from gesture_jax.media import images
from gesture_jax.media.writer import write_video
from gesture_jax.people import faces, pose
from gesture_jax.puppets import rig_builder
from gesture_jax.training import portraits_of_video

_PORTRAITS = pathlib.Path(__file__).parents[3] / "shared" / "data" / "portraits"
_needs_pose = pytest.mark.skipif(
    not pose.is_installed(), reason="the extra [pose] is not installed"
)
_needs_portraits = pytest.mark.skipif(
    not _PORTRAITS.exists() or not pose.is_installed(),
    reason="../shared/data/portraits or the extra [pose] is absent",
)
_EVERY = 15  # Frames from one candidate to the next.


def _flat(*levels):
    """Squares of one brightness each."""
    return [np.full((32, 32, 3), level, np.uint8) for level in levels]


def test_others_are_those_that_differ_most():
    squares = _flat(0, 10, 100, 240, 90, 235)
    everything = list(range(len(squares)))
    assert portraits_of_video._farthest(squares, 0, everything) == [3, 2, 1]
    # Only squares with a face are chosen.
    assert portraits_of_video._farthest(squares, 0, [0, 1, 4]) == [4, 1]
    assert portraits_of_video._farthest(squares, 4, [4]) == []


def test_candidates_are_few_and_from_one_place(tmp_path):
    """One in 0.6 s, at most 60, all of the square that the first frame has; shrunk."""
    levels = np.arange(40, 120, dtype=np.uint8)[:, None, None, None]
    write_video(tmp_path / "a.mp4", np.broadcast_to(levels, (80, 64, 64, 3)))
    squares = list(portraits_of_video._squares(tmp_path / "a.mp4", None, 48))
    assert [square.shape for square in squares] == [(48, 48, 3)] * 6
    found = [square.mean() for square in squares]
    np.testing.assert_allclose(found, 40 + _EVERY * np.arange(6), atol=4)


@_needs_pose
def test_a_video_without_a_face_is_refused(tmp_path):
    write_video(tmp_path / "wall.mp4", np.full((20, 64, 64, 3), 180, np.uint8))
    with pytest.raises(InputError, match=r"wall\.mp4: no face is found; give a video"):
        portraits_of_video.choose(tmp_path / "wall.mp4", None, max_side=64)


@_needs_portraits
def test_the_portrait_has_a_closed_mouth_and_a_rig(tmp_path):
    """Frames of several people stand for poses; a wall among them is never chosen."""
    names = ["room_0014.jpg", "room_0035.jpg", "room_0047.jpg"]
    pictures = [images.load_image(_PORTRAITS / name) for name in names]
    pictures = [images.square(picture, size=384) for picture in pictures]
    pictures.insert(1, np.full((384, 384, 3), 180, np.uint8))
    write_video(tmp_path / "a.mp4", np.repeat(np.stack(pictures), _EVERY, axis=0))
    chosen, rig, still = portraits_of_video.choose(tmp_path / "a.mp4", None, max_side=256)
    assert all(picture.shape == (256, 256, 3) for picture in chosen)
    squares = list(portraits_of_video._squares(tmp_path / "a.mp4", None, 256))
    numbers = [
        next(k for k, square in enumerate(squares) if np.array_equal(picture, square))
        for picture in chosen
    ]
    assert len(set(numbers)) == len(numbers) and 1 not in numbers
    with faces.open_finder() as find:
        openings = {k: find(squares[k]).mouth_opening for k in numbers}
    rigs = {}
    for number in numbers:
        try:
            rigs[number] = rig_builder.build_rig(squares[number], max_side=256)
        except rig_builder.UnsuitablePortraitError:
            continue
    # Arms that move are worth more than a closed mouth.
    best = min(rigs, key=lambda k: (bool(rigs[k][1]), openings[k]))
    assert numbers[0] == best and still == rigs[best][1]
    np.testing.assert_allclose(rig.face, rigs[best][0].face)
