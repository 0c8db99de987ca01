"""How the person of a video moves, by joints that do not depend on where and how large they are.

For FGD, diversity and beats of videos: of real and of generated ones alike, by the same pose model.
A pose is [25, 2], the joints of `data.pose.JOINT_NAMES`: x to the right and y down from the middle
of the shoulders, in shoulder widths.
"""

import dataclasses
import functools
import importlib.metadata
import os
import pathlib
import zipfile
import zlib

import numpy as np

from gesture_jax.errors import InputError
from gesture_jax.media.video import iterate_pictures
from gesture_jax.people import pose
from gesture_jax.storage.cache import cache_dir
from gesture_jax.storage.files import as_path, hash_file, local_copy, write_beside

# The longer side of the pictures that the model sees; a square in them is large enough for it.
_MOST_PX = 2 * pose.MIN_PX
_SHOULDERS = [pose.JOINT_NAMES.index(f"{side}_shoulder") for side in ("right", "left")]


@dataclasses.dataclass(frozen=True)
class Poses:
    """Of one video.

    Attributes:
      keypoints: [t, 25, 2] float32 in shoulder widths, 25 frames a second; all finite.
      num_missing: how many of them were not seen, and are filled in.
    """

    keypoints: np.ndarray
    num_missing: int

    @property
    def num_frames(self) -> int:
        """Frames of the video."""
        return len(self.keypoints)


@dataclasses.dataclass(frozen=True)
class Seen:
    """What the pose model sees in a video.

    Attributes:
      joints: [t, 25, 2] float32, (x, y) as fractions of width and height; NaN where one is not
        seen.
      size_px: width and height of the pictures in which they were looked for.
    """

    joints: np.ndarray
    size_px: np.ndarray


def read_poses(path: str | os.PathLike, *, cache: str | os.PathLike | None = None) -> Poses:
    """The poses of a video, found once and kept on disk.

    A joint that is not seen for some frames moves evenly from where it was to where it is next; one
    that is never seen lies in the middle of the shoulders.

    Args:
      path: the video.
      cache: as of `see_joints`.

    Raises:
      InputError: as `see_joints`, or where no person with two shoulders is seen in the video.
    """
    seen = see_joints(path, cache=cache)
    missing = np.isnan(seen.joints).any(axis=-1)
    if missing.all():
        raise InputError(f"{path}: no person is seen in it; give a video that shows one")
    if missing[:, _SHOULDERS].all(axis=0).any():
        raise InputError(f"{path}: not both shoulders are ever seen, by which poses are measured")
    keypoints = normalise(interpolate(seen.joints * seen.size_px.astype(np.float32)))
    return Poses(keypoints, int(missing.sum()))


def see_joints(path: str | os.PathLike, *, cache: str | os.PathLike | None = None) -> Seen:
    """The joints of a video, found once and kept on disk.

    Args:
      path: the video.
      cache: folder where what was found is kept, by the video's content and the model's version;
        `cache_dir()/poses` without it.

    Raises:
      InputError: where the extra `[pose]` is not installed, or the video cannot be read.
    """
    if not pose.is_installed():
        raise InputError(
            f"poses of videos want a pose model, which is not installed; {pose.remedy()}"
        )
    folder = cache_dir() / "poses" if cache is None else as_path(cache)
    kept = folder / f"{hash_file(path)[:32]}-{_model_version()}-{_MOST_PX}.npz"
    seen = _read_kept(kept)
    if seen is None:
        seen = _look(path)
        with write_beside(kept) as beside, beside.open("wb") as file:
            np.savez_compressed(file, joints=seen.joints, size_px=seen.size_px)
    return seen


def interpolate(joints: np.ndarray) -> np.ndarray:
    """Fills in joints that are not seen, [t, j, 2] with NaN: linearly in time, held at the ends.

    Returns:
      [t, j, 2]; NaN for a joint that is never seen.
    """
    filled = np.array(joints)
    frames = np.arange(len(joints))
    for joint in range(joints.shape[1]):
        seen = ~np.isnan(joints[:, joint]).any(axis=-1)
        for axis in range(2) if seen.any() else ():
            places = joints[seen, joint, axis]
            filled[:, joint, axis] = np.interp(frames, frames[seen], places)
    return filled


def normalise(joints: np.ndarray) -> np.ndarray:
    """From pixels to shoulder widths, from the middle of the shoulders of each frame.

    The width is the median over the frames: someone who turns aside does not grow.

    Args:
      joints: [t, 25, 2] in pixels, or in units of any size as long as both axes have the same; NaN
        for joints that are never seen, which shoulders are not.

    Returns:
      [t, 25, 2] float32, zero for joints that are never seen.
    """
    right, left = (joints[:, joint] for joint in _SHOULDERS)
    width = np.median(np.linalg.norm(left - right, axis=-1))
    middle = (right + left)[:, None] / 2
    return np.nan_to_num((joints - middle) / np.maximum(width, 1e-6)).astype(np.float32)


def _look(path: str | os.PathLike) -> Seen:
    found = []
    with pose.track_joints() as find_joints:
        for picture in iterate_pictures(path, most_px=_MOST_PX):
            found.append(find_joints(picture))
    return Seen(np.stack(found), np.array(picture.shape[1::-1]))


def _read_kept(path: pathlib.Path) -> Seen | None:
    """None where there is no such file, or it is damaged."""
    try:
        # Of a damaged archive NumPy would leave its own file open.
        with local_copy(path).open("rb") as file, np.load(file, allow_pickle=False) as saved:
            seen = Seen(saved["joints"].astype(np.float32), saved["size_px"].astype(int))
    # What zip, zlib and NumPy raise for bytes that are wrong; TypeError for a single array.
    except (OSError, ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        return None
    fits = seen.joints.shape[1:] == (len(pose.JOINT_NAMES), 2) and seen.size_px.shape == (2,)
    return seen if fits and len(seen.joints) else None


@functools.cache
def _model_version() -> str:
    """The package that brings the pose model, of several by that name, and its version."""
    name, *_ = importlib.metadata.packages_distributions()["mediapipe"]
    return f"{name}-{importlib.metadata.version(name)}"
