"""Data sets on disk: TFDS over ArrayRecord, without TensorFlow. `clips.py` describes the contents.

A data set is a folder with `dataset.json`, our metadata, beside the files that TFDS wrote:

    DATASET/dataset.json
    DATASET/clips/2.0.0/{dataset_info.json, features.json, clips-train.array_record-00000-of-00001}
    DATASET/frames/2.0.0/...

so that `tfds.builder_from_directory("DATASET/clips/2.0.0").as_data_source()` opens it as well.

`RecordSource` reads the files with array_record and TFDS's parser rather than by `as_data_source`.
Speed does not decide: a frame takes 20 us and a clip 120 to 140 us of CPU time either way, a split
opens in 1.7 against 2.4 ms, and the imports are the same. But `builder_from_directory` imports the
classes that `features.json` names, so that a data set from elsewhere could run code; and
`as_data_source` believes the lengths in `dataset_info.json`, so that missing or short shards show
only in the middle of training, where we report a damaged data set when it is opened.
"""

import contextlib
import dataclasses
import functools
import hashlib
import io
import json
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from array_record.python.array_record_data_source import ArrayRecordDataSource
from array_record.python.array_record_module import ArrayRecordWriter
from tensorflow_datasets.core.example_parser import ExampleParserNp

from gesture_jax.errors import InputError
from gesture_jax.media.rates import FPS
from gesture_jax.storage import files
from gesture_jax.storage.files import as_path

Record = dict[str, Any]
FORMAT_VERSION = "2.0.0"  # 1.0.0 had the frames inside the clips.
_META_FILE = "dataset.json"
# The message never advises to delete the folder: it may hold somebody's recordings.
_ELSEWHERE = "choose another folder"
_MAX_SHARD_BYTES = 256 << 20
# How much of a file, at either end, goes into the hash of a data set.
_END_BYTES = 64 << 10


def text() -> tfds.features.FeatureConnector:
    """A string."""
    return tfds.features.Text()


def number() -> tfds.features.FeatureConnector:
    """An integer."""
    return tfds.features.Scalar(np.int64)


def encoded_image() -> tfds.features.FeatureConnector:
    """The bytes of a JPEG.

    A TFDS `Image()` stores the same bytes, but decodes them for every reader.
    """
    return tfds.features.Tensor(shape=(), dtype=np.object_)


def numbers(dtype: Any) -> tfds.features.FeatureConnector:
    """A vector of any length, stored as its bytes.

    Tables are stored flat: without TensorFlow, TFDS cannot restore two axes of unknown length.
    """
    encoding = tfds.features.Encoding.BYTES
    return tfds.features.Tensor(shape=(None,), dtype=dtype, encoding=encoding)


class _Info(tfds.core.DatasetInfo):
    def initialize_from_bucket(self) -> None:
        """Does nothing; TFDS would look for published data sets and leave an empty folder."""


class RecordsBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """A TFDS builder whose records come from functions, in their order and in constant memory.

    TFDS's own writer sorts all examples in memory and, from 1 GB on, spills them with a function
    that needs TensorFlow. This one streams the records of each split to shards of 256 MB.

    A subclass sets `FEATURES`. Records are the bytes that `serialize` returns, so that they can be
    copied from one data set to another unchanged.
    """

    VERSION = tfds.core.Version(FORMAT_VERSION)
    FEATURES: Mapping[str, tfds.features.FeatureConnector]
    # Values of those features that records of older versions lack.
    DEFAULTS: Mapping[str, Any] = {}

    def __init__(
        self, *, records: Mapping[str, Callable[[], Iterable[bytes]]] | None = None, **kwargs: Any
    ):
        self._records = records or {}
        super().__init__(**kwargs)

    @classmethod
    def serialize(cls, record: Record) -> bytes:
        """Encodes a record as TFDS stores it."""
        features, serializer, _ = _codec(cls)
        example = serializer.get_tf_example(features.encode_example(record))
        # Otherwise the order of its entries differs between processes.
        return example.SerializeToString(deterministic=True)

    @classmethod
    def parse(cls, content: bytes) -> Record:
        """The inverse of `serialize`."""
        features, _, parser = _codec(cls)
        # Serialised examples that follow each other are merged, and the later ones win.
        return features.decode_example_np(parser.parse_example(_defaults(cls) + content))

    def _info(self) -> tfds.core.DatasetInfo:
        features = tfds.features.FeaturesDict(dict(self.FEATURES))
        return _Info(builder=self, features=features, disable_shuffling=True)

    def _split_generators(self, dl_manager) -> dict[str, Iterator]:
        return {split: self._generate_examples(split) for split in self._records}

    def _generate_examples(self, split: str) -> Iterator[tuple[int, bytes]]:
        yield from enumerate(self._records[split]())

    def _download_and_prepare(self, dl_manager, download_config) -> None:
        generators = self._split_generators(dl_manager)
        infos = [self._write_split(split, examples) for split, examples in generators.items()]
        self.info.set_splits(tfds.core.SplitDict(infos))

    def _write_split(self, split: str, examples: Iterable[tuple[int, bytes]]) -> Any:
        shards = _ShardWriter(self.data_path, split)
        with contextlib.closing(shards):
            for _, content in examples:
                shards.write(content)
        template = self._get_filename_template(split_name=split)
        for index, path in enumerate(shards.paths):  # Their names contain their number.
            path.rename(template.sharded_filepath(shard_index=index, num_shards=len(shards.paths)))
        return tfds.core.SplitInfo(
            name=split,
            shard_lengths=shards.lengths,
            num_bytes=shards.num_bytes,
            filename_template=template,
        )


@functools.cache
def _codec(builder_class: type[RecordsBuilder]) -> tuple[Any, Any, Any]:
    """Returns the features, the serializer and the parser of a kind of record."""
    features = tfds.features.FeaturesDict(dict(builder_class.FEATURES))
    specs = features.get_serialized_info()
    return features, tfds.core.ExampleSerializer(specs), ExampleParserNp(specs)


@functools.cache
def _defaults(builder_class: type[RecordsBuilder]) -> bytes:
    """Serialises the defaults of a kind of record as an incomplete record."""
    chosen = {name: builder_class.FEATURES[name] for name in builder_class.DEFAULTS}
    features = tfds.features.FeaturesDict(chosen)
    serializer = tfds.core.ExampleSerializer(features.get_serialized_info())
    return serializer.serialize_example(features.encode_example(dict(builder_class.DEFAULTS)))


def open_writer(path: str | os.PathLike) -> ArrayRecordWriter:
    """Opens a file of records for writing.

    A group is one record, because readers fetch single records in random order. There is no
    compression, because JPEG is compressed already.
    """
    return ArrayRecordWriter(os.fspath(path), "group_size:1,uncompressed")


class _ShardWriter:
    def __init__(self, folder: os.PathLike, split: str):
        self._folder, self._split = as_path(folder), split
        self._writer: ArrayRecordWriter | None = None
        self._shard_bytes = 0
        self.paths: list[pathlib.Path] = []
        self.lengths: list[int] = []
        self.num_bytes = 0

    def write(self, example: bytes) -> None:
        if self._writer is None or self._shard_bytes + len(example) > _MAX_SHARD_BYTES:
            self.close()
            self.paths.append(self._folder / f"{self._split}-{len(self.paths)}.unnamed")
            self.lengths.append(0)
            self._writer = open_writer(self.paths[-1])
            self._shard_bytes = 0
        self._writer.write(example)
        self._shard_bytes += len(example)
        self.num_bytes += len(example)
        self.lengths[-1] += 1

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None


@dataclasses.dataclass
class SplitNotes:
    """Collects the metadata of the records of a split."""

    clip_ids: list[str] = dataclasses.field(default_factory=list)
    num_frames: list[int] = dataclasses.field(default_factory=list)
    speakers: set[str] = dataclasses.field(default_factory=set)
    dims: dict[str, int] = dataclasses.field(default_factory=dict)

    def add(self, clip_id: str, speaker: str, num_frames: int, dims: Mapping[str, int]) -> None:
        """Adds a record; `dims` are the widths of its tables.

        Raises:
          ValueError: if the widths differ from those of the other records.
        """
        if self.dims not in ({}, dims):
            raise ValueError(f"{clip_id}: tables of widths {dims}, others {self.dims}")
        self.dims = dict(dims)
        self.clip_ids.append(clip_id)
        self.num_frames.append(int(num_frames))
        self.speakers.add(speaker)


def summarise(notes: Mapping[str, SplitNotes], *, fps: int) -> dict[str, Any]:
    """Turns the notes of all splits into metadata."""
    return {
        "dims": next(iter(notes.values())).dims,
        "speakers": sorted(set().union(*(split.speakers for split in notes.values()))),
        "splits": {
            name: {
                "num_clips": len(split.clip_ids),
                "seconds": sum(split.num_frames) / fps,
                "clip_ids": split.clip_ids,
                "num_frames": split.num_frames,
            }
            for name, split in notes.items()
        },
    }


def decode_texts(record: Record) -> Record:
    """Decodes the texts of a record to strings."""
    return {key: value.decode() for key, value in record.items() if isinstance(value, bytes)}


def is_dataset(path: str | os.PathLike) -> bool:
    """Returns whether this folder is a finished data set of any kind."""
    return (as_path(path) / _META_FILE).is_file()


def read_meta(path: str | os.PathLike, *, kind: str, remedy: str) -> dict[str, Any]:
    """Reads `dataset.json`.

    Args:
      path: a data set's folder.
      kind: the expected kind, "clips" or "motions".
      remedy: how to make such a data set, for the error message.

    Raises:
      InputError: if the file is missing or unreadable, or the kind is another one.
    """
    if not is_dataset(path):
        raise InputError(f"{path}: no data set here ({_META_FILE} is missing); {remedy}")
    try:
        meta = json.loads((as_path(path) / _META_FILE).read_text())
        found, version = meta["kind"], meta["format_version"]
    except (ValueError, KeyError, TypeError, OSError, RecursionError) as error:
        raise InputError(f"{path}/{_META_FILE}: cannot be read ({error}); {remedy}") from error
    if found != kind or version != FORMAT_VERSION:
        raise InputError(
            f"{path}: holds {found!r} of format {version}, but {kind!r} of format "
            f"{FORMAT_VERSION} are wanted here; {remedy}"
        )
    return meta


def write_dataset(
    out_dir: str | os.PathLike,
    records: Mapping[type[RecordsBuilder], Mapping[str, Callable[[], Iterable[bytes]]]],
    *,
    finish: Callable[[pathlib.Path], Mapping[str, Any]],
    arguments: Mapping[str, Any],
    scratch_dir: pathlib.Path | None = None,
) -> bool:
    """Writes a data set beside `out_dir`, and renames it when it is complete.

    Args:
      out_dir: the folder to create; it may exist if it is empty.
      records: for each kind of record and each split, a function that returns the serialised
        records in order; called kind by kind. The first kind is that of the data set.
      finish: called at the end with the folder, to which it may add files; returns metadata for
        `dataset.json`, ready for JSON.
      arguments: ready for JSON; all that determines the contents.
      scratch_dir: where it is written first, on the local disk that holds `out_dir`; by default
        beside `out_dir`.

    Returns:
      False if a data set made from the same arguments exists already, and nothing was done.

    Raises:
      InputError: if `out_dir` holds something else, or a split turns out to be empty.
    """
    out_dir = files.absolute(out_dir)
    kind = next(iter(records)).name
    arguments = json.loads(json.dumps(arguments))
    if is_done(out_dir, kind=kind, arguments=arguments):
        return False
    place = {"prefix": f".{out_dir.name}.incomplete-", "scratch": scratch_dir}
    with files.folder_beside(out_dir, last=_META_FILE, **place) as beside:
        for builder_class, by_split in records.items():
            lengths = _build(beside, builder_class, by_split)
            empty = [split for split, length in lengths.items() if not length]
            if empty:
                raise InputError(f"{out_dir}: nothing to write for the {empty[0]} split")
        header = {"kind": kind, "format_version": FORMAT_VERSION, "arguments": arguments}
        content = json.dumps({**header, **finish(beside)}, indent=1)
        (beside / _META_FILE).write_text(content + "\n")
    # Raises if another process was faster and wrote something else.
    return is_done(out_dir, kind=kind, arguments=arguments)


def is_done(out_dir: str | os.PathLike, *, kind: str, arguments: Mapping[str, Any]) -> bool:
    """Returns True if the data set exists already, False if the folder is free.

    Raises:
      InputError: if `out_dir` holds something else.
    """
    out_dir, arguments = as_path(out_dir), json.loads(json.dumps(arguments))
    if is_dataset(out_dir):
        there = read_meta(out_dir, kind=kind, remedy=_ELSEWHERE).get("arguments", {})
        keys = sorted(there.keys() | arguments.keys())
        other = [key for key in keys if there.get(key) != arguments.get(key)]
        if other:
            differences = ", ".join(
                f"{k} {there.get(k)!r}, not {arguments.get(k)!r}" for k in other
            )
            raise InputError(f"{out_dir}: holds a data set made with {differences}; {_ELSEWHERE}")
        return True
    check_place(out_dir)
    return False


def check_place(out_dir: str | os.PathLike) -> None:
    """Raises InputError if a folder holds anything but a data set."""
    if not is_dataset(out_dir) and not files.is_free(as_path(out_dir)):
        raise InputError(f"{out_dir}: exists and is not a data set; {_ELSEWHERE}")


def _build(
    folder: pathlib.Path,
    builder_class: type[RecordsBuilder],
    records: Mapping[str, Callable[[], Iterable[bytes]]],
) -> dict[str, int]:
    builder = builder_class(records=records, data_dir=str(folder), file_format="array_record")
    # TFDS announces a download on stdout and leaves its download folder behind.
    with files.temporary_folder() as downloads, contextlib.redirect_stdout(io.StringIO()):
        builder.download_and_prepare(download_dir=str(downloads))
    return {split: info.num_examples for split, info in builder.info.splits.items()}


class RecordSource:
    """Random access to the records of one split, for Grain and `for` loops.

    Attributes:
      path: the data set's folder.
      split: "train" or "test".
      metadata: `dataset.json`.
    """

    BUILDER: type[RecordsBuilder]
    REMEDY: str

    def __init__(self, path: str | os.PathLike, split: str):
        """Opens the data set; records are read on access.

        Raises:
          InputError: if the data set or the split is missing, damaged or of another kind.
        """
        self.path, self.split = as_path(path), split
        self.metadata = read_meta(path, kind=self.BUILDER.name, remedy=self.REMEDY)
        try:
            facts = self.metadata["splits"]
            lengths = facts[split]["num_frames"] if split in facts else None
            sound = _are_counts(lengths or []) and _are_counts(self.metadata["dims"].values())
            fps, there = self.metadata["fps"], ", ".join(facts)
        except (KeyError, TypeError, AttributeError) as error:
            raise self.damaged(f"{_META_FILE} lacks {error}") from error
        if lengths is None:
            raise InputError(f"{path}: has no split {split!r}, only {there}")
        if fps != FPS:
            raise InputError(
                f"{path}: holds {fps} frames a second, but {FPS} are wanted; {self.REMEDY}"
            )
        self._lengths, self._records = lengths, self._open(self.BUILDER)
        least = 4 * sum(self.metadata["dims"].values()) * sum(lengths)
        if not sound or len(lengths) != len(self._records) or least > self._records.num_bytes:
            raise self.damaged(f"not the {len(lengths)} records that {_META_FILE} tells of")

    def damaged(self, reason: str) -> InputError:
        """Returns the error for a data set that contradicts itself."""
        return InputError(f"{self.path}: is damaged ({reason}); {self.REMEDY}")

    def __len__(self) -> int:
        return len(self._records)

    @functools.cached_property
    def sha256(self) -> str:
        """A hash that identifies the data set independently of its path, in hexadecimal.

        It covers the metadata of the records and, for each file, its size and both ends, which
        contain the lengths and positions of all records.
        """
        facts = {key: self.metadata.get(key) for key in ("splits", "dims", "joint_names")}
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
        folder = files.local_folder(self.path)
        for path in sorted(folder.rglob("*.array_record*")):
            size = path.stat().st_size
            digest.update(f"{path.relative_to(folder).as_posix()} {size} ".encode())
            with path.open("rb") as file:
                digest.update(file.read(_END_BYTES))
                file.seek(max(size - _END_BYTES, 0))
                digest.update(file.read())
        return digest.hexdigest()

    def __getitem__(self, index: int) -> Record:
        if not 0 <= index < len(self):  # Also ends a `for` loop.
            raise IndexError(f"record {index} of {len(self)}")
        try:
            record = self._records[index]
            if record["num_frames"] != self.num_frames(index):
                raise ValueError(f"of {record['num_frames']} frames")
            return self._decode(record, index)
        except Exception as error:  # Hostile bytes fail in many ways; none of them is our defect.
            raise self.damaged(f"record {index} of {self.split}: {error}") from error

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.path)!r}, {self.split!r})"

    def num_frames(self, index: int) -> int:
        """Returns the length of a record in frames, without reading it."""
        return self._lengths[index]

    def _open(self, builder_class: type[RecordsBuilder]) -> "_Shards":
        """Opens the records of this split of one kind."""
        prefix = f"{builder_class.name}-{self.split}.array_record"
        folder = files.local_folder(self.path) / builder_class.name / FORMAT_VERSION
        paths = sorted(folder.glob(f"{prefix}-*"))
        names = [f"{prefix}-{n:05d}-of-{len(paths):05d}" for n in range(len(paths))]
        if not names or [path.name for path in paths] != names:
            raise self.damaged(f"not all of {folder / prefix}-*")
        try:
            return _Shards(paths, builder_class)
        except Exception as error:
            raise self.damaged(f"{folder}: {error}") from error

    def _decode(self, record: Record, index: int) -> Record:
        raise NotImplementedError


class _Shards:
    """Records by number, parsed by the features in our code, not by those in `features.json`."""

    def __init__(self, paths: list[pathlib.Path], builder_class: type[RecordsBuilder]):
        self._contents, self._builder_class = ArrayRecordDataSource(paths), builder_class
        self.num_bytes = sum(path.stat().st_size for path in paths)

    def __len__(self) -> int:
        return len(self._contents)

    def __getitem__(self, index: int) -> Record:
        return self._builder_class.parse(self._contents[index])


def _are_counts(values: Iterable[Any]) -> bool:
    return all(type(value) is int and 0 <= value < 2**40 for value in values)
