"""Draws the procedural speaker as a flat illustration, large first, then scaled down smoothly."""

import functools

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from gesture_jax.procedural.identity import Colour, Identity
from gesture_jax.procedural.motion import (
    Pose,
    arm,
    fingers,
    head_centre,
    lips,
    mouth_size,
    neck,
    on_face,
)

_MIN_CANVAS_PX = 256
_MIN_SAMPLES = 3
_OUTLINE = 0.0035
# Half widths at shoulder, elbow and wrist.
_SLEEVE = 0.046, 0.040, 0.029
_FINGER = 0.0088, 0.0080, 0.0066
_WHITE = (250, 248, 244)
_LIP = (176, 78, 78)
_DARK = (44, 30, 34)


def draw(person: Identity, pose: Pose, *, size: int) -> np.ndarray:
    """Draws one frame, [size, size, 3] uint8."""
    factor = max(_MIN_SAMPLES, -(-_MIN_CANVAS_PX // size))
    canvas = _Canvas(_background(person, size * factor).copy())
    _draw_hair_behind(canvas, person, pose)
    _draw_torso(canvas, person, pose)
    _draw_head(canvas, person, pose)
    for side in (1 - person.style.dominant, person.style.dominant):
        _draw_arm(canvas, person, pose, side)
    return np.asarray(canvas.image.reduce(factor))


class _Canvas:
    """Draws smooth shapes with Pillow, in units of the frame's side."""

    def __init__(self, image: Image.Image):
        self.image = image
        self._side = image.width
        self._pencil = ImageDraw.Draw(image)

    def polygon(self, points, colour: Colour) -> None:
        flat = (np.asarray(points) * self._side).ravel().tolist()
        self._pencil.polygon(flat, fill=colour)

    def blob(self, points, colour: Colour) -> None:
        """Fills a smooth closed outline through the points (Catmull-Rom)."""
        p = np.asarray(points, float)
        u = np.linspace(0, 1, 8, endpoint=False)[:, None, None]
        a, b, c, d = (np.roll(p, shift, axis=0) for shift in (1, 0, -1, -2))
        curve = 0.5 * (
            2 * b
            + (c - a) * u
            + (2 * a - 5 * b + 4 * c - d) * u**2
            + (3 * b - a - 3 * c + d) * u**3
        )
        self.polygon(curve.transpose(1, 0, 2).reshape(-1, 2), colour)

    def ellipse(self, centre, radii, colour: Colour, *, tilt: float = 0.0) -> None:
        angle = np.linspace(0, 2 * np.pi, 36, endpoint=False)
        points = np.stack([np.cos(angle), np.sin(angle)], axis=1) * radii
        self.polygon(np.asarray(centre) + points @ _turn(tilt).T, colour)

    def chain(self, points, radii, colour: Colour, *, grow: float = 0.0) -> None:
        """Draws a limb: discs joined by tapering bars."""
        radii = np.asarray(radii) + grow
        for point, radius in zip(points, radii, strict=True):
            x, y, r = point[0] * self._side, point[1] * self._side, radius * self._side
            self._pencil.ellipse((x - r, y - r, x + r, y + r), fill=colour)
        for (p, q), (r, s) in zip(_pairs(points), _pairs(radii), strict=True):
            along = (q - p) / max(np.linalg.norm(q - p), 1e-9)
            across = np.array([-along[1], along[0]])
            self.polygon([p + r * across, q + s * across, q - s * across, p - r * across], colour)

    def curve(self, points, width: float, colour: Colour) -> None:
        self.chain(np.asarray(points, float), [width / 2] * len(points), colour)


def _pairs(items):
    return zip(items[:-1], items[1:], strict=True)


def _turn(angle: float) -> np.ndarray:
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def _shade(colour: Colour, factor: float) -> Colour:
    """Darkens a colour by a factor below 1, and lightens it by one above."""
    value = np.asarray(colour, float)
    value = value * factor if factor <= 1 else 255 - (255 - value) * (2 - factor)
    return tuple(int(c) for c in np.clip(np.rint(value), 0, 255))


@functools.lru_cache(maxsize=16)
def _background(person: Identity, side: int) -> Image.Image:
    """Draws a wall in soft light, with a window, shelf, picture or plant, out of focus."""
    y, x = np.mgrid[0:side, 0:side] / side
    light = 1.06 - 0.22 * np.hypot(x - 0.36, y - 0.2)
    wall = np.clip(np.asarray(person.wall) * light[..., None], 0, 255).astype(np.uint8)
    canvas = _Canvas(Image.fromarray(wall))
    _SCENES[person.scene](canvas, person)
    return canvas.image.filter(ImageFilter.GaussianBlur(0.006 * side))


def _window(canvas: _Canvas, person: Identity) -> None:
    _rectangle(canvas, 0.66, 0.05, 0.97, 0.52, _WHITE)
    _rectangle(canvas, 0.68, 0.07, 0.95, 0.50, (186, 216, 236))
    canvas.ellipse((0.75, 0.47), (0.10, 0.08), (134, 176, 132))
    canvas.ellipse((0.90, 0.49), (0.09, 0.11), (112, 158, 116))
    _rectangle(canvas, 0.68, 0.50, 0.95, 0.62, person.wall)
    _rectangle(canvas, 0.65, 0.50, 0.98, 0.525, _WHITE)
    _rectangle(canvas, 0.808, 0.07, 0.822, 0.50, _WHITE)


def _shelf(canvas: _Canvas, person: Identity) -> None:
    rng = np.random.default_rng(person.skin[0])
    for level, left, right in ((0.22, 0.03, 0.32), (0.44, 0.03, 0.30), (0.30, 0.70, 0.97)):
        x = left + 0.015
        while x < right - 0.03:
            width, height = rng.uniform(0.016, 0.03), rng.uniform(0.09, 0.14)
            colour = _shade(tuple(rng.integers(70, 220, 3).tolist()), 0.95)
            _rectangle(canvas, x, level - height, x + width, level, colour)
            x += width + (0.03 if rng.random() < 0.15 else 0.004)
        _rectangle(canvas, left, level, right, level + 0.018, (132, 98, 70))


def _picture(canvas: _Canvas, person: Identity) -> None:
    _rectangle(canvas, 0.06, 0.08, 0.30, 0.38, (92, 72, 58))
    _rectangle(canvas, 0.075, 0.095, 0.285, 0.365, _WHITE)
    canvas.ellipse((0.15, 0.19), (0.045, 0.045), _shade(person.accent, 1.3))
    canvas.polygon([(0.09, 0.35), (0.17, 0.24), (0.27, 0.35)], _shade(person.clothes, 1.2))
    canvas.chain(np.array([(0.86, 0.62), (0.86, 0.30)]), [0.006, 0.006], (90, 84, 80))
    canvas.polygon([(0.79, 0.30), (0.93, 0.30), (0.90, 0.17), (0.82, 0.17)], (250, 228, 178))


def _plant(canvas: _Canvas, person: Identity) -> None:
    for angle, length, tone in (
        (-0.9, 0.24, 0.9), (-0.5, 0.32, 1.0), (-0.15, 0.38, 1.1), (0.25, 0.34, 0.95), (0.7, 0.24, 1.05)
    ):  # fmt: skip
        centre = np.array([0.84, 0.62]) + 0.5 * length * np.array([np.sin(angle), -np.cos(angle)])
        canvas.ellipse(centre, (0.032, length / 2), _shade((84, 140, 92), tone), tilt=angle)
    canvas.polygon([(0.77, 0.62), (0.91, 0.62), (0.89, 0.86), (0.79, 0.86)], person.accent)


_SCENES = {"window": _window, "shelf": _shelf, "picture": _picture, "plant": _plant}


def _rectangle(canvas: _Canvas, left, top, right, bottom, colour: Colour) -> None:
    canvas.polygon([(left, top), (right, top), (right, bottom), (left, bottom)], colour)


def _draw_torso(canvas: _Canvas, person: Identity, pose: Pose) -> None:
    base = neck(pose)
    shoulders = [arm(person, pose, side)[0] for side in (0, 1)]
    outline = [
        base + (-0.045, 0.012), shoulders[0] + (-0.012, -0.026), shoulders[0] + (-0.03, 0.06),
        (shoulders[0][0] + 0.02, 0.75), (shoulders[0][0] + 0.012, 1.15),
        (shoulders[1][0] - 0.012, 1.15), (shoulders[1][0] - 0.02, 0.75),
        shoulders[1] + (0.03, 0.06), shoulders[1] + (0.012, -0.026), base + (0.045, 0.012),
    ]  # fmt: skip
    canvas.blob(outline, _shade(person.clothes, 0.82))
    inner = base + (np.asarray(outline) - base) * (0.965, 1.0) + (-0.004, 0.006)
    canvas.blob(inner, person.clothes)
    _draw_garment(canvas, person, base)
    shadow = _shade(person.skin, 0.78)
    lower = base + (0, 0.035)
    canvas.chain(np.stack([base - (0, 0.05), lower]), [0.040, 0.036], shadow)
    canvas.chain(np.stack([base - (0.004, 0.035), lower - (0.004, 0)]), [0.036, 0.031], person.skin)
    canvas.ellipse(base + (0, -0.045), (0.045, 0.032), shadow)
    if person.garment == "collar":
        for s in (-1, 1):
            canvas.polygon(
                base + [(s * 0.046, -0.005), (s * 0.004, 0.052), (s * 0.05, 0.07)],
                _shade(person.accent, 1.5),
            )


def _draw_garment(canvas: _Canvas, person: Identity, base: np.ndarray) -> None:
    dark, light = _shade(person.clothes, 0.86), _shade(person.accent, 1.4)
    if person.garment == "blazer":
        canvas.polygon(base + [(-0.06, 0.0), (0.06, 0.0), (0.0, 0.34)], light)
        for s in (-1, 1):
            lapel = [(s * 0.052, -0.005), (s * 0.095, 0.09), (s * 0.07, 0.12), (s * 0.002, 0.34)]
            canvas.polygon(base + lapel, dark)
    elif person.garment == "collar":
        canvas.curve(base + [(0, 0.06), (0, 0.62)], 0.005, dark)
        for y in (0.14, 0.26, 0.38):
            canvas.ellipse(base + (0, y), (0.006, 0.006), _shade(person.clothes, 1.5))
    else:
        canvas.ellipse(base + (0, 0.018), (0.058, 0.050), dark)
    if person.garment == "sweater":
        canvas.ellipse(base + (0, 0.012), (0.052, 0.044), _shade(person.clothes, 1.2))
    if person.garment == "tee":
        for y in (0.22, 0.26):
            canvas.curve(base + [(-0.1, y), (0.1, y)], 0.014, person.accent)


def _draw_hair_behind(canvas: _Canvas, person: Identity, pose: Pose) -> None:
    head, h, tilt = head_centre(person, pose), person.head, pose.tilt
    dark = _shade(person.hair, 0.8)
    if person.hair_style in ("bob", "long"):
        length = 1.5 if person.hair_style == "bob" else 2.3
        points = [
            (-1.02, -0.6),
            (0, -1.35),
            (1.02, -0.6),
            (1.12, 0.5),
            (0.95, length),
            (-0.95, length),
            (-1.12, 0.5),
        ]
        canvas.blob(head + h * np.asarray(points) @ _turn(tilt * 0.6).T, dark)
    elif person.hair_style == "bun":
        canvas.ellipse(head + (_turn(tilt) @ (0, -1.55)) * h, (0.48 * h, 0.42 * h), dark)


def _draw_head(canvas: _Canvas, person: Identity, pose: Pose) -> None:
    h = person.head
    place = functools.partial(on_face, person, pose)
    shadow = _shade(person.skin, 0.85)
    for s in (-1, 1):
        canvas.ellipse(place(0.93 * s, 0.08, -0.3), (0.16 * h, 0.24 * h), shadow, tilt=pose.tilt)
    face = [(-0.88, -0.35), (-0.60, -1.02), (0, -1.22), (0.60, -1.02), (0.88, -0.35), (0.84, 0.30), (0.52, 0.92), (0, 1.16), (-0.52, 0.92), (-0.84, 0.30)]  # fmt: skip
    contour = lambda grow: np.stack([place(x * grow, y * grow, 0.25) for x, y in face])
    canvas.blob(contour(1.03), _shade(person.skin, 0.8))
    canvas.blob(contour(1.0), person.skin)
    for s in (-1, 1):
        canvas.ellipse(
            place(0.52 * s, 0.38), (0.17 * h, 0.11 * h), _blend(person.skin, (226, 112, 96), 0.18)
        )
    if person.beard:
        _draw_beard(canvas, person, place)
    _draw_mouth(canvas, person, pose, place)
    _draw_eyes(canvas, person, pose, place)
    canvas.curve(
        [place(0.03, -0.05, 1.3), place(0.10, 0.26, 1.6), place(-0.03, 0.30, 1.6)],
        0.045 * h,
        shadow,
    )
    _draw_hair(canvas, person, place)


def _blend(a: Colour, b: Colour, share: float) -> Colour:
    return tuple(round((1 - share) * x + share * y) for x, y in zip(a, b, strict=True))


def _draw_beard(canvas: _Canvas, person: Identity, place) -> None:
    points = [(-0.84, 0.12), (-0.66, 0.42), (-0.3, 0.38), (0, 0.44), (0.3, 0.38), (0.66, 0.42), (0.84, 0.12), (0.76, 0.72), (0.42, 1.1), (0, 1.26), (-0.42, 1.1), (-0.76, 0.72)]  # fmt: skip
    canvas.blob([place(x, y, 0.6) for x, y in points], _blend(person.hair, person.skin, 0.2))


def _draw_mouth(canvas: _Canvas, person: Identity, pose: Pose, place) -> None:
    h, tilt = person.head, pose.tilt
    half, opened = mouth_size(pose)
    points = lips(person, pose)
    centre = 0.5 * (points["upper_lip"] + points["lower_lip"])
    lip = _blend(person.skin, _LIP, 0.75)
    # Rounded lips are fuller than spread ones.
    fullness = 0.08 - 0.03 * pose.mouth_wide
    canvas.ellipse(centre, (half * h, (fullness + opened) * h), lip, tilt=tilt)
    if pose.mouth_open > 0.06:
        canvas.ellipse(
            centre, (0.82 * half * h, opened * 0.95 * h + 0.004), (84, 26, 34), tilt=tilt
        )
        teeth = centre - np.array([0, 0.62 * opened * h])
        canvas.ellipse(teeth, (0.58 * half * h, 0.26 * opened * h), _WHITE, tilt=tilt)
        if pose.mouth_teeth > 0.3:
            radii = 0.66 * half * h, pose.mouth_teeth * (0.7 * opened + 0.02) * h
            canvas.ellipse(centre, radii, _WHITE, tilt=tilt)
    else:
        line = [place(x * half, 0.62 + 0.03 * (1 - x * x), 1.15) for x in (-0.9, -0.4, 0, 0.4, 0.9)]
        canvas.curve(line, 0.03 * h, _shade(lip, 0.6))


def _draw_eyes(canvas: _Canvas, person: Identity, pose: Pose, place) -> None:
    h = person.head
    for s in (-1, 1):
        eye = place(0.38 * s, -0.08)
        canvas.ellipse(eye, (0.17 * h, (0.02 + 0.10 * pose.eyes) * h), _WHITE, tilt=pose.tilt)
        if pose.eyes > 0.3:
            pupil = eye + 0.25 * np.array([pose.turn, pose.nod])
            canvas.ellipse(pupil, (0.085 * h, 0.095 * pose.eyes * h), _DARK)
            canvas.ellipse(pupil - 0.03 * h, (0.025 * h, 0.025 * h), _WHITE)
        lid = [
            place(x * s, -0.08 - y * pose.eyes)
            for x, y in ((0.22, 0.03), (0.38, 0.12), (0.56, 0.04))
        ]
        canvas.curve(lid, 0.035 * h, _DARK)
        up = -0.34 - 0.12 * pose.brows
        brow = [
            place(x * s, y) for x, y in ((0.20, up + 0.03), (0.40, up - 0.05), (0.60, up + 0.04))
        ]
        canvas.curve(brow, 0.07 * h, _shade(person.hair, 0.75))
        if person.glasses:
            ring = np.linspace(0, 2 * np.pi, 24)
            rim = [eye + 0.27 * h * np.array([np.cos(a), 0.85 * np.sin(a)]) for a in ring]
            canvas.curve(rim, 0.035 * h, _DARK)
    if person.glasses:
        canvas.curve([place(-0.12, -0.1), place(0.12, -0.1)], 0.035 * h, _DARK)


def _draw_hair(canvas: _Canvas, person: Identity, place) -> None:
    colour, light = person.hair, _shade(person.hair, 1.15)
    if person.hair_style == "curly":
        for angle in np.linspace(-2.0, 2.0, 11):
            at = place(0.98 * np.sin(angle), -0.32 - 0.85 * np.cos(angle), 0.2)
            canvas.ellipse(at, (0.32 * person.head, 0.32 * person.head), colour)
        for angle in np.linspace(-1.0, 0.6, 5):
            at = place(0.8 * np.sin(angle), -0.42 - 0.75 * np.cos(angle), 0.2)
            canvas.ellipse(at, (0.14 * person.head, 0.14 * person.head), light)
        return
    caps = {
        "short": [(-0.93, -0.05), (-0.98, -0.6), (-0.6, -1.22), (0, -1.42), (0.6, -1.25), (0.98, -0.6), (0.93, -0.05), (0.80, -0.50), (0.35, -0.78), (-0.45, -0.70), (-0.80, -0.48)],
        "side": [(-0.95, 0.0), (-1.0, -0.6), (-0.7, -1.25), (0.1, -1.48), (0.75, -1.2), (1.0, -0.55), (0.93, 0.0), (0.82, -0.45), (0.1, -0.62), (-0.55, -0.98), (-0.80, -0.45)],
        "other": [(-0.97, 0.35), (-1.05, -0.5), (-0.65, -1.22), (0, -1.40), (0.65, -1.22), (1.05, -0.5), (0.97, 0.35), (0.84, -0.35), (0.30, -0.86), (-0.25, -0.90), (-0.82, -0.38)],
    }  # fmt: skip
    cap = caps.get(person.hair_style, caps["other"])
    canvas.blob([place(x, y, 0.2) for x, y in cap], colour)
    shine = [place(x, y, 0.2) for x, y in ((-0.62, -0.95), (-0.35, -1.14), (0.0, -1.22))]
    canvas.curve(shine, 0.07 * person.head, light)


def _draw_arm(canvas: _Canvas, person: Identity, pose: Pose, side: int) -> None:
    shoulder, elbow, wrist = arm(person, pose, side)
    points = np.stack([shoulder, elbow, wrist])
    inside = 1 - 2 * side
    canvas.chain(points, _SLEEVE, _shade(person.clothes, 0.70), grow=_OUTLINE)
    canvas.chain(points, _SLEEVE, _shade(person.clothes, 0.90))
    # Light from the upper left.
    lit = points + np.array([-0.006, -0.005])
    canvas.chain(lit, np.asarray(_SLEEVE) * 0.72, person.clothes)
    _draw_hand(canvas, person, pose, side)
    along = (wrist - elbow) / max(np.linalg.norm(wrist - elbow), 1e-9)
    across = inside * np.array([-along[1], along[0]])
    cuff = [wrist - 0.004 * along + s * 0.030 * across for s in (-1, 1)]
    cuff_colour = (
        _shade(person.accent, 1.4)
        if person.garment in ("collar", "blazer")
        else _shade(person.clothes, 0.8)
    )
    canvas.curve(cuff, 0.014, cuff_colour)


def _draw_hand(canvas: _Canvas, person: Identity, pose: Pose, side: int) -> None:
    wrist = arm(person, pose, side)[2]
    thumb, *others = fingers(person, pose, side)
    knuckles = np.stack([chain[0] for chain in others])
    palm = 0.5 * (wrist + knuckles.mean(axis=0))
    dark = _shade(person.skin, 0.66)
    scale = person.hand
    radii = np.asarray(_FINGER) * scale
    parts = [
        (np.stack([wrist, palm, knuckles.mean(axis=0)]), scale * np.array([0.022, 0.025, 0.022]))
    ]
    parts += [(np.stack([palm, knuckle]), scale * np.array([0.018, 0.011])) for knuckle in knuckles]
    parts += [(chain, radii) for chain in others]
    parts += [(np.concatenate([palm[None], thumb]), np.array([0.013 * scale, *radii * 1.1]))]
    for points, widths in parts:
        canvas.chain(points, widths, dark, grow=_OUTLINE)
    for points, widths in parts[:-1]:
        canvas.chain(points, widths, person.skin)
    # Draws lines between the fingers, which would merge otherwise.
    for first, second in _pairs(others):
        middle = 0.5 * (first[:2] + second[:2])
        canvas.curve(middle, 0.003, _shade(person.skin, 0.78))
    canvas.chain(*parts[-1], _shade(person.skin, 0.96))
