"""Deforms the meshes of the layers with the joints.

Positions are in pixels of the working picture (`landmarks.SIDE`).
"""

import dataclasses

import cv2
import numpy as np

from gesture_jax.people.ramps import smoothstep
from gesture_jax.puppets import geometry
from gesture_jax.puppets.landmarks import SHOULDERS, SIDE
from gesture_jax.puppets.poses import PuppetPose
from gesture_jax.puppets.retarget import ArmPose
from gesture_jax.puppets.rig import ArmRig, Layer, Rig

_BODY_STEP, _ARM_STEP = 8, 4
_BODY_MARGIN = 16
# Curl and spread of the thumb relative to other fingers.
_THUMB_CURL, _THUMB_SPREAD = 0.4, 0.7
_INWARD_FINGERS = 0.45
# Shifts of the face in half widths of the head, per unit of the procedural speaker's turn and nod.
_TURN, _NOD = 0.30 / 0.03, 0.12 / 0.02
_MAX_TILT = 0.12
CHIN, FOREHEAD, NOSE_TIP = 152, 10, 4
CHEEKS = 234, 454


def layer_alpha(layer: Layer, side: int) -> np.ndarray:
    """Returns a layer's alpha in the working picture, [s, s] float32, 0 to 1."""
    whole = np.zeros((side, side), np.uint8)
    left, top = layer.corner
    whole[top : top + layer.alpha.shape[0], left : left + layer.alpha.shape[1]] = layer.alpha
    return cv2.resize(whole, (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(np.float32) / 255


class ArmSkin:
    """Meshes of a forearm and a hand that follow an `ArmPose`."""

    def __init__(self, arm: ArmRig, side: int):
        """Makes the meshes; `side` is that of the rig."""
        self._arm = arm
        self.forearm, self.forearm_triangles = geometry.mesh_over(
            layer_alpha(arm.forearm, side), _ARM_STEP
        )
        self.hand, self.hand_triangles = geometry.mesh_over(layer_alpha(arm.hand, side), _ARM_STEP)
        self._finger_weights = self._weigh_fingers()

    def pose_forearm(self, posed: ArmPose) -> np.ndarray:
        """Returns the forearm's vertices, turned, stretched and attached to the hand."""
        arm, rest_length = self._arm, posed.rest_length
        heading = (arm.wrist - arm.elbow) / rest_length
        offset = self.forearm - arm.elbow
        along, across = offset @ heading, offset @ np.array([-heading[1], heading[0]])
        now = np.array([np.cos(posed.angle), np.sin(posed.angle)])
        stretched = np.where(
            along < rest_length,
            along * posed.length / rest_length,
            posed.length + along - rest_length,
        )
        stretched = np.where(along < 0, along, stretched)
        turned = posed.elbow + stretched[:, None] * now
        turned += across[:, None] * np.array([-now[1], now[0]])
        share = smoothstep(along, -0.9 * arm.radii[0], 0.5 * arm.radii[0])[:, None]
        vertices = (self.forearm + posed.elbow - arm.elbow) * (1 - share) + turned * share
        share = smoothstep(along / rest_length, 0.55, 1.05)[:, None]
        with_hand = posed.wrist + (self.forearm - arm.wrist) @ _hand_matrix(posed).T
        return vertices * (1 - share) + with_hand * share

    def pose_hand(self, posed: ArmPose) -> np.ndarray:
        """Returns the hand's vertices, turned about the wrist, with fingers spread and curled."""
        points = self._arm.points
        spread, index_curl, curl = posed.hand
        strength = 1.0 if self._arm.outward else _INWARD_FINGERS
        middle = points[[8, 12, 16]].mean(axis=0) - points[[5, 9, 13]].mean(axis=0)
        moved = np.zeros_like(self.hand)
        for number, (base, *_, tip) in enumerate(geometry.FINGERS):
            bent = (_THUMB_CURL * curl, index_curl, curl, curl, curl)[number]
            direction = geometry.unit(points[tip] - points[base])
            beside = points[tip] - points[12]
            # The sign of a turn away from the middle finger.
            way = 0.0 if number == 2 else np.sign(middle[0] * beside[1] - middle[1] * beside[0])
            turn = way * (spread - 0.6) * 0.32 * strength * (_THUMB_SPREAD if number == 0 else 1.0)
            shorter = -0.5 * max(bent - 0.1, 0.0) * strength
            offset = self.hand - points[base]
            curled = offset + shorter * np.clip(offset @ direction, 0, None)[:, None] * direction
            change = curled @ geometry.rotation(turn).T - offset
            moved += self._finger_weights[:, number : number + 1] * change
        return posed.wrist + (self.hand - self._arm.wrist + moved) @ _hand_matrix(posed).T

    def _weigh_fingers(self) -> np.ndarray:
        """Returns the weight [v, 5] of each finger for each vertex of the hand."""
        points = self._arm.points
        distances, ramps = [], []
        for chain in geometry.FINGERS:
            bones = zip(chain[:-1], chain[1:], strict=True)
            near = [_distance_to(self.hand, points[start], points[end]) for start, end in bones]
            distances.append(np.min(near, axis=0))
            whole = points[chain[3]] - points[chain[0]]
            along = (self.hand - points[chain[0]]) @ whole / max(whole @ whole, 1e-6)
            ramps.append(smoothstep(along, -0.05, 0.55))
        shares = 1.0 / (np.stack(distances, 1) / (0.10 * self._arm.size) + 0.3) ** 4
        return shares / shares.sum(axis=1, keepdims=True) * np.stack(ramps, 1)


def _hand_matrix(posed: ArmPose) -> np.ndarray:
    return geometry.rotation(posed.hand_turn) * posed.hand_scale


def _distance_to(vertices: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    axis = end - start
    along = np.clip((vertices - start) @ axis / max(axis @ axis, 1e-6), 0, 1)
    return np.linalg.norm(vertices - start - along[:, None] * axis, axis=1)


@dataclasses.dataclass(frozen=True)
class Head:
    """The measures of a head, by which it is moved.

    Attributes:
      centre: [2].
      neck: [2], the point about which it tilts.
      mouth: [2].
      half_width: in pixels.
      half_height: in pixels.
      face_height: distance from the forehead to the chin, in pixels.
    """

    centre: np.ndarray
    neck: np.ndarray
    mouth: np.ndarray
    half_width: float
    half_height: float
    face_height: float

    @staticmethod
    def from_rig(rig: Rig) -> "Head":
        """Measures the head of a portrait."""
        face = rig.face[:, :2]
        height = float(face[CHIN, 1] - face[FOREHEAD, 1])
        centre = face[[FOREHEAD, CHIN, *CHEEKS]].mean(axis=0)
        shoulders = rig.pose[list(SHOULDERS), 0].mean()
        return Head(
            centre=centre - (0, 0.12 * height),
            neck=np.array([0.5 * (face[CHIN, 0] + shoulders), face[CHIN, 1] + 0.28 * height]),
            mouth=0.5 * (face[78] + face[308]),
            half_width=0.625 * float(face[CHEEKS[1], 0] - face[CHEEKS[0], 0]),
            half_height=0.725 * height,
            face_height=height,
        )

    def depth(self, points: np.ndarray, nose: np.ndarray) -> np.ndarray:
        """Returns the depth of points [v, 2]: a half-ellipsoid with a nose, 0 at its rim."""
        offset = (points - self.centre) / (self.half_width, self.half_height)
        inside = 1 - (offset**2).sum(axis=1)
        depth = np.sqrt(np.clip(inside, 0, 1)) * smoothstep(inside, 0.0, 0.35)
        near_nose = (points - nose) / (0.16 * self.face_height)
        return depth + 0.22 * np.exp(-(near_nose**2).sum(axis=1))

    def move(self, points: np.ndarray, depth: np.ndarray, pose: PuppetPose) -> np.ndarray:
        """Tilts, turns and nods points [v, 2] of the head."""
        tilt = float(np.clip(pose.tilt, -_MAX_TILT, _MAX_TILT))
        turn, nod = pose.turn * _TURN * self.half_width, pose.nod * _NOD * self.half_width
        tilted = (points - self.neck) @ geometry.rotation(tilt).T + self.neck
        return tilted + np.stack([turn * (depth - 0.25), nod * (depth + 0.35)], axis=1)


class BodySkin:
    """The mesh of the body, which follows the head and the upper arms."""

    def __init__(self, rig: Rig):
        """Makes the mesh and its weights."""
        self.head = Head.from_rig(rig)
        box = -_BODY_MARGIN, -_BODY_MARGIN, SIDE + _BODY_MARGIN, SIDE + 2 * _BODY_MARGIN
        self.vertices, triangles = geometry.grid_mesh(box, _BODY_STEP)
        used = cv2.dilate(layer_alpha(rig.body, rig.side), np.ones((2 * _BODY_STEP + 1,) * 2)) > 0
        middles = np.clip(self.vertices[triangles].mean(axis=1).astype(int), 0, SIDE - 1)
        self.triangles = triangles[used[middles[:, 1], middles[:, 0]]]
        self._nose = rig.face[NOSE_TIP, :2]
        self._depth = self.head.depth(self.vertices, self._nose)
        self._head_weight = self._weigh_head(rig)
        self._arms = rig.arms
        self._arm_weights = [_weigh_arm(self.vertices, arm, k) for k, arm in enumerate(rig.arms)]

    def pose(self, pose: PuppetPose, posed: list[ArmPose]) -> np.ndarray:
        """Returns the vertices in a pose, without sway and breath."""
        vertices = self.vertices
        for arm, weight, arm_pose in zip(self._arms, self._arm_weights, posed, strict=True):
            vertices = vertices + weight[:, None] * (arm_pose.elbow - arm.elbow)
        share = self._head_weight[:, None]
        return vertices * (1 - share) + self.head.move(vertices, self._depth, pose) * share

    def head_joints(self, pose: PuppetPose) -> np.ndarray:
        """Returns head, neck and mouth, [3, 2]."""
        head, mouth = self.move_head(np.stack([self.head.centre, self.head.mouth]), pose)
        return np.stack([head, self.head.neck, mouth])

    def move_head(self, points: np.ndarray, pose: PuppetPose) -> np.ndarray:
        """Moves points [n, 2] of the head with it."""
        return self.head.move(points, self.head.depth(points, self._nose), pose)

    def _weigh_head(self, rig: Rig) -> np.ndarray:
        chin, height = rig.face[CHIN, 1], self.head.face_height
        base = min(rig.pose[list(SHOULDERS), 1].mean(), chin + 0.75 * height)
        base = max(base, chin + 0.2 * height)
        return 1 - smoothstep(self.vertices[:, 1], chin - 0.10 * height, base)


def _weigh_arm(vertices: np.ndarray, arm: ArmRig, side: int) -> np.ndarray:
    """Returns the weight [v] of the elbow for each vertex of the body; sleeves follow it."""
    outwards = 2 * side - 1
    upper = arm.elbow - arm.shoulder
    along = np.clip((vertices - arm.shoulder) @ upper / max(upper @ upper, 1e-6), 0, 1)
    offset = vertices - arm.shoulder - along[:, None] * upper
    inner = offset[:, 0] * outwards < 0
    radius = arm.radii[2]
    far = np.where(inner, 2.6, 4.0) * radius
    distance = np.linalg.norm(offset, axis=1)
    beside = 1 - smoothstep(distance, radius, far)
    return smoothstep(along, -0.05, 1.05) * beside


def sway(points: np.ndarray, pose: PuppetPose) -> np.ndarray:
    """Adds sway and breath to points; the lower edge of the picture does not move."""
    height = np.clip((SIDE - points[:, 1]) / SIDE, -0.05, 1.0)
    x = pose.body[0] * SIDE * 1.1 * (0.25 + height)
    y = pose.body[1] * SIDE * 0.8 * np.clip(1.6 * height, 0, 1)
    return points + np.stack([x, y], axis=1)
