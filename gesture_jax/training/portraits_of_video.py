"""Chooses pictures of a person from a video: the best portrait, and others that cover the poses."""

import os
from collections.abc import Iterator

import numpy as np

from gesture_jax.data import portrait_framing
from gesture_jax.errors import InputError
from gesture_jax.media import images
from gesture_jax.media.rates import FPS
from gesture_jax.media.video import iterate_pictures
from gesture_jax.people import faces
from gesture_jax.puppets import rig_builder
from gesture_jax.puppets.rig import Rig

# Frames are looked at this often, and at most this many.
_EVERY_SEC, _MAX_CANDIDATES = 0.6, 60
# Pictures beside the portrait.
_NUM_OTHERS = 3
# Penalties of a portrait: an open mouth per share of the eyes' distance, arms that do not move.
_MOUTH_WEIGHT, _STILL_PENALTY = 1.0, 10.0
_SMALL_PX = 16


def choose(
    video: str | os.PathLike, known: np.ndarray | None, *, max_side: int
) -> tuple[tuple[np.ndarray, ...], Rig | None, str]:
    """Chooses the pictures of an avatar.

    The portrait has a closed mouth and, if possible, both hands apart and in the picture. The
    others are those that differ most from it and from each other.

    Args:
      video: the video.
      known: how training frames are framed, from `portrait_framing.read_range`.
      max_side: largest side of a picture in pixels.

    Returns:
      The pictures, squares [s, s, 3] uint8, the portrait first; its rig, or None where the person
      cannot be a puppet; and the reason why the arms of the rig do not move.

    Raises:
      InputError: where no picture shows a face.
    """
    squares = list(_squares(video, known, max_side))
    best = None
    with faces.open_finder() as find:
        openings = [face.mouth_opening if (face := find(s)) else None for s in squares]
    seen = [number for number, opening in enumerate(openings) if opening is not None]
    if not seen:
        raise InputError(f"{video}: no face is found; give a video of one person from the hips up")
    # Frames are tried in the order of their mouths, until one has hands that can move.
    for number in sorted(seen, key=lambda k: openings[k]):
        try:
            made, still = rig_builder.build_rig(squares[number], max_side=max_side)
        except rig_builder.UnsuitablePortraitError:
            continue
        cost = _MOUTH_WEIGHT * openings[number] + _STILL_PENALTY * bool(still)
        if best is None or cost < best[0]:
            best = cost, number, made, still
        if not still:
            break
    _, first, made, still = best or (0.0, min(seen, key=lambda k: openings[k]), None, "")
    chosen = [first, *_farthest(squares, first, seen)]
    return tuple(squares[number] for number in chosen), made, still


def _squares(
    video: str | os.PathLike, known: np.ndarray | None, max_side: int
) -> Iterator[np.ndarray]:
    """Yields squares around the person, all of the same place, [s, s, 3] uint8."""
    box = None
    every = round(_EVERY_SEC * FPS)
    for number, picture in enumerate(iterate_pictures(video)):
        if number % every:
            continue
        if number // every >= _MAX_CANDIDATES:
            break
        if box is None:
            box, _ = portrait_framing.choose_square(video, picture, None, known)
        left, top, side = box
        yield images.shrink(picture[top : top + side, left : left + side], most_px=max_side)


def _farthest(squares: list[np.ndarray], first: int, seen: list[int]) -> list[int]:
    """Returns the numbers of squares that differ most, one after the other."""
    small = np.stack([images.square(s, size=_SMALL_PX) for s in squares]).astype(np.float32)
    small = small.reshape(len(squares), -1)
    chosen, distance = [], np.linalg.norm(small - small[first], axis=1)
    for _ in range(min(_NUM_OTHERS, len(seen) - 1)):
        number = max(seen, key=lambda k: distance[k])
        chosen.append(number)
        distance = np.minimum(distance, np.linalg.norm(small - small[number], axis=1))
    return chosen
