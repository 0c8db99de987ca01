"""Compares warps and losses: variants of the `demo` preset, trained for equal time on equal data.

python -m benchmarks.stage1_study {warps,losses} DATASET MINUTES OUT_DIR

Each variant's step is timed first, and the number of steps chosen accordingly, so that the learning
rate decays to the end in all of them. `benchmarks.pictures` measures every run. Prints a Markdown
table of the averages with a row for each variant.
"""

import pathlib
import sys
import time

import jax

from benchmarks import pictures
from benchmarks.report import format_table
from gesture_jax import presets
from gesture_jax.parallel import sharding
from gesture_jax.training import loop, optim

VARIANTS = {
    "warps": {
        "reference: 3-D, inexact": {"model.warp_kind": "volume", "model.relative": False},
        "3-D, exact identity": {"model.warp_kind": "exact", "model.relative": False},
        "3-D, exact, relative": {"model.warp_kind": "exact", "model.relative": True},
        "flow": {"model.warp_kind": "flow", "model.relative": False},
        "flow, relative (demo)": {},
    },
    "losses": {
        # docs/stage1.md has separate figures for the perceptual term.
        "L1 alone": {"loss.squared": 0.0},
        "L1 and squared error (demo)": {},
        "+ hands and mouth x3": {"loss.region_weight": 3.0},
        "+ warp consistency": {"loss.warp": 0.1},
        "+ adversarial": {"loss.adversarial": 0.05, "loss.feature_matching": 0.5},
    },
}
_TIMED_STEPS = 20


def run_study(study: str, data: str, minutes: float, out_dir: str) -> dict[str, dict[str, float]]:
    """Trains and measures all variants of a study; finished ones are reused."""
    table = {}
    for number, (name, changes) in enumerate(VARIANTS[study].items()):
        workdir = pathlib.Path(out_dir) / f"{study}{number}"
        if not (workdir / "checkpoints").exists():
            config = _config(data, changes)
            config.num_steps = int(minutes * 60 / _seconds_per_step(config))
            config.loss.adversarial_start = config.num_steps // 2
            config.eval_every_steps = config.checkpoint_every_steps = config.num_steps
            loop.train(config, str(workdir))
        table[name] = pictures.measure(str(workdir), data)["average"]
        print(format_table({name: table[name]}, first=study, show=pictures.show), flush=True)
    return table


def _config(data: str, changes: dict):
    config = presets.load("configs/stage1.py:demo")
    config.data.path = data
    # VGG makes a step ten times as long, so it is worthwhile only at the end of a training.
    config.loss.perceptual = 0.0
    config.update_from_flattened_dict(changes)
    return config


def _seconds_per_step(config) -> float:
    mesh = sharding.make_mesh(batch_size=config.batch_size)
    timed = config.copy_and_resolve_references()
    timed.loss.adversarial_start = 0
    task = loop.TASKS["stage1"](timed, "")
    optimizer = optim.make_optimizer(config.optim, num_steps=_TIMED_STEPS)
    create = lambda: loop.create_state(task, optimizer, seed=0)
    state = jax.jit(create, out_shardings=sharding.replicated(mesh))()
    step = loop.make_step(task, optimizer, ema_decay=0.9, mesh=mesh)
    batch = sharding.shard_batch(next(task.train_batches()), mesh)
    for count in range(_TIMED_STEPS + 1):
        if count == 1:  # The first step compiles.
            start = time.perf_counter()
        state, metrics = step(state, task.frozen, batch, jax.random.key(0))
        jax.block_until_ready(metrics)
    return (time.perf_counter() - start) / _TIMED_STEPS


if __name__ == "__main__":
    study, data, minutes, out_dir = sys.argv[1:]
    table = run_study(study, data, float(minutes), out_dir)
    print("\n" + format_table(table, first=study, show=pictures.show))
