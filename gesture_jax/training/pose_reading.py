"""Fits how the pose of a person is read from the motion features of a trained stage 1.

Rigs of photographs, whose poses are known, are drawn in many poses, and stage 1 extracts their
motion. The reading is a matrix; it is found by ridge regression, and scaled by cross-validation
over the portraits, so that it neither shrinks the motion of a new person nor trusts what cannot be
read.
"""

import os
import sys
import zlib
from collections.abc import Iterator, Mapping

import numpy as np
from tqdm import tqdm

from gesture_jax.errors import InputError
from gesture_jax.inference.animator import Animator
from gesture_jax.models.motion_space import MotionSpace
from gesture_jax.models.readings import fit_reading
from gesture_jax.preparation.photo_people import rig_library, scenes
from gesture_jax.procedural.identity import make_identity
from gesture_jax.procedural.motion import gesture
from gesture_jax.procedural.voice import speak
from gesture_jax.puppets import pose_values, retarget
from gesture_jax.puppets.poses import PuppetPose
from gesture_jax.puppets.puppet import Puppet, draw_backdrop
from gesture_jax.puppets.rig import load_rig
from gesture_jax.storage import files

_NUM_FOLDS = 5
# Frames of a clip, of which every third is drawn: neighbours hardly differ.
_CLIP_FRAMES, _EVERY = 150, 3


def fit_on_portraits(stage1: str | os.PathLike, portraits: str | os.PathLike) -> np.ndarray:
    """Fits the reading of a trained stage 1 on a folder of photographs, or of their rigs.

    Rigs are kept in `STAGE1.rigs` beside the stage 1. For the rest see `fit_pose_reading`.

    Raises:
      InputError: where there is no stage 1, or there are too few portraits.
    """
    animator = Animator.load(stage1)
    folder = files.absolute(stage1)
    rigs, left_out = rig_library.find_rigs(portraits, folder.with_name(folder.name + ".rigs"))
    for entry in left_out:
        print(f"left out: {entry.name}: {entry.reason}", file=sys.stderr)
    return fit_pose_reading(animator, rigs)


def fit_pose_reading(
    animator: Animator, rigs: Mapping[str, str | os.PathLike], *, clips_each: int = 4, seed: int = 0
) -> np.ndarray:
    """Fits the reading of `pose_values.NAMES`.

    Args:
      animator: the trained stage 1.
      rigs: files of rigs by their names; those whose arms do not move are left out.
      clips_each: number of clips of each portrait.
      seed: of the poses.

    Returns:
      [3 g^2 + 3, p] float32: changes of a motion in angles @ this are the values of the pose.

    Raises:
      InputError: for fewer than five rigs with arms.
    """
    puppets = [puppet for puppet in map(Puppet, map(load_rig, rigs.values())) if puppet.rig.arms]
    if len(puppets) < _NUM_FOLDS:
        raise InputError(
            f"{len(puppets)} portraits have arms that can be moved; at least {_NUM_FOLDS} are "
            "needed to fit how poses are read"
        )
    clips = [
        clip
        for number, puppet in enumerate(tqdm(puppets, desc="poses", unit="portrait"))
        for clip in _draw_clips(animator, puppet, number, clips_each, seed)
    ]
    return calibrate(clips)


def calibrate(clips: list[tuple[int, np.ndarray, np.ndarray]]) -> np.ndarray:
    """Fits a reading and its scales.

    Args:
      clips: number of the portrait, changes of the motion [t, d] and values [t, p] of each clip.

    Returns:
      [d, p] float32. Each column has the slope of the values over those that are read from people
      who were left out of the fit, and is 0 where these have no relation.
    """
    products = squares = 0.0
    for fold in range(_NUM_FOLDS):
        reading = fit_reading([(x, y) for who, x, y in clips if who % _NUM_FOLDS != fold])
        for who, x, y in clips:
            if who % _NUM_FOLDS == fold:
                read = x @ reading
                read, y = read - read.mean(axis=0), y - y.mean(axis=0)
                products = products + (read * y).sum(axis=0)
                squares = squares + np.square(read).sum(axis=0)
    slope = np.maximum(products / np.maximum(squares, 1e-12), 0.0)
    return fit_reading([(x, y) for _, x, y in clips]) * slope.astype(np.float32)


def _draw_clips(
    animator: Animator, puppet: Puppet, who: int, clips_each: int, seed: int
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Yields clips of one portrait, as `calibrate` takes them; every second is framed at random."""
    arms = puppet.rig.arms
    space = MotionSpace("angles", animator.model.motion_dim)
    size = animator.resolution
    for number in range(clips_each):
        clip_seed = zlib.crc32(f"{seed} {who} {number}".encode())
        person = make_identity(clip_seed)
        speech = speak(person.voice, seed=clip_seed, num_frames=_CLIP_FRAMES, voices="formants")
        poses = gesture(person, speech, seed=clip_seed)
        tracks = [retarget.plan_arm(arm, side, person, poses, 1.0) for side, arm in enumerate(arms)]
        scene = scenes.framed_scene(puppet)
        if number % 2:
            scene = scenes.draw_scene(np.random.default_rng(clip_seed), puppet, [], mirror=False)
        backdrop = draw_backdrop(scene.appearance, size)
        rest = np.array([retarget.rest(arm) for arm in arms])
        posed = [PuppetPose(rest)]
        for frame in range(0, _CLIP_FRAMES, _EVERY):
            rows = np.array([track[frame] for track in tracks])
            posed.append(PuppetPose.of_speaker(poses[frame], rows))
        frames = (
            puppet.draw(scene.appearance, pose, size=size, backdrop=backdrop) for pose in posed
        )
        vectors = np.asarray(space.from_feature(animator.extract_motion(frames)))
        values = np.array([pose_values.to_values(arms, pose) for pose in posed[1:]])
        yield who, vectors[1:] - vectors[0], values
