"""What a data set holds: clips (frames, sound, speech features), and motions extracted from them.

Frames are JPEG bytes, one a frame, 25 a second; sound is 16 kHz mono.
"""

import dataclasses
import io
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from gesture_jax.array_types import Frames
from gesture_jax.data import images, media, records
from gesture_jax.data.media import FPS, SAMPLE_RATE_HZ
from gesture_jax.data.records import Record, is_dataset

__all__ = [
    "Clip",
    "ClipSource",
    "MotionSource",
    "decode_frames",
    "encode_clip",
    "is_dataset",
    "write_clips",
    "write_motions",
]

# At 95 without chroma subsampling, frames come back at 40 dB or better: losses see no artefacts.
_JPEG_QUALITY = 95


@dataclasses.dataclass(frozen=True)
class Clip:
    """A recording of one speaker.

    Attributes:
      clip_id: "speaker#id", unique in its data set.
      speaker: name.
      frames: [t, size, size, 3] uint8, 25 a second.
      audio: [n] float32 in [-1, 1], 16 kHz; about 640 samples a frame.
      speech: [t, 35] float32, `speech.speech_features` of the whole clip.
      joints: [t, j, 2] float32, (x, y) in pixels; j may be 0.
      stress_times_sec: [s] float32, where the procedural speaker stresses a syllable.
    """

    clip_id: str
    speaker: str
    frames: np.ndarray
    audio: np.ndarray
    speech: np.ndarray
    joints: np.ndarray
    stress_times_sec: np.ndarray


class Clips(records.RecordsBuilder):
    """Clips, as TFDS sees them."""

    FEATURES = {  # noqa: RUF012
        "clip_id": records.text(),
        "speaker": records.text(),
        "num_frames": records.number(),
        "frames": records.images(),
        "audio": records.numbers(np.int16),
        "speech": records.numbers(np.float32),
        "joints": records.numbers(np.float32),
        "stress_times_sec": records.numbers(np.float32),
    }


class Motions(records.RecordsBuilder):
    """Motion features of clips, as TFDS sees them."""

    FEATURES = {  # noqa: RUF012
        "clip_id": records.text(),
        "speaker": records.text(),
        "num_frames": records.number(),
        "motion": records.numbers(np.float32),
        "speech": records.numbers(np.float32),
    }


def encode_clip(clip: Clip) -> Record:
    """The clip as it is stored; worker processes call this, so that pictures travel as JPEG."""
    return {
        "clip_id": clip.clip_id,
        "speaker": clip.speaker,
        "num_frames": len(clip.frames),
        "frames": [_encode_frame(frame) for frame in clip.frames],
        "audio": np.rint(np.clip(clip.audio, -1.0, 1.0) * 32767).astype(np.int16),
        "speech": np.asarray(clip.speech, np.float32),
        "joints": np.asarray(clip.joints, np.float32),
        "stress_times_sec": np.asarray(clip.stress_times_sec, np.float32),
    }


def decode_frames(record: Record, indices: Sequence[int] | None = None) -> Frames:
    """Decodes chosen frames of a record, all of them by default.

    Args:
      record: of a `ClipSource`.
      indices: which frames, in which order.

    Returns:
      [k, size, size, 3] uint8.
    """
    frames = record["frames"]
    chosen = range(len(frames)) if indices is None else indices
    return np.stack([np.asarray(Image.open(io.BytesIO(frames[i]))) for i in chosen])


def write_clips(
    out_dir: str | os.PathLike,
    clips_by_split: Mapping[str, Callable[[], Iterable[Clip | Record]]],
    *,
    size: int,
    arguments: Mapping[str, Any],
    joint_names: Sequence[str] = (),
) -> bool:
    """Writes a data set of clips; they are consumed one by one, never held.

    Beside it lie `example.png` and `example.wav`, the first frame and the sound of the first test
    clip: something to try `gesture_jax.generate` on.

    Args:
      out_dir: the data set's folder.
      clips_by_split: for "train" and "test" a function that gives the clips in order, as `Clip` or
        as `encode_clip` of it.
      size: side of the frames in pixels.
      arguments: JSON-ready; what the contents follow from.
      joint_names: names of the joints, where clips have them.

    Returns:
      False where the same data set is there already: nothing was done.

    Raises:
      InputError: where `out_dir` holds something else, or a split turns out to be empty.
    """
    splits: dict[str, Any] = {}
    examples: dict[str, Record] = {}

    def encoded(split: str) -> Iterator[Record]:
        for clip in clips_by_split[split]():
            record = encode_clip(clip) if isinstance(clip, Clip) else clip
            examples.setdefault(split, {key: record[key] for key in ("frames", "audio")})
            yield _note(splits[split], record, ("speech", "joints"))

    def finish(folder: pathlib.Path) -> Mapping[str, Any]:
        _write_example(folder, examples["test"])
        return {
            "size": size,
            "fps": FPS,
            "sample_rate_hz": SAMPLE_RATE_HZ,
            "joint_names": list(joint_names),
            **_summary(splits),
        }

    return records.write_dataset(
        out_dir,
        Clips,
        _start_splits(splits, clips_by_split, encoded),
        finish=finish,
        arguments=arguments,
    )


def write_motions(
    out_dir: str | os.PathLike,
    motions_by_split: Mapping[str, Callable[[], Iterable[Record]]],
    *,
    metadata: Mapping[str, Any],
) -> bool:
    """Writes a data set of motion features, in constant memory.

    Args:
      out_dir: the data set's folder.
      motions_by_split: for "train" and "test" a function that gives records with `clip_id`,
        `speaker`, `motion` [t, d] and `speech` [t, a].
      metadata: JSON-ready; where the motions come from. `MotionSource.metadata` gives it back.

    Returns:
      False where the same data set is there already: nothing was done.

    Raises:
      InputError: where `out_dir` holds something else, or a split turns out to be empty.
    """
    splits: dict[str, Any] = {}

    def encoded(split: str) -> Iterator[Record]:
        for record in motions_by_split[split]():
            tables = {key: np.asarray(record[key], np.float32) for key in ("motion", "speech")}
            record = {**record, **tables, "num_frames": len(tables["motion"])}
            yield _note(splits[split], record, ("motion", "speech"))

    return records.write_dataset(
        out_dir,
        Motions,
        _start_splits(splits, motions_by_split, encoded),
        finish=lambda folder: {"fps": FPS, **metadata, **_summary(splits)},
        arguments=metadata,
    )


class ClipSource(records.RecordSource):
    """Clips by number: dicts with the fields of `Clip`, but `frames` still encoded.

    Attributes:
      size: side of the frames in pixels.
      joint_names: of the joints; empty where clips have none.
    """

    KIND = Clips.name
    REMEDY = "make one with `python -m gesture_jax.prepare --videos=DIR --out=DATASET`"

    @property
    def size(self) -> int:
        return self.metadata["size"]

    @property
    def joint_names(self) -> tuple[str, ...]:
        return tuple(self.metadata["joint_names"])

    def _decode(self, record: Record) -> Record:
        count = record["num_frames"]
        num_joints = self.metadata["dims"]["joints"] // 2
        return {
            **_decode_texts(record),
            "frames": record["frames"],
            "audio": record["audio"].astype(np.float32) / 32767,
            "speech": record["speech"].reshape(count, -1),
            "joints": record["joints"].reshape(count, num_joints, 2),
            "stress_times_sec": record["stress_times_sec"],
        }


class MotionSource(records.RecordSource):
    """Motion features by number: `clip_id`, `speaker`, `motion` [t, d], `speech` [t, a].

    Attributes:
      motion_dim: d.
      speech_dim: a.
    """

    KIND = Motions.name
    REMEDY = "make one with `python -m gesture_jax.extract --stage1=WORKDIR --data=DATASET`"

    @property
    def motion_dim(self) -> int:
        return self.metadata["dims"]["motion"]

    @property
    def speech_dim(self) -> int:
        return self.metadata["dims"]["speech"]

    def _decode(self, record: Record) -> Record:
        count = record["num_frames"]
        tables = {key: record[key].reshape(count, -1) for key in ("motion", "speech")}
        return {**_decode_texts(record), **tables}


def _write_example(folder: pathlib.Path, record: Record) -> None:
    images.write_image(folder / "example.png", decode_frames(record, [0])[0])
    media.write_audio(folder / "example.wav", record["audio"] / 32767, SAMPLE_RATE_HZ)


def _encode_frame(frame: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "jpeg", quality=_JPEG_QUALITY, subsampling=0)
    return buffer.getvalue()


def _decode_texts(record: Record) -> Record:
    return {key: record[key].decode() for key in ("clip_id", "speaker")}


def _start_splits(splits, sources, encoded) -> dict[str, Callable[[], Iterator[Record]]]:
    """Opens the notes of each split, and binds its name to `encoded`."""
    for split in sources:
        splits[split] = {"clip_ids": [], "num_frames": [], "speakers": [], "dims": {}}
    return {split: lambda split=split: encoded(split) for split in sources}


def _note(notes: dict[str, Any], record: Record, tables: Sequence[str]) -> Record:
    """Takes down what the metadata tells of a record, and flattens its tables for storage."""
    dims = {key: int(np.prod(record[key].shape[1:])) for key in tables}
    if notes["dims"] not in ({}, dims):
        raise ValueError(f"{record['clip_id']}: dimensions {dims}, others {notes['dims']}")
    for key in tables:
        if len(record[key]) != record["num_frames"]:
            raise ValueError(
                f"{record['clip_id']}: {len(record[key])} {key} for {record['num_frames']} frames"
            )
    notes["dims"] = dims
    notes["clip_ids"].append(record["clip_id"])
    notes["num_frames"].append(int(record["num_frames"]))
    notes["speakers"].append(record["speaker"])
    return {**record, **{key: record[key].ravel() for key in tables}}


def _summary(splits: Mapping[str, Any]) -> dict[str, Any]:
    """The notes of all splits as metadata."""
    return {
        "dims": next(iter(splits.values()))["dims"],
        "speakers": sorted({name for notes in splits.values() for name in notes["speakers"]}),
        "splits": {
            split: {
                "num_clips": len(notes["clip_ids"]),
                "seconds": sum(notes["num_frames"]) / FPS,
                "clip_ids": notes["clip_ids"],
                "num_frames": notes["num_frames"],
            }
            for split, notes in splits.items()
        },
    }
