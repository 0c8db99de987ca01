"""The pose of a puppet as a vector of values that mean the same for every portrait.

These values are what `training.pose_reading` fits to stage 1's motion features.
"""

from collections.abc import Sequence

import numpy as np

from gesture_jax.people.mouth import LipShape
from gesture_jax.puppets import retarget
from gesture_jax.puppets.poses import PuppetPose
from gesture_jax.puppets.rig import ArmRig

_ARM = ("out", "down", "bend", "spread", "index_curl", "curl")
NAMES = (
    *(f"{side}_{name}" for side in ("left", "right") for name in _ARM),
    *("body_x", "body_y", "nod", "turn", "tilt", "brows", "lip_opening", "lip_widening"),
)
"""The values: the wrists' offsets outwards and down in lengths of the forearm, and the changes of
the hands' bend and shape, on the viewer's left and right; then those of `PuppetPose`."""
ARM_VALUES = 2 * len(_ARM)


def to_values(arms: Sequence[ArmRig], pose: PuppetPose) -> np.ndarray:
    """Returns the values of a pose, [p] float64; those of arms that do not move are 0."""
    values = np.zeros(len(NAMES))
    for side, (arm, row) in enumerate(zip(arms, pose.arms, strict=True)):
        change = row - retarget.rest(arm)
        change[:2] /= retarget.forearm_length(arm)
        change[0] *= retarget.outwards(side)
        values[side * len(_ARM) : (side + 1) * len(_ARM)] = change
    values[ARM_VALUES:] = [
        *pose.body, pose.nod, pose.turn, pose.tilt, pose.brows,
        pose.lips.opening, pose.lips.widening,
    ]  # fmt: skip
    return values


def to_pose(
    arms: Sequence[ArmRig], values: np.ndarray, *, lips: LipShape, eyes: float
) -> PuppetPose:
    """Returns the pose for values [p], with wrists within the reach of the arms.

    Args:
      arms: of the rig.
      values: [p], as `NAMES`; those of the lips are not used.
      lips: position of the lips.
      eyes: 1 open, 0 closed.
    """
    rows = []
    for side, arm in enumerate(arms):
        change = values[side * len(_ARM) : (side + 1) * len(_ARM)]
        x, y = retarget.limit_offset(arm, change[0], change[1])
        offset = retarget.forearm_length(arm) * np.array([retarget.outwards(side) * x, y])
        rest = retarget.rest(arm)
        rows.append([*offset, rest[2] + change[2], *np.clip(rest[3:] + change[3:], 0.0, 1.0)])
    body_x, body_y, nod, turn, tilt, brows, _, _ = values[ARM_VALUES:]
    return PuppetPose(
        arms=np.array(rows).reshape(-1, len(_ARM)),
        body=np.array([body_x, body_y]),
        nod=float(nod),
        turn=float(turn),
        tilt=float(tilt),
        lips=lips,
        brows=float(np.clip(brows, 0.0, 1.0)),
        eyes=eyes,
    )
