"""Measures how fast data are made and read on this machine: `python -m benchmarks.data [DATASET]`.

Reads batches of the `paper` preset, 256x256, from DATASET or from drawn clips of 15 s, and compares
with a plain loop over PNG files, which is common in the field. Prints a table, appends it to
`benchmarks/results.jsonl`, and says how many TPU chips the loader can feed.
"""

import functools
import itertools
import pathlib
import sys
import tempfile
import time
from collections.abc import Iterator

import numpy as np
from PIL import Image

from benchmarks.report import Figure, report, time_ms
from gesture_jax.data import clips, motions, pipeline
from gesture_jax.data.augment import Augmentation
from gesture_jax.media.writer import write_video
from gesture_jax.preparation import parts, procedural, videos
from gesture_jax.procedural import speaker

_SIZE = 256
_BATCH_SIZE, _WINDOWS = 16, 64
_WARM_UP, _BATCHES, _RUNS = 4, 24, 3
_MOTION_DIM, _SPEECH_DIM = 2307, 1059
# A forward pass takes 196.6 GMAC per pair of frames, two operations each, and the gradient twice as
# much.
_FLOP_PER_PAIR = 196.6e9 * 2 * 3
# Peak of a v5e chip in bfloat16, and the fraction that convolutional networks reach.
_CHIP_FLOPS, _PEAK_FRACTION = 197e12, 0.4


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        path = sys.argv[1] if len(sys.argv) > 1 else _draw(folder / "drawn")
        source = clips.ClipSource(path, "train")
        rates: list[float] = []
        report(itertools.chain(
            _parts(source), _pairs(source, rates), _png_loop(source, folder / "png"),
            _windows(folder / "motions"), _preparation(folder),
        ))  # fmt: skip
    _print_chips(max(rates))


def _draw(path: pathlib.Path) -> pathlib.Path:
    options = dict(num_clips=8, num_identities=4, clip_sec=15.0, size=_SIZE, seed=0)
    procedural.write_procedural(path, **options)
    return path


def _parts(source: clips.ClipSource) -> Iterator[Figure]:
    """Times the parts of loading a pair, on one core."""
    jpeg = source[0]["frames"][0]
    yield "a frame: size as JPEG", "kB", [len(jpeg) / 1000]
    random = np.random.default_rng(0)
    places = [
        (int(clip), int(random.integers(source.num_frames(clip))))
        for clip in random.integers(len(source), size=200)
    ]
    read = lambda: [source.read_frames(clip, [frame]) for clip, frame in places]
    yield "a frame: read and decode", "ms", time_ms(read, per=len(places))
    decode = lambda: [clips.decode_frame(jpeg) for _ in range(100)]
    yield "a frame: decode", "ms", time_ms(decode, per=100)
    pair = source.read_frames(0, [0, 1])
    augment = lambda: Augmentation().choose(random).draw(pair)
    yield "a pair: augment", "ms", time_ms(lambda: [augment() for _ in range(50)], per=50)


def _pairs(source: clips.ClipSource, rates: list[float]) -> Iterator[Figure]:
    for augmentation, text in ((None, "as they are"), (Augmentation(), "augmented")):
        for num_workers in (0, 1, 2):
            batches = pipeline.frame_pairs(
                source,
                batch_size=_BATCH_SIZE,
                seed=0,
                train=True,
                augmentation=augmentation,
                num_workers=num_workers,
            )
            values = _rates(iter(batches), _BATCH_SIZE)
            rates.append(float(np.median(values)))
            yield f"pairs {text}, {num_workers} workers", "pairs/s", values


def _rates(iterator: pipeline.BatchIterator, batch_size: int) -> list[float]:
    """Returns examples per second, for a few runs."""
    for _ in range(_WARM_UP):
        next(iterator)
    values = []
    for _ in range(_RUNS):
        start = time.perf_counter()
        for _ in range(_BATCHES):
            next(iterator)
        values.append(_BATCHES * batch_size / (time.perf_counter() - start))
    iterator.close()
    return values


def _png_loop(source: clips.ClipSource, folder: pathlib.Path) -> Iterator[Figure]:
    """Times a loop that reads pairs of PNG files of one clip one after the other."""
    folder.mkdir()
    frames = clips.decode_frames(source[0], range(64))
    for number, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / f"{number:07d}.png")
    names = sorted(folder.iterdir())
    random = np.random.default_rng(0)

    def batch() -> np.ndarray:
        chosen = random.integers(len(names), size=(_BATCH_SIZE, 2))
        read = lambda index: np.asarray(Image.open(names[index]), np.float32) / 255
        return np.stack([np.stack([read(one), read(other)]) for one, other in chosen])

    values = [_BATCH_SIZE * 1000 / ms for ms in time_ms(batch)]
    yield "plain loop over PNG files", "pairs/s", values


def _windows(path: pathlib.Path) -> Iterator[Figure]:
    """Times loading windows for stage 2, from clips of 15 s with all features."""
    random = np.random.default_rng(0)

    def records(count: int):
        for number in range(count):
            table = lambda width: random.standard_normal((375, width)).astype(np.float32)
            names = {"clip_id": f"a#{number}", "speaker": "a"}
            yield {**names, "motion": table(_MOTION_DIM), "speech": table(_SPEECH_DIM)}

    by_split = {"train": lambda: records(40), "test": lambda: records(1)}
    motions.write_motions(path, by_split, metadata={})
    source = motions.MotionSource(path, "train")
    for num_workers in (0, 1, 2):
        options = dict(batch_size=_WINDOWS, seed=0, train=True, num_workers=num_workers)
        values = _rates(iter(pipeline.motion_windows(source, **options)), _WINDOWS)
        yield f"windows of 80 frames, {num_workers} workers", "windows/s", values


def _preparation(folder: pathlib.Path) -> Iterator[Figure]:
    """Times preparation of videos of 1280x720 at 25 frames a second into clips of 256x256."""
    (folder / "videos").mkdir()
    done = speaker.perform(identity=0, seed=0, duration_sec=20.0, size=_SIZE)
    wide = (np.asarray(Image.fromarray(frame).resize((1280, 720))) for frame in done.frames)
    write_video(folder / "videos" / "0.mp4", wide, audio=done.audio, fps=25, crf=23)
    content = (folder / "videos" / "0.mp4").read_bytes()
    for number in range(1, 4):
        (folder / "videos" / f"{number}.mp4").write_bytes(content)
    minutes = 4 * 20 / 60
    for num_workers in (0, 2):
        start = time.perf_counter()
        videos.write_videos(
            folder / "videos",
            folder / f"prepared{num_workers}",
            settings=videos.Settings(size=_SIZE),
            run=functools.partial(parts.make_parts, num_workers=num_workers),
        )
        rate = minutes / ((time.perf_counter() - start) / 60)
        yield f"prepare 1280x720, {num_workers} workers", "min of video/min", [rate]


def _print_chips(pairs_per_sec: float) -> None:
    chip = _CHIP_FLOPS * _PEAK_FRACTION / _FLOP_PER_PAIR
    print(
        f"\nTPU v5e, paper preset: {_FLOP_PER_PAIR / 1e12:.2f} TFLOP per pair; a chip reaches "
        f"{_CHIP_FLOPS / 1e12:.0f} TFLOP/s at its peak,\n"
        f"and at {_PEAK_FRACTION:.0%} of that {chip:.0f} pairs/s. "
        f"{pairs_per_sec:.0f} pairs/s feed {pairs_per_sec / chip:.1f} chips."
    )


if __name__ == "__main__":
    main()
