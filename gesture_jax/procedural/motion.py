"""Animates the procedural speaker: strokes on stresses, rest in pauses, nods, mouth, breath.

Each gesture has the usual phases (Kendon 2004): preparation, stroke, hold, retraction. The stroke
ends at the peak of the stressed syllable.
"""

import dataclasses

import numpy as np
from scipy.ndimage import gaussian_filter1d

from gesture_jax.media.rates import FPS
from gesture_jax.people.lips import LIP_JOINTS
from gesture_jax.procedural.identity import Identity
from gesture_jax.procedural.visemes import REST
from gesture_jax.procedural.voice import Speech

_FINGERS = ("thumb", "index", "middle", "ring", "little")
# Left and right are the viewer's, not the speaker's.
_SIDES = ("left", "right")
JOINT_NAMES = (
    "head",
    "neck",
    "mouth",
    *(f"{side}_{part}" for side in _SIDES for part in ("shoulder", "elbow", "wrist", *_FINGERS)),
    *LIP_JOINTS,
)
_MIDDLE = 0.5
_NECK_Y = 0.415
_SHOULDER_Y = 0.462
_MIN_GAP_SEC = 0.45
_RETRACT_AFTER_SEC = 1.0
# In pauses of at least the first length, hands are at rest the second time after their start.
_PAUSE_SEC, _REST_WITHIN_SEC = 0.5, 0.28
# A hand this near to its place at rest is at rest.
_AT_REST = 0.05
MOUTH_DEPTH, _MOUTH_Y = 1.15, 0.62
"""Depth of the mouth, for `on_face`; and its place below the middle of the head."""
# Spread of the fingers, curl of the index finger, curl of the others: 0 to 1.
_HAND_SHAPES = {
    "relaxed": (0.35, 0.35, 0.45),
    "open": (0.9, 0.05, 0.1),
    "flat": (0.25, 0.1, 0.1),
    "point": (0.2, 0.0, 0.85),
    "grip": (0.2, 0.6, 0.7),
}


@dataclasses.dataclass(frozen=True)
class Pose:
    """The pose in one frame, in units of the frame's side; left hand first, then the right.

    Attributes:
      wrists: [2, 2], (x, y).
      bend: [2], inward angle between hand and forearm, in radians.
      hands: [2, 3], shapes of the hands, as in `_HAND_SHAPES`.
      body: [2], shift of the torso.
      nod: downward shift of the face.
      turn: shift of the face to the right.
      tilt: tilt of the head, in radians.
      mouth_open: opening of the lips, 0 (closed) to 1.
      mouth_wide: width of the mouth, 0 (rounded) to 1 (spread).
      mouth_teeth: how far the upper teeth show on the lower lip, 0 to 1.
      brows: 0 to 1, raised.
      eyes: 1 open, 0 closed.
    """

    wrists: np.ndarray
    bend: np.ndarray
    hands: np.ndarray
    body: np.ndarray
    nod: float = 0.0
    turn: float = 0.0
    tilt: float = 0.0
    mouth_open: float = 0.0
    mouth_wide: float = REST[1]
    mouth_teeth: float = 0.0
    brows: float = 0.0
    eyes: float = 1.0


def rest_pose(person: Identity) -> Pose:
    """Returns the pose of a silent person with the hands down."""
    rest = np.stack([_rest(person, side) for side in (0, 1)])
    return Pose(rest[:, :2], rest[:, 2], rest[:, 3:], np.zeros(2))


def gesture(person: Identity, speech: Speech, *, seed: int) -> list[Pose]:
    """Returns one pose per frame that fits the speech."""
    rng = np.random.default_rng([4711, seed])
    num_frames = len(speech.lips)
    time = np.arange(num_frames) / FPS
    hands = _hands(person, speech, rng, time)  # [2, t, 6]
    noise = lambda sd_sec, count: _wander(rng, num_frames, sd_sec, count)
    hands[..., :2] += 0.006 * noise(0.35, 4).reshape(2, 2, -1).transpose(0, 2, 1)
    body = person.style.sway * noise(0.7, 2).T
    body[:, 1] = 0.4 * body[:, 1] + 0.003 * np.sin(2 * np.pi * time / 3.7 + rng.uniform(0, 6))
    stress = _pulses(speech, time, rise_sec=0.09, fall_sec=0.16)
    lean = hands[1, :, 0] + hands[0, :, 0] - 1.0
    slow = noise(0.6, 3)
    turn = np.clip(0.25 * gaussian_filter1d(lean, 5, mode="nearest") + 0.012 * slow[0], -0.03, 0.03)
    tracks = {
        "nod": person.style.nod * (stress + _nods(speech, time)) + 0.004 * slow[1],
        "turn": turn,
        "tilt": 0.05 * slow[2] + 1.2 * turn,
        "mouth_open": speech.lips[:, 0],
        "mouth_wide": speech.lips[:, 1],
        "mouth_teeth": speech.lips[:, 2],
        "brows": np.clip(0.8 * stress, 0.0, 1.0),
        "eyes": _blinks(rng, num_frames),
    }
    return [
        Pose(
            wrists=hands[:, t, :2] + body[t],
            bend=hands[:, t, 2],
            hands=hands[:, t, 3:],
            body=body[t],
            **{name: float(track[t]) for name, track in tracks.items()},
        )
        for t in range(num_frames)
    ]


def joint_positions(person: Identity, pose: Pose) -> np.ndarray:
    """Returns the positions of `JOINT_NAMES`, [j, 2] float32, (x, y) in units of the side."""
    head = head_centre(person, pose)
    points = [head, neck(pose), head + (pose.turn, 0.5 * person.head + pose.nod)]
    for side in (0, 1):
        shoulder, elbow, wrist = arm(person, pose, side)
        points += [shoulder, elbow, wrist, *(chain[-1] for chain in fingers(person, pose, side))]
    points += list(lips(person, pose).values())
    return np.asarray(points, np.float32)


def lips(person: Identity, pose: Pose) -> dict[str, np.ndarray]:
    """Returns the positions of `LIP_JOINTS`, [2] each."""
    half, opened = mouth_size(pose)
    middle, gap = _MOUTH_Y + 0.4 * opened, 0.95 * opened
    places = (-half, middle), (half, middle), (0.0, middle - gap), (0.0, middle + gap)
    points = [on_face(person, pose, x, y, MOUTH_DEPTH) for x, y in places]
    return dict(zip(LIP_JOINTS, points, strict=True))


def mouth_size(pose: Pose) -> tuple[float, float]:
    """Returns half the width of the mouth and half its opening, in sizes of the head."""
    return 0.20 + 0.14 * pose.mouth_wide, 0.25 * pose.mouth_open


def on_face(person: Identity, pose: Pose, x: float, y: float, depth: float = 1.0) -> np.ndarray:
    """Returns the place of a point of the face, (x, y) in sizes of the head from its middle.

    Turning the head moves near points, such as the nose, more than far ones.
    """
    c, s = np.cos(pose.tilt), np.sin(pose.tilt)
    turned = np.array([c * x - s * y, s * x + c * y]) * person.head
    return head_centre(person, pose) + turned + depth * np.array([pose.turn, pose.nod])


def neck(pose: Pose) -> np.ndarray:
    """Returns the point where head and torso meet."""
    return np.array([_MIDDLE, _NECK_Y]) + pose.body


def head_centre(person: Identity, pose: Pose) -> np.ndarray:
    """Returns the middle of the head, which tilts about the neck."""
    up = 1.55 * person.head
    offset = (0.5 * pose.turn + up * np.sin(pose.tilt), -up * np.cos(pose.tilt) + 0.6 * pose.nod)
    return neck(pose) + offset


def arm(person: Identity, pose: Pose, side: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns shoulder, elbow and wrist, [2] each, by two-bone inverse kinematics in space.

    A raised hand comes towards the viewer, so that its forearm appears shorter. The elbow hangs
    down and a little outwards.
    """
    outwards = 2 * side - 1
    raised = max(0.0, 0.86 - pose.wrists[side, 1])
    shoulder = np.array([_MIDDLE + outwards * person.shoulder, _SHOULDER_Y - 0.05 * raised, 0.0])
    shoulder[:2] += pose.body
    wrist = np.array([*pose.wrists[side], 0.08 + min(0.75 * raised, 0.20)])
    reach = wrist - shoulder
    distance = np.clip(np.linalg.norm(reach), 0.06, 0.985 * (person.upper_arm + person.forearm))
    along = reach / max(np.linalg.norm(reach), 1e-9)
    wrist = shoulder + along * distance
    # From the shoulder to the foot of the elbow's perpendicular on the line to the wrist.
    foot = (person.upper_arm**2 + distance**2 - person.forearm**2) / (2 * distance)
    height = np.sqrt(max(person.upper_arm**2 - foot**2, 0.0))
    hang = np.array([0.38 * outwards, 1.0, -0.35])
    hang -= along * (hang @ along)
    elbow = shoulder + foot * along + height * hang / max(np.linalg.norm(hang), 1e-9)
    return shoulder[:2], elbow[:2], wrist[:2]


def fingers(person: Identity, pose: Pose, side: int) -> list[np.ndarray]:
    """Five chains of points [k, 2], thumb first, from the palm to the tip."""
    _, elbow, wrist = arm(person, pose, side)
    inwards = 1 - 2 * side
    heading = np.arctan2(*(wrist - elbow)[::-1]) + inwards * pose.bend[side]
    spread, index_curl, curl = pose.hands[side]
    scale = person.hand
    point = lambda origin, angle, length: (
        origin + length * scale * np.array([np.cos(angle), np.sin(angle)])
    )
    chains = []
    for number, offset in enumerate((-1.5, -0.5, 0.5, 1.5)):
        bent = index_curl if number == 0 else curl
        # The thumb and the index finger are on the inner side.
        across = -inwards * offset * (0.10 + 0.16 * spread)
        knuckle = point(wrist, heading - inwards * -offset * 0.28, 0.042)
        length = (0.036, 0.040, 0.037, 0.029)[number] * (1.0 - 0.62 * bent)
        middle = point(knuckle, heading + across, 0.55 * length)
        tip = point(middle, heading + across + inwards * 0.9 * bent, 0.45 * length)
        chains.append(np.stack([knuckle, middle, tip]))
    base = point(wrist, heading + inwards * 0.7, 0.018)
    middle = point(base, heading + inwards * (0.55 + 0.5 * spread), 0.022)
    tip = point(middle, heading + inwards * (0.25 + 0.45 * spread), 0.018)
    return [np.stack([base, middle, tip]), *chains]


def _rest(person: Identity, side: int) -> np.ndarray:
    outwards = 2 * side - 1
    x = _MIDDLE + outwards * person.style.rest_x
    return np.array([x, person.style.rest_y, 0.2, *_HAND_SHAPES["relaxed"]])


def _hands(
    person: Identity, speech: Speech, rng: np.random.Generator, time: np.ndarray
) -> np.ndarray:
    """Both hands' tracks of (x, y, bend, shape): [2, t, 6]."""
    strokes = _choose_strokes(person, speech, rng)
    pauses = [start for start, _ in speech.pauses(_PAUSE_SEC)]
    keys = [[(0.0, _rest(person, side))] for side in (0, 1)]
    for index, (moment, strength) in enumerate(strokes):
        following = strokes[index + 1][0] if index + 1 < len(strokes) else np.inf
        pause = next((start for start in pauses if moment < start < following), None)
        both = rng.random() < person.style.two_handed
        shape = str(rng.choice(list(_HAND_SHAPES)[1:], p=(0.45, 0.25, 0.15, 0.15)))
        aim = rng.uniform(0.08, 0.25), rng.uniform(0.54, 0.70), rng.uniform(0.07, 0.13)
        for side in (person.style.dominant, 1 - person.style.dominant):
            if side != person.style.dominant and not both:
                continue
            strength_here = strength * (1.0 if side == person.style.dominant else 0.85)
            _add_stroke(
                keys[side], person, side, moment, following, pause, aim, shape, strength_here, rng
            )
        if pause is not None:
            for side in (0, 1):
                _rest_in_pause(keys[side], person, side, pause, rng)
    return np.stack([_interpolate(keys[side], time) for side in (0, 1)])


def _choose_strokes(
    person: Identity, speech: Speech, rng: np.random.Generator
) -> list[tuple[float, float]]:
    """Chooses the stresses that get a stroke, (time, strength), no faster than arms can move."""
    strokes: list[tuple[float, float]] = []
    for moment, gain in zip(speech.stress_times_sec, speech.stress_gains, strict=True):
        free = not strokes or moment - strokes[-1][0] >= _MIN_GAP_SEC
        if free and moment > 0.3 and rng.random() < person.style.eagerness:
            strokes.append((float(moment), float(gain)))
    return strokes


def _add_stroke(keys, person, side, moment, following, pause, aim, shape, strength, rng) -> None:
    outwards = 2 * side - 1
    out, height, lift = aim
    size = person.style.reach * strength
    goal = np.array(
        [
            _MIDDLE + outwards * (person.shoulder * 0.45 + out * size),
            height + 0.06 * (1 - size),
            rng.uniform(-0.5, 0.15),
            *_HAND_SHAPES[shape],
        ]
    )
    before = goal.copy()
    before[:2] += -outwards * 0.35 * lift * size, -lift * size
    before[2] += 0.35
    last_time, last = keys[-1]
    ready = moment - rng.uniform(0.15, 0.19)
    start = max(last_time, ready - rng.uniform(0.26, 0.34))
    if start > last_time:
        keys.append((start, last))
    keys.append((max(ready, start + 0.06), before))
    keys.append((moment, goal))
    held = goal.copy()
    held[:2] += rng.normal(0, 0.006, 2)
    hold_end = min(moment + rng.uniform(0.12, 0.28), max(following - 0.36, moment + 0.05))
    if pause is not None:
        hold_end = min(hold_end, max(pause, moment + 0.02))
    keys.append((hold_end, held))
    if pause is None and following - moment > _RETRACT_AFTER_SEC:
        keys.append((hold_end + rng.uniform(0.42, 0.55), _near_rest(person, side, rng)))


def _rest_in_pause(keys, person, side, pause, rng) -> None:
    """Lets a hand come to rest soon after the start of a pause, if it is not at rest already."""
    last_time, last = keys[-1]
    if np.linalg.norm(last[:2] - _rest(person, side)[:2]) < _AT_REST:
        return
    end = max(pause + _REST_WITHIN_SEC, last_time + 0.25)
    start = max(last_time, end - rng.uniform(0.42, 0.55))
    if start > last_time:
        keys.append((start, last))
    keys.append((end, _near_rest(person, side, rng)))


def _near_rest(person: Identity, side: int, rng: np.random.Generator) -> np.ndarray:
    rest = _rest(person, side)
    rest[:2] += rng.normal(0, 0.008, 2)
    return rest


def _interpolate(keys: list[tuple[float, np.ndarray]], time: np.ndarray) -> np.ndarray:
    """Interpolates keys by minimum-jerk movements (Flash & Hogan 1985)."""
    moments = np.array([moment for moment, _ in keys])
    poses = np.stack([pose for _, pose in keys])
    after = np.clip(np.searchsorted(moments, time, side="right"), 1, max(len(keys) - 1, 1))
    if len(keys) == 1:
        return np.repeat(poses, len(time), axis=0)
    span = np.maximum(moments[after] - moments[after - 1], 1e-6)
    u = np.clip((time - moments[after - 1]) / span, 0.0, 1.0)
    blend = (u**3 * (10 - 15 * u + 6 * u**2))[:, None]
    return poses[after - 1] + blend * (poses[after] - poses[after - 1])


def _pulses(speech: Speech, time: np.ndarray, *, rise_sec: float, fall_sec: float) -> np.ndarray:
    """Returns a track with a bump at every stress, with its strength as height."""
    track = np.zeros(len(time))
    for moment, gain in zip(speech.stress_times_sec, speech.stress_gains, strict=True):
        offset = time - moment
        width = np.where(offset < 0, rise_sec, fall_sec)
        track = np.maximum(track, gain * np.exp(-0.5 * (offset / width) ** 2))
    return track


def _nods(speech: Speech, time: np.ndarray) -> np.ndarray:
    """Returns a track with a bump for each nod of the listener, up to about 1."""
    offsets = (time[:, None] - np.array([*speech.nod_times_sec, np.inf])) / 0.11
    return np.exp(-0.5 * offsets**2).max(axis=1)


def _wander(rng: np.random.Generator, length: int, sd_sec: float, count: int) -> np.ndarray:
    """Returns smooth noise of unit variance, [count, length]."""
    sd = sd_sec * FPS
    margin = int(4 * sd)
    noise = gaussian_filter1d(rng.standard_normal((count, length + 2 * margin)), sd, axis=1)
    return noise[:, margin : margin + length] * np.sqrt(2 * np.sqrt(np.pi) * sd)


def _blinks(rng: np.random.Generator, length: int) -> np.ndarray:
    eyes = np.ones(length)
    for start in np.flatnonzero(rng.random(length) < 0.25 / FPS):
        eyes[start : start + 4] = np.array([0.4, 0.0, 0.1, 0.6])[: length - start]
    return eyes
