"""Splits a portrait into layers: background, body, and forearm and hand of each side."""

import dataclasses
from collections.abc import Sequence

import cv2
import numpy as np

from gesture_jax.people.ramps import smoothstep
from gesture_jax.puppets import arms, geometry, inpainting, mattes
from gesture_jax.puppets.arms import Arm, ForearmCut
from gesture_jax.puppets.geometry import blur, disc
from gesture_jax.puppets.landmarks import SIDE, Landmarks

_MIN_CORE_PX = 40
# Largest width of a sleeve, in radii of the upper arm.
_MAX_SLEEVE = 3.0
# Fractions of the hand's size: margin around arms that is filled in the background, and largest
# gap of a cuff that is closed behind the hand.
_HALO, _CUFF = 0.4, 0.35
# Smallest number of rows from which the width of a sleeve is measured.
_MIN_ROWS = 6


@dataclasses.dataclass(frozen=True)
class Sheet:
    """A layer as large as the picture.

    Attributes:
      colours: [s, s, 3] float32, also filled in outside of the visible part.
      alpha: [s, s] float32, 0 to 1.
      original: [s, s] boolean, true where the colours are the portrait's own.
    """

    colours: np.ndarray
    alpha: np.ndarray
    original: np.ndarray


@dataclasses.dataclass(frozen=True)
class Layers:
    """The layers of a portrait.

    Attributes:
      background: the background, filled in behind the person.
      body: the body, without forearms and hands if the arms move.
      forearms: left and right, or none.
      hands: left and right, or none.
    """

    background: Sheet
    body: Sheet
    forearms: Sequence[Sheet]
    hands: Sequence[Sheet]


def split_into_layers(landmarks: Landmarks, traced: Sequence[Arm]) -> Layers:
    """Splits a portrait into layers.

    Args:
      landmarks: landmarks of the portrait.
      traced: both arms, or none if the arms do not move; the elbows of outward arms are moved off
        the shirt.
    """
    picture = landmarks.picture
    found = [(arm.points, arm.size, arm.mask, _near_arm(arm, _HALO)) for arm in traced]
    person = mattes.cut_person(picture, (landmarks.person, landmarks.pose_matte), found)
    alpha = mattes.soften(person, picture)
    cuts = _cut_arms(traced, picture, person)
    forearm_alphas, taken = _shape_forearms(traced, cuts, person, alpha)
    body = _make_body(traced, picture, alpha, taken)
    return Layers(
        background=_make_background(picture, alpha, [_near_arm(arm, _HALO) for arm in traced]),
        body=body,
        forearms=[
            _make_forearm(arm, cut, picture, alpha, own)
            for arm, cut, own in zip(traced, cuts, forearm_alphas, strict=True)
        ],
        hands=[_make_hand(arm, cut, picture) for arm, cut in zip(traced, cuts, strict=True)],
    )


def _cut_arms(traced: Sequence[Arm], picture: np.ndarray, person: np.ndarray) -> list[ForearmCut]:
    smooth = cv2.GaussianBlur(picture, (0, 0), 1.0)
    colours = cv2.cvtColor(smooth, cv2.COLOR_RGB2Lab).astype(np.float32)
    hands = np.logical_or.reduce([arm.mask for arm in traced]) if traced else None
    for arm in traced:
        arms.segment_sleeve(arm, colours, person, hands)
    return [arms.cut_forearm(arm, picture, person) for arm in traced]


def _shape_forearms(
    traced: Sequence[Arm], cuts: Sequence[ForearmCut], person: np.ndarray, alpha: np.ndarray
) -> tuple[list[np.ndarray], np.ndarray]:
    """Returns the alphas of the forearms, and the pixels [s, s] that the body loses."""
    taken = np.zeros((SIDE, SIDE), bool)
    for cut in cuts:
        taken |= cut.taken
    if not cuts:
        return [], taken
    # Pixels that are no longer connected to the torso join the forearm beside them.
    left = person & ~taken
    opened = cv2.morphologyEx(left.astype(np.uint8), cv2.MORPH_OPEN, disc(5)) > 0
    lost = left & ~geometry.grow(mattes.largest_part(opened), 7)
    alphas = []
    for arm, cut in zip(traced, cuts, strict=True):
        reach = 1.15 * arm.size
        near = geometry.limb(arm.elbow, arm.wrist, (reach, reach), SIDE)[0] < 0
        mine = lost & near & ~cut.around_hand
        cut.seen |= mine
        alphas.append(_shape_forearm(cut, person, alpha, int(_CUFF * arm.size)))
        taken |= geometry.grow(mine, 4)
    return alphas, taken


def _shape_forearm(cut: ForearmCut, person: np.ndarray, alpha: np.ndarray, cuff: int) -> np.ndarray:
    """Returns the alpha of a forearm; gaps of up to `cuff` pixels behind the hand are closed."""
    shape = (cut.seen | (cut.narrow & (cut.around_hand | person))).astype(np.uint8)
    behind_hand = cv2.morphologyEx(shape, cv2.MORPH_CLOSE, disc(cuff)) & cut.around_hand
    shape = cv2.morphologyEx(shape, cv2.MORPH_CLOSE, disc(5)) & (person | cut.narrow)
    shape = mattes.largest_part((shape | behind_hand) > 0).astype(np.uint8)
    outlines, _ = cv2.findContours(shape, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    shape = cv2.drawContours(shape, outlines, -1, 1, -1)
    own = np.where(cut.around_hand | cut.narrow, 1.0, alpha) * cut.fade
    return (smoothstep(blur(shape, 1.3), 0.2, 0.8) * own).astype(np.float32)


def _make_body(
    traced: Sequence[Arm], picture: np.ndarray, alpha: np.ndarray, taken: np.ndarray
) -> Sheet:
    """Makes the body, and fills in the parts that arms cover."""
    if not traced:
        solid = geometry.shrink(alpha > 0.97, 1)
        return Sheet(inpainting.fill_cloth(picture, solid), alpha, solid)
    alpha_under = _alpha_under_arms(traced, alpha, taken)
    body_alpha = np.where(taken, alpha_under, alpha).astype(np.float32)
    seam = blur(taken, 2.0)
    body_alpha = body_alpha * (1 - seam) + blur(body_alpha, 2.5) * seam
    body_alpha = np.where(taken, smoothstep(body_alpha, 0.15, 0.85), body_alpha)
    # Removes specks beside the body, which would float in the air.
    body_alpha *= geometry.grow(mattes.largest_part(body_alpha > 0.08), 2)
    solid = geometry.shrink(alpha > 0.97, 1) & ~taken
    colours = inpainting.fill_cloth(picture, solid)
    # The covered part of an upper arm gets the colours of its visible part.
    inside = geometry.shrink(alpha > 0.95, 1)
    for arm in traced:
        distance = arm.upper_arm()
        source = inside & ~geometry.grow(arm.mask, 4) & (distance < 2)
        if source.sum() < _MIN_CORE_PX:
            continue
        own = inpainting.push_pull(np.where(source[..., None], picture, 0), source)
        share = (smoothstep(-distance, -2.5, 2.0) * blur(taken, 1.5))[..., None]
        colours = colours * (1 - share) + own * share
    return Sheet(colours, body_alpha.astype(np.float32), solid)


def _alpha_under_arms(traced: Sequence[Arm], alpha: np.ndarray, taken: np.ndarray) -> np.ndarray:
    """Returns the body's alpha where arms cover it, from its surroundings and the upper arms."""
    x, y = geometry.pixel_grid(SIDE)
    forced = np.zeros((SIDE, SIDE), np.float32)
    allowed = np.ones((SIDE, SIDE), np.float32)
    for arm in traced:
        distance = arm.upper_arm(0.95)
        if not arm.outward:  # Its upper arm is behind the hand.
            distance = np.minimum(distance, _continue_sleeve(arm, alpha, taken))
        forced = np.maximum(forced, smoothstep(-distance, -2, 2))
        # The body never extends beyond the outer side of an upper arm.
        down = geometry.unit(arm.elbow - arm.shoulder)
        outside = -arm.outwards * (
            (x - arm.shoulder[0]) * -down[1] + (y - arm.shoulder[1]) * down[0]
        )
        allowed = np.minimum(allowed, np.where(outside > 0, 1 - smoothstep(distance, 2, 9), 1.0))
    spread = inpainting.diffuse(np.where(taken, 0, alpha), ~taken)
    return np.maximum(smoothstep(spread, 0.4, 0.6) * allowed, forced)


def _continue_sleeve(arm: Arm, alpha: np.ndarray, taken: np.ndarray) -> np.ndarray:
    """Returns distances from the covered upper arm, as wide as the visible sleeve above it."""
    axis = arm.elbow - arm.shoulder
    length = float(np.linalg.norm(axis))
    down = axis / max(length, 1e-6)
    out = arm.outwards * np.array([down[1], -down[0]])
    out = out * (np.sign(out[0] * arm.outwards) or 1.0)
    reach = np.arange(int(_MAX_SLEEVE * arm.radii[2]))
    widths = []
    for step in range(int(0.35 * length), int(length)):
        places = arm.shoulder + step * down + reach[:, None] * out
        columns, rows = np.clip(places.round().astype(int), 0, SIDE - 1).T
        end = int(np.argmax(alpha[rows, columns] < 0.5)) or len(reach)
        if end == len(reach) or taken[rows[:end], columns[:end]].any():
            if widths:
                break
            continue
        widths.append(end)
    if len(widths) < _MIN_ROWS:
        return np.full((SIDE, SIDE), np.inf, np.float32)
    width = float(np.median(widths[-_MIN_ROWS:]))
    start = arm.shoulder + min(0.35 * length + len(widths), length - 1) * down
    # Moves the axis outwards, so that the limb's outer edge is that of the sleeve.
    elbow_radius = arm.radii[0]
    narrow = max(min(width, arm.radii[2]), elbow_radius)
    shift = out * (width - narrow)
    return geometry.limb(
        start + shift, arm.elbow + 0.6 * shift, (narrow, 0.95 * elbow_radius), SIDE
    )[0]


def _make_hand(arm: Arm, cut: ForearmCut, picture: np.ndarray) -> Sheet:
    core = geometry.shrink(arm.mask, 1)
    filled = inpainting.push_pull(np.where(core[..., None], picture, 0), core)
    return Sheet(np.where(core[..., None], picture, filled), cut.hand_alpha, core)


def _make_forearm(
    arm: Arm, cut: ForearmCut, picture: np.ndarray, alpha: np.ndarray, own_alpha: np.ndarray
) -> Sheet:
    """Makes the forearm, with colours from inside its visible part."""
    inside = geometry.shrink(alpha > 0.95, 1)
    away_from_hand = ~geometry.grow(arm.mask, 3)
    core = cut.seen & inside & away_from_hand
    skin = geometry.shrink(arm.mask, 2)
    if arm.outward:
        core &= arm.forearm()[1] < 0.9
        core |= skin & arm.near_wrist(0.45)
    original = core
    if core.sum() < 0.2 * (own_alpha > 0.5).sum():
        picture, core = _guess_forearm(arm, picture, core, inside & away_from_hand, skin)
        original = original & core
    if core.sum() < _MIN_CORE_PX:
        core = original = arm.mask
    filled = inpainting.fill_cloth(picture, core)
    return Sheet(np.where(core[..., None], picture, filled), own_alpha, original)


def _guess_forearm(arm: Arm, picture, core, inside, skin) -> tuple[np.ndarray, np.ndarray]:
    """Guesses a forearm that is hardly visible, from the upper arm and the colour of the hand.

    Returns:
      The picture with the guessed colours, and the pixels to use of it.
    """
    x, y = geometry.pixel_grid(SIDE)
    down = geometry.unit(arm.elbow - arm.shoulder)
    along = (x - arm.shoulder[0]) * down[0] + (y - arm.shoulder[1]) * down[1]
    length = float(np.linalg.norm(arm.elbow - arm.shoulder))
    core = core | (inside & (arm.upper_arm() < 0) & (along > 0.62 * length))
    wrist_skin = skin & arm.near_wrist(0.4)
    if wrist_skin.sum() <= 10:
        return picture, core
    tint = np.median(picture[wrist_skin], axis=0)
    wrist = arm.near_wrist(0.25)
    picture = np.where((wrist & ~core)[..., None], tint, picture).round().astype(np.uint8)
    return picture, core | wrist


def _make_background(picture: np.ndarray, alpha: np.ndarray, halos: Sequence[np.ndarray]) -> Sheet:
    """Fills in the background, with a margin around arms, where the matte often misses pixels."""
    known = ~geometry.grow(alpha > 0.02, 4)
    for halo in halos:
        known &= ~halo
    return Sheet(
        inpainting.fill_background(picture, known), np.ones((SIDE, SIDE), np.float32), known
    )


def _near_arm(arm: Arm, share: float) -> np.ndarray:
    """Returns pixels [s, s] that are nearer to the arm than a fraction of the hand's size."""
    hand = geometry.capsules(arm.points, geometry.BONES, share * arm.size, SIDE)
    return hand | (arm.forearm()[0] < share * arm.size)
