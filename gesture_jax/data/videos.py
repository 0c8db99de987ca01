"""A data set from any folder of videos with sound: what `prepare --videos=DIR` makes.

Who speaks is read off the names: `SPEAKER#ID.mp4`, or `SPEAKER/CLIP.mp4`; else each file is a
speaker of its own. Long videos are cut into clips. Files that cannot be used are left out, by name.
"""

import collections
import dataclasses
import itertools
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from tqdm import tqdm

from gesture_jax.data import clips, media, speech
from gesture_jax.data.clips import Clip
from gesture_jax.errors import InputError

VIDEO_ENDINGS = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v", ".mpg", ".mpeg")
# Shorter ones hold no movement to learn from.
_SHORTEST_FRAMES = media.FPS
# The end of a clip that is for testing holds a window of stage 2, where the clip is long enough.
_TEST_END_FRAMES = 4 * media.FPS


@dataclasses.dataclass(frozen=True)
class Piece:
    """A stretch of a video: one clip of the data set.

    Attributes:
      path: the video.
      clip_id: "speaker#id".
      start: its first frame, of 25 a second.
      stop: the frame after its last one.
    """

    path: pathlib.Path
    clip_id: str
    start: int
    stop: int

    @property
    def speaker(self) -> str:
        return self.clip_id.split("#")[0]


def write_videos(
    videos_dir: str | os.PathLike,
    out_dir: str | os.PathLike,
    *,
    size: int,
    crop_px: int = 0,
    max_sec: float = 15.0,
    test_fraction: float = 0.1,
) -> dict[str, str] | None:
    """Writes all videos below a folder as clips.

    Args:
      videos_dir: the folder.
      out_dir: the data set's folder.
      size: side of the frames in pixels; the central square is scaled to it.
      crop_px: border shaved off all four sides first.
      max_sec: longer videos are cut into clips of equal length, at most this.
      test_fraction: of each speaker's clips, the last ones; where a speaker has too few clips for
        that, of each clip's time, its end, but four seconds if they are not more than half of it.

    Returns:
      The files left out and why; None where the same data set is there already.

    Raises:
      InputError: where no video can be used, or `out_dir` holds something else.
    """
    root, left_out = pathlib.Path(videos_dir), {}
    names = {path: str(path.relative_to(root)) for path in _find_videos(root, left_out)}
    whole = list(_measure(names, root, left_out))
    splits = _split(_cut(whole, round(max_sec * media.FPS)), test_fraction)
    progress = tqdm(total=sum(map(len, splits.values())), desc="prepare", unit="clip")

    def read(split: str) -> Iterator[Clip]:
        for path, pieces in itertools.groupby(splits[split], key=lambda piece: piece.path):
            pieces = list(pieces)
            try:
                yield from _read(path, pieces, size=size, crop_px=crop_px)
            except InputError as error:
                left_out[names[path]] = _reason(error, path)
            progress.update(len(pieces))

    with progress:
        wrote = clips.write_clips(
            out_dir,
            {split: lambda split=split: read(split) for split in splits},
            size=size,
            arguments={
                "videos": {name: path.stat().st_size for path, name in names.items()},
                "size": size,
                "crop_px": crop_px,
                "max_sec": max_sec,
                "test_fraction": test_fraction,
            },
        )
    return left_out if wrote else None


def _find_videos(folder: pathlib.Path, left_out: dict[str, str]) -> list[pathlib.Path]:
    """Videos below a folder, in the order of their names."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; give one with videos in it")
    found, by_id = [], {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() not in VIDEO_ENDINGS or path.is_dir():
            continue
        if not path.resolve().is_relative_to(folder.resolve()):
            left_out[str(path.relative_to(folder))] = "a link that leaves the folder"
            continue
        twin = by_id.setdefault(_clip_id(path, folder), path)
        if twin != path:
            raise InputError(f"{path}: has the same speaker and id as {twin}; rename one of them")
        found.append(path)
    if not found:
        endings = " ".join(VIDEO_ENDINGS)
        raise InputError(f"{folder}: no videos here; files wanted that end in one of {endings}")
    return found


def _clip_id(path: pathlib.Path, folder: pathlib.Path) -> str:
    if "#" in path.stem:
        return path.stem
    speaker = path.stem if path.parent == folder else path.parent.name.replace("#", "-")
    return f"{speaker}#{path.stem}"


def _measure(
    names: Mapping[pathlib.Path, str], folder: pathlib.Path, left_out: dict[str, str]
) -> Iterator[Piece]:
    """Usable videos, each as one piece; nothing is decoded yet."""
    failed = {}
    for path, name in tqdm(names.items(), desc="look", unit="video"):
        try:
            length = round(media.measure_sec(path) * media.FPS)
        except InputError as error:
            failed[name] = _reason(error, path)
            continue
        if length >= _SHORTEST_FRAMES:
            yield Piece(path, _clip_id(path, folder), 0, length)
        else:
            failed[name] = f"lasts {length / media.FPS:.2f} s, less than a second"
    left_out.update(failed)
    if len(failed) == len(names):
        raise InputError(f"{folder}: no usable video; " + "; ".join(map(": ".join, failed.items())))


def _cut(whole: Sequence[Piece], most_frames: int) -> list[Piece]:
    """Videos to pieces of equal length, at most `most_frames`."""
    pieces = []
    for video in whole:
        count = -(-video.stop // most_frames)
        ends = [round(video.stop * number / count) for number in range(count + 1)]
        for number, (start, stop) in enumerate(itertools.pairwise(ends)):
            clip_id = video.clip_id if count == 1 else f"{video.clip_id}.{number:03d}"
            pieces.append(dataclasses.replace(video, clip_id=clip_id, start=start, stop=stop))
    return pieces


def _split(pieces: Sequence[Piece], test_fraction: float) -> dict[str, list[Piece]]:
    """The last clips of each speaker are for testing; of a speaker with few, the end of each."""
    splits: dict[str, list[Piece]] = {"train": [], "test": []}
    by_speaker = itertools.groupby(sorted(pieces, key=_by_speaker), key=lambda piece: piece.speaker)
    for _, group in by_speaker:
        own = list(group)
        num_test = round(len(own) * test_fraction)
        if num_test:
            splits["train"] += own[:-num_test]
            splits["test"] += own[-num_test:]
            continue
        for piece in own:
            length = piece.stop - piece.start
            end_length = max(round(length * test_fraction), _TEST_END_FRAMES)
            border = piece.stop - min(end_length, length // 2)
            splits["train"].append(dataclasses.replace(piece, stop=border))
            end = f"{piece.clip_id}-end"
            splits["test"].append(dataclasses.replace(piece, clip_id=end, start=border))
    return splits


def _by_speaker(piece: Piece) -> tuple:
    return piece.speaker, piece.path, piece.start


def _read(
    path: pathlib.Path, pieces: Sequence[Piece], *, size: int, crop_px: int
) -> Iterator[Clip]:
    """The clips of one video, in order; decodes it once, holding one clip at a time."""
    audio = media.read_audio(path)
    features = speech.speech_features(audio, num_frames=pieces[-1].stop)
    frames = media.iterate_video(path, size=size, crop_px=crop_px)
    position = 0
    for piece in pieces:
        collections.deque(itertools.islice(frames, piece.start - position), maxlen=0)  # Skipped.
        kept = list(itertools.islice(frames, piece.stop - piece.start))
        position = piece.stop
        if not kept:
            seconds = piece.start / media.FPS
            raise InputError(f"{path}: damaged; its picture ends before {seconds:.1f} s")
        stop = piece.start + len(kept)
        yield Clip(
            clip_id=piece.clip_id,
            speaker=piece.speaker,
            frames=np.stack(kept),
            audio=_stretch(audio, piece.start, stop),
            speech=features[piece.start : stop],
            joints=np.zeros((len(kept), 0, 2), np.float32),
            stress_times_sec=np.zeros(0, np.float32),
        )


def _stretch(audio: np.ndarray, start: int, stop: int) -> np.ndarray:
    """The sound of frames start to stop, silence where it has ended."""
    inside = audio[start * media.SAMPLES_PER_FRAME : stop * media.SAMPLES_PER_FRAME]
    return np.pad(inside, (0, (stop - start) * media.SAMPLES_PER_FRAME - len(inside)))


def _reason(error: InputError, path: pathlib.Path) -> str:
    return str(error).removeprefix(f"{path}: ")
