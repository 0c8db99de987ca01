"""Measures how time grows with longer speech, larger batches and larger pictures.

python -m benchmarks.growth STAGE2 [PLOT.png]

The command line makes clips of 10 s, 1 min and 10 min, each in a separate process. The network of
STAGE2's stage 1, with random weights, renders batches of different sizes and frames of different
resolutions. Prints Markdown tables and plots them.
"""

import statistics
import sys

import jax
import matplotlib.pyplot as plt
import numpy as np

from benchmarks import clips, start
from benchmarks.report import format_table, time_ms
from gesture_jax.checkpoint import checkpoints
from gesture_jax.inference.animator import Animator
from gesture_jax.media.rates import FPS
from gesture_jax.models.build import build_model

_LENGTHS_SEC = 10, 60, 600
_BATCHES = 1, 2, 4, 8, 16
_RESOLUTIONS_PX = 128, 256, 512
_FRAMES = 8

Table = dict[str, dict[str, float]]


def lengths(stage1: str, stage2: str) -> Table:
    """Times `generate` for several lengths of speech."""
    table = {}
    (flags,) = start.weights(stage1, stage2).values()
    for seconds in _LENGTHS_SEC:
        ((time, megabytes),) = clips.make(seconds, flags, count=1)
        table[str(seconds)] = {
            "time, s": time, "frames/s": seconds * FPS / time, "memory, MB": megabytes
        }  # fmt: skip
    return table


def batches(config) -> Table:
    """Times rendering for several batch sizes."""
    return {str(size): _rendering(config.model, batch_size=size) for size in _BATCHES}


def resolutions(config) -> Table:
    """Times rendering at several resolutions; the network stays as deep, its volume grows."""
    return {
        str(side): _rendering({**config.model, "resolution": side}, batch_size=4)
        for side in _RESOLUTIONS_PX
    }


def _rendering(model, *, batch_size: int) -> dict[str, float]:
    model = build_model(**model)
    image = np.random.default_rng(0).random((model.resolution, model.resolution, 3), np.float32)
    variables = jax.jit(model.init)(jax.random.key(0), image[None], image[None])
    animator = Animator(model, variables, batch_size=batch_size)
    source = animator.encode_source(image)
    count = max(_FRAMES, batch_size)
    motion = animator.extract_motion(image[None]).repeat(count, axis=0)
    times = time_ms(lambda: animator.render(source, motion), per=count)
    return {"ms/frame": statistics.median(times), "least": min(times), "most": max(times)}


def draw(tables: dict[str, tuple[Table, str, int]], path: str) -> None:
    """Plots each table on logarithmic axes, with the power of x that it should follow, dotted."""
    figure, axes = plt.subplots(1, len(tables), figsize=(4 * len(tables), 3), layout="constrained")
    for axis, (name, (table, column, power)) in zip(axes, tables.items(), strict=True):
        x, y = [*map(float, table)], [row[column] for row in table.values()]
        axis.loglog(x, y, "o-")
        axis.loglog(x, [y[-1] * (value / x[-1]) ** power for value in x], "k:", linewidth=0.8)
        axis.set(xlabel=name, ylabel=column, xticks=x, xticklabels=list(table))
        axis.set_ylim(min(y) / 2, max(y) * 2)
        axis.minorticks_off()
    figure.savefig(path, dpi=120)


def main(stage2: str, plot: str = "") -> None:
    """Measures, prints and plots."""
    stage1 = checkpoints.read_config(stage2, stage="stage2").stage1_workdir
    config = checkpoints.read_config(stage1, stage="stage1")
    tables = {
        "speech, s": (lengths(stage1, stage2), "time, s", 1),
        "frames a batch": (batches(config), "ms/frame", 0),
        "pixels a side": (resolutions(config), "ms/frame", 2),
    }
    for name, (table, *_) in tables.items():
        print(f"\n{format_table(table, first=name)}")
    if plot:
        draw(tables, plot)


if __name__ == "__main__":
    main(*sys.argv[1:])
