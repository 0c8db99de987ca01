"""Makes a data set from takes: processes them, splits the clips, writes records and a report.

Finished takes are kept in `DATASET.parts` until the data set is complete, so that an interrupted
preparation continues where it stopped.
"""

import collections
import functools
import json
import os
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from gesture_jax.data import clips, records
from gesture_jax.data.clips import ClipRecords, FrameRecords
from gesture_jax.errors import InputError
from gesture_jax.media import images
from gesture_jax.media.rates import FPS, SAMPLE_RATE_HZ
from gesture_jax.media.writer import write_audio
from gesture_jax.preparation import contact_sheet, parts, splits
from gesture_jax.preparation.parts import LeftOut, Take
from gesture_jax.preparation.splits import Stretch
from gesture_jax.speech.extractor import SpeechFeatureExtractor
from gesture_jax.storage import files

Report = dict[str, Any]
Runner = Callable[[pathlib.Path, Sequence[Take]], None]
REPORT_FILE = "preparation.json"
CONTACT_SHEET_FILE = "contact_sheet.html"
_MAX_NAMED = 3


def prepare(
    takes: Sequence[Take],
    out_dir: str | os.PathLike,
    *,
    size: int,
    feature_extractor: SpeechFeatureExtractor,
    arguments: Mapping[str, Any],
    joint_names: Sequence[str] = (),
    test_fraction: float = 0.1,
    split_within_clips: bool = False,
    whole_takes: bool = False,
    left_out: Sequence[LeftOut] = (),
    run: Runner | None = None,
) -> Report | None:
    """Makes a data set from takes.

    Beside the records it holds `preparation.json` and `contact_sheet.html`, which show what was
    kept and left out, and `example.png` and `example.wav`, the first frame and the sound of the
    first test clip, to try `gesture_jax.generate` with.

    Args:
      takes: the recordings.
      out_dir: folder of the data set.
      size: side of the frames in pixels.
      feature_extractor: computed the speech features.
      arguments: everything that determines the contents, JSON-ready.
      joint_names: names of the joints, where clips have them.
      test_fraction: for takes without a split of their own; see `splits.split_clips`.
      split_within_clips: see `splits.split_clips`.
      whole_takes: see `splits.split_clips`.
      left_out: recordings that did not become takes.
      run: makes the missing parts; by default `parts.make_parts`.

    Returns:
      The content of `preparation.json`; None where the same data set exists already.

    Raises:
      InputError: where nothing can be used, `out_dir` holds something else, or another process is
        preparing it.
    """
    out_dir = files.absolute(out_dir)
    if records.is_done(out_dir, kind=ClipRecords.name, arguments=arguments):
        return None
    parts_dir = out_dir.with_name(out_dir.name + ".parts")
    busy = f"{out_dir}: another process is preparing this data set; wait for it to end"
    with files.alone_in(parts_dir, busy=busy):
        if records.is_done(out_dir, kind=ClipRecords.name, arguments=arguments):
            return None
        (run or parts.make_parts)(parts_dir, takes)
        done = parts.read_parts(parts_dir, takes)
        by_split = splits.split_clips(
            done,
            test_fraction=test_fraction,
            split_within_clips=split_within_clips,
            whole_takes=whole_takes,
        )
        left_out = [*left_out, *(entry for part in done for entry in part.left_out)]
        if not any(by_split.values()):
            files.remove_folder(parts_dir)
        _check_splits(out_dir, by_split, left_out)
        notes = [note for part in done for note in part.notes]
        report = _report(len(takes), by_split, left_out, notes)
        header = {"size": size, "fps": FPS, "sample_rate_hz": SAMPLE_RATE_HZ}
        facts = {**header, "joint_names": list(joint_names), **feature_extractor.describe()}
        scratch_dir = files.scratch_for(parts_dir)
        _write(out_dir, by_split, report, facts, arguments, scratch_dir=scratch_dir)
        files.remove_folder(parts_dir)
    return report


def _check_splits(
    out_dir: pathlib.Path,
    by_split: Mapping[str, Sequence[Stretch]],
    left_out: Sequence[LeftOut],
) -> None:
    """Raises InputError where a split, or the whole data set, would be empty."""
    if not any(by_split.values()):
        raise InputError(f"{out_dir}: nothing could be used; {_name_some(left_out)}")
    for split, stretches in by_split.items():
        if not stretches:
            raise InputError(
                f"{out_dir}: the split {split!r} would be empty, as nothing that was meant for it "
                f"could be used; choose another split; {_name_some(left_out)}"
            )


def _write(
    out_dir: pathlib.Path,
    by_split: Mapping[str, Sequence[Stretch]],
    report: Report,
    facts: Mapping[str, Any],
    arguments: Mapping[str, Any],
    *,
    scratch_dir: pathlib.Path,
) -> None:
    """Writes the records, the report, the contact sheet and the example."""
    notes = {split: _summarise(stretches) for split, stretches in by_split.items()}

    def finish(folder: pathlib.Path) -> Mapping[str, Any]:
        _write_example(folder, by_split["test"][0])
        (folder / REPORT_FILE).write_text(json.dumps(report, indent=1) + "\n")
        (folder / CONTACT_SHEET_FILE).write_text(contact_sheet.draw(out_dir.name, report, by_split))
        return {**facts, **records.summarise(notes, fps=FPS)}

    records.write_dataset(
        out_dir,
        {
            ClipRecords: {k: functools.partial(_clip_records, v) for k, v in by_split.items()},
            FrameRecords: {k: functools.partial(_frame_records, v) for k, v in by_split.items()},
        },
        finish=finish,
        arguments=arguments,
        scratch_dir=scratch_dir,
    )


def read_report(path: str | os.PathLike) -> Report:
    """Reads `preparation.json` of a data set.

    Raises:
      InputError: where it cannot be read.
    """
    try:
        return json.loads((files.as_path(path) / REPORT_FILE).read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(
            f"{path}/{REPORT_FILE}: cannot be read ({error}); prepare again"
        ) from error


def _clip_records(stretches: Sequence[Stretch]) -> Iterator[bytes]:
    """Copies the records of whole clips, and cuts those of others."""
    for stretch in stretches:
        content = stretch.part.read_clip(stretch.index)
        if not stretch.is_whole:
            span = {"start": stretch.start, "stop": stretch.stop}
            content = clips.cut_clip(content, **span, clip_id=stretch.clip_id, fps=FPS)
        yield content


def _frame_records(stretches: Sequence[Stretch]) -> Iterator[bytes]:
    for stretch in stretches:
        first = stretch.first_frame
        yield from stretch.part.read_frames(first, first + stretch.stop - stretch.start)


def _summarise(stretches: Sequence[Stretch]) -> records.SplitNotes:
    notes = records.SplitNotes()
    for stretch in stretches:
        facts = stretch.part.clips[stretch.index]
        num_frames = stretch.stop - stretch.start
        notes.add(stretch.clip_id, stretch.speaker, num_frames, facts["dims"])
    return notes


def _write_example(folder: pathlib.Path, stretch: Stretch) -> None:
    (clip,) = _clip_records([stretch])
    frame = FrameRecords.parse(next(_frame_records([stretch])))
    images.write_image(folder / "example.png", clips.decode_frame(frame["jpeg"]))
    samples = ClipRecords.parse(clip)["audio"] / 32767
    write_audio(folder / "example.wav", samples, SAMPLE_RATE_HZ)


def _report(
    num_takes: int,
    by_split: Mapping[str, Sequence[Stretch]],
    left_out: Sequence[LeftOut],
    notes: Sequence[str],
) -> Report:
    kept = [stretch for stretches in by_split.values() for stretch in stretches]
    hours = lambda chosen: sum(s.stop - s.start for s in chosen) / FPS / 3600
    speakers = collections.defaultdict(list)
    for stretch in kept:
        speakers[stretch.speaker].append(stretch)
    describe = lambda chosen: {"clips": len(chosen), "hours": round(hours(chosen), 4)}
    return {
        "recordings": num_takes,
        "kept": describe(kept),
        "splits": {split: describe(chosen) for split, chosen in by_split.items()},
        "speakers": {name: describe(chosen) for name, chosen in sorted(speakers.items())},
        "left_out": {
            "count": len(left_out),
            "hours": round(sum(entry.seconds for entry in left_out) / 3600, 4),
            "by_reason": dict(collections.Counter(entry.reason for entry in left_out)),
            "each": [vars(entry) for entry in left_out],
        },
        "notes": list(dict.fromkeys(notes)),  # Takes may share a video.
    }


def _name_some(left_out: Sequence[LeftOut]) -> str:
    named = [f"{entry.name}: {entry.reason}, {entry.detail}" for entry in left_out[:_MAX_NAMED]]
    more = len(left_out) - len(named)
    return "; ".join(named) + (f"; and {more} more" if more else "")


def format_report(report: Report) -> str:
    """Formats the report as a table for people."""
    rows = [f"{'':24}{'clips':>8}{'minutes':>10}"]
    for title, group in (("", report["splits"]), ("speaker ", report["speakers"])):
        for name, facts in group.items():
            minutes = facts["hours"] * 60
            rows.append(f"{title + name:24}{facts['clips']:8d}{minutes:10.2f}")
    for reason, count in report["left_out"]["by_reason"].items():
        rows.append(f"left out: {reason} {count}")
    return "\n".join(rows)
