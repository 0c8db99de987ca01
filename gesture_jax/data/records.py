"""Data sets on disk: TFDS over ArrayRecord, without TensorFlow. `clips.py` says what is in them.

A data set is a folder with `dataset.json`, our facts about it, beside what TFDS wrote:

    DATASET/dataset.json
    DATASET/clips/1.0.0/{dataset_info.json, features.json, clips-train.array_record-00000-of-00001}

so that `tfds.builder_from_directory("DATASET/clips/1.0.0")` opens it as well.
"""

import contextlib
import io
import json
import os
import pathlib
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordWriter

from gesture_jax.errors import InputError

Record = dict[str, Any]
FORMAT_VERSION = "1.0.0"
_META_FILE = "dataset.json"
_MAX_SHARD_BYTES = 256 << 20


def text() -> tfds.features.FeatureConnector:
    """A string."""
    return tfds.features.Text()


def number() -> tfds.features.FeatureConnector:
    """An integer."""
    return tfds.features.Scalar(np.int64)


def images() -> tfds.features.FeatureConnector:
    """Encoded images, one `bytes` each: a reader can decode two of them and leave the rest.

    (A TFDS `Sequence(Image())` writes the same bytes but needs TensorFlow to read them.)
    """
    return tfds.features.Tensor(shape=(None,), dtype=np.object_)


def numbers(dtype: Any) -> tfds.features.FeatureConnector:
    """A vector of any length, stored as its bytes.

    Tables are stored flat: without TensorFlow, TFDS cannot restore two axes of unknown length.
    """
    encoding = tfds.features.Encoding.BYTES
    return tfds.features.Tensor(shape=(None,), dtype=dtype, encoding=encoding)


class RecordsBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """A TFDS builder whose examples come from functions, in their order and in constant memory.

    TFDS's own writer sorts all examples in memory and, from 1 GB on, spills them by a function that
    needs TensorFlow. This one streams each split to shards of 256 MB as its examples come.

    A subclass sets `FEATURES`.
    """

    VERSION = tfds.core.Version(FORMAT_VERSION)
    FEATURES: Mapping[str, tfds.features.FeatureConnector]

    def __init__(
        self, *, examples: Mapping[str, Callable[[], Iterable[Record]]] | None = None, **kwargs: Any
    ):
        self._examples = examples or {}
        super().__init__(**kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        features = tfds.features.FeaturesDict(dict(self.FEATURES))
        return self.dataset_info_from_configs(features=features, disable_shuffling=True)

    def _split_generators(self, dl_manager) -> dict[str, Iterator]:
        return {split: self._generate_examples(split) for split in self._examples}

    def _generate_examples(self, split: str) -> Iterator[tuple[int, Record]]:
        yield from enumerate(self._examples[split]())

    def _download_and_prepare(self, dl_manager, download_config) -> None:
        generators = self._split_generators(dl_manager)
        infos = [self._write_split(split, examples) for split, examples in generators.items()]
        self.info.set_splits(tfds.core.SplitDict(infos))

    def _write_split(self, split: str, examples: Iterable[tuple[int, Record]]) -> Any:
        features = self.info.features
        serializer = tfds.core.ExampleSerializer(features.get_serialized_info())
        shards = _ShardWriter(self.data_path, split)
        with contextlib.closing(shards):
            for _, example in examples:
                shards.write(serializer.serialize_example(features.encode_example(example)))
        template = self._get_filename_template(split_name=split)
        for index, path in enumerate(shards.paths):  # Their names tell how many there are.
            os.replace(
                path, template.sharded_filepath(shard_index=index, num_shards=len(shards.paths))
            )
        return tfds.core.SplitInfo(
            name=split,
            shard_lengths=shards.lengths,
            num_bytes=shards.num_bytes,
            filename_template=template,
        )


class _ShardWriter:
    def __init__(self, folder: os.PathLike, split: str):
        self._folder, self._split = pathlib.Path(folder), split
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
            # One record a group: readers fetch single clips, in random order.
            self._writer = ArrayRecordWriter(os.fspath(self.paths[-1]), "group_size:1")
            self._shard_bytes = 0
        self._writer.write(example)
        self._shard_bytes += len(example)
        self.num_bytes += len(example)
        self.lengths[-1] += 1

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def is_dataset(path: str | os.PathLike) -> bool:
    """Whether a finished data set, of any kind, lies in this folder."""
    return (pathlib.Path(path) / _META_FILE).is_file()


def read_meta(path: str | os.PathLike, *, kind: str, remedy: str) -> dict[str, Any]:
    """The facts in `dataset.json`.

    Args:
      path: a data set's folder.
      kind: what it should be: "clips" or "motions".
      remedy: for the error message: how to make one.

    Raises:
      InputError: where there is none, it cannot be read, or it is of another kind.
    """
    if not is_dataset(path):
        raise InputError(f"{path}: no data set here ({_META_FILE} is missing); {remedy}")
    try:
        meta = json.loads((pathlib.Path(path) / _META_FILE).read_text())
        found, version = meta["kind"], meta["format_version"]
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise InputError(f"{path}/{_META_FILE}: cannot be read ({error}); {remedy}") from error
    if found != kind or version != FORMAT_VERSION:
        raise InputError(
            f"{path}: holds {found!r} of format {version}, but {kind!r} of format "
            f"{FORMAT_VERSION} are wanted here; {remedy}"
        )
    return meta


def write_dataset(
    out_dir: str | os.PathLike,
    builder_class: type[RecordsBuilder],
    examples: Mapping[str, Callable[[], Iterable[Record]]],
    *,
    finish: Callable[[pathlib.Path], Mapping[str, Any]],
    arguments: Mapping[str, Any],
) -> bool:
    """Writes a data set beside `out_dir`, and renames it when it is complete.

    Args:
      out_dir: its folder, made here; may exist if empty.
      builder_class: says what is in a record.
      examples: for each split a function that gives its records, in order.
      finish: called at the end with the folder, to which it may add files; gives JSON-ready facts
        for `dataset.json`.
      arguments: JSON-ready; what the contents follow from.

    Returns:
      False where a data set made from the same arguments is there already: nothing was done.

    Raises:
      InputError: where `out_dir` holds something else, or a split turns out to be empty.
    """
    out_dir = pathlib.Path(out_dir).absolute()
    kind = builder_class.name
    arguments = json.loads(json.dumps(arguments))
    if _is_done(out_dir, kind, arguments):
        return False
    try:
        out_dir.parent.mkdir(parents=True, exist_ok=True)
        beside = tempfile.mkdtemp(prefix=f".{out_dir.name}.incomplete-", dir=out_dir.parent)
    except OSError as error:
        raise InputError(f"{out_dir}: cannot be written ({error.strerror})") from error
    try:
        lengths = _build(beside, builder_class, examples)
        empty = [split for split, length in lengths.items() if not length]
        if empty:
            raise InputError(f"{out_dir}: nothing to write for the {empty[0]} split")
        header = {"kind": kind, "format_version": FORMAT_VERSION, "arguments": arguments}
        content = json.dumps({**header, **finish(pathlib.Path(beside))}, indent=1)
        (pathlib.Path(beside) / _META_FILE).write_text(content + "\n")
        os.chmod(beside, 0o755)  # mkdtemp's are private.
        if _is_done(out_dir, kind, arguments):  # Another process was faster.
            return False
        os.replace(beside, out_dir)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return True


def _is_done(out_dir: pathlib.Path, kind: str, arguments: Mapping[str, Any]) -> bool:
    """True if the wanted data set is there, False if the place is free."""
    remedy = "choose another folder, or remove this one"
    if is_dataset(out_dir):
        there = read_meta(out_dir, kind=kind, remedy=remedy).get("arguments", {})
        keys = sorted(there.keys() | arguments.keys())
        other = [key for key in keys if there.get(key) != arguments.get(key)]
        if other:
            differences = ", ".join(
                f"{k} {there.get(k)!r}, not {arguments.get(k)!r}" for k in other
            )
            raise InputError(f"{out_dir}: holds a data set made with {differences}; {remedy}")
        return True
    if out_dir.exists() and not (out_dir.is_dir() and not any(out_dir.iterdir())):
        raise InputError(f"{out_dir}: exists and is not a data set; {remedy}")
    return False


def _build(
    folder: str,
    builder_class: type[RecordsBuilder],
    examples: Mapping[str, Callable[[], Iterable[Record]]],
) -> dict[str, int]:
    builder = builder_class(examples=examples, data_dir=folder, file_format="array_record")
    # TFDS announces a download on stdout and leaves its folder behind.
    with tempfile.TemporaryDirectory() as downloads, contextlib.redirect_stdout(io.StringIO()):
        builder.download_and_prepare(download_dir=downloads)
    return {split: info.num_examples for split, info in builder.info.splits.items()}


class RecordSource:
    """Random access to the records of one split, as Grain and `for` loops want it.

    Attributes:
      path: the data set's folder.
      split: "train" or "test".
      metadata: `dataset.json`.
    """

    KIND: str
    REMEDY: str

    def __init__(self, path: str | os.PathLike, split: str):
        """Opens the data set; records are read when asked for.

        Raises:
          InputError: where data set or split are missing or of another kind.
        """
        self.path, self.split = pathlib.Path(path), split
        self.metadata = read_meta(path, kind=self.KIND, remedy=self.REMEDY)
        if split not in self.metadata["splits"]:
            there = ", ".join(self.metadata["splits"])
            raise InputError(f"{path}: has no split {split!r}, only {there}")
        self._facts = self.metadata["splits"][split]
        try:
            builder = tfds.builder_from_directory(self.path / self.KIND / FORMAT_VERSION)
            self._records = builder.as_data_source(split)
        except (OSError, ValueError, tfds.core.DatasetNotFoundError) as error:
            raise InputError(f"{path}: is damaged ({error}); {self.REMEDY}") from error

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> Record:
        if not 0 <= index < len(self):  # Also ends a `for` loop.
            raise IndexError(f"record {index} of {len(self)}")
        return self._decode(self._records[index])

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.path)!r}, {self.split!r})"

    def num_frames(self, index: int) -> int:
        """Length of a record in frames, without reading it."""
        return self._facts["num_frames"][index]

    def _decode(self, record: Record) -> Record:
        raise NotImplementedError
