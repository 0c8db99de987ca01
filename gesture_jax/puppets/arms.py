"""Finds the arms of a portrait, and the pixels of hand, forearm and body.

There are two kinds of arms. The fingers of an outward arm point away from the body, and its forearm
is seen from the side. Those of an inward arm point to the middle, and its forearm is behind the
hand. All lengths are in pixels of the working picture.
"""

import dataclasses

import cv2
import numpy as np

from gesture_jax.people.ramps import smoothstep
from gesture_jax.puppets import geometry, mattes
from gesture_jax.puppets.geometry import disc
from gesture_jax.puppets.landmarks import ELBOWS, SHOULDERS, SIDE, Landmarks

# Radii of elbow, wrist and upper arm, in sizes of the hand, by `outward`; and bounds in pixels.
_RADII = {True: (0.40, 0.30, 0.44), False: (0.44, 0.36, 0.50)}
_RADIUS_BOUNDS = (10, 26), (8, 22), (12, 30)
# Skin or sleeve and shirt cannot be separated if their colours differ by less than this.
_MIN_DIFFERENCE = 15.0
_LIGHTNESS_WEIGHT = 0.35
_MIN_PIXELS = 15
# Rows below an arm, first and last, from which the edge of the trunk is measured.
_TRUNK_ROWS = 8, 48
_TRUNK_MARGIN_PX = 3
# How far a loose sleeve hangs below the forearm, in radii of the elbow.
_LOOSE_SLEEVE = 2.6


@dataclasses.dataclass
class Arm:
    """An arm of a portrait, from which layers are cut.

    Attributes:
      side: 0 on the viewer's left, 1 on the right.
      points: [21, 2], landmarks of the hand.
      size: size of the hand.
      outward: whether the fingers point away from the body.
      shoulder: [2].
      elbow: [2].
      radii: radii of elbow, wrist and upper arm.
      mask: [s, s] boolean, the pixels of the hand.
      sleeve: [s, s] boolean, pixels that have the colour of the forearm rather than of the shirt;
        None where the colours are too similar.
    """

    side: int
    points: np.ndarray
    size: float
    outward: bool
    shoulder: np.ndarray
    elbow: np.ndarray
    radii: tuple[float, float, float]
    mask: np.ndarray
    sleeve: np.ndarray | None = None

    @property
    def outwards(self) -> int:
        """The sign of the direction along x that leads away from the body."""
        return 2 * self.side - 1

    @property
    def wrist(self) -> np.ndarray:
        return self.points[0]

    @property
    def heading(self) -> np.ndarray:
        """The direction from the elbow to the wrist, [2]."""
        return geometry.unit(self.wrist - self.elbow)

    @property
    def outer_side(self) -> np.ndarray:
        """The direction across the forearm that leads out and down, [2]."""
        across = np.array([-self.heading[1], self.heading[0]])
        return across * (np.sign(across @ np.array([self.outwards, 1.0])) or 1.0)

    def forearm(self, extra: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
        """Returns distances from the forearm and positions along it; see `geometry.limb`."""
        radii = self.radii[0] + extra, self.radii[1] + extra
        return geometry.limb(self.elbow, self.wrist, radii, SIDE)

    def upper_arm(self, share: float = 1.0) -> np.ndarray:
        """Returns distances from the upper arm, with the elbow's radius scaled by `share`."""
        radii = self.radii[2], share * self.radii[0]
        return geometry.limb(self.shoulder, self.elbow, radii, SIDE)[0]

    def near_wrist(self, share: float) -> np.ndarray:
        """Returns pixels [s, s] that are nearer to the wrist than a fraction of the hand's size."""
        x, y = geometry.pixel_grid(SIDE)
        return np.hypot(x - self.wrist[0], y - self.wrist[1]) < share * self.size


def trace_arm(landmarks: Landmarks, side: int, shoulder_width: float) -> Arm:
    """Returns the arm on one side, without `sleeve`."""
    points = landmarks.hands[side]
    size = mattes.hand_size(points, shoulder_width)
    person = np.maximum(landmarks.person, landmarks.pose_matte)
    outwards = 2 * side - 1
    fingers = points[[8, 12, 16]].mean(axis=0) - points[0]
    outward = bool(fingers[0] * outwards >= 0)
    radii = tuple(
        float(np.clip(share * size, *bounds))
        for share, bounds in zip(_RADII[outward], _RADIUS_BOUNDS, strict=True)
    )
    return Arm(
        side=side,
        points=points,
        size=size,
        outward=outward,
        shoulder=landmarks.pose[SHOULDERS[side]],
        elbow=_place_elbow(landmarks.pose[ELBOWS[side]], points[0], size, outwards),
        radii=radii,
        mask=mattes.cut_hand(landmarks.picture, points, size, person),
    )


def _place_elbow(elbow: np.ndarray, wrist: np.ndarray, size: float, outwards: int) -> np.ndarray:
    """Moves an elbow that is too near to the wrist, or behind it, inwards and down."""
    forearm = wrist - elbow
    length = float(np.linalg.norm(forearm))
    if length >= 0.7 * size:
        return elbow.copy()
    if length > 0.25 * size:
        return wrist - forearm / length * 0.7 * size
    return wrist + np.array([-outwards * 0.5, 0.5]) * size


def segment_sleeve(arm: Arm, colours: np.ndarray, person: np.ndarray, hands: np.ndarray) -> None:
    """Separates forearm and shirt by colour, and moves the elbow of an outward arm off the shirt.

    Args:
      arm: its `sleeve` and `elbow` are set.
      colours: [s, s, 3] float32, CIELAB.
      person: [s, s] boolean.
      hands: [s, s] boolean, both hands.
    """
    x, y = geometry.pixel_grid(SIDE)
    elbow_radius = arm.radii[0]
    distance, along = arm.forearm()
    start = 0.5 if arm.outward else 0.15
    own = (distance < -0.3 * arm.radii[1]) & (along > start) & (along < 0.9) & person
    own &= ~geometry.grow(arm.mask, 2)
    if own.sum() < _MIN_PIXELS and arm.outward:
        own = arm.mask & arm.near_wrist(0.5)
    inwards = -(x - arm.elbow[0]) * arm.outwards
    beside = (inwards > 1.8 * elbow_radius) & (inwards < 4 * elbow_radius)
    shirt = beside & (np.abs(y - arm.elbow[1]) < 2 * elbow_radius) & person & ~hands
    if min(own.sum(), shirt.sum()) < _MIN_PIXELS:
        return
    if not arm.outward:  # Sleeve and shirt are often of one cloth in different light.
        colours = colours * np.array([_LIGHTNESS_WEIGHT, 1.0, 1.0], np.float32)
    own_colour, shirt_colour = np.median(colours[own], axis=0), np.median(colours[shirt], axis=0)
    if np.linalg.norm(own_colour - shirt_colour) < _MIN_DIFFERENCE:
        return
    distance_to = lambda colour: np.linalg.norm(colours - colour, axis=2)
    like = (distance_to(own_colour) < distance_to(shirt_colour)).astype(np.uint8)
    like = cv2.morphologyEx(like, cv2.MORPH_OPEN, disc(2))
    arm.sleeve = geometry.blur(like, 2) > 0.5
    if arm.outward:
        share = cv2.blur((arm.sleeve & person).astype(np.float32), (int(elbow_radius) | 1,) * 2)
        arm.elbow = _move_elbow_off_shirt(arm, share)


def _move_elbow_off_shirt(arm: Arm, share: np.ndarray) -> np.ndarray:
    """Moves the elbow outwards until its surroundings have the colour of the arm."""
    for step in range(int(1.4 * arm.radii[0])):
        x, y = arm.elbow[0] + arm.outwards * step, arm.elbow[1] - 0.4 * step
        if not (0 <= x < SIDE and 0 <= y < SIDE):
            break
        if share[int(y), int(x)] > 0.8:
            return np.array([x, y])
    return arm.elbow


@dataclasses.dataclass
class ForearmCut:
    """Masks from which the layer of a forearm is made; all [s, s].

    Attributes:
      hand_alpha: float, alpha of the hand.
      around_hand: boolean, the hand and a margin.
      narrow: boolean, the inside of the forearm's capsule.
      seen: boolean, the visible pixels of the forearm.
      fade: float, 1 on the forearm, falling to 0 over the elbow into the upper arm.
      taken: boolean, pixels that are removed from the body.
    """

    hand_alpha: np.ndarray
    around_hand: np.ndarray
    narrow: np.ndarray
    seen: np.ndarray
    fade: np.ndarray
    taken: np.ndarray


def cut_forearm(arm: Arm, picture: np.ndarray, person: np.ndarray) -> ForearmCut:
    """Cuts a forearm: a capsule, and on its outer side also the person's other pixels.

    Args:
      arm: after `segment_sleeve`.
      picture: [s, s, 3] uint8.
      person: [s, s] boolean.
    """
    x, y = geometry.pixel_grid(SIDE)
    offset_x, offset_y = x - arm.elbow[0], y - arm.elbow[1]
    elbow_radius = arm.radii[0]
    distance, along = arm.forearm()
    across = offset_x * arm.outer_side[0] + offset_y * arm.outer_side[1]
    wider = np.where(across > 0, (0.75 if arm.outward else 1.3) * elbow_radius, 0.0)
    begins = smoothstep(along, -0.6, -0.1) if arm.outward else smoothstep(along, 0.0, 0.35)
    wider = wider * begins * (1 - smoothstep(along, 1.0, 1.6))
    if not arm.outward:  # A loose sleeve hangs down beside the trunk.
        hanging = smoothstep(along, -0.3, 0.05) * (1 - smoothstep(along, 1.2, 1.8))
        beside = (x - _trunk_edge(arm, person)) * arm.outwards > _TRUNK_MARGIN_PX
        hanging = np.where((across > 0) & beside, _LOOSE_SLEEVE * elbow_radius * hanging, 0.0)
        wider = np.maximum(wider, hanging)
    tube = smoothstep(wider - distance, -1.5, 2.5)
    to_shoulder = geometry.unit(arm.shoulder - arm.elbow)
    up = offset_x * to_shoulder[0] + offset_y * to_shoulder[1]
    forwards = (offset_x * arm.heading[0] + offset_y * arm.heading[1]).clip(0)
    fade = 1 - smoothstep(up - 1.2 * forwards, 0.1 * elbow_radius, 0.9 * elbow_radius)
    around_hand = geometry.grow(arm.mask, 2)
    seen = (tube > 0.5) & person & ~around_hand & (fade > 0.3)
    narrow = distance < 0
    if arm.sleeve is not None:
        narrow = narrow & (arm.sleeve | around_hand)
        seen &= arm.sleeve
    hand_alpha = _cut_wrist(arm, mattes.soften(arm.mask, picture, radius=4))
    taken = geometry.grow(np.maximum(hand_alpha, seen * fade) > 0.04, 3) | geometry.grow(
        arm.mask, 3
    )
    # The elbow is part of the body too.
    elbow = np.hypot(offset_x, offset_y) < 0.95 * elbow_radius
    taken &= ~(elbow & ~around_hand)
    return ForearmCut(hand_alpha, around_hand, narrow, seen, fade.astype(np.float32), taken)


def _trunk_edge(arm: Arm, person: np.ndarray) -> float:
    """Returns the column at which the trunk ends on the arm's side, measured below the arm.

    Without rows below the arm it is the picture's edge, so that nothing is beside the trunk.
    """
    lowest = max(arm.points[:, 1].max() + 0.3 * arm.size, arm.elbow[1] + arm.radii[0])
    edge = 0 if arm.outwards < 0 else SIDE - 1
    start = int(np.clip(arm.shoulder[0] - arm.outwards * arm.size, 0, SIDE - 1))
    ends = []
    for row in person[int(lowest) + _TRUNK_ROWS[0] : int(lowest) + _TRUNK_ROWS[1]]:
        run = row[start:] if arm.outwards > 0 else row[start::-1]
        if run[0]:
            length = int(np.argmin(run)) or len(run)
            ends.append(start + arm.outwards * length)
    if len(ends) < _TRUNK_ROWS[0]:
        return float(edge)
    return float(max(ends) if arm.outwards > 0 else min(ends))


def _cut_wrist(arm: Arm, alpha: np.ndarray) -> np.ndarray:
    """Fades the hand of an outward arm out behind the wrist, where the forearm continues."""
    if not arm.outward:
        return alpha
    x, y = geometry.pixel_grid(SIDE)
    palm = geometry.unit(arm.points[[5, 9, 13, 17]].mean(axis=0) - arm.wrist)
    behind = -((x - arm.wrist[0]) * palm[0] + (y - arm.wrist[1]) * palm[1])
    return alpha * (1 - smoothstep(behind, 0.02 * arm.size, 0.36 * arm.size))
