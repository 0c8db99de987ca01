"""Measures the time from the start of `generate` to its first frames.

    python -m benchmarks.start [STAGE1 STAGE2]

Each run is the command itself in a separate process, on ten seconds of speech. The first run, which
may compile, is not counted. Without arguments, the bundled weights are measured.
"""

import os
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

# Other modules are imported where they are used, so that the measured command imports them itself.
_NUM_RUNS = 7
_EVENTS = "rendering begins", "first frames"
_STARTED = "GESTURE_JAX_STARTED"


def figures(flags_of: dict[str, list[str]]) -> Iterator[tuple[str, str, list[float]]]:
    """Yields the figures for each set of weights, given as flags of `generate` by name."""
    from gesture_jax.media import images
    from gesture_jax.media.rates import SAMPLE_RATE_HZ
    from gesture_jax.media.writer import write_audio
    from gesture_jax.procedural import speaker

    with tempfile.TemporaryDirectory() as folder:
        files = {name: str(pathlib.Path(folder) / name) for name in ("p.png", "s.wav", "v.mp4")}
        images.write_image(files["p.png"], speaker.portrait(identity=3, size=256))
        sound = speaker.perform(identity=3, seed=5, duration_sec=10.0, size=16).audio
        write_audio(files["s.wav"], sound, SAMPLE_RATE_HZ)
        flags = [
            f"--image={files['p.png']}",
            f"--audio={files['s.wav']}",
            f"--out={files['v.mp4']}",
        ]
        for name, given in flags_of.items():
            runs = [_run([*flags, *given]) for _ in range(1 + _NUM_RUNS)][1:]
            for event, seconds in zip(_EVENTS, zip(*runs, strict=True), strict=True):
                yield f"start: {name}, {event}", "s", list(seconds)


def weights(*stages: str) -> dict[str, list[str]]:
    """Returns flags of `generate` by name, for the given stages or for all bundled weights."""
    if stages:
        stage1, stage2 = stages
        return {"given weights": [f"--stage1={stage1}", f"--stage2={stage2}"]}
    from gesture_jax.inference import bundled

    return {name: [f"--preset={name}"] for name in bundled.PRESETS}


def _run(flags: list[str]) -> list[float]:
    """Returns the time of each of `_EVENTS`."""
    program = f"from benchmarks import start; start.watch({flags!r})"
    environment = {**os.environ, _STARTED: str(time.time())}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    return [float(word) for word in done.stdout.split()[-len(_EVENTS) :]]


def watch(flags: list[str]) -> None:
    """Runs `generate` up to its first frames, and prints the time of each of `_EVENTS`."""
    sys.argv = ["generate", *flags]
    from gesture_jax import cli, generate

    begin = generate.main

    def generate_watched(argv):
        from gesture_jax.inference import animator

        fetch = animator._fetch

        def fetch_and_end(image, count):
            # Two batches are being computed at this point.
            times = [time.time()]
            fetch(image, count)
            times.append(time.time())
            print(*(moment - float(os.environ[_STARTED]) for moment in times), flush=True)
            os._exit(0)  # A thread may still be compiling.

        animator._fetch = fetch_and_end
        begin(argv)

    cli.run(generate_watched)


if __name__ == "__main__":
    from benchmarks.report import report

    report(figures(weights(*sys.argv[1:])))
