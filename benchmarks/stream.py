"""While it is still being spoken: how late frames are, and what longer speech costs.

python -m benchmarks.stream STAGE2 [MINUTES]

Speech of the procedural speaker is pushed in chunks of 40 ms, as a microphone would. Then the
command line makes a clip of ten seconds and one of so many minutes (10), each in a process of its
own, whose largest memory is compared. Figures go to `benchmarks/results.jsonl`.
"""

import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np

from benchmarks.report import report
from gesture_jax import checkpoints
from gesture_jax.data import images, media, speaker
from gesture_jax.generator import GestureGenerator

_SPEECH_SEC = 20.0
_RUNS = 3


def main(stage2: str, minutes: float) -> None:
    """Measures, prints and keeps."""
    stage1 = checkpoints.read_config(stage2, stage="stage2").stage1_workdir
    report(_stream(stage1, stage2))
    report(_length(stage1, stage2, minutes))


def _stream(stage1: str, stage2: str):
    generator = GestureGenerator.load(stage1=stage1, stage2=stage2)
    portrait = speaker.portrait(identity=0, size=generator.animator.resolution)
    audio = speaker.perform(identity=0, seed=9, duration_sec=_SPEECH_SEC, size=16).audio
    _push_all(generator, portrait, audio[: 4 * 16_000])  # Compiles.
    runs = [_push_all(generator, portrait, audio) for _ in range(_RUNS)]
    pace = generator.stream_pace
    name = f"stream, hop {pace.hop}, look-ahead {pace.look_ahead}, {pace.candidates} candidates"
    yield f"{name}: first frame after the first sample", "s", [first for first, _, _ in runs]
    yield f"{name}: longest wait for a push", "s", [longest for _, longest, _ in runs]
    yield f"{name}: time of work over time of speech", "", [total for _, _, total in runs]


def _push_all(generator: GestureGenerator, portrait, audio) -> tuple[float, float, float]:
    """When the first frame was there, the longest push, and the share of time at work."""
    stream = generator.stream(portrait)
    spent, first = [], None
    for end in range(640, len(audio) + 1, 640):
        start = time.perf_counter()
        frames = stream.push(audio[end - 640 : end])
        spent.append(time.perf_counter() - start)
        if first is None and len(frames):
            first = end / media.SAMPLE_RATE_HZ + spent[-1]
    return first, max(spent), sum(spent) / (len(audio) / media.SAMPLE_RATE_HZ)


def _length(stage1: str, stage2: str, minutes: float):
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        audio = speaker.perform(identity=0, seed=9, duration_sec=_SPEECH_SEC, size=16).audio
        images.write_image(folder / "portrait.png", speaker.portrait(identity=0, size=64))
        for seconds in (10.0, 60.0 * minutes):
            repeats = -(-round(seconds * media.SAMPLE_RATE_HZ) // len(audio))
            sound = np.tile(audio, repeats)[: round(seconds * media.SAMPLE_RATE_HZ)]
            media.write_audio(folder / "speech.wav", sound, media.SAMPLE_RATE_HZ)
            start = time.perf_counter()
            megabytes = _generate(folder, stage1, stage2)
            name = f"generate {seconds:g} s of speech"
            yield f"{name}: largest memory", "MB", [megabytes]
            yield f"{name}: time, start of the program included", "s", [time.perf_counter() - start]


def _generate(folder: pathlib.Path, stage1: str, stage2: str) -> float:
    """Largest memory of the command line, in megabytes."""
    program = (
        "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True); "
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    command = [
        sys.executable, "-m", "gesture_jax.generate", f"--stage1={stage1}", f"--stage2={stage2}",
        f"--image={folder / 'portrait.png'}", f"--audio={folder / 'speech.wav'}",
        f"--out={folder / 'video.mp4'}",
    ]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", program, *command], check=True, capture_output=True, text=True
    )
    return int(done.stdout.split()[-1]) / 1024  # Linux counts in kB.


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]) if len(sys.argv) > 2 else 10.0)
