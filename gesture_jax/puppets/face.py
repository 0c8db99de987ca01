"""Moves mouth, eyelids and brows of a face, by displacing the positions that pixels are read from.

The displacements are added to the map of the whole body, so that the portrait is sampled once. All
positions are in pixels of the rig's layers.
"""

import dataclasses

import numpy as np

from gesture_jax.people.mouth import NOSE_TIP, LipShape, Mouth, curve, measure_light
from gesture_jax.people.ramps import smoothstep
from gesture_jax.puppets.landmarks import SIDE
from gesture_jax.puppets.poses import PuppetPose
from gesture_jax.puppets.rig import Rig

# Landmarks of MediaPipe's face mesh, from the viewer's left to right.
_EYES = (
    ((33, 246, 161, 160, 159, 158, 157, 173, 133), (33, 7, 163, 144, 145, 153, 154, 155, 133)),
    ((263, 466, 388, 387, 386, 385, 384, 398, 362), (263, 249, 390, 373, 374, 380, 381, 382, 362)),
)
_BROWS = (70, 63, 105, 66, 107), (300, 293, 334, 296, 336)
_CHIN, _FOREHEAD = 152, 10


@dataclasses.dataclass(frozen=True)
class Expression:
    """The expression of a face in one frame, within the face's box.

    Attributes:
      shift: [h, w, 2] float32; pixel (x, y) is read from (x, y) plus this.
      mouth: [h', w, 4] uint8, RGB and alpha, the inside of the mouth; None where it is shut.
    """

    shift: np.ndarray
    mouth: np.ndarray | None


@dataclasses.dataclass(frozen=True)
class _Eye:
    left: float
    right: float
    upper_lid: np.ndarray
    lower_lid: np.ndarray


class Face:
    """The face of a rig.

    Attributes:
      corner: left and top of the face's box.
      mouth_corner: left and top of the mouth's box.
      shape: height and width of the face's box.
    """

    def __init__(self, rig: Rig):
        """Measures the face and prepares its weights."""
        points = (rig.face[:, :2] + 0.5) * (rig.side / SIDE) - 0.5
        self._unit = rig.side / SIDE
        height = float(points[_CHIN, 1] - points[_FOREHEAD, 1])
        low = np.maximum((points.min(axis=0) - 0.15 * height).astype(int), 0)
        high = (points.max(axis=0) + (0.15 * height, 0.45 * height)).astype(int)
        high = np.minimum(high, rig.side)
        self.corner = int(low[0]), int(low[1])
        self.shape = int(high[1] - low[1]), int(high[0] - low[0])
        self._x = np.arange(low[0], high[0], dtype=np.float32)
        self._y = np.arange(low[1], high[1], dtype=np.float32)[:, None]
        nose = points[NOSE_TIP] - rig.body.corner
        light = measure_light(rig.body.colours, nose, radius=int(3 * rig.side / SIDE))
        self._mouth = Mouth(points, self._x, self._y, unit=self._unit, light=light)
        self._eyes = [self._find_eye(points, *lids) for lids in _EYES]
        self._brow_lift = sum(
            self._weigh_brow(points[list(brow)].mean(axis=0), height) for brow in _BROWS
        )
        self.mouth_corner = self.corner[0], self.corner[1] + self._mouth.rows.start

    def express(self, pose: PuppetPose) -> Expression:
        """Returns the expression for a pose."""
        from_x, from_y = self._mouth.displace(pose.lips)
        from_y = self._close_eyes(from_y, 1 - pose.eyes)
        if pose.brows > 0.02:
            from_y = from_y + np.float32(pose.brows) * self._brow_lift
        shift = np.stack([from_x - self._x, from_y - self._y], axis=-1)
        return Expression(shift, self._mouth.paint(pose.lips))

    def lips(self, shape: LipShape) -> np.ndarray:
        """Returns the positions of `LIP_JOINTS` in pixels of the layers, [4, 2]."""
        return self._mouth.joints(shape)

    def _close_eyes(self, from_y: np.ndarray, closed: float) -> np.ndarray:
        """Slides the skin above each eye down."""
        if closed <= 0.02:
            return from_y
        unit = self._unit
        for eye in self._eyes:
            within = smoothstep(self._x, eye.left - 1.5 * unit, eye.left + 1.5 * unit)
            within = within * (
                1 - smoothstep(self._x, eye.right - 1.5 * unit, eye.right + 1.5 * unit)
            )
            height = eye.lower_lid - eye.upper_lid + 0.6 * unit
            lid = eye.upper_lid + closed * height * within
            crease = eye.upper_lid - 0.30 * (eye.right - eye.left)
            stretch = (eye.upper_lid - 0.7 * unit - crease) / np.maximum(lid - crease, 1e-3)
            slid = crease + (self._y - crease) * stretch
            share = (self._y > crease) * smoothstep(lid - self._y, -0.7 * unit, 0.5 * unit)
            share = share * within * smoothstep(within, 0.0, 0.2)
            from_y = from_y * (1 - share) + slid * share
        return from_y.astype(np.float32)

    def _weigh_brow(self, brow: np.ndarray, height: float) -> np.ndarray:
        """Returns by how many pixels [h, w] a raised brow lifts the skin."""
        x = (self._x - brow[0]) / (0.20 * height)
        y = (self._y - brow[1] + 0.03 * height) / (0.085 * height)
        return (0.045 * height * np.exp(-(x**4) - y**2)).astype(np.float32)

    def _find_eye(self, points: np.ndarray, upper, lower) -> _Eye:
        columns = points[list(upper), 0]
        lids = curve(points, upper, self._x), curve(points, lower, self._x)
        return _Eye(float(columns.min()), float(columns.max()), *lids)
