"""A drawn person as photo people's models would find them: landmarks without any model."""

import dataclasses
import functools

import cv2
import numpy as np

from gesture_jax.procedural import speaker
from gesture_jax.puppets import puppet, retarget, rig, rig_builder
from gesture_jax.puppets.landmarks import SIDE, Landmarks
from gesture_jax.puppets.poses import PuppetPose

JOINT = {name: number for number, name in enumerate(speaker.JOINT_NAMES)}
"""The numbers of the joints by their names."""

_SKIN, _SHIRT, _WALL = (224, 172, 140), (60, 90, 150), (200, 205, 190)
_FACE_CENTRE, _FACE_HALF = np.array([256.0, 120.0]), np.array([34.0, 44.0])
_MOUTH, _HALF_MOUTH = np.array([256.0, 143.0]), 14.0
_UPPER_LIP = 78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308
_LOWER_LIP = 78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308
_EYE_CHAINS = (
    ((33, 246, 161, 160, 159, 158, 157, 173, 133), (33, 7, 163, 144, 145, 153, 154, 155, 133)),
    ((362, 398, 384, 385, 386, 387, 388, 466, 263), (362, 382, 381, 380, 374, 373, 390, 249, 263)),
)
_BROWS = (70, 63, 105, 66, 107), (336, 296, 334, 293, 300)
SHOULDERS = np.array([[196.0, 210.0], [316.0, 210.0]])
ELBOWS = np.array([[176.0, 320.0], [336.0, 320.0]])
WRISTS = np.array([[120.0, 330.0], [392.0, 330.0]])


def draw_landmarks(*, hands: bool = True, num_faces: int = 1, background: int = 0) -> Landmarks:
    """A person who looks into the camera, both hands open and turned outwards.

    Args:
      hands: whether the hands are found.
      num_faces: how many faces are said to be seen.
      background: changes the wall's colour.
    """
    wall = tuple(int(value) - background for value in _WALL)
    picture = np.full((SIDE, SIDE, 3), wall, np.uint8)
    person = np.zeros((SIDE, SIDE), np.uint8)
    points = [_hand(side) for side in (0, 1)]
    for canvas, skin, shirt in ((picture, _SKIN, _SHIRT), (person, 255, 255)):
        trunk = np.array([[186, 205], [326, 205], [310, 511], [202, 511]])
        cv2.fillPoly(canvas, [trunk], shirt)
        _ellipse(canvas, _FACE_CENTRE, _FACE_HALF * 1.15, skin)
        cv2.rectangle(canvas, (238, 160), (274, 212), skin, -1)
        for side in (0, 1):
            _line(canvas, SHOULDERS[side], ELBOWS[side], 40, shirt)
            _line(canvas, ELBOWS[side], WRISTS[side], 30, skin)
            for chain in (range(0, 5), *((0, *range(k, k + 4)) for k in (5, 9, 13, 17))):
                for start, end in zip(list(chain)[:-1], list(chain)[1:], strict=True):
                    _line(canvas, points[side][start], points[side][end], 9, skin)
    _draw_face(picture)
    texture = np.random.default_rng(0).normal(0, 3, picture.shape)
    picture = np.clip(picture + texture, 0, 255).astype(np.uint8)
    matte = cv2.GaussianBlur(person, (0, 0), 1.0).astype(np.float32) / 255
    return Landmarks(
        picture=picture,
        num_faces=num_faces,
        pose=_pose(),
        face=_face(),
        hands=tuple(points) if hands else (points[0], None),
        hand_scores=(0.9, 0.9) if hands else (0.9, 0.0),
        person=matte,
        pose_matte=matte.copy(),
    )


def _hand(side: int) -> np.ndarray:
    """[21, 2]: five straight fingers that point away from the body."""
    outwards = 2 * side - 1
    points = np.zeros((21, 2), np.float32)
    points[0] = WRISTS[side]
    for number, angle in enumerate(np.radians([-70, -25, -5, 15, 35])):
        direction = np.array([outwards * np.cos(angle), np.sin(angle)])
        for joint, length in enumerate((14, 24, 32, 40) if number == 0 else (26, 38, 46, 52)):
            points[1 + 4 * number + joint] = WRISTS[side] + length * direction
    return points


def _pose() -> np.ndarray:
    pose = np.tile(np.array([256.0, 400.0], np.float32), (33, 1))
    pose[0] = _FACE_CENTRE
    for left, right, places in ((12, 11, SHOULDERS), (14, 13, ELBOWS), (16, 15, WRISTS)):
        pose[left], pose[right] = places
    pose[24], pose[23] = (215, 500), (297, 500)
    return pose


def _face() -> np.ndarray:
    """[478, 3]: all that is read of the mesh is in its place, the rest fills the face."""
    rng = np.random.default_rng(1)
    angle, radius = rng.uniform(0, 2 * np.pi, 478), np.sqrt(rng.uniform(0, 1, 478))
    face = np.zeros((478, 3), np.float32)
    circle = np.stack([np.cos(angle), np.sin(angle)], 1) * radius[:, None]
    face[:, :2] = _FACE_CENTRE + _FACE_HALF * circle
    face[[10, 152], :2] = _FACE_CENTRE + [[0, -_FACE_HALF[1]], [0, _FACE_HALF[1]]]
    face[[234, 454], :2] = _FACE_CENTRE + [[-_FACE_HALF[0], 0], [_FACE_HALF[0], 0]]
    face[[1, 4], :2] = _FACE_CENTRE + [[0, 6], [0, 8]]
    place = np.linspace(-1, 1, 11)
    for chain, bulge in ((_UPPER_LIP, -0.5), (_LOWER_LIP, 0.5)):
        arc = np.stack([_HALF_MOUTH * place, bulge * (1 - place**2)], 1)
        face[list(chain), :2] = _MOUTH + arc
    place = np.linspace(-1, 1, 9)
    for lids, brow, x in zip(_EYE_CHAINS, _BROWS, (-15, 15), strict=True):
        for chain, bulge in zip(lids, (-4, 4), strict=True):
            arc = np.stack([9 * place, bulge * (1 - place**2)], 1)
            face[list(chain), :2] = _FACE_CENTRE + (x, -10) + arc
        face[list(brow), :2] = _FACE_CENTRE + np.stack([x + 9 * place[::2], np.full(5, -21)], 1)
    return face


def _draw_face(picture: np.ndarray) -> None:
    for x in (-15, 15):
        centre = _FACE_CENTRE + (x, -10)
        _ellipse(picture, centre, np.array([9, 4]), (250, 250, 250))
        _ellipse(picture, centre, np.array([4, 4]), (50, 30, 20))
        _line(picture, centre + (-9, -11), centre + (9, -11), 3, (60, 40, 30))
    _ellipse(picture, _MOUTH, np.array([_HALF_MOUTH, 4]), (180, 80, 80))


def _ellipse(canvas, centre, half, colour) -> None:
    centre, half = (tuple(round(value) for value in pair) for pair in (centre, half))
    cv2.ellipse(canvas, centre, half, 0, 0, 360, colour, -1)


def _line(canvas, start, end, width, colour) -> None:
    start, end = (tuple(round(value) for value in point) for point in (start, end))
    cv2.line(canvas, start, end, colour, width, cv2.LINE_AA)


@functools.cache
def make_rig(hands: bool = True, background: int = 0) -> rig.Rig:
    """The rig of the drawn person."""
    landmarks = draw_landmarks(hands=hands, background=background)
    return rig_builder.build_rig_from_landmarks(landmarks.picture, landmarks)[0]


def rest_pose(of: rig.Rig, **changes) -> PuppetPose:
    """The portrait's own pose, with changes."""
    arms = np.array([retarget.rest(arm) for arm in of.arms]).reshape(-1, 6)
    return PuppetPose(**{"arms": arms, **changes})


def draw(of: rig.Rig, pose: PuppetPose, *, view: puppet.View = puppet.View(), size: int = 128):  # noqa: B008
    """Draws a rig without shadow; returns the frame and its joints."""
    moved = puppet.Puppet(of)
    look = dataclasses.replace(puppet.original_appearance(of), view=view, shadow=0.0)
    frame = moved.draw(look, pose, size=size, backdrop=puppet.draw_backdrop(look, size))
    return frame, moved.joints(view, pose, size=size)


def psnr(first: np.ndarray, second: np.ndarray) -> float:
    """The peak signal-to-noise ratio of two pictures, 0 to 255, in decibels."""
    return 10 * np.log10(255**2 / np.mean((first.astype(float) - second.astype(float)) ** 2))
