"""Data sets of clips: frames, sound, speech features and joints, at 25 frames a second.

The tables of a clip are one record. Its frames (JPEG) are separate records, numbered consecutively
over the split, so that a pair of frames costs two small reads however long the clip is.
"""

import dataclasses
import io
import itertools
import os
from collections.abc import Sequence

import numpy as np
from PIL import Image

from gesture_jax.array_types import Frames
from gesture_jax.data import records
from gesture_jax.data.records import Record, is_dataset
from gesture_jax.errors import InputError
from gesture_jax.media.rates import SAMPLES_PER_FRAME

__all__ = [
    "Clip",
    "ClipRecords",
    "ClipSource",
    "FrameRecords",
    "cut_clip",
    "decode_frames",
    "encode_clip",
    "is_dataset",
]

# At quality 95 without chroma subsampling the PSNR of frames is 40 dB or more.
_JPEG_QUALITY = 95
_MAX_SIDE_PX = 2048


@dataclasses.dataclass(frozen=True)
class Clip:
    """A recording of one speaker.

    Attributes:
      clip_id: "speaker#id", unique in its data set.
      speaker: name.
      frames: [t, size, size, 3] uint8, 25 frames a second.
      audio: [t * 640] float32 in [-1, 1], 16 kHz.
      speech: [t, a] float32, speech features, computed over the whole recording.
      joints: [t, j, 2] float32, (x, y) in pixels; j may be 0.
      stress_times_sec: [s] float32, times at which the procedural speaker stresses a syllable.
      phones: the symbols of the p phones that the procedural speaker says.
      phone_times_sec: [p, 2] float32, their starts and ends.
    """

    clip_id: str
    speaker: str
    frames: np.ndarray
    audio: np.ndarray
    speech: np.ndarray
    joints: np.ndarray
    stress_times_sec: np.ndarray
    phones: Sequence[str] = ()
    phone_times_sec: np.ndarray = dataclasses.field(
        default_factory=lambda: np.zeros((0, 2), np.float32)
    )


class ClipRecords(records.RecordsBuilder):
    """The TFDS builder of clips without their frames."""

    name = "clips"
    FEATURES = {  # noqa: RUF012
        "clip_id": records.text(),
        "speaker": records.text(),
        "num_frames": records.number(),
        "audio": records.numbers(np.int16),
        "speech": records.numbers(np.float32),
        "joints": records.numbers(np.float32),
        "stress_times_sec": records.numbers(np.float32),
        "phones": records.text(),
        "phone_times_sec": records.numbers(np.float32),
    }
    DEFAULTS = {"phones": "", "phone_times_sec": np.zeros(0, np.float32)}  # noqa: RUF012


class FrameRecords(records.RecordsBuilder):
    """The TFDS builder of the frames of all clips of a split, clip after clip."""

    name = "frames"
    FEATURES = {"jpeg": records.encoded_image()}  # noqa: RUF012


def encode_clip(clip: Clip) -> tuple[bytes, list[bytes]]:
    """Serialises a clip: its record, and one for each frame.

    Raises:
      ValueError: if its tables differ in length.
    """
    num_frames = len(clip.frames)
    lengths = len(clip.speech), len(clip.joints), len(clip.audio) / SAMPLES_PER_FRAME
    if any(length != num_frames for length in lengths):
        raise ValueError(f"{clip.clip_id}: {num_frames} frames, but {lengths} of its tables")
    record = {
        "clip_id": clip.clip_id,
        "speaker": clip.speaker,
        "num_frames": num_frames,
        "audio": np.rint(np.clip(clip.audio, -1.0, 1.0) * 32767).astype(np.int16),
        "speech": np.asarray(clip.speech, np.float32).ravel(),
        "joints": np.asarray(clip.joints, np.float32).ravel(),
        "stress_times_sec": np.asarray(clip.stress_times_sec, np.float32),
        "phones": " ".join(clip.phones),
        "phone_times_sec": np.asarray(clip.phone_times_sec, np.float32).ravel(),
    }
    frames = [FrameRecords.serialize({"jpeg": _encode_frame(frame)}) for frame in clip.frames]
    return ClipRecords.serialize(record), frames


def cut_clip(content: bytes, start: int, stop: int, *, clip_id: str, fps: int) -> bytes:
    """Cuts frames `start` to `stop` out of the record of a clip.

    Args:
      content: a record of `encode_clip`.
      start: the first frame.
      stop: the frame after the last one.
      clip_id: name of the result.
      fps: frames a second.
    """
    record = ClipRecords.parse(content)
    count = record["num_frames"]
    cut = lambda table: table.reshape(count, -1)[start:stop].ravel()
    seconds, start_sec = (stop - start) / fps, np.float32(start / fps)
    stress = record["stress_times_sec"] - start_sec
    phones = np.array(records.decode_texts(record)["phones"].split())
    times = record["phone_times_sec"].reshape(-1, 2) - start_sec
    inside = (times[:, 0] >= 0) & (times[:, 1] <= seconds)
    return ClipRecords.serialize({
        "clip_id": clip_id,
        "speaker": record["speaker"],
        "num_frames": stop - start,
        **{key: cut(record[key]) for key in ("audio", "speech", "joints")},
        "stress_times_sec": stress[(stress >= 0) & (stress < seconds)],
        "phones": " ".join(phones[inside]),
        "phone_times_sec": times[inside].ravel(),
    })  # fmt: skip


def decode_frames(record: Record, indices: Sequence[int] | None = None) -> Frames:
    """Decodes chosen frames of a record, all of them by default.

    Args:
      record: a record of a `ClipSource`.
      indices: the frames to decode, in this order.

    Returns:
      [k, size, size, 3] uint8.
    """
    frames = record["frames"]
    chosen = range(len(frames)) if indices is None else indices
    pictures = [decode_frame(frames[i]) for i in chosen]
    if len({picture.shape for picture in pictures}) > 1:
        raise InputError("a data set is damaged: frames of one clip differ in size")
    return np.stack(pictures)


def decode_frame(jpeg: bytes) -> np.ndarray:
    """Decodes a JPEG to [size, size, 3] uint8.

    Raises:
      InputError: if it is not a square RGB JPEG.
    """
    try:
        with Image.open(io.BytesIO(jpeg), formats=["JPEG"]) as image:
            if image.width == image.height <= _MAX_SIDE_PX and image.mode == "RGB":
                return np.asarray(image)
            reason = f"{image.width}x{image.height} pixels, {image.mode}"
    except Exception as error:  # Hostile bytes fail in many ways; none of them is our defect.
        reason = str(error)
    raise InputError(f"a data set is damaged: a frame is no square JPEG ({reason})")


class ClipSource(records.RecordSource):
    """Clips by number: dicts with the fields of `Clip`; `frames` are JPEG, read on access."""

    BUILDER = ClipRecords
    REMEDY = "make one with `python -m gesture_jax.prepare --videos=DIR --out=DATASET`"

    def __init__(self, path: str | os.PathLike, split: str):
        """Opens a split; see `RecordSource`."""
        super().__init__(path, split)
        self._frames = self._open(FrameRecords)
        self._starts = [0, *itertools.accumulate(self._lengths)]
        if self._starts[-1] != len(self._frames):
            raise self.damaged(f"{len(self._frames)} frames where {self._starts[-1]} were written")
        names = self.metadata.get("joint_names")
        has_names = isinstance(names, list) and all(isinstance(name, str) for name in names)
        if not has_names or type(self.metadata.get("size")) is not int:
            raise self.damaged("its size or joint_names are missing")

    @property
    def size(self) -> int:
        """The side of the frames in pixels."""
        return self.metadata["size"]

    @property
    def joint_names(self) -> tuple[str, ...]:
        """The names of the joints; empty if the clips have none."""
        return tuple(self.metadata["joint_names"])

    @property
    def speech_features(self) -> dict[str, str]:
        """The kind of the speech features, as `SpeechFeatureExtractor.describe` returns it."""
        keys = ("features", "wavlm_sha256")
        return {key: self.metadata[key] for key in keys if key in self.metadata}

    def read_frames(self, index: int, frames: Sequence[int]) -> Frames:
        """Reads chosen frames of a clip and no others: [k, size, size, 3] uint8."""
        return decode_frames({"frames": _FrameList(self, index)}, frames)

    def _read_jpeg(self, index: int, frame: int) -> bytes:
        try:
            return self._frames[self._starts[index] + frame]["jpeg"]
        except Exception as error:
            raise self.damaged(f"frame {frame} of clip {index}: {error}") from error

    def _decode(self, record: Record, index: int) -> Record:
        count = record["num_frames"]
        num_joints = self.metadata["dims"]["joints"] // 2
        return {
            **(texts := records.decode_texts(record)),
            "num_frames": count,
            "phones": tuple(texts["phones"].split()),
            "phone_times_sec": record["phone_times_sec"].reshape(-1, 2),
            "frames": _FrameList(self, index),
            "audio": record["audio"].astype(np.float32) / 32767,
            "speech": record["speech"].reshape(count, -1),
            "joints": record["joints"].reshape(count, num_joints, 2),
            "stress_times_sec": record["stress_times_sec"],
        }


class _FrameList(Sequence):
    """The frames of a clip as JPEG, each read on access."""

    def __init__(self, source: ClipSource, index: int):
        self._source, self._index = source, index

    def __len__(self) -> int:
        return self._source.num_frames(self._index)

    def __getitem__(self, frame: int) -> bytes:
        if not -len(self) <= frame < len(self):
            raise IndexError(f"frame {frame} of {len(self)}")
        return self._source._read_jpeg(self._index, frame % len(self))


def _encode_frame(frame: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "jpeg", quality=_JPEG_QUALITY, subsampling=0)
    return buffer.getvalue()
