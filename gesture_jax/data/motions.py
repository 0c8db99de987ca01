"""Data sets of motion features, extracted from clips by a trained stage 1."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from gesture_jax.data import records
from gesture_jax.data.records import Record
from gesture_jax.media.rates import FPS
from gesture_jax.people.lips import NUM_VALUES, know_lips, lip_positions


class MotionRecords(records.RecordsBuilder):
    """The TFDS builder of motion features."""

    name = "motions"
    FEATURES = {  # noqa: RUF012
        "clip_id": records.text(),
        "speaker": records.text(),
        "num_frames": records.number(),
        "motion": records.numbers(np.float32),
        "speech": records.numbers(np.float32),
        "joints": records.numbers(np.float32),
    }
    DEFAULTS = {"joints": np.zeros(0, np.float32)}  # noqa: RUF012


def write_motions(
    out_dir: str | os.PathLike,
    motions_by_split: Mapping[str, Callable[[], Iterable[Record]]],
    *,
    metadata: Mapping[str, Any],
) -> bool:
    """Writes a data set of motion features, in constant memory.

    Args:
      out_dir: the data set's folder.
      motions_by_split: for "train" and "test", a function that returns records with `clip_id`,
        `speaker`, `motion` [t, d], `speech` [t, a] and `joints` [t, j, 2].
      metadata: where the motions come from, ready for JSON; `MotionSource.metadata` contains it.

    Returns:
      False if the same data set exists already, and nothing was done.

    Raises:
      InputError: if `out_dir` holds something else, or a split turns out to be empty.
    """
    notes = {split: records.SplitNotes() for split in motions_by_split}

    def serialized(split: str) -> Iterator[bytes]:
        for record in motions_by_split[split]():
            tables = {key: np.asarray(record[key], np.float32) for key in ("motion", "speech")}
            num_frames = len(tables["motion"])
            if len(tables["speech"]) != num_frames:
                raise ValueError(f"{record['clip_id']}: speech and motion differ in length")
            dims = {key: table.shape[1] for key, table in tables.items()}
            notes[split].add(record["clip_id"], record["speaker"], num_frames, dims)
            flat = {key: table.ravel() for key, table in tables.items()}
            flat["joints"] = np.asarray(record.get("joints", ()), np.float32).ravel()
            yield MotionRecords.serialize({**record, **flat, "num_frames": num_frames})

    return records.write_dataset(
        out_dir,
        {MotionRecords: {split: lambda split=split: serialized(split) for split in notes}},
        finish=lambda folder: {"fps": FPS, **metadata, **records.summarise(notes, fps=FPS)},
        arguments=metadata,
    )


def with_lips(record: Record) -> np.ndarray:
    """Returns the motion of a record of `MotionSource` with its lips behind it, [t, d + l]."""
    return np.concatenate([record["motion"], record["lips"]], axis=1)


class MotionSource(records.RecordSource):
    """Motion features by number.

    A record has `clip_id`, `speaker`, `motion` [t, d], `speech` [t, a], `joints` [t, j, 2], where j
    may be 0, and `lips`, [t, 2] as from `lips.lip_positions` if the lips are among the joints, else
    [t, 0].

    Attributes:
      motion_dim: d.
      speech_dim: a.
    """

    BUILDER = MotionRecords
    REMEDY = "make one with `python -m gesture_jax.extract --stage1=WORKDIR --data=DATASET`"

    def __init__(self, path: str | os.PathLike, split: str):
        """Opens a split; see `RecordSource`."""
        super().__init__(path, split)
        if not {"motion", "speech"} <= self.metadata["dims"].keys():
            raise self.damaged("its dims are not those of motion and speech")

    @property
    def motion_dim(self) -> int:
        return self.metadata["dims"]["motion"]

    @property
    def speech_dim(self) -> int:
        return self.metadata["dims"]["speech"]

    @property
    def num_lips(self) -> int:
        """The number of values that describe the lips: 2, or 0 where they are not known."""
        return NUM_VALUES if know_lips(self.joint_names) else 0

    @property
    def joint_names(self) -> tuple[str, ...]:
        """The names of the joints."""
        return tuple(self.metadata.get("joint_names", ()))  # Older data sets have none.

    def _decode(self, record: Record, index: int) -> Record:
        count = record["num_frames"]
        dims = self.metadata["dims"]
        tables = {key: record[key].reshape(count, dims[key]) for key in ("motion", "speech")}
        joints = record["joints"].reshape(count, len(self.joint_names), 2)
        lips = np.zeros((count, 0), np.float32)
        if self.num_lips:
            lips = lip_positions(joints, self.joint_names)
        return {**records.decode_texts(record), **tables, "joints": joints, "lips": lips}
