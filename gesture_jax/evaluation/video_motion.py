"""How the people in videos move, by one of three kinds of motion."""

import dataclasses
import math
import pathlib
from collections.abc import Sequence

import numpy as np
from tqdm import tqdm

from gesture_jax.array_types import Audio
from gesture_jax.errors import InputError
from gesture_jax.evaluation.pictures import Boxes
from gesture_jax.media import motion_files
from gesture_jax.media.rates import FPS
from gesture_jax.media.sound import has_audio, read_audio
from gesture_jax.metrics import pose as pose_metrics
from gesture_jax.ops import rotation
from gesture_jax.people import pose, regions

KINDS = "pose", "joints", "features"
"""Joints that the pose model sees in the videos (extra [pose]); joints that are known, from an .npz
beside each video, with `joints` [t, j, 2] and, where the beat alignment wants them, `names` [j];
stage 1's motion features, from an .npz beside each video, as `generate --save_motion` writes it.
"""
# Of the person's height and width: hair above the eyes, hips below the lowest joint.
_PERSON_ROOM = 0.15


@dataclasses.dataclass(frozen=True)
class Moves:
    """How one video moves, and what is heard in it.

    Attributes:
      path: of the video.
      motion: [t, j, 2] joints, or [t, d] features.
      names: of the joints; none of features.
      audio: [n] float32, mono, 16 kHz; empty where the video has no sound.
      num_missing: joints that were not seen in a frame, and are interpolated.
    """

    path: pathlib.Path
    motion: np.ndarray
    names: tuple[str, ...]
    audio: Audio
    num_missing: int = 0

    @property
    def name(self) -> str:
        """Of the video."""
        return self.path.stem

    @property
    def vectors(self) -> np.ndarray:
        """[t, d]."""
        return self.motion.reshape(len(self.motion), -1)

    @property
    def duration_sec(self) -> float:
        """Of the motion."""
        return len(self.motion) / FPS


def read_all(paths: Sequence[pathlib.Path], kind: str, *, what: str) -> list[Moves]:
    """The motion of videos, one after the other.

    Args:
      paths: of the videos.
      kind: one of `KINDS`.
      what: said of them beside the progress bar.

    Raises:
      InputError: where motion cannot be found or read, or differs in its features.
    """
    with tqdm(paths, desc=f"motion, {what}", unit="video") as progress:
        found = [_read(path, kind) for path in progress]
    first = found[0]
    for clip in found:
        if clip.motion.shape[1:] != first.motion.shape[1:]:
            raise InputError(
                f"{clip.path}: moves in {list(clip.motion.shape[1:])} numbers a frame, but "
                f"{first.path} in {list(first.motion.shape[1:])}; give motion of one kind"
            )
    return found


def _read(path: pathlib.Path, kind: str) -> Moves:
    audio = read_audio(path) if has_audio(path) else np.zeros(0, np.float32)
    if kind == "pose":
        poses = pose_metrics.read_poses(path)
        return Moves(path, poses.keypoints, pose.JOINT_NAMES, audio, poses.num_missing)
    beside = path.with_suffix(".npz")
    if kind == "joints":
        joints = motion_files.read_motion(beside, "joints")
        names = motion_files.read_joint_names(beside)
        if names and len(names) != joints.shape[1]:
            raise InputError(f"{beside}: {len(names)} names of {joints.shape[1]} joints")
        return Moves(path, joints, names, audio)
    features = motion_files.read_motion(beside)
    length = features.shape[1]
    if length != 9 * math.isqrt(max(length - 3, 0) // 9) ** 2 + 3:
        raise InputError(f"{beside}: {length} numbers a frame are no motion feature, 9 g^2 + 3")
    # Three numbers a cell rather than the nine of its rotation.
    return Moves(path, np.asarray(rotation.matrix_to_angles_feature(features)), (), audio)


def find_boxes(path: pathlib.Path, *, size: int) -> Boxes | None:
    """Where hands and person are in the central square of a video, scaled to a size in pixels.

    Returns:
      None where the extra `[pose]` is not installed.
    """
    if not pose.is_installed():
        return None
    seen = pose_metrics.see_joints(path)
    side = seen.size_px.min()
    joints = seen.joints * seen.size_px - (seen.size_px - side) / 2
    joints = (pose_metrics.interpolate(joints) * (size / side)).astype(np.float32)
    hands = regions.region_boxes(joints, pose.JOINT_NAMES, size=size)[:, regions.HANDS]
    return Boxes(hands, _person(joints, size)[:, None])


def _person(joints: np.ndarray, size: int) -> np.ndarray:
    """[t, 4] around all joints of a frame, with room for hair and clothes; zeros for none."""
    known = ~np.isnan(joints).any(axis=(0, 2))
    if not known.any():
        return np.zeros((len(joints), 4), np.float32)
    low, high = joints[:, known].min(axis=1), joints[:, known].max(axis=1)
    room = _PERSON_ROOM * (high - low).max(axis=-1, keepdims=True)
    return np.clip(np.concatenate([low - room, high + room], axis=-1), 0.0, size)
