"""What `gesture_jax.pack --half` costs: weights of 16 bits against those of 32.

python -m benchmarks.rounding STAGE1 STAGE2 DATASET

Both stages are packed both ways. Of the first test clips, redrawn from their first frame and
generated from their speech with the same seed, it prints a Markdown table.

| column | what |
|---|---|
| redrawn, 32 bits; 16 bits | PSNR in dB against the real frames |
| between | PSNR of the one redrawing against the other |
| motion features | how far they are apart (root mean square), in standard deviations of the clip |
| generated motion | the same, of what stage 2 makes |
"""

import pathlib
import sys
import tempfile

import numpy as np

from benchmarks.report import format_table
from gesture_jax.checkpoint import checkpoints
from gesture_jax.data.clips import ClipSource
from gesture_jax.inference.generator import GestureGenerator
from gesture_jax.metrics import image as image_metrics

_CLIPS = 4


def measure(stage1: str, stage2: str, data: str) -> dict[str, dict[str, float]]:
    """The table's columns for each of the first test clips."""
    with tempfile.TemporaryDirectory() as folder:
        whole, half = (_load(stage1, stage2, pathlib.Path(folder), half=h) for h in (False, True))
    test = ClipSource(data, "test")
    table = {}
    for index in range(min(_CLIPS, len(test))):
        record = test[index]
        frames = test.read_frames(index, range(test.num_frames(index)))
        one, other = (_work(each, frames, record["speech"]) for each in (whole, half))
        psnr = lambda a, b: float(np.mean(image_metrics.psnr(a, b)))
        real = frames.astype(np.float32) / 255
        table[record["clip_id"]] = {
            "redrawn, 32 bits": psnr(one["frames"], real),
            "16 bits": psnr(other["frames"], real),
            "between": psnr(one["frames"], other["frames"]),
            "motion features": _apart(one["motion"], other["motion"]),
            "generated motion": _apart(one["generated"], other["generated"]),
        }
    return table


def _load(stage1: str, stage2: str, folder: pathlib.Path, *, half: bool) -> GestureGenerator:
    files = {}
    for name, workdir in (("stage1", stage1), ("stage2", stage2)):
        files[name] = folder / f"{name}_{half}.safetensors"
        checkpoints.pack(workdir, files[name], half=half)
        print(f"{files[name].name}: {files[name].stat().st_size / 1e6:.2f} MB", file=sys.stderr)
    return GestureGenerator.load(**files)


def _work(generator: GestureGenerator, frames: np.ndarray, speech: np.ndarray) -> dict:
    animator = generator.animator
    source = animator.encode_source(frames[0])
    motion = animator.extract_motion(frames)
    rows = generator.defaults.schedule.count_rows(len(frames))
    heard = np.pad(speech, ((0, max(0, rows - len(speech))), (0, 0)), mode="edge")
    windows = generator.motion_from_features(source.motion, [heard], len(frames), seed=0)
    return {
        "motion": motion,
        "frames": animator.render(source, motion),
        "generated": np.concatenate(list(windows)),
    }


def _apart(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.sqrt(np.mean((one - other) ** 2) / np.mean(one.var(axis=0))))


if __name__ == "__main__":
    print(format_table(measure(*sys.argv[1:4]), first="clip", show=lambda _, x: f"{x:.4g}"))
