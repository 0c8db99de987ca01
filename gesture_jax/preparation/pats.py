"""PATS as takes: its table of intervals (`cmu_intervals_df.csv`) and raw videos on this machine.

The videos are from YouTube and must be at `RAW/SPEAKER/ID.mp4` or `RAW/ID.mp4`, where ID is
`video_fn` or the id at the end of `video_link`; nothing is downloaded. Crops and the limit of 15 s
are those of S2G-MDDiffusion.
"""

import collections
import csv
import dataclasses
import io
import json
import os
import pathlib
from collections.abc import Mapping, Sequence

from gesture_jax.errors import InputError
from gesture_jax.media.framing import Crop
from gesture_jax.media.video_folder import is_video
from gesture_jax.preparation import dataset
from gesture_jax.preparation.parts import LeftOut, fingerprint, leave_out_unused
from gesture_jax.preparation.videos import Settings, VideoTake, describe
from gesture_jax.storage import files

# Left edge of the square as a fraction of the width; 1 is flush right.
LEFT_EDGES = {"oliver": 0.38, "seth": 0.395, "chemistry": 0.031, "jon": 1.0}
# The table says "chem" where every paper says "chemistry".
_SPEAKER_NAMES = {"chem": "chemistry"}
_COLUMNS = ("speaker", "interval_id", "start_time", "end_time")
_YOUTUBE_ID_LENGTH = 11
# Longer than any recording; the comparison excludes NaN too.
_MAX_SEC = 1e6
# Jon's newer videos are not on YouTube, and their links end in four digits.
_OTHER_ID_LENGTH = 4


@dataclasses.dataclass(frozen=True)
class Interval:
    """A row of the table.

    Attributes:
      speaker: name of the speaker.
      interval_id: unique among the speaker's intervals.
      start_sec: its start in the raw video.
      stop_sec: its end.
      video_names: file names, without ending, that the raw video may have.
    """

    speaker: str
    interval_id: str
    start_sec: float
    stop_sec: float
    video_names: tuple[str, ...]

    @property
    def clip_id(self) -> str:
        return f"{self.speaker}#{self.interval_id}"


def write_pats(
    table: str | os.PathLike,
    raw_dir: str | os.PathLike,
    out_dir: str | os.PathLike,
    *,
    settings: Settings,
    crop: Crop | None = Crop(),  # noqa: B008
    left_edges: Mapping[str, float] | None = None,
    split_file: str | os.PathLike | None = None,
    test_fraction: float = 0.1,
    split_within_clips: bool = False,
    run: dataset.Runner | None = None,
) -> dataset.Report | None:
    """Makes a data set from PATS's intervals; see `find_takes` and `write_videos` for arguments.

    Raises:
      InputError: where no interval can be used, or `out_dir` holds something else.
    """
    how = {"test_fraction": test_fraction, "split_within_clips": split_within_clips}
    takes, left_out = find_takes(
        table,
        raw_dir,
        settings=settings,
        crop=crop,
        left_edges=left_edges or {},
        split_file=split_file,
    )
    splits = [take.split for take in takes]
    return dataset.prepare(
        takes,
        out_dir,
        size=settings.size,
        feature_extractor=settings.feature_extractor,
        joint_names=settings.joint_names,
        arguments={
            **describe(takes, settings=settings, **how),
            "splits": fingerprint(splits),
        },
        **how,
        whole_takes=True,
        left_out=left_out,
        run=run,
    )


def find_takes(
    table: str | os.PathLike,
    raw_dir: str | os.PathLike,
    *,
    settings: Settings,
    crop: Crop | None,
    left_edges: Mapping[str, float],
    split_file: str | os.PathLike | None = None,
) -> tuple[list[VideoTake], list[LeftOut]]:
    """Finds the intervals whose raw videos are there, and lists the missing videos.

    Args:
      table: path of `cmu_intervals_df.csv`.
      raw_dir: folder of the raw videos.
      settings: how intervals become clips; only the first `max_sec` of an interval are used.
      crop: the square to keep for speakers without a left edge; None: the square around the person.
      left_edges: by speaker; these come before `LEFT_EDGES`.
      split_file: JSON, {"train": [ids], "test": [ids]}; other intervals are not used. Without it
        each speaker's last usable intervals, in the order of ids, are for testing.

    Raises:
      InputError: where table, split or folder cannot be used, or no interval has its video.
    """
    rows, left_out = _read_table(table)
    split_of = {} if split_file is None else _read_split(split_file)
    if split_file is not None:
        rows = [row for row in rows if {row.interval_id, row.clip_id} & split_of.keys()]
        if not rows:
            raise InputError(f"{split_file}: names no interval of {table}")
    raw = _list_raw(raw_dir)
    found, missing = _find_videos(rows, _index(raw_dir, raw))
    left_out += [_missing(video, intervals) for video, intervals in missing.items()]
    if not found:
        raise InputError(
            f"{raw_dir}: none of the {len(rows)} intervals of {table} has its raw video here; "
            "name the videos SPEAKER/VIDEO_ID.mp4"
        )
    if split_file is None:  # A split names only some of the videos.
        left_out += leave_out_unused(raw, [path for _, path in found], raw_dir)
    edges = {**LEFT_EDGES, **left_edges}
    takes = []
    for row, path in found:
        own = Crop(left=edges[row.speaker]) if row.speaker in edges else crop
        stop_sec = min(row.stop_sec, row.start_sec + settings.max_sec)
        split = split_of.get(row.clip_id) or split_of.get(row.interval_id)
        span = row.start_sec, stop_sec, split
        takes.append(VideoTake(row.clip_id, path, path, row.clip_id, settings, own, *span))
    return takes, left_out


def read_left_edges(path: str | os.PathLike) -> dict[str, float]:
    """Reads left edges by speaker from JSON, {"SPEAKER": fraction of the width}.

    Raises:
      InputError: where the file holds something else.
    """
    edges = _read_json(path)
    numbers = isinstance(edges, dict) and all(isinstance(e, int | float) for e in edges.values())
    if not numbers or not all(0 <= edge <= 1 for edge in edges.values()):
        raise InputError(
            f'{path}: give JSON as {{"SPEAKER": left edge in [0, 1] of the width, ...}}'
        )
    return {_SPEAKER_NAMES.get(name, name): float(edge) for name, edge in edges.items()}


def parse_time(text: str) -> float:
    """Parses "0:01:23.5", "0 days 00:01:23.5", "1900-01-01 00:01:23.5" or "83.5" to seconds.

    Raises:
      ValueError: for anything else.
    """
    *before, clock = text.split()
    days = int(before[0]) if len(before) > 1 and before[1].startswith("day") else 0
    numbers = [float(number) for number in clock.split(":")]
    if len(numbers) > 3 or not all(0 <= number < _MAX_SEC for number in numbers):
        raise ValueError(text)
    return days * 86_400 + sum(n * 60**k for k, n in enumerate(reversed(numbers)))


def _read_table(path: str | os.PathLike) -> tuple[list[Interval], list[LeftOut]]:
    rows: dict[str, Interval] = {}
    left_out = []
    try:
        with io.StringIO(files.read_text(path), newline="") as file:
            reader = csv.DictReader(file)
            columns = reader.fieldnames or ()
            lacking = [name for name in _COLUMNS if name not in columns]
            if lacking or not {"video_fn", "video_link"} & set(columns):
                raise InputError(
                    f"{path}: lacks the column {(lacking or ['video_link'])[0]}; give "
                    "PATS's cmu_intervals_df.csv"
                )
            for row in reader:
                name = f"line {reader.line_num} of {pathlib.PurePath(path).name}"
                try:
                    interval = _parse_row(row)
                except ValueError as error:
                    left_out.append(LeftOut(name, "bad interval", str(error)))
                    continue
                if rows.setdefault(interval.clip_id, interval) != interval:
                    detail = f"{interval.clip_id} is in an earlier line, with other values"
                    left_out.append(LeftOut(name, "same id", detail))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read as a table ({error})") from error
    if not rows:
        named = "".join(f"; {entry.name}: {entry.detail}" for entry in left_out[:1])
        raise InputError(f"{path}: no row can be used{named}")
    return sorted(rows.values(), key=_order), left_out


def _parse_row(row: Mapping[str, str | None]) -> Interval:
    """Parses a row; the ValueError names the interval and the value that is wrong."""
    value = lambda name: (row.get(name) or "").strip()
    speaker, interval_id = value("speaker"), value("interval_id")
    if not speaker or not interval_id:
        raise ValueError(f"it lacks the {'interval_id' if speaker else 'speaker'}")
    start_sec, stop_sec = (
        _read_time(f"{speaker}#{interval_id}", name, value(name))
        for name in ("start_time", "end_time")
    )
    if stop_sec <= start_sec:
        raise ValueError(
            f"{speaker}#{interval_id} ends at {stop_sec:g} s, but begins at {start_sec:g} s"
        )
    link, file = value("video_link"), value("video_fn")
    length = _YOUTUBE_ID_LENGTH if "youtu" in link else _OTHER_ID_LENGTH
    names = [pathlib.PurePath(file).stem, link[-_YOUTUBE_ID_LENGTH:], link[-length:]]
    return Interval(
        _SPEAKER_NAMES.get(speaker, speaker),
        interval_id,
        start_sec,
        stop_sec,
        tuple(name for name in names if name),
    )


def _read_time(clip_id: str, name: str, text: str) -> float:
    try:
        return parse_time(text)
    except ValueError:
        raise ValueError(f"{name} of {clip_id} is {text[:40]!r}, but should be H:MM:SS.S") from None


def _order(row: Interval) -> tuple:
    """Sorts by speaker, then by id, with numbers in numerical order."""
    number = int(row.interval_id) if row.interval_id.isdecimal() else 0
    return row.speaker, number, row.interval_id


def _list_raw(raw_dir: str | os.PathLike) -> list[pathlib.Path]:
    """Lists all files below the folder of raw videos."""
    root = files.as_path(raw_dir)
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; give the one with PATS's raw videos")
    return files.find_files(root)


def _index(
    raw_dir: str | os.PathLike, paths: Sequence[pathlib.Path]
) -> dict[tuple[str, str], pathlib.Path]:
    """Maps (folder, file name without ending) to raw videos."""
    root, index = files.as_path(raw_dir), {}
    for path in filter(is_video, paths):
        if files.is_inside(path, root) and path.is_file():
            folder = "" if path.parent == root else path.parent.name
            index[_SPEAKER_NAMES.get(folder, folder), path.stem] = path
    return index


def _find_videos(rows: Sequence[Interval], index: Mapping[tuple[str, str], pathlib.Path]):
    found, missing = [], collections.defaultdict(list)
    for row in rows:
        keys = [(folder, name) for folder in (row.speaker, "") for name in row.video_names]
        path = next((index[key] for key in keys if key in index), None)
        if path is None:
            missing[row.speaker, row.video_names[0] if row.video_names else "?"].append(row)
        else:
            found.append((row, path))
    return found, missing


def _missing(video: tuple[str, str], rows: Sequence[Interval]) -> LeftOut:
    seconds = sum(row.stop_sec - row.start_sec for row in rows)
    return LeftOut("/".join(video), "no raw video", f"{len(rows)} intervals", seconds)


def _read_split(path: str | os.PathLike) -> dict[str, str]:
    content = _read_json(path)
    lists = content.values() if isinstance(content, dict) else [None]
    if not all(isinstance(ids, list) for ids in lists) or content.keys() != {"train", "test"}:
        raise InputError(
            f'{path}: give JSON as {{"train": [interval ids], "test": [interval ids]}}'
        )
    split_of: dict[str, str] = {}
    for split, ids in content.items():
        for interval_id in map(str, ids):
            if split_of.setdefault(interval_id, split) != split:
                raise InputError(f"{path}: {interval_id} is in both splits")
    return split_of


def _read_json(path: str | os.PathLike):
    try:
        return json.loads(files.read_text(path))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: cannot be read as JSON ({error})") from error
