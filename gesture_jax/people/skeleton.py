"""Points along the bones between joints, which are at the same places of a person in all frames."""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

_TIPS = ("thumb", "index", "middle", "ring", "little")
_KNUCKLES = ("thumb_knuckle", "index_knuckle", "little_knuckle")
_BODY_BONES = (
    ("head", "neck"),
    ("head", "mouth"),
    ("mouth_left", "mouth_right"),
    ("nose", "mouth_left"),
    ("nose", "mouth_right"),
    ("left_lip_corner", "upper_lip"),
    ("left_lip_corner", "lower_lip"),
    ("right_lip_corner", "upper_lip"),
    ("right_lip_corner", "lower_lip"),
    ("left_shoulder", "right_shoulder"),
    ("left_shoulder", "left_elbow"),
    ("right_shoulder", "right_elbow"),
)
_POINTS_PER_BONE = 5


@dataclasses.dataclass(frozen=True)
class Skeleton:
    """Points along the bones of some joints.

    Attributes:
      starts: [k] integers, the joint at which the bone of each point begins.
      ends: [k] integers, the joint at which it ends.
      shares: [k], the position of the point along the bone, from 0 to 1.
      is_arm: [k] booleans, whether the point belongs to a forearm or a hand.
    """

    starts: np.ndarray
    ends: np.ndarray
    shares: np.ndarray
    is_arm: np.ndarray

    @classmethod
    def from_joint_names(cls, joint_names: Sequence[str]) -> "Skeleton":
        """Returns the points on all bones for which both joints are in `joint_names`."""
        number = {name: index for index, name in enumerate(joint_names)}
        rows = []
        for is_arm, bones in ((False, _BODY_BONES), (True, _arm_bones())):
            for start, end in bones:
                if start in number and end in number:
                    shares = np.linspace(0.0, 1.0, _POINTS_PER_BONE)
                    rows += [(number[start], number[end], share, is_arm) for share in shares]
        starts, ends, shares, is_arm = np.array(rows, float).reshape(-1, 4).T
        return cls(starts.astype(int), ends.astype(int), shares, is_arm.astype(bool))

    def place(self, joints: jax.Array) -> jax.Array:
        """Maps joints [*b, j, 2] to points [*b, k, 2]; NaN where a joint of the bone is NaN."""
        shares = jnp.asarray(self.shares, jnp.float32)[:, None]
        start, end = (joints[..., which, :] for which in (self.starts, self.ends))
        return (1.0 - shares) * start + shares * end


def _arm_bones() -> list[tuple[str, str]]:
    bones = []
    for side in ("left", "right"):
        bones.append((f"{side}_elbow", f"{side}_wrist"))
        bones += [(f"{side}_wrist", f"{side}_{finger}") for finger in (*_TIPS, *_KNUCKLES)]
    return bones
