"""Reads the motion of the people in videos, as one of three kinds."""

import dataclasses
import math
import pathlib
from collections.abc import Sequence

import numpy as np
from tqdm import tqdm

from gesture_jax.array_types import Audio
from gesture_jax.errors import InputError
from gesture_jax.evaluation.frames import Boxes
from gesture_jax.media import motion_files
from gesture_jax.media.rates import FPS
from gesture_jax.media.sound import has_audio, read_audio
from gesture_jax.metrics import pose as pose_metrics
from gesture_jax.ops import rotation
from gesture_jax.people import pose, regions

KINDS = "pose", "joints", "features"
"""The kinds of motion.

- pose: joints that the pose model detects in the videos (extra [pose]).
- joints: known joints, from an .npz beside each video, with `joints` [t, j, 2] and, for variants of
  the beat alignment that need them, `names` [j].
- features: stage 1's motion features, from the .npz beside each video that `generate --save_motion`
  writes.
"""
# The margin around a person's joints, as a share of their extent: hair is above the eyes, and hips
# are below the lowest joint.
_PERSON_MARGIN = 0.15


@dataclasses.dataclass(frozen=True)
class ClipMotion:
    """The motion and the sound of one video.

    Attributes:
      path: of the video.
      motion: [t, j, 2] joints, or [t, d] features.
      names: of the joints; empty for features.
      audio: [n] float32, mono, 16 kHz; empty where the video has no sound.
      num_missing: number of joints, over all frames, that were not detected and are interpolated.
    """

    path: pathlib.Path
    motion: np.ndarray
    names: tuple[str, ...]
    audio: Audio
    num_missing: int = 0

    @property
    def name(self) -> str:
        """The name of the video."""
        return self.path.stem

    @property
    def vectors(self) -> np.ndarray:
        """The motion as [t, d]."""
        return self.motion.reshape(len(self.motion), -1)

    @property
    def duration_sec(self) -> float:
        """The length of the motion."""
        return len(self.motion) / FPS


def read_all(paths: Sequence[pathlib.Path], kind: str, *, label: str) -> list[ClipMotion]:
    """Reads the motion of videos, one after the other.

    Args:
      paths: of the videos.
      kind: one of `KINDS`.
      label: name of the videos beside the progress bar.

    Raises:
      InputError: where motion is missing, cannot be read, or has other features than the first.
    """
    with tqdm(paths, desc=f"motion, {label}", unit="video") as progress:
        clips = [_read(path, kind) for path in progress]
    first = clips[0]
    for clip in clips:
        if clip.motion.shape[1:] != first.motion.shape[1:]:
            raise InputError(
                f"{clip.path}: its motion has {list(clip.motion.shape[1:])} numbers a frame, but "
                f"that of {first.path} has {list(first.motion.shape[1:])}; give motion of one kind"
            )
    return clips


def _read(path: pathlib.Path, kind: str) -> ClipMotion:
    audio = read_audio(path) if has_audio(path) else np.zeros(0, np.float32)
    if kind == "pose":
        poses = pose_metrics.read_poses(path)
        return ClipMotion(path, poses.keypoints, pose.JOINT_NAMES, audio, poses.num_missing)
    beside = path.with_suffix(".npz")
    if kind == "joints":
        joints = motion_files.read_motion(beside, "joints")
        names = motion_files.read_joint_names(beside)
        if names and len(names) != joints.shape[1]:
            raise InputError(f"{beside}: {len(names)} names for {joints.shape[1]} joints")
        return ClipMotion(path, joints, names, audio)
    features = motion_files.read_motion(beside)
    length = features.shape[1]
    if length != 9 * math.isqrt(max(length - 3, 0) // 9) ** 2 + 3:
        raise InputError(f"{beside}: {length} numbers a frame are no motion feature, 9 g^2 + 3")
    # Three angles for each cell instead of the nine numbers of its rotation.
    return ClipMotion(path, np.asarray(rotation.matrix_to_angles_feature(features)), (), audio)


def find_boxes(path: pathlib.Path, *, size: int) -> Boxes | None:
    """Boxes around hands and person in the central square of a video, scaled to `size` pixels.

    Returns:
      The boxes; None where the extra `[pose]` is not installed.
    """
    if not pose.is_installed():
        return None
    detected = pose_metrics.detect_joints(path)
    side = detected.size_px.min()
    joints = detected.joints * detected.size_px - (detected.size_px - side) / 2
    joints = (pose_metrics.interpolate(joints) * (size / side)).astype(np.float32)
    hands = regions.region_boxes(joints, pose.JOINT_NAMES, size=size)[:, regions.HANDS]
    return Boxes(hands, _person_boxes(joints, size)[:, None])


def _person_boxes(joints: np.ndarray, size: int) -> np.ndarray:
    """[t, 4], boxes around all joints with room for hair and clothes; zeros without joints."""
    known = ~np.isnan(joints).any(axis=(0, 2))
    if not known.any():
        return np.zeros((len(joints), 4), np.float32)
    low, high = joints[:, known].min(axis=1), joints[:, known].max(axis=1)
    margin = _PERSON_MARGIN * (high - low).max(axis=-1, keepdims=True)
    return np.clip(np.concatenate([low - margin, high + margin], axis=-1), 0.0, size)
