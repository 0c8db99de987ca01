"""Retargets the procedural speaker's motion to the arms of a portrait, within their reach.

Positions are in pixels of the working picture (`landmarks.SIDE`).
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from scipy.ndimage import gaussian_filter1d

from gesture_jax.procedural.identity import Identity
from gesture_jax.procedural.motion import Pose
from gesture_jax.puppets import geometry
from gesture_jax.puppets.rig import ArmRig

# Length of a forearm seen from the front, as a fraction of the upper arm.
_FOREARM_SHARE = 0.85
# How far a wrist moves up, down, inwards and outwards, in lengths of the forearm, by `outward`.
_REACH = {True: (0.46, 0.36, 0.28, 0.26), False: (0.42, 0.24, 0.22, 0.22)}
# How far the procedural speaker's wrists move in these directions, in sides of its frame.
_SPEAKER_REACH = 0.13, 0.26, 0.16, 0.12
_SPEAKER_HEIGHT = 0.62
# Standard deviations in frames of the smoothing in time; the first that slows the wrist enough.
_SMOOTHING = 0.8, 1.1, 1.5, 2.0, 2.6
# Largest motion of a wrist per frame, in lengths of the forearm.
_MAX_SPEED = 0.26
# Motion of the elbow as a fraction of the wrist's, in x and y.
_ELBOW_FOLLOWS = {True: (0.30, 0.22), False: (0.45, 0.55)}
_MAX_SWING = {True: 1.3, False: 0.8}
_STRETCH = 0.6, 2.0


@dataclasses.dataclass(frozen=True)
class ArmPose:
    """One arm in one frame.

    Attributes:
      elbow: [2].
      wrist: [2].
      rest_length: length of the forearm in the portrait.
      length: length of the forearm in the frame.
      angle: angle of the forearm in the picture, in radians.
      hand_turn: rotation of the hand relative to the portrait, in radians.
      hand_scale: size of the hand, 1 in the portrait.
      hand: [3], its shape, as `procedural.motion.Pose.hands`.
    """

    elbow: np.ndarray
    wrist: np.ndarray
    rest_length: float
    length: float
    angle: float
    hand_turn: float
    hand_scale: float
    hand: np.ndarray


def plan_arm(
    arm: ArmRig, side: int, person: Identity, poses: Sequence[Pose], amplitude: float
) -> np.ndarray:
    """Plans the motion of a wrist, frame by frame.

    Args:
      arm: arm of a portrait.
      side: 0 on the viewer's left, 1 on the right.
      person: the procedural speaker.
      poses: the speaker's poses.
      amplitude: size of the gestures, 1 for what suits the portrait.

    Returns:
      [t, 6]: the wrist's offset (x, y), the bend of the hand and its shape.
    """
    sign = outwards(side)
    wrists = np.array([pose.wrists[side] - pose.body for pose in poses])
    middle = 0.5 + sign * (0.45 * person.shoulder + 0.165 * person.style.reach)
    out, low = (wrists[:, 0] - middle) * sign, wrists[:, 1] - _SPEAKER_HEIGHT
    length = forearm_length(arm) * amplitude
    up, down, inwards, outside = _REACH[arm.outward]
    from_up, from_down, from_in, from_out = _SPEAKER_REACH
    out = out * np.where(out < 0, inwards / from_in, outside / from_out)
    low = low * np.where(low < 0, up / from_up, down / from_down)
    x, y = (length * offset for offset in limit_offset(arm, out, low))
    if arm.outward:  # Moves around the elbow, not through it.
        lowered = np.clip(y / (down * length), 0, 1)
        x = x * (1 - lowered) + 0.45 * np.clip(y, 0, None)
    shape = np.array([(pose.bend[side], *pose.hands[side]) for pose in poses])
    track = np.concatenate([np.stack([x * sign, y], 1), shape], axis=1)
    return _slow_down(track, _MAX_SPEED * length / amplitude)


def _slow_down(track: np.ndarray, max_speed: float) -> np.ndarray:
    """Smooths a track in time, without delay, until it is slow enough for an arm."""
    for deviation in _SMOOTHING:
        smooth = gaussian_filter1d(track, deviation, axis=0, mode="nearest")
        if len(smooth) < 2:
            break
        if np.linalg.norm(np.diff(smooth[:, :2], axis=0), axis=1).max() < max_speed:
            break
    return smooth


def pose_arm(arm: ArmRig, side: int, row: np.ndarray) -> ArmPose:
    """Returns the arm with its wrist as near as possible to that in a row of `plan_arm`."""
    sign = outwards(side)
    offset = row[:2]
    elbow = arm.elbow + np.array(_ELBOW_FOLLOWS[arm.outward]) * offset
    at_rest, wanted = arm.wrist - arm.elbow, arm.wrist + offset - elbow
    rest_length = float(np.linalg.norm(at_rest))
    rest_angle = np.arctan2(at_rest[1], at_rest[0])
    swing = (np.arctan2(wanted[1], wanted[0]) - rest_angle) * sign
    swing = (swing + np.radians(120)) % (2 * np.pi) - np.radians(120)
    limit = _MAX_SWING[arm.outward]
    swing = limit * np.tanh(swing / limit) * sign
    full_length = forearm_length(arm)
    longest = min(_STRETCH[1] * rest_length, max(full_length, rest_length))
    length = float(np.clip(np.linalg.norm(wanted), _STRETCH[0] * rest_length, longest))
    angle = rest_angle + swing
    bend = 0.45 * sign * float(np.clip(row[2] - 0.1, -0.6, 0.6))
    return ArmPose(
        elbow=elbow,
        wrist=elbow + length * np.array([np.cos(angle), np.sin(angle)]),
        rest_length=rest_length,
        length=length,
        angle=float(angle),
        hand_turn=float((0.50 if arm.outward else 0.45) * swing - bend),
        hand_scale=1 + 0.05 * float(np.clip(-offset[1] / (0.4 * full_length), -1, 1)),
        hand=row[3:6],
    )


def rest(arm: ArmRig) -> np.ndarray:
    """Returns the row of `plan_arm` that leaves the arm as it is in the portrait."""
    return np.array([0.0, 0.0, 0.1, 0.6, 0.1, 0.1])


def fingertips(arm: ArmRig, posed: ArmPose) -> np.ndarray:
    """Returns the fingertips [5, 2], thumb first, without the small motion of the fingers."""
    tips = arm.points[[chain[-1] for chain in geometry.FINGERS]] - arm.wrist
    return posed.wrist + tips @ (geometry.rotation(posed.hand_turn) * posed.hand_scale).T


def outwards(side: int) -> int:
    """Returns the sign of the direction along x that leads away from the body."""
    return 2 * side - 1


def forearm_length(arm: ArmRig) -> float:
    """Returns the length of a forearm that is seen from the front."""
    return _FOREARM_SHARE * float(np.linalg.norm(arm.shoulder - arm.elbow))


def limit_offset(arm: ArmRig, out, down):
    """Limits offsets of the wrist, outwards and down in lengths of the forearm, to its reach."""
    up, low, inwards, outside = _REACH[arm.outward]
    limit = lambda offset, least, most: np.where(
        offset < 0, -_soft_limit(-offset, least), _soft_limit(offset, most)
    )
    return limit(out, inwards, outside), limit(down, up, low)


def _soft_limit(values: np.ndarray, limit: float) -> np.ndarray:
    """Returns small values unchanged, and large ones below 1.25 times the limit."""
    return 1.25 * limit * np.tanh(values / (1.25 * limit))
