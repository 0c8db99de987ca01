"""The pose of a puppet in one frame."""

import dataclasses

import numpy as np

from gesture_jax.people.mouth import ROUNDED_WIDTH, LipShape
from gesture_jax.procedural.motion import Pose
from gesture_jax.procedural.visemes import REST

# Largest opening of the lips in widths of the mouth, and the widening of spread lips.
_OPENING, _SPREAD_WIDTH = 0.42, 0.16
_CLOSED = LipShape(0.0, 0.0)


@dataclasses.dataclass(frozen=True)
class PuppetPose:
    """The pose of a puppet; the defaults are that of the portrait with closed lips.

    Attributes:
      arms: [arms, 6], a row of `retarget.plan_arm` for each arm of the rig.
      body: [2], shift of the torso, in sides of the procedural speaker's frame.
      nod: downward shift of the face, in the same unit.
      turn: shift of the face to the right, in the same unit.
      tilt: tilt of the head, in radians.
      lips: position of the lips.
      brows: 0 to 1, raised.
      eyes: 1 open, 0 closed.
    """

    arms: np.ndarray
    body: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(2))
    nod: float = 0.0
    turn: float = 0.0
    tilt: float = 0.0
    lips: LipShape = _CLOSED
    brows: float = 0.0
    eyes: float = 1.0

    @classmethod
    def of_speaker(cls, pose: Pose, arms: np.ndarray) -> "PuppetPose":
        """Returns the pose of the procedural speaker, with arms from `retarget.plan_arm`."""
        spread = pose.mouth_wide - REST[1]
        most = _SPREAD_WIDTH / (1 - REST[1]) if spread >= 0 else ROUNDED_WIDTH / REST[1]
        lips = LipShape(_OPENING * pose.mouth_open, most * spread, pose.mouth_teeth)
        return cls(arms, pose.body, pose.nod, pose.turn, pose.tilt, lips, pose.brows, pose.eyes)
