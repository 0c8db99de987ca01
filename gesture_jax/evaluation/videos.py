"""Two folders of videos: which belong together, and how they are read."""

import hashlib
import itertools
import os
import pathlib
from collections.abc import Iterator

import numpy as np

from gesture_jax.errors import InputError
from gesture_jax.media import listing
from gesture_jax.media.rates import FPS
from gesture_jax.media.video import iterate_video
from gesture_jax.storage.files import as_path, find_files, hash_file

_NAMED = 3


def find_videos(folder: str | os.PathLike, *, limit: int = 0) -> list[pathlib.Path]:
    """The videos of a folder, by name; the first `limit` of them, 0 for all.

    Raises:
      InputError: where there is no such folder, no video in it, or two by one name.
    """
    folder = as_path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; give one with videos in it")
    found = sorted(filter(listing.is_video, folder.iterdir()))
    if not found:
        raise InputError(f"{folder}: holds no video ({', '.join(listing.VIDEO_ENDINGS)})")
    stems = [path.stem for path in found]
    twice = sorted({stem for stem in stems if stems.count(stem) > 1})
    if twice:
        raise InputError(f"{folder}: holds two videos by the name of {twice[0]}; rename one")
    return found[: limit or None]


def tell_unused(folder: str | os.PathLike, *, companions: bool) -> list[str]:
    """What is not compared of a folder, a sentence for each ending.

    Args:
      folder: of videos.
      companions: whether the .npz beside a video is used.
    """
    folder = as_path(folder)
    paths = find_files(folder)
    videos = [path for path in paths if path.parent == folder and listing.is_video(path)]
    beside = [path.with_suffix(".npz") for path in videos] if companions else []
    groups = listing.group_unused(paths, [*videos, *beside], folder)
    return [f"{folder}: not used, {ending}: {told}" for ending, told in groups.items()]


def match(
    real: list[pathlib.Path], generated: list[pathlib.Path]
) -> list[tuple[pathlib.Path, pathlib.Path]]:
    """Pairs of real and generated videos by name, whatever their endings.

    Raises:
      InputError: naming videos that have no partner; none is left out silently.
    """
    sides = [{path.stem: path for path in paths} for paths in (real, generated)]
    for side, other, what in ((*sides, "generated"), (*sides[::-1], "real")):
        alone = sorted(side.keys() - other.keys())
        if alone:
            names = ", ".join(alone[:_NAMED]) + (", ..." if len(alone) > _NAMED else "")
            raise InputError(
                f"{len(alone)} videos have no {what} one by their name ({names}); give each its "
                "partner, or leave --paired out"
            )
    return [(path, sides[1][path.stem]) for path in real]


def read_frames(path: pathlib.Path, *, size: int) -> Iterator[np.ndarray]:
    """Frames [size, size, 3] uint8 at 25 a second: the central square, scaled."""
    return iterate_video(path, size=size)


def cut_clips(
    frames: Iterator[np.ndarray], *, length: int, stride: int, most: int
) -> Iterator[np.ndarray]:
    """Clips [length, h, w, 3], one every `stride` frames from the first on, `most` at most.

    What is read of the video ends with the last clip.
    """
    window: list[np.ndarray] = []
    for _ in range(most):
        window = window[stride:] if window else window
        window.extend(itertools.islice(frames, length - len(window)))
        if len(window) < length:
            return
        yield np.stack(window)
        # Frames between two clips.
        for _ in itertools.islice(frames, max(stride - length, 0)):
            pass


def too_short(path: pathlib.Path, length: int) -> InputError:
    """The error of a video that has fewer frames than a window of `length`."""
    return InputError(
        f"{path}: is shorter than a window of {length} frames ({length / FPS:.2f} s at 25 a "
        "second); give longer videos, or a shorter window"
    )


def hash_videos(paths: list[pathlib.Path]) -> str:
    """One hash of all files' contents, in their order, in hexadecimal."""
    return hashlib.sha256("".join(map(hash_file, paths)).encode()).hexdigest()
