"""Poses of the person in a video, independent of the person's position and size.

FGD, diversity and beat alignment of videos use them; one pose model serves real and generated
videos. A pose is [25, 2], the joints of `people.pose.JOINT_NAMES`: x to the right and y down from
the middle of the shoulders, in shoulder widths.
"""

import dataclasses
import functools
import importlib.metadata
import os
import pathlib
import zipfile
import zlib

import chex
import numpy as np
from jaxtyping import Float

from gesture_jax.array_types import typechecked
from gesture_jax.errors import InputError
from gesture_jax.media.video import iterate_pictures
from gesture_jax.people import pose
from gesture_jax.storage.cache import cache_dir
from gesture_jax.storage.files import as_path, hash_file, local_copy, write_beside

# The longer side of the pictures that the model sees; a square in them is large enough for it.
_MAX_SIDE_PX = 2 * pose.MIN_PX
_SHOULDERS = [pose.JOINT_NAMES.index(f"{side}_shoulder") for side in ("right", "left")]


@dataclasses.dataclass(frozen=True)
class Poses:
    """The poses of one video.

    Attributes:
      keypoints: [t, 25, 2] float32 in shoulder widths, 25 frames a second; all finite.
      num_missing: how many of them were not detected, and are filled in.
    """

    keypoints: np.ndarray
    num_missing: int

    @property
    def num_frames(self) -> int:
        """Number of frames in the video."""
        return len(self.keypoints)


@dataclasses.dataclass(frozen=True)
class DetectedJoints:
    """The joints that the pose model detects in a video.

    Attributes:
      joints: [t, 25, 2] float32, (x, y) as fractions of width and height; NaN where one is not
        detected.
      size_px: width and height of the pictures that the model was given.
    """

    joints: np.ndarray
    size_px: np.ndarray


def read_poses(path: str | os.PathLike, *, cache: str | os.PathLike | None = None) -> Poses:
    """The poses of a video, detected once and cached on disk.

    A joint that is not detected for some frames moves evenly between its neighbouring positions;
    one that is never detected lies in the middle of the shoulders.

    Args:
      path: the video.
      cache: as in `detect_joints`.

    Raises:
      InputError: as `detect_joints`, or where no person with two shoulders is found in the video.
    """
    found = detect_joints(path, cache=cache)
    missing = np.isnan(found.joints).any(axis=-1)
    if missing.all():
        raise InputError(f"{path}: no person is found in it; give a video that shows one")
    if missing[:, _SHOULDERS].all(axis=0).any():
        raise InputError(
            f"{path}: shows no frame with one of the shoulders, which set the scale of poses; give "
            "a video that shows both"
        )
    keypoints = normalise(interpolate(found.joints * found.size_px.astype(np.float32)))
    return Poses(keypoints, int(missing.sum()))


def detect_joints(
    path: str | os.PathLike, *, cache: str | os.PathLike | None = None
) -> DetectedJoints:
    """The joints in a video, detected once and cached on disk.

    Args:
      path: the video.
      cache: folder of cached joints, by the video's content and the model's version;
        `cache_dir()/poses` by default.

    Raises:
      InputError: where the extra `[pose]` is not installed, or the video cannot be read.
    """
    if not pose.is_installed():
        raise InputError(
            f"poses of videos need a pose model, which is not installed; {pose.remedy()}"
        )
    folder = cache_dir() / "poses" if cache is None else as_path(cache)
    cached = folder / f"{hash_file(path)[:32]}-{_model_version()}-{_MAX_SIDE_PX}.npz"
    found = _read_cached(cached)
    if found is None:
        found = _detect(path)
        with write_beside(cached) as beside, beside.open("wb") as file:
            np.savez_compressed(file, joints=found.joints, size_px=found.size_px)
    return found


@typechecked
def interpolate(joints: Float[np.ndarray, "t j 2"]) -> Float[np.ndarray, "t j 2"]:
    """Fills in missing joints, [t, j, 2] with NaN: linearly in time, constant at the ends.

    Returns:
      [t, j, 2]; NaN for a joint that is missing in all frames.
    """
    chex.assert_shape(joints, (None, None, 2))
    chex.assert_type(joints, float)
    filled = np.array(joints)
    frames = np.arange(len(joints))
    for joint in range(joints.shape[1]):
        known = ~np.isnan(joints[:, joint]).any(axis=-1)
        for axis in range(2) if known.any() else ():
            values = joints[known, joint, axis]
            filled[:, joint, axis] = np.interp(frames, frames[known], values)
    return filled


@typechecked
def normalise(joints: Float[np.ndarray, "t j 2"]) -> Float[np.ndarray, "t j 2"]:
    """Converts pixels to shoulder widths, from the middle of the shoulders of each frame.

    The width is the median over the frames, so that a person who turns sideways does not grow.

    Args:
      joints: [t, 25, 2] in pixels, or in any unit that both axes share; NaN for joints that are
        missing in all frames. Shoulders must not be missing.

    Returns:
      [t, 25, 2] float32, zero for joints that are missing.
    """
    chex.assert_shape(joints, (None, len(pose.JOINT_NAMES), 2))
    chex.assert_type(joints, float)
    right, left = (joints[:, joint] for joint in _SHOULDERS)
    width = np.median(np.linalg.norm(left - right, axis=-1))
    middle = (right + left)[:, None] / 2
    return np.nan_to_num((joints - middle) / np.maximum(width, 1e-6)).astype(np.float32)


def _detect(path: str | os.PathLike) -> DetectedJoints:
    found = []
    with pose.track_joints() as find_joints:
        for picture in iterate_pictures(path, most_px=_MAX_SIDE_PX):
            found.append(find_joints(picture))
    return DetectedJoints(np.stack(found), np.array(picture.shape[1::-1]))


def _read_cached(path: pathlib.Path) -> DetectedJoints | None:
    """Reads a cached file; None where there is no such file, or it is damaged."""
    try:
        # `np.load` of a path would leave the file open if the archive is damaged.
        with local_copy(path).open("rb") as file, np.load(file, allow_pickle=False) as saved:
            joints, size_px = saved["joints"].astype(np.float32), saved["size_px"].astype(int)
    # The errors that zip, zlib and NumPy raise for damaged files; TypeError for a single array.
    except (OSError, ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        return None
    fits = joints.shape[1:] == (len(pose.JOINT_NAMES), 2) and size_px.shape == (2,)
    return DetectedJoints(joints, size_px) if fits and len(joints) else None


@functools.cache
def _model_version() -> str:
    """The package that provides the pose model, one of several forks, and its version."""
    name, *_ = importlib.metadata.packages_distributions()["mediapipe"]
    return f"{name}-{importlib.metadata.version(name)}"
