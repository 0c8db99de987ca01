"""Measures time and memory of an evaluation: clips of 4 s at 256 pixels against compressed copies.

python -m benchmarks.evaluation FOLDER NUM_CLIPS OUT [EVALUATE_FLAG ...]

The clips are cut from the videos in FOLDER, at times spread over them. Prints the seconds that each
part took, in total and per clip, and the peak memory.
"""

import json
import pathlib
import resource
import subprocess
import sys

import numpy as np

from benchmarks.report import format_table
from gesture_jax.evaluation import videos
from gesture_jax.media.rates import FPS, SAMPLES_PER_FRAME
from gesture_jax.media.sound import read_audio
from gesture_jax.media.video import read_video
from gesture_jax.media.writer import write_video

_SIZE, _CLIP_SEC = 256, 4.0
_CRF = {"real": 10, "generated": 36}


def cut_clips(folder: str, num_clips: int, out: pathlib.Path) -> None:
    """Writes the same clips to `real`, and more strongly compressed to `generated`."""
    sources = videos.find_videos(folder)
    for number, path in enumerate(sources):
        count = len(range(number, num_clips, len(sources)))
        frames, audio = read_video(path, size=_SIZE), read_audio(path)
        last_sec = len(frames) / FPS - _CLIP_SEC
        for index, start_sec in enumerate(np.linspace(0, last_sec, count)):
            first = round(start_sec * FPS)
            length = round(_CLIP_SEC * FPS)
            sound = audio[first * SAMPLES_PER_FRAME :][: length * SAMPLES_PER_FRAME]
            for side, crf in _CRF.items():
                target = out / side / f"{path.stem}-{index}.mp4"
                write_video(target, frames[first : first + length], audio=sound, crf=crf)


def measure(out: pathlib.Path, num_clips: int, flags: list[str]) -> dict[str, dict[str, float]]:
    """Runs the command, and returns a row for each of its parts."""
    command = [
        sys.executable, "-m", "gesture_jax.evaluate", "--paired", f"--real={out / 'real'}",
        f"--generated={out / 'generated'}", f"--out={out / 'result'}", *flags,
    ]  # fmt: skip
    subprocess.run(command, check=True)
    found = json.loads((out / "result" / "metrics.json").read_text())["seconds"]
    table = {part: {"s": sec, "s per clip": sec / num_clips} for part, sec in found.items()}
    memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    print(f"\n{num_clips} clips, peak memory {memory:.2f} GiB\n")
    return table


if __name__ == "__main__":
    folder, num_clips, out, *flags = sys.argv[1:]
    out = pathlib.Path(out)
    if not (out / "generated").exists():
        cut_clips(folder, int(num_clips), out)
    print(format_table(measure(out, int(num_clips), flags), first="part"))
