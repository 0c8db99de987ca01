"""Moves mouth, eyelids and brows of a face, by displacing the positions that pixels are read from.

The displacements are added to the map of the whole body, so that the portrait is sampled once. All
positions are in pixels of the rig's layers.
"""

import dataclasses

import numpy as np

from gesture_jax.preparation.photo_people.geometry import smoothstep
from gesture_jax.preparation.photo_people.landmarks import SIDE
from gesture_jax.preparation.photo_people.rig import Rig
from gesture_jax.procedural.motion import Pose
from gesture_jax.procedural.visemes import REST

# Landmarks of MediaPipe's face mesh, from the viewer's left to right.
_UPPER_LIP = 78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308
_LOWER_LIP = 78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308
_EYES = (
    ((33, 246, 161, 160, 159, 158, 157, 173, 133), (33, 7, 163, 144, 145, 153, 154, 155, 133)),
    ((263, 466, 388, 387, 386, 385, 384, 398, 362), (263, 249, 390, 373, 374, 380, 381, 382, 362)),
)
_BROWS = (70, 63, 105, 66, 107), (300, 293, 334, 296, 336)
_CHIN, _FOREHEAD, _NOSE_TIP, _MOUTH_CORNERS = 152, 10, 1, (78, 308)
# Largest opening of the lips in widths of the mouth, and the upper lip's share in it. The upper lip
# rises further where it shows the teeth.
_OPENING, _UPPER_SHARE, _UPPER_SHARE_TEETH = 0.42, 0.16, 0.55
# Change of the mouth's width for rounded and for spread lips, and of the lips' height for rounded.
_ROUNDED_WIDTH, _SPREAD_WIDTH, _ROUNDED_HEIGHT = 0.30, 0.16, 0.30
_DARK, _TONGUE, _TEETH = (
    np.array(colour, np.float32) for colour in ((52, 22, 22), (128, 62, 62), (205, 194, 186))
)
_NORMAL_LIGHT = 190.0


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
        self._upper_lip = self._curve(points, _UPPER_LIP)
        self._lower_lip = self._curve(points, _LOWER_LIP)
        left, right = points[list(_MOUTH_CORNERS)]
        self._mouth, self._mouth_width = 0.5 * (left + right), float(right[0] - left[0])
        self._eyes = [self._find_eye(points, *lids) for lids in _EYES]
        self._light = _measure_light(rig, points[_NOSE_TIP])
        self._near_mouth, self._jaw = self._weigh_mouth(float(points[_CHIN, 1]))
        self._brow_lift = sum(
            self._weigh_brow(points[list(brow)].mean(axis=0), height) for brow in _BROWS
        )
        top, bottom = self._mouth[1] + np.array([-0.8, 1.3]) * self._mouth_width - low[1]
        self._rows = slice(max(int(top), 0), min(int(bottom), self.shape[0]))
        self.mouth_corner = self.corner[0], self.corner[1] + self._rows.start

    def express(self, pose: Pose, amplitude: float = 1.0) -> Expression:
        """Returns the expression for a pose."""
        from_middle = self._x - np.float32(self._mouth[0])
        wider, taller = _widening(pose, amplitude)
        shift = np.empty((*self.shape, 2), np.float32)
        shift[..., 0] = from_middle / (1 + np.float32(wider) * self._near_mouth) - from_middle
        half, parting, share = self._part_lips(pose, amplitude)
        top = (self._upper_lip - share * parting).astype(np.float32)
        bottom = (self._lower_lip + (1 - share) * parting).astype(np.float32)
        from_y = self._open_jaw(float(parting.max()), parting, share, top, bottom)
        if taller:
            middle = 0.5 * (self._upper_lip + self._lower_lip)
            from_y = middle + (from_y - middle) / (1 + np.float32(taller) * self._near_mouth)
        from_y = self._close_eyes(from_y, 1 - pose.eyes)
        if pose.brows > 0.02:
            from_y = from_y + np.float32(pose.brows * amplitude) * self._brow_lift
        shift[..., 1] = from_y - self._y
        return Expression(shift, self._paint_mouth(top, bottom, half, pose.mouth_teeth))

    def lips(self, pose: Pose, amplitude: float = 1.0) -> np.ndarray:
        """Returns the positions of `LIP_JOINTS` in pixels of the layers, [4, 2]."""
        half, parting, share = self._part_lips(pose, amplitude)
        x, y = self._mouth
        column = int(np.clip(round(x - self.corner[0]), 0, len(self._x) - 1))
        top = self._upper_lip[column] - share * parting[column]
        bottom = self._lower_lip[column] + (1 - share) * parting[column]
        return np.array([(x - half, y), (x + half, y), (x, top), (x, bottom)])

    def _part_lips(self, pose: Pose, amplitude: float) -> tuple[float, np.ndarray, float]:
        """Returns half the mouth's width, the opening [w], and the upper lip's share in it."""
        half = 0.5 * self._mouth_width * (1 + _widening(pose, amplitude)[0])
        across = np.clip((self._x - np.float32(self._mouth[0])) / half, -1, 1)
        opening = pose.mouth_open * _OPENING * self._mouth_width * amplitude
        share = _UPPER_SHARE + (_UPPER_SHARE_TEETH - _UPPER_SHARE) * pose.mouth_teeth
        return half, opening * (1 - across**2) ** 0.85, share

    def _open_jaw(self, opening, parting, share, top, bottom) -> np.ndarray:
        """Returns the row [h, w] that each pixel is read from: the jaw goes down, lips part."""
        lower = np.float32(opening) * self._jaw
        from_y = self._y - lower
        y = self._y[self._rows]
        drop, lift = (np.float32(part) * parting for part in (1 - share, share))
        below = np.clip((y - bottom) / np.float32(0.55 * self._mouth_width), 0, 1)
        lip = np.maximum(y - (drop * (1 - below) + lower[self._rows] * below), self._lower_lip)
        lip = np.where(y >= bottom, lip, y - lower[self._rows])
        above = np.clip(self._upper_lip - y, 0, None) / np.float32(0.22 * self._mouth_width)
        upper = y + lift * np.exp(-above)
        from_y[self._rows] = np.where(y > 0.5 * (top + bottom), lip, upper)
        return from_y

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

    def _paint_mouth(self, top, bottom, half, biting: float) -> np.ndarray | None:
        """Paints the inside of the mouth: teeth, tongue and darkness.

        Teeth also show in a small opening where the lower lip is on them (`biting`, 0 to 1).
        """
        unit, width = self._unit, self._mouth_width
        gap = bottom - top
        if gap.max() < 0.6 * unit:
            return None
        y = self._y[self._rows]
        across = (self._x - self._mouth[0]) / (0.5 * width)
        cover = smoothstep(y - top, -0.6 * unit, 0.9 * unit)
        cover = cover * smoothstep(bottom - y, -0.6 * unit, 0.9 * unit)
        cover = cover * smoothstep(gap, 0.6 * unit, 2.2 * unit)
        cover = cover * (np.abs(self._x - self._mouth[0]) < half)
        teeth = (1 - smoothstep(y - top, 0.10 * width, 0.16 * width)) * (
            1 - smoothstep(np.abs(across), 0.55, 0.85)
        )
        shown = smoothstep(gap, 0.10 * width, 0.22 * width)
        shown = np.maximum(shown, biting * smoothstep(gap, 0.6 * unit, 1.6 * unit))
        teeth = (teeth * shown)[..., None]
        depth = (y - top) / np.maximum(gap, 1e-3)
        tongue = smoothstep(depth, 0.62, 0.95) * smoothstep(gap, 0.15 * width, 0.35 * width)
        tongue = 0.8 * tongue[..., None]
        colours = _DARK * (1 - tongue) + _TONGUE * tongue
        shade = (0.9 - 0.3 * np.abs(across))[..., None]
        colours = (colours * (1 - teeth) + _TEETH * teeth * shade) * self._light
        painted = np.concatenate([colours, 255 * cover[..., None]], axis=-1)
        return np.clip(painted, 0, 255).round().astype(np.uint8)

    def _weigh_mouth(self, chin: float) -> tuple[np.ndarray, np.ndarray]:
        """Returns weights [h, w] of the mouth's widening and of the jaw's motion."""
        width = self._mouth_width
        x, y = self._x - np.float32(self._mouth[0]), self._y - np.float32(self._mouth[1])
        near = np.exp(-((x / (1.1 * width)) ** 4) - (y / (0.7 * width)) ** 4)
        drop = chin - self._mouth[1]
        jaw = 0.62 * np.exp(-((x / (1.35 * width)) ** 4))
        jaw = jaw * smoothstep(y, -0.2 * width, 0.35 * width)
        jaw = jaw * (1 - smoothstep(y, 1.1 * drop, 2.5 * drop))
        return near.astype(np.float32), jaw.astype(np.float32)

    def _weigh_brow(self, brow: np.ndarray, height: float) -> np.ndarray:
        """Returns by how many pixels [h, w] a raised brow lifts the skin."""
        x = (self._x - brow[0]) / (0.20 * height)
        y = (self._y - brow[1] + 0.03 * height) / (0.085 * height)
        return (0.045 * height * np.exp(-(x**4) - y**2)).astype(np.float32)

    def _find_eye(self, points: np.ndarray, upper, lower) -> _Eye:
        columns = points[list(upper), 0]
        lids = self._curve(points, upper), self._curve(points, lower)
        return _Eye(float(columns.min()), float(columns.max()), *lids)

    def _curve(self, points: np.ndarray, chain) -> np.ndarray:
        """Returns the row [w] of a line of landmarks in each column."""
        line = points[list(chain)]
        line = line[np.argsort(line[:, 0])]
        return np.interp(self._x, line[:, 0], line[:, 1]).astype(np.float32)


def _widening(pose: Pose, amplitude: float) -> tuple[float, float]:
    """Returns relative changes of the mouth's width and of the height of the lips."""
    spread = pose.mouth_wide - REST[1]
    if spread >= 0:
        return _SPREAD_WIDTH * spread / (1 - REST[1]) * amplitude, 0.0
    rounded = -spread / REST[1] * amplitude
    return -_ROUNDED_WIDTH * rounded, _ROUNDED_HEIGHT * rounded


def _measure_light(rig: Rig, nose: np.ndarray) -> float:
    """Measures the brightness of the face relative to usual light."""
    left, top = (nose - rig.body.corner).astype(int)
    radius = max(int(3 * rig.side / SIDE), 1)
    spot = rig.body.colours[
        max(top - radius, 0) : top + radius, max(left - radius, 0) : left + radius
    ]
    light = float(spot.mean()) / _NORMAL_LIGHT if spot.size else 1.0
    return float(np.clip(light, 0.35, 1.15))
