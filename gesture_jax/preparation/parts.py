"""Turns takes into parts, one by one, which makes preparation parallel and resumable.

A take is a recording to be turned into clips: a video, an interval of one, a drawn performance.
Its clips are written as a part, a folder that is either complete or missing:

    DATASET.parts/NAME-HASH/{facts.json, clips.array_record, frames.array_record}

The hash covers everything that determines the clips, so that no outdated part is ever used.
"""

import concurrent.futures
import dataclasses
import glob
import hashlib
import json
import multiprocessing
import os
import pathlib
import re
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from typing import Any, Protocol

from array_record.python.array_record_module import ArrayRecordReader
from tqdm import tqdm

from gesture_jax.data import clips, records
from gesture_jax.data.clips import Clip
from gesture_jax.errors import InputError
from gesture_jax.media import video_folder
from gesture_jax.parallel import signals
from gesture_jax.storage import files

_FACTS = "facts.json"
# With fewer takes, starting workers, which takes seconds, does not pay.
_MIN_TAKES_FOR_WORKERS = 16
# The libraries' threads do not survive a fork.
_SPAWN = multiprocessing.get_context("spawn")


@dataclasses.dataclass(frozen=True)
class LeftOut:
    """A recording, or a stretch of one, that is left out of the data set.

    Attributes:
      name: name of the recording or clip.
      reason: a few words that are the same for all entries of a kind.
      detail: the figures of this entry.
      seconds: its length; 0 where that is not known.
    """

    name: str
    reason: str
    detail: str = ""
    seconds: float = 0.0


@dataclasses.dataclass(frozen=True)
class Note:
    """A sentence that the user should read about a recording that is used."""

    sentence: str


class Take(Protocol):
    """A recording to be turned into clips; pickled on its way to a worker."""

    name: str
    """Unique, and shown to people."""
    split: str | None
    """The split of all its clips, "train" or "test"; None: as `splits.split_clips` decides."""

    def cache_key(self) -> Mapping[str, Any]:
        """Returns everything that determines its clips, JSON-ready."""

    def perform(self) -> Iterator[Clip | LeftOut | Note]:
        """Yields its clips in order, stretches that are left out, and notes.

        Raises:
          InputError: where the recording cannot be used, or not to its end.
        """


@dataclasses.dataclass(frozen=True)
class Part:
    """The clips of a take, on disk.

    Attributes:
      name: name of the take.
      split: "train" or "test" for all its clips, or None.
      clips: for each clip `clip_id`, `speaker`, `num_frames` and `dims`.
      left_out: stretches of the take that are left out.
      path: its folder.
      notes: sentences that the user should read.
    """

    name: str
    split: str | None
    clips: Sequence[Mapping[str, Any]]
    left_out: Sequence[LeftOut]
    path: pathlib.Path
    notes: Sequence[str] = ()

    def read_clip(self, index: int) -> bytes:
        """Reads the record of a clip."""
        return next(_read(self.path / "clips.array_record", index, index + 1))

    def read_frames(self, start: int, stop: int) -> Iterator[bytes]:
        """Reads records of frames, which are numbered through all clips."""
        return _read(self.path / "frames.array_record", start, stop)


def leave_out_unused(
    paths: Iterable[pathlib.Path], used: Iterable[pathlib.Path], folder: str | os.PathLike
) -> list[LeftOut]:
    """Returns an entry for each ending of unused files; see `listing.group_unused`."""
    groups = video_folder.group_unused(paths, used, folder)
    return [LeftOut(ending, "not used", detail) for ending, detail in groups.items()]


def make_parts(
    parts_dir: pathlib.Path, takes: Sequence[Take], *, num_workers: int | None = None
) -> None:
    """Makes the missing parts, in this process or by workers.

    Args:
      parts_dir: folder of the parts.
      takes: all takes of the data set, done or not.
      num_workers: number of worker processes; 0: this process, None: one per core if there are
        enough takes.
    """
    missing = [take for take in takes if not _is_done(parts_dir, take)]
    if num_workers is None:
        num_workers = (os.cpu_count() or 1) if len(missing) >= _MIN_TAKES_FOR_WORKERS else 0
    done = len(takes) - len(missing)
    with tqdm(total=len(takes), initial=done, desc="prepare", unit="take") as bar:
        if num_workers:
            _make_by_workers(parts_dir, missing, num_workers, bar)
            return
        for take in missing:
            make_part(parts_dir, take)
            bar.update()


def make_part(parts_dir: pathlib.Path, take: Take) -> None:
    """Makes the part of one take, unless it is there."""
    _write_part(parts_dir, take, take.perform)


def _write_part(
    parts_dir: pathlib.Path, take: Take, perform: Callable[[], Iterable[Clip | LeftOut | Note]]
) -> None:
    """Writes the items of `perform` as the part of a take, unless it is there."""
    if _is_done(parts_dir, take):
        return
    folder, scratch = _folder(parts_dir, take), files.scratch_for(parts_dir)
    prefix = _prefix(parts_dir, take)
    with files.folder_beside(folder, prefix=prefix, scratch=scratch, last=_FACTS) as beside:
        (beside / _FACTS).write_text(json.dumps(_write_records(take.name, perform, beside)))


def read_parts(parts_dir: pathlib.Path, takes: Iterable[Take]) -> list[Part]:
    """Reads the parts of takes, which must be there, in the order of the takes."""
    parts = []
    for take in takes:
        folder = _folder(parts_dir, take)
        facts = json.loads((folder / _FACTS).read_text())
        left_out = [LeftOut(**entry) for entry in facts["left_out"]]
        notes = facts.get("notes", ())  # Parts of older versions have none.
        parts.append(Part(take.name, take.split, facts["clips"], left_out, folder, notes))
    return parts


def fingerprint(value: Any) -> str:
    """Returns a short hash of anything JSON-ready."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def _make_by_workers(
    parts_dir: pathlib.Path, takes: Sequence[Take], num_workers: int, bar: tqdm
) -> None:
    """Hands takes to processes; a take that kills its process is left out alone."""
    while takes:
        takes = _run_pool(parts_dir, takes, num_workers, bar)
        # A killed process leaves its part half done.
        suspects = [take for take in takes if _remove_half_done(parts_dir, take)] or takes[:1]
        for take in suspects:
            _make_alone(parts_dir, take)
            bar.update()
        takes = [take for take in takes if take not in suspects]


class Pool(concurrent.futures.ProcessPoolExecutor):
    """Spawned processes, which end when this process does, however it ends.

    As a context manager it ends them at once where the block fails or is interrupted.
    """

    def __init__(self, num_workers: int):
        super().__init__(num_workers, mp_context=_SPAWN, initializer=_start_worker)

    def submit(self, function: Callable, /, *args: Any) -> concurrent.futures.Future:
        return super().submit(_work, function, *args)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            for process in (self._processes or {}).values():
                process.terminate()
        self.shutdown(cancel_futures=True)


def _start_worker() -> None:
    """Ends the worker when its parent dies, as it would wait for more takes for ever."""

    def exit_with_parent() -> None:
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=exit_with_parent, daemon=True).start()
    signals.end_in_order()
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C reaches the parent, which ends its workers.


def _work(function: Callable, *args: Any) -> Any:
    try:
        return function(*args)
    except SystemExit as end:  # Otherwise the pool would continue with the next take.
        os._exit(end.code)


def _run_pool(
    parts_dir: pathlib.Path, takes: Sequence[Take], num_workers: int, bar: tqdm
) -> list[Take]:
    """Returns the takes that were not done when a process died; none, if none died."""
    left = dict(enumerate(takes))
    try:
        with Pool(num_workers) as pool:
            running = {pool.submit(make_part, parts_dir, take): n for n, take in left.items()}
            for done in concurrent.futures.as_completed(running):
                done.result()
                del left[running[done]]
                bar.update()
    except BrokenProcessPool:
        pass
    return list(left.values())


def _remove_half_done(parts_dir: pathlib.Path, take: Take) -> bool:
    names = f"{glob.escape(_prefix(parts_dir, take))}*"
    half_done = list(files.scratch_for(parts_dir).glob(names))
    for folder in half_done:
        files.remove_folder(folder)
    return bool(half_done)


def _make_alone(parts_dir: pathlib.Path, take: Take) -> None:
    try:
        with Pool(1) as pool:
            pool.submit(make_part, parts_dir, take).result()
    except BrokenProcessPool:
        reason = "kills its process", "out of memory, or the decoder crashed"
        _write_part(parts_dir, take, lambda: [LeftOut(take.name, *reason)])


def _write_records(
    name: str, perform: Callable[[], Iterable[Clip | LeftOut | Note]], folder: pathlib.Path
) -> dict[str, Any]:
    """Writes the records of the take with this name, and returns the content of facts.json."""
    done: list[dict[str, Any]] = []
    left_out: list[LeftOut] = []
    notes: list[str] = []
    clip_writer = records.open_writer(folder / "clips.array_record")
    frame_writer = records.open_writer(folder / "frames.array_record")
    try:
        for item in perform():
            if isinstance(item, LeftOut):
                left_out.append(item)
                continue
            if isinstance(item, Note):
                notes.append(item.sentence)
                continue
            record, frames = clips.encode_clip(item)
            clip_writer.write(record)
            for frame in frames:
                frame_writer.write(frame)
            done.append(_facts(item))
    except InputError as error:
        left_out.append(LeftOut(name, "cannot be read", str(error)))
    finally:
        clip_writer.close()
        frame_writer.close()
    each = [dataclasses.asdict(entry) for entry in left_out]
    return {"clips": done, "left_out": each, "notes": notes}


def _facts(clip: Clip) -> dict[str, Any]:
    return {
        "clip_id": clip.clip_id,
        "speaker": clip.speaker,
        "num_frames": len(clip.frames),
        "dims": {"speech": clip.speech.shape[1], "joints": 2 * clip.joints.shape[1]},
    }


def _folder(parts_dir: pathlib.Path, take: Take) -> pathlib.Path:
    name = re.sub(r"[^\w#.-]+", "_", take.name)[-60:]
    return parts_dir / f"{name}-{fingerprint([records.FORMAT_VERSION, take.cache_key()])}"


def _prefix(parts_dir: pathlib.Path, take: Take) -> str:
    """Returns the prefix of the folder name of a half-done part."""
    return f".{_folder(parts_dir, take).name}."


def _is_done(parts_dir: pathlib.Path, take: Take) -> bool:
    return (_folder(parts_dir, take) / _FACTS).exists()


def _read(path: pathlib.Path, start: int, stop: int) -> Iterator[bytes]:
    if stop <= start:
        return
    reader = ArrayRecordReader(str(files.local_copy(path)))
    try:
        for index in range(start, stop):
            yield from reader.read([index])
    finally:
        reader.close()
