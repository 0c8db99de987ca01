"""Compares motion spaces, optimisers and samplers: variants of stage 2's `demo` preset.

python -m benchmarks.stage2_study {spaces,optimisers} STAGE1 MOTIONS STEPS OUT_DIR
python -m benchmarks.stage2_study samplers STAGE2

The first form trains each variant for the same number of steps, which take the same time.
`benchmarks.gestures` measures all variants. Prints a Markdown table with a row for each.
"""

import pathlib
import sys
import time

from benchmarks import gestures
from benchmarks.report import format_table
from gesture_jax import presets
from gesture_jax.training import loop

VARIANTS = {
    "spaces": {
        "angles, each scaled to unit variance (demo)": {},
        "angles, not relative to the portrait": {"relative": False},
        "angles, scaled by one factor": {"standardise": False},
        "matrix, each scaled to unit variance": {"motion_space": "matrix"},
        "matrix, scaled by one factor": {"motion_space": "matrix", "standardise": False},
    },
    "optimisers": {
        "AdamW, 1e-3 (demo)": {},
        "AdamW, 5e-4": {"optim.learning_rate": 5e-4},
        "Adan, 1e-3": {"optim.name": "adan"},
        "Adan, 3e-4": {"optim.name": "adan", "optim.learning_rate": 3e-4},
    },
}
# Standard deviations to which the denoised motion is clipped; 0 turns clipping off.
_CLIPS = (0.0, 4.0)
_SAMPLERS = {"ddpm": (8, 20, 50), "ddim": (4, 8, 12, 20, 50), "dpm": (4, 8, 12, 20, 50)}


def train_variants(study: str, stage1: str, motions: str, steps: int, out_dir: str) -> dict:
    """Trains and measures all variants of a study; finished ones are reused."""
    table, bench = {}, None
    for number, (name, changes) in enumerate(VARIANTS[study].items()):
        workdir = pathlib.Path(out_dir) / f"{study}{number}"
        if not (workdir / "checkpoints" / str(steps)).exists():
            config = presets.load("configs/stage2.py:demo")
            config.stage1_workdir, config.data.path = stage1, motions
            config.update_from_flattened_dict({"fgd_steps": 0, **changes})
            config.num_steps = config.eval_every_steps = config.checkpoint_every_steps = steps
            loop.train(config, str(workdir))
        bench = bench or gestures.Bench(str(workdir))
        bench.use(str(workdir))
        for clip in _CLIPS if study == "spaces" else _CLIPS[:1]:
            options = bench.generator.options(sampler={"clip": clip})
            label = f"{name}, clipped to {clip:g}" if clip else name
            table[label] = bench.row(bench.generate(options=options))
            print(format_table({label: table[label]}, first=study), flush=True)
    return table


def compare_samplers(workdir: str) -> dict:
    """Measures all samplers with several numbers of steps, on one trained stage 2."""
    bench = gestures.Bench(workdir)
    table = {}
    for name, counts in _SAMPLERS.items():
        for count in counts:
            options = bench.generator.options(sampler={"name": name, "num_steps": count})
            bench.generate(options=options)  # Compiles.
            start = time.perf_counter()
            motions = bench.generate(options=options)
            seconds = time.perf_counter() - start
            label = f"{name}, {count} steps"
            speech_sec = sum(map(len, motions)) / gestures.FPS
            row = {"ms/s of speech": 1000 * seconds / speech_sec, **bench.row(motions)}
            table[label] = row
            print(format_table({label: row}, first="sampler"), flush=True)
    return table


if __name__ == "__main__":
    study, first, *rest = sys.argv[1:]
    if study == "samplers":
        table = compare_samplers(first)
    else:
        motions, steps, out_dir = rest
        table = train_variants(study, first, motions, int(steps), out_dir)
    print("\n" + format_table(table, first=study))
