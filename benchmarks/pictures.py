"""Measures how well a stage 1 reconstructs unseen frames, clip by clip.

python -m benchmarks.pictures STAGE1 DATASET [SHEET.png]

Every frame of every test clip is reconstructed ("redrawn") from one source frame. This is the first
frame of the clip; if the test clip is the end of a recording (`prepare --split_within_clips`), it
is the first frame of the recording, which is training data. Two references need no model: a copy of
the source, and the mean frame of the recording, test part included, which no model may see. Prints
a Markdown table.

| column | meaning |
|---|---|
| redrawn, copy, mean frame | PSNR in dB |
| other motion | PSNR with the motion of a frame a third of the clip away |
| hands, hands copied | PSNR within the boxes of the hands, of the reconstruction and the copy |
| SSIM | SSIM of the reconstruction |
| ST-LPIPS, ST-LPIPS copied | ST-LPIPS of the reconstruction and the copy |
| kept | of frames driven by other people, the share closer (ST-LPIPS) to the source than to them |
"""

import sys

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.report import format_table
from gesture_jax.data.clips import ClipSource
from gesture_jax.inference.animator import Animator
from gesture_jax.media import images
from gesture_jax.metrics import image as image_metrics
from gesture_jax.metrics import perceptual
from gesture_jax.ops.image import box_mask
from gesture_jax.people.regions import HANDS, region_boxes
from gesture_jax.pretrained import fetch

COLUMNS = (
    "redrawn", "copy", "mean frame", "other motion", "hands", "hands copied", "SSIM", "ST-LPIPS",
    "ST-LPIPS copied", "kept",
)  # fmt: skip
_SHEET_PICTURES = 12
_BATCH = 16
# Frames of each clip that go through VGG, which is slow.
_LPIPS_FRAMES = 32
_CROSS_FRAMES = 8


def measure(workdir: str, data: str, *, sheet: str | None = None) -> dict[str, dict[str, float]]:
    """Returns `COLUMNS` for each test clip, and their averages as "average".

    Args:
      workdir: workdir of a trained stage 1.
      data: a dataset made by `gesture_jax.prepare`.
      sheet: path of a PNG to write, with source frames, driving frames and reconstructions.
    """
    animator = Animator.load(workdir)
    takes = _read_takes(data)
    sources = {name: animator.encode_source(take["source"]) for name, take in takes.items()}
    vgg = fetch.load_vgg16()
    table, pictures = {}, []
    for name, take in takes.items():
        motion = animator.extract_motion(take["frames"])
        redrawn = animator.render(sources[name], motion)
        other = animator.render(sources[name], np.roll(motion, len(motion) // 3, axis=0))
        table[name] = _row(vgg, take, redrawn, other)
        table[name]["kept"] = _share_kept(vgg, animator, sources, takes, name, motion)
        pictures += _choose(take, redrawn, count=-(-_SHEET_PICTURES // len(takes)))
    if sheet:
        chosen = np.linspace(0, len(pictures) - 1, _SHEET_PICTURES, dtype=int)
        rows = zip(*(pictures[i] for i in chosen), strict=True)
        images.write_image(sheet, images.contact_sheet(list(rows)))
    rows = list(table.values())
    table["average"] = {c: _mean([row[c] for row in rows]) for c in COLUMNS}
    return table


def show(column: str, value: float) -> str:
    """Formats a value of a column."""
    if np.isnan(value):
        return "-"
    digits = 3 if "LPIPS" in column or column == "SSIM" else 1
    return f"{value:.0%}" if column == "kept" else f"{value:.{digits}f}"


def _mean(values: list[float]) -> float:
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else np.nan


def _read_takes(data: str) -> dict[str, dict]:
    """Returns frames, hands, source frame and mean frame of each test clip, in [0, 1]."""
    train, test = ClipSource(data, "train"), ClipSource(data, "test")
    beginnings = {record["clip_id"]: index for index, record in enumerate(train)}
    takes = {}
    for index, record in enumerate(test):
        frames = _all_frames(test, index)
        whole = frames
        beginning = beginnings.get(record["clip_id"].removesuffix("-end"))
        if beginning is not None:
            whole = np.concatenate([_all_frames(train, beginning), frames])
        boxes = region_boxes(record["joints"], test.joint_names, size=test.size)[:, HANDS]
        takes[record["clip_id"]] = {
            "frames": frames,
            "source": whole[0],
            "mean": whole.mean(axis=0),
            "speaker": record["speaker"],
            "hands": np.asarray(box_mask(boxes, height=test.size, width=test.size)),
        }
    return takes


def _all_frames(source: ClipSource, index: int) -> np.ndarray:
    return source.read_frames(index, range(source.num_frames(index))).astype(np.float32) / 255


def _row(vgg, take: dict, redrawn: np.ndarray, other: np.ndarray) -> dict[str, float]:
    frames, hands = take["frames"], take["hands"]
    copied = np.broadcast_to(take["source"], frames.shape)
    psnr = lambda picture, *mask: float(np.nanmean(image_metrics.psnr(picture, frames, *mask)))
    seen = hands.any()
    some = np.linspace(0, len(frames) - 1, _LPIPS_FRAMES, dtype=int)
    return {
        "redrawn": psnr(redrawn),
        "copy": psnr(copied),
        "mean frame": psnr(np.broadcast_to(take["mean"], frames.shape)),
        "other motion": psnr(other),
        "hands": psnr(redrawn, hands) if seen else np.nan,
        "hands copied": psnr(copied, hands) if seen else np.nan,
        "SSIM": float(image_metrics.ssim(redrawn, frames).mean()),
        "ST-LPIPS": float(_st_lpips(vgg, redrawn[some], frames[some]).mean()),
        "ST-LPIPS copied": float(_st_lpips(vgg, copied[some], frames[some]).mean()),
    }


def _share_kept(vgg, animator, sources, takes, name: str, motion: np.ndarray) -> float:
    """Returns how often other people, driven by this clip, keep their own appearance."""
    chosen = np.linspace(0, len(motion) - 1, _CROSS_FRAMES, dtype=int)
    driving = takes[name]["frames"][chosen]
    # One clip of each other person.
    others = {take["speaker"]: other for other, take in takes.items()}
    kept = []
    for speaker, other in others.items():
        if speaker != takes[name]["speaker"]:
            take = takes[other]
            crossed = animator.render(sources[other], motion[chosen])
            to_source = _st_lpips(vgg, crossed, np.broadcast_to(take["source"], crossed.shape))
            kept.append(to_source < _st_lpips(vgg, crossed, driving))
    return float(np.mean(kept)) if kept else np.nan


@jax.jit
def _st_lpips_batch(vgg, one, other):
    return perceptual.st_lpips(vgg, one, other)


def _st_lpips(vgg, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Computes ST-LPIPS in batches of equal size; the last one is padded."""
    indices = np.arange(-(-len(one) // _BATCH) * _BATCH).reshape(-1, _BATCH) % len(one)
    parts = [_st_lpips_batch(vgg, jnp.asarray(one[i]), jnp.asarray(other[i])) for i in indices]
    return np.concatenate(parts)[: len(one)]


def _choose(take: dict, redrawn: np.ndarray, *, count: int) -> list[tuple[np.ndarray, ...]]:
    chosen = np.linspace(0, len(redrawn) - 1, count + 2, dtype=int)[1:-1]
    return [(take["source"], take["frames"][i], redrawn[i]) for i in chosen]


if __name__ == "__main__":
    table = measure(*sys.argv[1:3], sheet=(sys.argv[3:] or [None])[0])
    print(format_table(table, first="clip", show=show))
