"""Poses a rig and draws it, frame by frame."""

import dataclasses

import cv2
import numpy as np

from gesture_jax.people.lips import LIP_JOINTS
from gesture_jax.procedural.motion import JOINT_NAMES
from gesture_jax.puppets import rendering, retarget, skinning
from gesture_jax.puppets.face import Face
from gesture_jax.puppets.landmarks import SHOULDERS, SIDE
from gesture_jax.puppets.poses import PuppetPose
from gesture_jax.puppets.retarget import ArmPose
from gesture_jax.puppets.rig import Layer, Rig

# Frames up to this size are drawn twice as large and scaled down.
_MAX_DOUBLED = 384
_JOINTS_PER_ARM = 8
_HEAD_JOINTS = 3
_LIP_CORNERS = [JOINT_NAMES.index(f"{side}_lip_corner") for side in ("left", "right")]


@dataclasses.dataclass(frozen=True)
class View:
    """The square of the portrait that is shown.

    Attributes:
      left: its left edge, in sides of the portrait.
      top: its top edge, in the same unit.
      side: its side, in the same unit.
      mirrored: whether left and right are swapped.
    """

    left: float = 0.0
    top: float = 0.0
    side: float = 1.0
    mirrored: bool = False

    def to_frame(self, points: np.ndarray, size: int) -> np.ndarray:
        """Maps points [n, 2] of the working picture to pixels of a frame."""
        scale = size / (self.side * SIDE)
        corner = np.array([self.left, self.top]) * SIDE
        placed = (points + 0.5 - corner) * scale - 0.5
        if self.mirrored:
            placed[:, 0] = size - 1 - placed[:, 0]
        return placed


@dataclasses.dataclass(frozen=True)
class Appearance:
    """The appearance of a person in one clip.

    Attributes:
      view: the square that is shown.
      body: RGB and alpha, [h, w, 4] uint8.
      forearms: the same, one per side, or none.
      hands: the same, one per side, or none.
      background: [s, s, 3] uint8, the background, aligned with the portrait.
      shadow: darkness of the arms' shadow, 0 to 1.
    """

    view: View
    body: np.ndarray
    forearms: tuple[np.ndarray, ...]
    hands: tuple[np.ndarray, ...]
    background: np.ndarray
    shadow: float = 0.2


def original_appearance(rig: Rig) -> Appearance:
    """Returns the appearance of the portrait itself."""
    return Appearance(
        view=View(),
        body=stack(rig.body),
        forearms=tuple(stack(arm.forearm) for arm in rig.arms),
        hands=tuple(stack(arm.hand) for arm in rig.arms),
        background=rig.background,
    )


def stack(layer: Layer) -> np.ndarray:
    """Returns RGB and alpha of a layer, [h, w, 4] uint8."""
    return np.dstack([layer.colours, layer.alpha])


class Puppet:
    """Moves a rig."""

    def __init__(self, rig: Rig):
        """Makes the meshes and weights of all layers."""
        self.rig = rig
        self._face = Face(rig)
        self._body = skinning.BodySkin(rig)
        self._arms = [skinning.ArmSkin(arm, rig.side) for arm in rig.arms]
        edge = np.array([rig.side, rig.side]) - 0.51
        self._body_sources = np.clip(self._to_layer(self._body.vertices), -0.49, edge)
        self._body_sources -= rig.body.corner
        self._face_corner = tuple(np.subtract(self._face.corner, rig.body.corner).tolist())
        self._mouth_corner = tuple(np.subtract(self._face.mouth_corner, rig.body.corner).tolist())

    @property
    def head(self) -> skinning.Head:
        """The measures of the head."""
        return self._body.head

    def draw(
        self,
        appearance: Appearance,
        pose: PuppetPose,
        *,
        size: int,
        backdrop: np.ndarray,
    ) -> np.ndarray:
        """Draws one frame.

        Args:
          appearance: appearance of the person in the clip.
          pose: pose of the puppet.
          size: side of the frame in pixels.
          backdrop: from `draw_backdrop`.

        Returns:
          [size, size, 3] uint8.
        """
        side = drawing_side(size)
        posed = self._pose_arms(pose)
        place = lambda points: appearance.view.to_frame(skinning.sway(points, pose), side)
        picture = backdrop.copy()
        ground = self._draw_body(picture, appearance, pose, place(self._body.pose(pose, posed)))
        pieces = []
        for arm, skin, arm_pose, forearm, hand in zip(
            self.rig.arms, self._arms, posed, appearance.forearms, appearance.hands, strict=True
        ):
            for layer, pixels, vertices, triangles, now in (
                (arm.forearm, forearm, skin.forearm, skin.forearm_triangles,
                 skin.pose_forearm(arm_pose)),
                (arm.hand, hand, skin.hand, skin.hand_triangles, skin.pose_hand(arm_pose)),
            ):  # fmt: skip
                sources = self._to_layer(vertices) - layer.corner
                pieces.append(_draw_piece(place(now), sources, triangles, pixels, side))
        if pieces and appearance.shadow:
            scale = side / (SIDE * appearance.view.side)
            rendering.cast_shadow(picture, ground, pieces, appearance.shadow, scale)
        for corner, pixels in filter(None, pieces):
            rendering.composite(_part(picture, corner, pixels), pixels)
        if side != size:
            picture = cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA)
        return cv2.convertScaleAbs(picture)  # Rounds and clips.

    def joints(self, view: View, pose: PuppetPose, *, size: int) -> np.ndarray:
        """Returns the positions of `JOINT_NAMES`, [j, 2] float32, (x, y) in pixels.

        Joints of arms that do not move are NaN. Left and right are those of the frame: in a
        mirrored frame, the left arm is the portrait's right one.
        """
        points = np.full((len(JOINT_NAMES), 2), np.nan)
        points[:_HEAD_JOINTS] = self._body.head_joints(pose)
        for side, shoulder in enumerate(SHOULDERS):
            points[_first_joint(side)] = self.rig.pose[shoulder]
        for side, (arm, posed) in enumerate(zip(self.rig.arms, self._pose_arms(pose), strict=True)):
            tips = retarget.fingertips(arm, posed)
            first = _first_joint(side)
            points[first : first + _JOINTS_PER_ARM] = [
                arm.shoulder, posed.elbow, posed.wrist, *tips
            ]  # fmt: skip
        in_picture = (self._face.lips(pose.lips) + 0.5) * (SIDE / self.rig.side) - 0.5
        points[-len(LIP_JOINTS) :] = self._body.move_head(in_picture, pose)
        placed = view.to_frame(skinning.sway(points, pose), size)
        if view.mirrored:
            left, right = (
                slice(_first_joint(side), _first_joint(side) + _JOINTS_PER_ARM) for side in (0, 1)
            )
            placed[left], placed[right] = placed[right].copy(), placed[left].copy()
            placed[_LIP_CORNERS] = placed[_LIP_CORNERS[::-1]]
        return placed.astype(np.float32)

    def _pose_arms(self, pose: PuppetPose) -> list[ArmPose]:
        return [
            retarget.pose_arm(arm, side, row)
            for side, (arm, row) in enumerate(zip(self.rig.arms, pose.arms, strict=True))
        ]

    def _draw_body(
        self, picture: np.ndarray, appearance: Appearance, pose: PuppetPose, corners: np.ndarray
    ):
        """Draws the body into the picture, and returns its alpha, [s, s] uint8."""
        side = len(picture)
        ground = np.zeros((side, side), np.uint8)
        drawn = rendering.draw_map(corners, self._body_sources, self._body.triangles, side)
        if drawn is None:
            return ground
        corner, where = drawn
        expression = self._face.express(pose)
        mouth = None
        if expression.mouth is not None:
            there = where - np.array(self._mouth_corner, np.float32)
            mouth = cv2.remap(
                expression.mouth, there, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT
            )
        rendering.displace_map(where, expression.shift, self._face_corner)
        pixels = rendering.sample(appearance.body, where, repeat_edge=True)
        part = _part(picture, corner, pixels)
        rendering.composite(part, pixels)
        if mouth is not None:
            rendering.composite(part, mouth)
        _part(ground, corner, pixels)[:] = pixels[..., 3]
        return ground

    def _to_layer(self, points: np.ndarray) -> np.ndarray:
        """Maps points of the working picture to pixels of the layers."""
        return (points + 0.5) * (self.rig.side / SIDE) - 0.5


def drawing_side(size: int) -> int:
    """Returns the side in pixels at which frames of a size are drawn."""
    return 2 * size if size <= _MAX_DOUBLED else size


def draw_backdrop(appearance: Appearance, size: int) -> np.ndarray:
    """Draws the background of all frames of a clip, [s, s, 3] float32."""
    side, view = drawing_side(size), appearance.view
    scale = side / (view.side * len(appearance.background))
    offset = np.array([view.left, view.top]) * len(appearance.background)
    matrix = np.array([
        [scale, 0, (0.5 - offset[0]) * scale - 0.5],
        [0, scale, (0.5 - offset[1]) * scale - 0.5],
    ])  # fmt: skip
    if view.mirrored:
        matrix[0] = -matrix[0] + (0, 0, side - 1)
    picture = cv2.warpAffine(
        appearance.background,
        matrix,
        (side, side),
        flags=cv2.INTER_CUBIC,
        borderMode=cv2.BORDER_REFLECT,
    )
    return picture.astype(np.float32)


def _draw_piece(corners, sources, triangles, pixels, side):
    drawn = rendering.draw_map(corners, sources, triangles, side)
    return None if drawn is None else (drawn[0], rendering.sample(pixels, drawn[1]))


def _part(picture: np.ndarray, corner: tuple[int, int], pixels: np.ndarray) -> np.ndarray:
    left, top = corner
    return picture[top : top + pixels.shape[0], left : left + pixels.shape[1]]


def _first_joint(side: int) -> int:
    return _HEAD_JOINTS + side * _JOINTS_PER_ARM
