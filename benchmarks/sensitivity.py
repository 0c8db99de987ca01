"""Shows which metric notices which kind of damage, by comparing videos with damaged copies.

python -m benchmarks.sensitivity FOLDER OUT [EVALUATE_FLAG ...]

Each kind of damage has three strengths; `python -m gesture_jax.evaluate --paired` compares. Motion
is detected by the pose model if the extra `[pose]` is installed. Prints a Markdown table. A metric
notices a kind of damage if its values for the three strengths are in order and differ.

| damage | strengths |
|---|---|
| noise | Gaussian, of 2, 8 and 24 of 255 |
| blur | Gaussian, of 0.5, 1 and 2 pixels at 256 |
| drop | only every 2nd, 4th or 8th frame is kept, and shown longer |
| shuffle | frames in random order within groups of 4, 8 and 16 |
| compression | x264 at crf 28, 36 and 44 |
"""

import json
import pathlib
import subprocess
import sys

import numpy as np
import scipy.ndimage

from benchmarks.report import format_table
from gesture_jax.evaluation import videos
from gesture_jax.media.sound import read_audio
from gesture_jax.media.video import read_video
from gesture_jax.media.writer import write_video

_SIZE = 256
_LOSSLESS = 0
_METRICS = ("fgd", "div", "bas", "beats_per_sec", "fvd", "psnr", "ssim", "st_lpips")
_BETTER_UP = {"psnr", "ssim"}


def _noise(frames: np.ndarray, strength: float, random) -> np.ndarray:
    noisy = frames + strength * random.standard_normal(frames.shape, np.float32)
    return np.clip(np.rint(noisy), 0, 255).astype(np.uint8)


def _blur(frames: np.ndarray, strength: float, random) -> np.ndarray:
    return scipy.ndimage.gaussian_filter(frames, (0, strength, strength, 0))


def _drop(frames: np.ndarray, strength: int, random) -> np.ndarray:
    return frames[np.arange(len(frames)) // strength * strength]


def _shuffle(frames: np.ndarray, strength: int, random) -> np.ndarray:
    order = np.arange(len(frames))
    for start in range(0, len(frames), strength):
        random.shuffle(order[start : start + strength])
    return frames[order]


DAMAGES = {
    "noise": (_noise, (2, 8, 24)),
    "blur": (_blur, (0.5, 1, 2)),
    "drop": (_drop, (2, 4, 8)),
    "shuffle": (_shuffle, (4, 8, 16)),
    "compression": (None, (28, 36, 44)),
}


def write_damaged(source: pathlib.Path, out: pathlib.Path, damage: str, strength: float) -> None:
    """Writes damaged copies of all videos in a folder; damage "none" only scales them."""
    random = np.random.default_rng(0)
    for path in videos.find_videos(source):
        frames = read_video(path, size=_SIZE)
        change, crf = (DAMAGES[damage][0], _LOSSLESS) if damage != "none" else (None, _LOSSLESS)
        if damage == "compression":
            crf = strength
        if change is not None:
            frames = change(frames, strength, random)
        write_video(out / f"{path.stem}.mp4", frames, audio=read_audio(path), crf=crf)


def measure(folder: str, out: str, flags: list[str]) -> dict[str, dict[str, float]]:
    """Returns a row for each damage and strength; existing results are reused."""
    root, table = pathlib.Path(out), {}
    plain = root / "none"
    if not plain.exists():
        write_damaged(pathlib.Path(folder), plain, "none", 0)
    cases = [(damage, s) for damage, (_, strengths) in DAMAGES.items() for s in strengths]
    for damage, strength in [("none", 0), *cases]:
        copies, result = root / f"{damage}-{strength}", root / f"{damage}-{strength}-result"
        if not (result / "metrics.json").exists():
            write_damaged(plain, copies, damage, strength)
            command = [
                sys.executable, "-m", "gesture_jax.evaluate", "--paired", f"--real={plain}",
                f"--generated={copies}", f"--out={result}", *flags,
            ]  # fmt: skip
            known = root / "none-0-result" / "fgd.npz"
            if known.exists():
                command.append(f"--autoencoder={known}")
            subprocess.run(command, check=True)
        found = json.loads((result / "metrics.json").read_text())
        values = {name: found[name].get("value") for name in _METRICS}
        table[f"{damage} {strength}"] = {n: np.nan if v is None else v for n, v in values.items()}
    return table


def noticed(table: dict[str, dict[str, float]]) -> dict[str, str]:
    """Returns, for each kind of damage, the metrics that rank its strengths correctly."""
    found = {}
    for damage, (_, strengths) in DAMAGES.items():
        rows = [table["none 0"], *(table[f"{damage} {strength}"] for strength in strengths)]
        names = []
        for name in ("fgd", "fvd", "psnr", "ssim", "st_lpips"):
            values = np.array([row[name] for row in rows])
            steps = np.diff(-values if name in _BETTER_UP else values)
            if (steps > 1e-6).all():
                names.append(name)
        found[damage] = ", ".join(names) or "none"
    return found


if __name__ == "__main__":
    folder, out, *flags = sys.argv[1:]
    table = measure(folder, out, flags)
    print(format_table(table, first="damage") + "\n")
    for damage, names in noticed(table).items():
        print(f"{damage}: {names}")
