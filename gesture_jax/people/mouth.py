"""Moves the lips of a photographed face, by displacing the positions that its pixels are read from.

Lower lip and jaw go down, the upper lip rises a little, the mouth becomes narrow and its lips full
where they are rounded. The inside of the mouth, which the photograph does not show, is painted.
"""

import dataclasses

import numpy as np

from gesture_jax.people.ramps import smoothstep

# Landmarks of MediaPipe's face mesh, from the viewer's left to right.
_UPPER_LIP = 78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308
_LOWER_LIP = 78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308
_CHIN, _CORNERS = 152, (78, 308)
NOSE_TIP = 1
# The upper lip's share in the opening. It rises further where it shows the teeth.
_UPPER_SHARE, _UPPER_SHARE_TEETH = 0.16, 0.55
# Change of the mouth's width for rounded lips, and of the lips' height then.
ROUNDED_WIDTH, _ROUNDED_HEIGHT = 0.30, 0.30
# Rows that move, above and below the middle of the mouth, in widths of the mouth.
_ABOVE, _BELOW = 0.8, 1.3
_DARK, _TONGUE, _TEETH = (
    np.array(colour, np.float32) for colour in ((52, 22, 22), (128, 62, 62), (205, 194, 186))
)
_USUAL_LIGHT = 190.0
# Lips that are apart in the photograph are moved together by up to this, in widths of the mouth.
_MOST_CLOSING = 0.15
# Teeth show in part where lips are hardly open, unless they are rounded.
_TEETH_BETWEEN, _BARELY_OPEN = 0.5, 0.18


@dataclasses.dataclass(frozen=True)
class LipShape:
    """A position of the lips.

    Attributes:
      opening: the gap between the lips, in widths of the mouth at rest; 0 closes lips that are
        apart in the photograph.
      widening: relative change of the mouth's width; rounded lips are narrower.
      teeth: how far the upper teeth are on the lower lip, 0 to 1.
    """

    opening: float
    widening: float
    teeth: float = 0.0

    @classmethod
    def from_values(cls, values: np.ndarray) -> "LipShape":
        """Returns the shape for values of `lips.lip_positions`, [2]; teeth are guessed."""
        opening, widening = max(float(values[0]), 0.0), float(np.clip(values[1], -0.4, 0.3))
        barely = np.clip(1.0 - opening / _BARELY_OPEN, 0.0, 1.0)
        spread = np.clip(1.0 + widening / ROUNDED_WIDTH, 0.0, 1.0)
        return cls(opening, widening, float(_TEETH_BETWEEN * barely * spread))

    @property
    def heightening(self) -> float:
        """The relative change of the lips' height."""
        return _ROUNDED_HEIGHT * max(-self.widening / ROUNDED_WIDTH, 0.0)

    @property
    def upper_share(self) -> float:
        """The upper lip's share in the opening."""
        return _UPPER_SHARE + (_UPPER_SHARE_TEETH - _UPPER_SHARE) * self.teeth


class Mouth:
    """A mouth, sampled at the points of a grid."""

    def __init__(
        self, mesh: np.ndarray, x: np.ndarray, y: np.ndarray, *, unit: float, light: float
    ):
        """Measures the mouth.

        Args:
          mesh: [k, 2], landmarks of MediaPipe's face mesh in pixels.
          x: [w] float32, columns of the grid in pixels.
          y: [h, 1] float32, rows of the grid in pixels.
          unit: pixels per 1/512 of the picture's side, the width of soft edges.
          light: brightness of the face, 1 for usual light.
        """
        self._x, self._y, self._unit, self._light = x, y, unit, light
        self.middle, self.width = measure_mouth(mesh)
        self._upper_lip, self._lower_lip = (
            self._curve(mesh, chain) for chain in (_UPPER_LIP, _LOWER_LIP)
        )
        # The gap in the photograph, as far as closing the lips undoes it.
        self._gap = np.clip(self._lower_lip - self._upper_lip, 0.0, _MOST_CLOSING * self.width)
        self._near, self._jaw = self._weigh(float(mesh[_CHIN, 1]))
        top, bottom = self.middle[1] + np.array([-_ABOVE, _BELOW]) * self.width
        inside = np.flatnonzero((y[:, 0] >= top) & (y[:, 0] < bottom))
        self.rows = slice(inside[0], inside[-1] + 1) if len(inside) else slice(0, 0)
        """The rows of the grid that `paint` returns."""

    def displace(self, shape: LipShape) -> tuple[np.ndarray, np.ndarray]:
        """Returns the column and the row that each point is read from, [h, w] float32 each."""
        x = self._x - np.float32(self.middle[0])
        from_x = x / (1 + np.float32(shape.widening) * self._near) + np.float32(self.middle[0])
        _, parting = self._part(shape)
        from_y = self._open(parting, shape.upper_share, *self._edges(shape, parting))
        if shape.heightening:
            middle = 0.5 * (self._upper_lip + self._lower_lip)
            from_y = middle + (from_y - middle) / (1 + np.float32(shape.heightening) * self._near)
        return from_x, from_y

    def paint(self, shape: LipShape) -> np.ndarray | None:
        """Paints the inside of the mouth: teeth, tongue and darkness.

        Returns:
          [len(rows), w, 4] uint8, RGB and alpha; None where the mouth is shut.
        """
        half, parting = self._part(shape)
        top, bottom = self._edges(shape, parting)
        unit, width = self._unit, self.width
        gap = bottom - top
        if gap.max() < 0.6 * unit:
            return None
        y = self._y[self.rows]
        across = (self._x - self.middle[0]) / (0.5 * width)
        cover = smoothstep(y - top, -0.6 * unit, 0.9 * unit)
        cover = cover * smoothstep(bottom - y, -0.6 * unit, 0.9 * unit)
        cover = cover * smoothstep(gap, 0.6 * unit, 2.2 * unit)
        cover = cover * (np.abs(self._x - self.middle[0]) < half)
        teeth = (1 - smoothstep(y - top, 0.10 * width, 0.16 * width)) * (
            1 - smoothstep(np.abs(across), 0.55, 0.85)
        )
        shown = smoothstep(gap, 0.10 * width, 0.22 * width)
        shown = np.maximum(shown, shape.teeth * smoothstep(gap, 0.6 * unit, 1.6 * unit))
        teeth = (teeth * shown)[..., None]
        depth = (y - top) / np.maximum(gap, 1e-3)
        tongue = smoothstep(depth, 0.62, 0.95) * smoothstep(gap, 0.15 * width, 0.35 * width)
        tongue = 0.8 * tongue[..., None]
        colours = _DARK * (1 - tongue) + _TONGUE * tongue
        shade = (0.9 - 0.3 * np.abs(across))[..., None]
        colours = (colours * (1 - teeth) + _TEETH * teeth * shade) * self._light
        painted = np.concatenate([colours, 255 * cover[..., None]], axis=-1)
        return np.clip(painted, 0, 255).round().astype(np.uint8)

    def joints(self, shape: LipShape) -> np.ndarray:
        """Returns the positions of `lips.LIP_JOINTS` in pixels, [4, 2]."""
        half, parting = self._part(shape)
        top, bottom = (np.interp(self.middle[0], self._x, e) for e in self._edges(shape, parting))
        x, y = self.middle
        return np.array([(x - half, y), (x + half, y), (x, top), (x, bottom)])

    def _part(self, shape: LipShape) -> tuple[float, np.ndarray]:
        """Returns half the mouth's width and the change of the gap [w], in pixels."""
        half = 0.5 * self.width * (1 + shape.widening)
        across = np.clip((self._x - np.float32(self.middle[0])) / half, -1, 1)
        return half, shape.opening * self.width * (1 - across**2) ** 0.85 - self._gap

    def _edges(self, shape: LipShape, parting: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the rows of the lips' inner edges, [w] each."""
        top = self._upper_lip - shape.upper_share * parting
        bottom = self._lower_lip + (1 - shape.upper_share) * parting
        return top.astype(np.float32), bottom.astype(np.float32)

    def _open(self, parting, share, top, bottom) -> np.ndarray:
        """Returns the row [h, w] that each point is read from: the jaw goes down, lips part."""
        lower = np.float32(max(parting.max(), 0.0)) * self._jaw
        from_y = self._y - lower
        y = self._y[self.rows]
        drop, lift = (np.float32(part) * parting for part in (1 - share, share))
        below = np.clip((y - bottom) / np.float32(0.55 * self.width), 0, 1)
        lip = np.maximum(y - (drop * (1 - below) + lower[self.rows] * below), self._lower_lip)
        lip = np.where(y >= bottom, lip, y - lower[self.rows])
        above = np.clip(self._upper_lip - y, 0, None) / np.float32(0.22 * self.width)
        # Nothing is read from the gap of the photograph.
        upper = np.minimum(y + lift * np.exp(-above), np.maximum(self._upper_lip, y - self._gap))
        from_y[self.rows] = np.where(y > 0.5 * (top + bottom), lip, upper)
        return from_y

    def _weigh(self, chin: float) -> tuple[np.ndarray, np.ndarray]:
        """Returns weights [h, w] of the mouth's widening and of the jaw's motion."""
        width = self.width
        x, y = self._x - np.float32(self.middle[0]), self._y - np.float32(self.middle[1])
        near = np.exp(-((x / (1.1 * width)) ** 4) - (y / (0.7 * width)) ** 4)
        drop = chin - self.middle[1]
        jaw = 0.62 * np.exp(-((x / (1.35 * width)) ** 4))
        jaw = jaw * smoothstep(y, -0.2 * width, 0.35 * width)
        jaw = jaw * (1 - smoothstep(y, 1.1 * drop, 2.5 * drop))
        return near.astype(np.float32), jaw.astype(np.float32)

    def _curve(self, mesh: np.ndarray, chain) -> np.ndarray:
        return curve(mesh, chain, self._x)


def curve(mesh: np.ndarray, chain, x: np.ndarray) -> np.ndarray:
    """Returns the row [w] of a line of landmarks in each column [w]."""
    line = mesh[list(chain)]
    line = line[np.argsort(line[:, 0])]
    return np.interp(x, line[:, 0], line[:, 1]).astype(np.float32)


def measure_mouth(mesh: np.ndarray) -> tuple[np.ndarray, float]:
    """Returns the middle of the mouth, [2], and its width, of a face mesh [k, 2]."""
    left, right = mesh[list(_CORNERS)]
    return 0.5 * (left + right), float(right[0] - left[0])


def measure_light(picture: np.ndarray, nose: np.ndarray, *, radius: int) -> float:
    """Measures the brightness of the face, 1 for usual light, around the tip of its nose.

    Args:
      picture: [h, w, 3], 0 to 255.
      nose: [2], (x, y) of the tip of the nose in pixels.
      radius: half the side of the square that is measured, at least a pixel.
    """
    (left, top), radius = nose.astype(int), max(radius, 1)
    rows, columns = (slice(max(at - radius, 0), max(at + radius, 0)) for at in (top, left))
    colours = picture[rows, columns]
    light = float(colours.mean()) / _USUAL_LIGHT if colours.size else 1.0
    return float(np.clip(light, 0.35, 1.15))
