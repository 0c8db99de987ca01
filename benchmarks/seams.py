"""Measures how visible the seams between windows are, on a minute of speech of each drawn person.

python -m benchmarks.seams STAGE2

The measure is the jerk where windows meet divided by the jerk elsewhere; 1 means that a seam does
not show. The rows of the Markdown table are: the config as it is, a single candidate, a single
candidate without cross-fade, and the speakers' real motion at the same positions.
"""

import sys

import numpy as np

from benchmarks.report import format_table
from gesture_jax.checkpoint import checkpoints
from gesture_jax.inference.generator import GestureGenerator, Options
from gesture_jax.metrics.motion import seam_jerk_ratio
from gesture_jax.ops import rotation
from gesture_jax.procedural import speaker

_SPEECH_SEC = 60.0
_PEOPLE = 4
_FIRST_SEED = 70_000  # Datasets contain no speech with such seeds.


def measure(stage2: str) -> dict[str, dict[str, float]]:
    """Returns a row for each way of joining windows."""
    stage1 = checkpoints.read_config(stage2, stage="stage2").stage1_workdir
    generator = GestureGenerator.load(stage1=stage1, stage2=stage2)
    size = generator.animator.resolution
    done = [
        speaker.perform(identity=who, seed=_FIRST_SEED + who, duration_sec=_SPEECH_SEC, size=size)
        for who in range(_PEOPLE)
    ]
    hop = generator.defaults.schedule.hop
    window = hop + generator.defaults.schedule.look_ahead
    ways = {
        "as configured": {},
        "one candidate": {"candidates": 1},
        "one candidate, no fade": {"candidates": 1, "blend": 0, "hop": window, "look_ahead": 0},
    }
    table = {}
    for name, changes in ways.items():
        options = generator.options(schedule=changes)
        motions = [_generate(generator, each, options) for each in done]
        table[name] = _row(options.schedule.hop, motions)
    real = [generator.animator.extract_motion(each.frames) for each in done]
    return {**table, "real": _row(hop, real)}


def _generate(
    generator: GestureGenerator, done: speaker.Performance, options: Options
) -> np.ndarray:
    source = generator.animator.encode_source(done.frames[0])
    return np.concatenate(list(generator.motion_windows(source, done.audio, options=options)))


def _row(hop: int, motions: list[np.ndarray]) -> dict[str, float]:
    angles = [np.asarray(rotation.matrix_to_angles_feature(motion)) for motion in motions]
    ratios = [seam_jerk_ratio(each, range(hop, len(each), hop)) for each in angles]
    return {"median": np.median(ratios), "least": min(ratios), "most": max(ratios)}


if __name__ == "__main__":
    print(format_table(measure(sys.argv[1]), first="windows"))
