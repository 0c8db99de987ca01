"""Frames portraits like training frames, by the position of the shoulders in the square.

The measure of a person in a square is [3]: x and y of the middle between the shoulders, and the
distance of the shoulders, as shares of the square's side. Stage 1 stores the range of its training
frames.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from gesture_jax.errors import InputError
from gesture_jax.media import images
from gesture_jax.media.framing import Crop, frame_people
from gesture_jax.media.images import to_uint8
from gesture_jax.people import pose

if TYPE_CHECKING:  # TFDS takes half a second to import, and generating reads no dataset.
    from gesture_jax.data.clips import ClipSource

# The number of clips, spread over the training set, from which the range is computed.
_MAX_CLIPS = 64
_PERCENTILES = 5, 95
# How far outside of the range a portrait counts as far: x and y as shares of the side, the distance
# as a ratio. A model's quality has dropped to its floor by then (`benchmarks/framing.py`); the pose
# model errs by a third of this.
_FAR_SHIFT = 0.04
_FAR_RATIO = 1.15
# Sizes at which people are searched for. Procedural people are found in small pictures; a single
# size is wrong now and then, or finds a person in a PNG but not in a JPEG of it.
_SEARCHED_PX = 640, 320, 160, 128, 112
# Two sizes agree if they differ by no more than this share of the person.
_AGREED = 0.15
_NO_POSE = (
    "the central square of the portrait is used; the person in it is found where the extra [pose] "
    f"is installed: {pose.remedy()}"
)

Range = tuple[tuple[float, float], ...]


def shoulders_of(source: "ClipSource") -> Range:
    """Returns the range of a data set: (low, high) of each measure, () if it has no shoulders.

    These are the 5th and the 95th percentile over the frames.
    """
    if not _knows_shoulders(source.joint_names):
        return ()
    chosen = np.unique(np.linspace(0, len(source) - 1, _MAX_CLIPS).astype(int)).tolist()
    names, size = source.joint_names, source.size
    measures = np.concatenate([measure(source[k]["joints"] / size, names) for k in chosen])
    measures = measures[~np.isnan(measures).any(axis=-1)]
    if not len(measures):
        return ()
    spans = np.percentile(measures, _PERCENTILES, axis=0).T
    return tuple((round(low, 4), round(high, 4)) for low, high in spans.tolist())


def read_range(value: object, *, name: str | os.PathLike) -> np.ndarray | None:
    """Checks the range in the config of a workdir: [3, 2], or None if it has none.

    Raises:
      InputError: if it is not a range; the message names the workdir.
    """
    if not value:
        return None
    try:
        spans = np.array(value, np.float64)
    except (TypeError, ValueError):
        spans = np.zeros(0)
    if spans.shape != (3, 2) or not np.isfinite(spans).all() or spans[2, 0] <= 0:
        raise InputError(f"{name}: shoulders in its config.json are not (low, high) of x, y, width")
    return spans


def measure(joints: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """Computes the measure [*b, 3] from joints [*b, j, 2], in shares of the side or in pixels."""
    right, left = (joints[..., names.index(f"{side}_shoulder"), :] for side in ("right", "left"))
    distance = np.linalg.norm(left - right, axis=-1, keepdims=True)
    return np.concatenate([(left + right) / 2, distance], axis=-1)


def choose_square(
    path: str | os.PathLike, picture: np.ndarray, crop: Crop | None, known: np.ndarray | None
) -> tuple[tuple[int, int, int], list[str]]:
    """Chooses the square of a portrait to animate, and collects notices for the user.

    The central square is kept if it is framed like training frames; otherwise the square is moved
    and scaled to match them. If their range is not known, the square is the one around the person,
    as `prepare --crop=auto` cuts it.

    Args:
      path: the portrait's file, for messages.
      picture: [h, w, 3].
      crop: the square to use; None finds the person, with the extra `[pose]`.
      known: [3, 2], from `read_range`.

    Returns:
      Left, top and side in pixels; and sentences that name the square if it is not the central one,
      or say that no person was found or searched for, or that the framing is far from that of
      training.

    Raises:
      InputError: if the crop leaves the picture.
    """
    height, width = picture.shape[:2]
    try:
        box = (crop or Crop()).find_box(width, height)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    if not pose.is_installed():
        return box, [_NO_POSE] if crop is None else []
    if crop is not None and known is None:
        return box, []
    found = None if known is None else _find_shoulders(picture)
    if found is None:
        return _around_person(path, picture, crop, box, known)
    notices = []
    if crop is None and how_far(_relative(found, box), known):
        box = _like_training(found, known, width, height)
        notices = [_describe_square(path, box)]
    far = how_far(_relative(found, box), known)
    remedy = "try --crop=auto" if crop else "give a picture that shows more around the person"
    return box, notices + (
        [f"{path}: framed unlike training frames, {far}; {remedy}"] if far else []
    )


def how_far(measured: np.ndarray, known: np.ndarray) -> str:
    """Describes how a measure [3] lies outside the range of training [3, 2]; "" if it does not."""
    (low_x, low_y, low_width), (high_x, high_y, high_width) = known.T
    x, y, width = measured
    reasons = []
    if not low_width / _FAR_RATIO <= width <= high_width * _FAR_RATIO:
        size = "small" if width < low_width else "large"
        reasons.append(
            f"the person is too {size} in it (shoulders take {width:.0%} of its side, in training "
            f"{low_width:.0%} to {high_width:.0%})"
        )
    for value, low, high, words in (
        (x, low_x, high_x, ("left", "right")),
        (y, low_y, high_y, ("high", "low")),
    ):
        if not low - _FAR_SHIFT <= value <= high + _FAR_SHIFT:
            off = max(low - value, value - high)
            reasons.append(f"{off:.0%} of its side too far {words[int(value > high)]}")
    return " and ".join(reasons)


def agree(found: np.ndarray, size: Callable[[np.ndarray], float]) -> np.ndarray | None:
    """Combines detections of one person of which at least two agree.

    Args:
      found: [n, k], one detection per row; NaN where no person was detected.
      size: returns the size of the person that a row [k] describes, in the units of the row.

    Returns:
      [k], the mean of the detections near the median; None if there are fewer than two.
    """
    seen = found[~np.isnan(found).any(axis=1)]
    if len(seen) < 2:
        return None
    middle = np.median(seen, axis=0)
    near = np.abs(seen - middle).max(axis=1) <= _AGREED * size(middle)
    return seen[near].mean(axis=0) if near.sum() >= 2 else None


def _find_shoulders(picture: np.ndarray) -> np.ndarray | None:
    """Measures the most visible person, in pixels of the picture; None if detections disagree."""
    height, width = picture.shape[:2]
    detect = lambda small: measure(pose.find_joints(small) * [width, height], pose.JOINT_NAMES)
    return agree(np.stack([*map(detect, _small_pictures(picture))]), size=lambda found: found[2])


def _small_pictures(picture: np.ndarray) -> Iterator[np.ndarray]:
    for most_px in _SEARCHED_PX:
        yield images.shrink(to_uint8(picture), most_px=most_px)


def _around_person(path, picture, crop, box, known):
    """Chooses a square by the bounding box of the person; see `choose_square`."""
    unseen = [] if known is None else [f"{path}: no two shoulders are seen in it, as in training"]
    if crop is not None:
        return box, unseen
    height, width = picture.shape[:2]
    scale = [width, height, width, height]
    found = np.array([
        pose.find_person(small) or (np.nan,) * 4 for small in _small_pictures(picture)
    ])  # fmt: skip
    person = agree(found * scale, size=lambda edges: (edges[2:] - edges[:2]).max())
    if person is None:
        reason = "nobody is found in it"
        if not np.isnan(found).all():
            reason = "the person in it cannot be located reliably"
        return box, [
            f"{path}: {reason}; its central square is used, --crop=LEFT,TOP,SIZE takes another one"
        ]
    around = frame_people([tuple((person / scale).tolist())], width, height).box_px
    return around, [*unseen, *([_describe_square(path, around)] if around != box else [])]


def _describe_square(path: str | os.PathLike, box: tuple[int, int, int]) -> str:
    return (
        f"{path}: the square around the person is used, --crop={','.join(map(str, box))}; "
        "--crop=center takes the middle of the picture instead"
    )


def _like_training(found: np.ndarray, known: np.ndarray, width: int, height: int):
    """Returns the square in the picture whose shoulders lie where those of training frames lie."""
    x, y, share = known.mean(axis=1)
    side = min(found[2] / share, width, height)
    corner = np.clip(found[:2] - [x * side, y * side], 0.0, np.array([width, height]) - side)
    return int(corner[0]), int(corner[1]), int(side)


def _relative(found: np.ndarray, box: tuple[int, int, int]) -> np.ndarray:
    """Converts a measure from pixels of the picture to shares of a square."""
    left, top, side = box
    return (found - [left, top, 0]) / side


def _knows_shoulders(names: Sequence[str]) -> bool:
    return {"left_shoulder", "right_shoulder"} <= set(names)
