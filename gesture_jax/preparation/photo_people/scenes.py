"""Draws the appearance of a photo person in a clip at random: framing, colours, background."""

import dataclasses
from collections.abc import Callable, Sequence

import cv2
import numpy as np

from gesture_jax.puppets.landmarks import SHOULDERS, SIDE
from gesture_jax.puppets.puppet import (
    Appearance,
    Puppet,
    View,
    original_appearance,
)

# Probabilities that the background is the portrait's own, or another's; otherwise it is a gradient.
_OWN, _OTHER = 0.45, 0.40
_MIN_VIEW, _MAX_VIEW = 0.66, 0.985
# How far the view may extend beyond the portrait's left and right, where edges are repeated.
_BEYOND = 0.06
_SHADOW = 0.1, 0.3
# The smallest square of a portrait that `own_scene` shows.
_CLOSER = 0.94
_AMPLITUDE = 0.85, 1.25
# Where `--crop=auto` puts the shoulders: their distance and the place of their middle, as shares of
# the frame's side.
_SHOULDER_WIDTH, _SHOULDER_MIDDLE = 0.40, (0.5, 0.49)

Recolour = Callable[[np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Scene:
    """The appearance of a clip.

    Attributes:
      appearance: appearance of person and background.
      amplitude: size of the gestures, 1 for what suits the portrait.
    """

    appearance: Appearance
    amplitude: float


def draw_scene(
    rng: np.random.Generator,
    puppet: Puppet,
    backgrounds: Sequence[Callable[[], np.ndarray]],
    *,
    mirror: bool = True,
) -> Scene:
    """Draws a scene at random.

    Args:
      rng: source of all random choices.
      puppet: the person.
      backgrounds: functions that return the backgrounds of other portraits, [s, s, 3] uint8.
      mirror: whether left and right are swapped in half of the scenes.
    """
    plain = original_appearance(puppet.rig)
    recolour, recolour_background = _draw_recolour(rng), _draw_recolour(rng)
    background, own = _choose_background(rng, puppet.rig.background, backgrounds)
    appearance = Appearance(
        view=_choose_view(rng, puppet, mirror),
        body=recolour(plain.body),
        forearms=tuple(map(recolour, plain.forearms)),
        hands=tuple(map(recolour, plain.hands)),
        background=(recolour if own else recolour_background)(background),
        shadow=float(rng.uniform(*_SHADOW)),
    )
    return Scene(appearance, float(rng.uniform(*_AMPLITUDE)))


def framed_scene(puppet: Puppet) -> Scene:
    """Returns the portrait in its own colours, framed as `--crop=auto` does."""
    first, second = puppet.rig.pose[list(SHOULDERS), :2]
    side = float(np.linalg.norm(first - second)) / _SHOULDER_WIDTH / SIDE
    left, top = 0.5 * (first + second) / SIDE - np.array(_SHOULDER_MIDDLE) * side
    view = View(float(left), float(top), side)
    return Scene(dataclasses.replace(original_appearance(puppet.rig), view=view), 1.0)


def own_scene(rng: np.random.Generator, puppet: Puppet) -> Scene:
    """Returns the portrait nearly as it is: a little closer, and with gestures of any size."""
    side = rng.uniform(_CLOSER, 1.0)
    left, top = rng.uniform(0.0, 1.0 - side, 2)
    view = View(float(left), float(top), float(side))
    appearance = dataclasses.replace(original_appearance(puppet.rig), view=view)
    return Scene(appearance, float(rng.uniform(*_AMPLITUDE)))


def _draw_recolour(rng: np.random.Generator) -> Recolour:
    """Draws a change of gain, gamma and saturation, which leaves alpha as it is."""
    gains = 1 + rng.uniform(-0.04, 0.04, 3) + rng.uniform(-0.10, 0.10)
    gamma = np.exp(rng.uniform(-0.18, 0.18))
    saturation = np.float32(1 + rng.uniform(-0.25, 0.2))
    ramp = (np.arange(256) / 255) ** gamma
    table = np.clip(gains[:, None] * ramp, 0, 1).astype(np.float32) * 255

    def recolour(picture: np.ndarray) -> np.ndarray:
        colours = np.stack([table[c][picture[..., c]] for c in range(3)], axis=-1)
        grey = colours.mean(axis=-1, keepdims=True)
        colours = np.clip(grey + (colours - grey) * saturation, 0, 255).round().astype(np.uint8)
        return np.dstack([colours, picture[..., 3:]]) if picture.shape[-1] == 4 else colours

    return recolour


def _choose_background(
    rng: np.random.Generator, own: np.ndarray, others: Sequence[Callable[[], np.ndarray]]
) -> tuple[np.ndarray, bool]:
    """Returns a background [s, s, 3] uint8, and whether it is the portrait's own."""
    kind, number = rng.random(), int(rng.integers(max(len(others), 1)))
    flipped, softness = rng.random() < 0.5, rng.uniform(0.5, 5)
    if kind < _OWN:
        return own, True
    if kind < _OWN + _OTHER and others:
        other = others[number]()
        other = np.ascontiguousarray(other[:, ::-1] if flipped else other)
        return cv2.GaussianBlur(other, (0, 0), softness * len(other) / SIDE), False
    return _draw_gradient(rng, len(own)), False


def _draw_gradient(rng: np.random.Generator, side: int) -> np.ndarray:
    """Draws a plain wall that is lit from one side and darker in its corners."""
    first, second = rng.uniform(20, 235, (2, 3))
    first = 0.6 * first + 0.4 * first.mean()
    second = first + 0.35 * (second - first)
    angle, darkening = rng.uniform(0, 2 * np.pi), rng.random()
    y, x = np.mgrid[:side, :side] / side - 0.5
    share = np.clip(0.5 + x * np.cos(angle) + y * np.sin(angle), 0, 1)[..., None]
    light = 1 - darkening * (x**2 + y**2)[..., None]
    noise = rng.normal(0, 1.2, (side, side, 1))
    wall = (first * (1 - share) + second * share) * light + noise
    return np.clip(wall, 0, 255).round().astype(np.uint8)


def _choose_view(rng: np.random.Generator, puppet: Puppet, mirror: bool) -> View:
    """Chooses a square that contains the head, and the hands in all their positions."""
    rig, face_height = puppet.rig, puppet.head.face_height
    shoulders = rig.pose[list(SHOULDERS)]
    reach = 0.3 * float(np.linalg.norm(shoulders[0] - shoulders[1]))
    shown = np.concatenate([rig.face[:, :2], shoulders, *(arm.points for arm in rig.arms)])
    (left, top), (right, bottom) = shown.min(axis=0), shown.max(axis=0)
    sides = 0.5 * reach if rig.arms else 0.25 * reach
    left, right = left - sides, right + sides
    bottom = min(bottom + (0.8 * reach if rig.arms else 0.3 * reach), SIDE)
    top = max(top - 0.35 * face_height, 0.0)
    largest = _MAX_VIEW * SIDE
    needed = min(max(right - left, bottom - top, _MIN_VIEW * SIDE), largest)
    side = rng.uniform(needed, largest)
    room = max(0.5 * (side - (right - left)), 0.0)
    middle = 0.5 * (left + right) + rng.uniform(-1, 1) * room
    x = np.clip(middle - 0.5 * side, -_BEYOND * SIDE, SIDE - side + _BEYOND * SIDE)
    highest = np.clip(bottom - side, 0.0, SIDE - side)
    lowest = np.clip(top, highest, SIDE - side)
    y = rng.uniform(highest, lowest)
    return View(
        float(x / SIDE), float(y / SIDE), float(side / SIDE), mirror and bool(rng.random() < 0.5)
    )
