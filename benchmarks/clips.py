"""Times `generate` from the start of the program to the finished mp4 with sound.

    python -m benchmarks.clips [STAGE1 STAGE2]

Each clip is made by a separate process. A first clip, which may include compilation, is not
counted. Without arguments, the bundled weights are measured.
"""

import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence

import numpy as np

from benchmarks import start
from benchmarks.report import Figure, report
from gesture_jax.media import images
from gesture_jax.media.rates import FPS, SAMPLE_RATE_HZ
from gesture_jax.media.writer import write_audio
from gesture_jax.procedural import speaker

_LENGTHS_SEC = 10, 60
_RUNS = 3


def figures(flags_of: dict[str, list[str]]) -> Iterator[Figure]:
    """Yields the figures for each set of weights, given as flags of `generate` by name."""
    for name, flags in flags_of.items():
        for seconds in _LENGTHS_SEC:
            runs = make(seconds, flags, count=_RUNS)
            times, megabytes = (list(values) for values in zip(*runs, strict=True))
            clip = f"{name}: a clip of {seconds} s"
            yield f"{clip}, the whole command", "s", times
            yield f"{clip}, its frames", "1/s", [seconds * FPS / each for each in times]
            yield f"{clip}, memory", "MB", megabytes


def make(seconds: int, flags: Sequence[str], *, count: int) -> list[tuple[float, float]]:
    """Makes the same clip several times, after a clip of one second, which compiles.

    Args:
      seconds: length of the speech.
      flags: flags of `generate` that name the weights.
      count: how many times to make the clip.

    Returns:
      For each clip the time in seconds and the peak memory in megabytes.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        speech = speaker.perform(identity=0, seed=9, duration_sec=20.0, size=16).audio
        images.write_image(folder / "portrait.png", speaker.portrait(identity=0, size=256))
        for length in (1, seconds):
            sound = np.resize(speech, length * SAMPLE_RATE_HZ)
            write_audio(folder / f"{length}.wav", sound, SAMPLE_RATE_HZ)
        _generate(folder, 1, flags)
        return [_generate(folder, seconds, flags) for _ in range(count)]


def _generate(folder: pathlib.Path, seconds: int, flags: Sequence[str]) -> tuple[float, float]:
    program = (
        "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True); "
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    command = [
        sys.executable, "-m", "gesture_jax.generate", f"--image={folder / 'portrait.png'}",
        f"--audio={folder / f'{seconds}.wav'}", f"--out={folder / 'video.mp4'}", *flags,
    ]  # fmt: skip
    begin = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", program, *command], check=True, capture_output=True, text=True
    )
    # Linux reports kB.
    return time.perf_counter() - begin, int(done.stdout.split()[-1]) / 1024


if __name__ == "__main__":
    report(figures(start.weights(*sys.argv[1:])))
