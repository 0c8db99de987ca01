"""Finds the videos of two folders, matches them by name, and reads their frames."""

import hashlib
import itertools
import os
import pathlib
from collections.abc import Iterator

import numpy as np

from gesture_jax.errors import InputError
from gesture_jax.media import video_folder
from gesture_jax.media.rates import FPS
from gesture_jax.media.video import iterate_video
from gesture_jax.storage.files import as_path, find_files, hash_file

_MAX_NAMED = 3


def find_videos(folder: str | os.PathLike, *, limit: int = 0) -> list[pathlib.Path]:
    """The videos of a folder in the order of their names; only the first `limit` unless that is 0.

    Raises:
      InputError: for a folder that does not exist, holds no video, or holds two with one name.
    """
    folder = as_path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; give one with videos in it")
    found = sorted(filter(video_folder.is_video, folder.iterdir()))
    if not found:
        raise InputError(f"{folder}: holds no video ({', '.join(video_folder.VIDEO_ENDINGS)})")
    stems = [path.stem for path in found]
    twice = sorted({stem for stem in stems if stems.count(stem) > 1})
    if twice:
        raise InputError(f"{folder}: holds two videos named {twice[0]}; rename one")
    return found[: limit or None]


def describe_unused(folder: str | os.PathLike, *, companions: bool) -> list[str]:
    """Describes the files of a folder that are not compared, a sentence for each file ending.

    Args:
      folder: folder of videos.
      companions: whether the .npz beside each video is used.
    """
    folder = as_path(folder)
    paths = find_files(folder)
    videos = [path for path in paths if path.parent == folder and video_folder.is_video(path)]
    beside = [path.with_suffix(".npz") for path in videos] if companions else []
    groups = video_folder.group_unused(paths, [*videos, *beside], folder)
    return [f"{folder}: not used, {ending}: {files}" for ending, files in groups.items()]


def match(
    real: list[pathlib.Path], generated: list[pathlib.Path]
) -> list[tuple[pathlib.Path, pathlib.Path]]:
    """Pairs real and generated videos by name, ignoring file endings.

    Raises:
      InputError: for videos without a partner, naming some of them.
    """
    sides = [{path.stem: path for path in paths} for paths in (real, generated)]
    for side, other, kind in ((*sides, "generated"), (*sides[::-1], "real")):
        alone = sorted(side.keys() - other.keys())
        if alone:
            names = ", ".join(alone[:_MAX_NAMED]) + (", ..." if len(alone) > _MAX_NAMED else "")
            raise InputError(
                f"{len(alone)} videos have no {kind} video with the same name ({names}); add the "
                "missing ones, or leave --paired out"
            )
    return [(path, sides[1][path.stem]) for path in real]


def read_frames(path: pathlib.Path, *, size: int) -> Iterator[np.ndarray]:
    """Reads frames [size, size, 3] uint8 at 25 per second: the central square, scaled."""
    return iterate_video(path, size=size)


def cut_clips(
    frames: Iterator[np.ndarray], *, length: int, stride: int, max_clips: int
) -> Iterator[np.ndarray]:
    """Cuts clips [length, h, w, 3], one every `stride` frames, `max_clips` at most.

    It reads no frames after the last clip.
    """
    window: list[np.ndarray] = []
    for _ in range(max_clips):
        window = window[stride:] if window else window
        window.extend(itertools.islice(frames, length - len(window)))
        if len(window) < length:
            return
        yield np.stack(window)
        # Skips the frames between two clips.
        for _ in itertools.islice(frames, max(stride - length, 0)):
            pass


def too_short(path: pathlib.Path, length: int) -> InputError:
    """The error for a video that has fewer frames than a window of `length`."""
    return InputError(
        f"{path}: is shorter than a window of {length} frames ({length / FPS:.2f} s at 25 per "
        "second); give longer videos, or a shorter window"
    )


def hash_videos(paths: list[pathlib.Path]) -> str:
    """The SHA-256 of the hashes of all files' contents, in hexadecimal; the order counts."""
    return hashlib.sha256("".join(map(hash_file, paths)).encode()).hexdigest()
