"""From data sets to batches: Grain pipelines, deterministic by seed and resumable.

A training stream is shuffled as a whole and cut into batches; each host makes its share of every
batch, so that n hosts together see the same batches as one. The position goes into checkpoints and
does not depend on the number of hosts and worker processes.
A test pass visits every example once, in order. Its last batch is padded with repeated examples,
where `mask` [b] float32 is 0. `other` [b] int32 is the row of an example with other content, for
control experiments; it is -1 if the batch has none.
"""

from __future__ import annotations

import collections
import concurrent.futures
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence

import grain
import numpy as np
from absl import flags, logging

from gesture_jax.data import clips, motions
from gesture_jax.data.augment import Augmentation, Change
from gesture_jax.errors import InputError
from gesture_jax.people.regions import REGIONS, region_boxes

Example = dict[str, np.ndarray]
_MAX_CACHE_BYTES = 2 << 30
# A few batches ahead hide the host's work; Grain's default of 500 would fill the memory.
_READ_OPTIONS = grain.ReadOptions(num_threads=1, prefetch_buffer_size=4)


class Batches:
    """Batches to iterate over, from the start or from a position on.

    The k-th batch depends on k alone, so a position is a number.
    """

    def __init__(self, batches: grain.MapDataset, num_workers: int):
        """See `frame_pairs` and `motion_windows`."""
        self._batches, self._num_workers = batches, num_workers

    def __iter__(self) -> BatchIterator:
        return BatchIterator(self._batches, self._num_workers)


class BatchIterator(Iterator):
    """Iterates over batches from a position on; that position is its state, ready for JSON."""

    def __init__(self, batches: grain.MapDataset, num_workers: int):
        """Most users want `iter` of `Batches`."""
        self._batches, self._num_workers = batches, num_workers
        self._position = 0
        self._running: grain.DatasetIterator | None = None

    def __next__(self) -> Example:
        if self._running is None:
            self._running = iter(self._start())
        batch = next(self._running)
        self._position += 1
        return batch

    def get_state(self) -> dict[str, int]:
        """Returns the position: the number of batches that were returned."""
        return {"position": self._position}

    def set_state(self, state: Mapping[str, int]) -> None:
        """Continues as if `state["position"]` batches had been returned."""
        self.close()
        self._position = int(state["position"])

    def close(self) -> None:
        """Stops the threads and processes."""
        running, self._running = self._running, None
        if hasattr(running, "close"):  # Those of Grain 0.2.11 stop by themselves.
            running.close()

    def _start(self) -> grain.IterDataset:
        rest = self._batches[self._position :].to_iter_dataset(_READ_OPTIONS)
        if not self._num_workers:
            return rest
        if not flags.FLAGS.is_parsed():  # Grain's workers read flags, also outside of absl apps.
            flags.FLAGS.mark_as_parsed()
        # Grain 0.2.11 has these options only there.
        options = grain.multiprocessing.MultiprocessingOptions(
            self._num_workers, per_worker_buffer_size=2
        )
        return rest.mp_prefetch(options, worker_init_fn=_leave_ctrl_c_to_the_parent)


def _leave_ctrl_c_to_the_parent(worker: int, num_workers: int) -> None:
    """Ignores Ctrl-C in a worker: the parent needs data until it has saved a checkpoint."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def frame_pairs(
    source: clips.ClipSource,
    *,
    batch_size: int,
    seed: int,
    train: bool,
    shard: tuple[int, int] = (0, 1),
    cache: bool = False,
    frames_per_clip: int = 8,
    augmentation: Augmentation | None = None,
    num_workers: int = 0,
    as_numbers: bool = False,
) -> Batches:
    """Returns pairs of frames of one clip, for stage 1.

    In training the stream is endless: the driving frame visits all frames of the data set in random
    order, so that long clips weigh more, and the source is a random frame of the same clip. In a
    test pass the source is frame 0 of a clip, and the driving frames are spread evenly over it.

    Args:
      source: the clips.
      batch_size: number of examples in a batch of this host.
      seed: seed of order and pairing.
      train: training stream or test pass.
      shard: index of this host, and number of hosts.
      cache: keeps the decoded frames in memory if they take less than 2 GB.
      frames_per_clip: number of driving frames of each clip in the test pass.
      augmentation: random changes to training pairs.
      num_workers: number of processes that decode; 0 decodes in a thread of this one.
      as_numbers: returns, instead of pictures, `numbers` [b, 2] among the frames of `decode_all`
        and the other inputs of `augment.draw_on_device`; for training pairs.

    Returns:
      Batches of `source` and `driving`, [b, h, w, 3] float32 in [0, 1]; `boxes` [b, 3, 4] of
      hands and mouth in `driving` (`regions.region_boxes`); `points` [b, 2, j, 2], the joints of
      both frames as (x, y) in pixels, NaN for joints that were not detected; in a test pass also
      `mask`, and `other`, the nearest earlier example with another driving frame.
    """
    frames = _Frames(source, cache=cache)

    def train_pair(index: int, generator: np.random.Generator) -> Example:
        clip, driving = frames.locate(index)
        pair = [int(generator.integers(source.num_frames(clip))), driving]
        change = augmentation.choose(generator) if augmentation is not None else Change()
        tables = change.place(*frames.tables(clip, pair), size=source.size)
        if as_numbers:
            numbers = change.order(np.int32(pair) + np.int32(index - driving))
            return {"numbers": numbers, **change.as_batch(), **_places(*tables)}
        return _pair(change.draw(frames.read(clip, pair)), *tables)

    def test_pair(index: int) -> Example:
        clip, number = divmod(index, frames_per_clip)
        last = source.num_frames(clip) - 1
        driving = round(last * (number + 1) / frames_per_clip)
        pair = [0, driving]
        return _pair(frames.read(clip, pair), *frames.tables(clip, pair))

    if train:
        stream = _train_stream(len(frames), seed).random_map(train_pair)
    else:
        stream = _test_stream(len(source) * frames_per_clip, batch_size, shard, test_pair)
    batches = _batches(stream, batch_size, shard)
    if not train:
        batches = batches.map(lambda batch: _with_others(batch, "driving", distance=1))
    return Batches(batches.map(_to_float), num_workers)


def motion_windows(
    source: motions.MotionSource,
    *,
    window: int = 80,
    stride: int = 10,
    num_prior: int = 5,
    speakers: Sequence[str] = (),
    batch_size: int,
    seed: int,
    train: bool,
    shard: tuple[int, int] = (0, 1),
    num_workers: int = 0,
) -> Batches:
    """Returns windows of motion and speech and the frames before them, for stage 2.

    Windows start at frames 0, stride, 2 stride, ... of each clip and lie within it. Prior frames
    before the start of the clip repeat its first frame.

    Args:
      source: the motions.
      window: length in frames.
      stride: distance between the starts of two windows, in frames.
      num_prior: p, the number of frames before the window.
      speakers: names in the order of their numbers; without names every speaker is number 0.
      batch_size: number of examples in a batch of this host.
      seed: seed of the order.
      train: endless and shuffled, or one pass in order.
      shard: index of this host, and number of hosts.
      num_workers: number of processes that read; 0 reads in a thread of this one.

    Returns:
      Batches of `motion` [b, window, d + l], where l is `source.num_lips`, `prior` [b, p, d + l],
      which ends right before the window, `portrait` [b, d + l], a random frame of the clip or, in a
      test pass, its first one, and
      `speech` [b, window, a], float32, `speaker` [b] int32; in a test pass also `mask`, and
      `other`, an example with other speech, half a batch away if possible.

    Raises:
      InputError: if every clip is shorter than the window.
    """
    starts = [
        (clip, start)
        for clip in range(len(source))
        for start in range(0, source.num_frames(clip) - window + 1, stride)
    ]
    if not starts:
        longest = max(source.num_frames(clip) for clip in range(len(source)))
        raise InputError(
            f"{source.path}: no {source.split} clip has the {window} frames of a window "
            f"(the longest has {longest}); prepare longer clips or use a shorter window"
        )
    read = _Motions(source).read
    numbers = {speaker: number for number, speaker in enumerate(speakers)}

    def cut(index: int, random: np.random.Generator | None = None) -> Example:
        clip, start = starts[index]
        record = read(clip)
        motion = record["motion"]
        portrait = 0 if random is None else random.integers(len(motion))
        before = np.maximum(np.arange(start - num_prior, start), 0)
        span = slice(start, start + window)
        return {
            "motion": motion[span],
            "prior": motion[before],
            "portrait": motion[portrait],
            "speech": record["speech"][span],
            "speaker": np.int32(numbers[record["speaker"]] if numbers else 0),
        }

    if train:
        stream = _train_stream(len(starts), seed).random_map(cut)
    else:
        stream = _test_stream(len(starts), batch_size, shard, cut)
    batches = _batches(stream, batch_size, shard)
    if not train:
        far = batch_size // 2
        batches = batches.map(lambda batch: _with_others(batch, "speech", distance=far))
    return Batches(batches, num_workers)


def _train_stream(count: int, seed: int) -> grain.MapDataset:
    return grain.MapDataset.range(count).seed(seed % 2**32).shuffle().repeat()


def _test_stream(
    count: int, batch_size: int, shard: tuple[int, int], example: Callable[[int], Example]
) -> grain.MapDataset:
    """Examples in order, padded so that every host gets the same number of full batches."""
    together = batch_size * shard[1]
    padded = -(-count // together) * together

    def masked(index: int) -> Example:
        mask = np.float32(index < count)
        return {**example(index % count), "mask": mask}

    return grain.MapDataset.range(padded).map(masked)


def _batches(stream: grain.MapDataset, batch_size: int, shard: tuple[int, int]) -> grain.MapDataset:
    # After the random operations, whose seeds depend on the position in the global stream.
    return _Share(stream, batch_size, shard).batch(batch_size, drop_remainder=True)


class _Share(grain.MapDataset):
    """This host's contiguous slice of every global batch."""

    def __init__(self, stream: grain.MapDataset, batch_size: int, shard: tuple[int, int]):
        super().__init__(stream)
        self._stream = stream
        self._batch_size, (self._number, self._count) = batch_size, shard

    def __len__(self) -> int:
        return len(self._stream) // (self._batch_size * self._count) * self._batch_size

    def __getitem__(self, index):
        if isinstance(index, slice):
            return self.slice(index)
        batch, row = divmod(index, self._batch_size)
        return self._stream[(batch * self._count + self._number) * self._batch_size + row]


def _with_others(batch: Example, key: str, *, distance: int) -> Example:
    """Adds `other`: for each row, the first row with different content of `key`, or -1.

    The search goes backwards, starting `distance` rows before. It compares content, because padding
    repeats rows.
    """
    contents = [row.tobytes() for row in batch[key]]
    count = len(contents)

    def find(row: int) -> int:
        candidates = ((row - distance - step) % count for step in range(count))
        return next((other for other in candidates if contents[other] != contents[row]), -1)

    return {**batch, "other": np.array([find(row) for row in range(count)], np.int32)}


def _pair(frames: np.ndarray, boxes: np.ndarray, points: np.ndarray) -> Example:
    return {"source": frames[0], "driving": frames[1], **_places(boxes, points)}


def _places(boxes: np.ndarray, points: np.ndarray) -> Example:
    return {"boxes": boxes[1], "points": points}


def _to_float(batch: Example) -> Example:
    """Converts uint8 pictures to float32 in [0, 1]; fastest for a whole batch."""
    to_float = lambda x: np.divide(x, np.float32(255), dtype=np.float32)
    return {key: to_float(x) if x.dtype == np.uint8 else x for key, x in batch.items()}


def decode_all(source: clips.ClipSource) -> np.ndarray:
    """Decodes all frames of a data set, clip after clip: [n, size, size, 3] uint8."""
    lengths = [source.num_frames(clip) for clip in range(len(source))]
    starts = np.cumsum([0, *lengths])
    frames = np.empty((starts[-1], source.size, source.size, 3), np.uint8)

    def decode(clip: int) -> None:
        span = range(lengths[clip])
        frames[starts[clip] : starts[clip + 1]] = source.read_frames(clip, span)

    with concurrent.futures.ThreadPoolExecutor() as threads:
        collections.deque(threads.map(decode, range(len(source))), maxlen=0)
    return frames


class _Frames:
    """All frames of a data set, numbered consecutively; decoded once if `cache` allows it."""

    def __init__(self, source: clips.ClipSource, *, cache: bool):
        self._source = source
        lengths = [source.num_frames(clip) for clip in range(len(source))]
        self._ends = np.cumsum(lengths)
        self._tables: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self._decoded: np.ndarray | None = None
        num_bytes = len(self) * source.size**2 * 3
        if cache and num_bytes <= _MAX_CACHE_BYTES:
            self._decoded = decode_all(source)
        elif cache:
            logging.info("%s: %.1f GB decoded, not kept in memory", source.path, num_bytes / 1e9)

    def __len__(self) -> int:
        return int(self._ends[-1])

    def locate(self, index: int) -> tuple[int, int]:
        """Returns the clip and the frame within it of a frame number."""
        clip = int(np.searchsorted(self._ends, index, side="right"))
        return clip, int(index - self._start(clip))

    def read(self, clip: int, indices: list[int]) -> np.ndarray:
        """Reads frames: [k, h, w, 3] uint8."""
        if self._decoded is not None:
            return self._decoded[np.asarray(indices) + self._start(clip)]
        return self._source.read_frames(clip, indices)

    def tables(self, clip: int, indices: list[int]) -> tuple[np.ndarray, np.ndarray]:
        """Returns the region boxes [k, 3, 4] and the joints [k, j, 2] of frames; float32."""
        if clip not in self._tables:  # They are small: each clip's are read once.
            names, count = self._source.joint_names, self._source.num_frames(clip)
            joints, boxes = np.zeros((count, 0, 2)), np.zeros((count, len(REGIONS), 4))
            if names:
                joints = self._source[clip]["joints"]
                boxes = region_boxes(joints, names, size=self._source.size)
            self._tables[clip] = boxes.astype(np.float32), joints.astype(np.float32)
        boxes, joints = (table[indices] for table in self._tables[clip])
        return boxes, joints

    def _start(self, clip: int) -> int:
        return int(self._ends[clip - 1]) if clip else 0


class _Motions:
    """Motions by clip with their lips, kept in memory if they take less than 2 GB."""

    def __init__(self, source: motions.MotionSource):
        self._source = source
        num_frames = sum(source.num_frames(clip) for clip in range(len(source)))
        num_bytes = 4 * num_frames * (source.motion_dim + source.speech_dim)
        self._kept: dict[int, Example] | None = {} if num_bytes <= _MAX_CACHE_BYTES else None

    def read(self, clip: int) -> Example:
        if self._kept is None:
            return self._load(clip)
        if clip not in self._kept:
            self._kept[clip] = self._load(clip)
        return self._kept[clip]

    def _load(self, clip: int) -> Example:
        record = self._source[clip]
        return {**record, "motion": motions.with_lips(record)}
