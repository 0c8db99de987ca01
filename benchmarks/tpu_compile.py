"""What a TPU's compiler makes of our programs, asked on a machine that has no TPU.

    python -m benchmarks.tpu_compile --topology=v5e:4x4 --config=configs/stage1.py:paper --batch=1,2

Wants `pip install libtpu`, which is the compiler. Prints, for each batch a chip: memory,
operations, the least time that they take (by the chip's peaks, which nothing reaches), what chips
exchange, and which arrays fill the chip's tiles badly.
"""

import os

# Before JAX is imported: there is no TPU here to ask, and its programs cannot be kept.
os.environ |= {
    "JAX_PLATFORMS": "cpu", "TPU_SKIP_MDS_QUERY": "1", "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "JAX_ENABLE_COMPILATION_CACHE": "false",
}  # fmt: skip

import importlib.util
import pathlib
import re
import time
from collections.abc import Sequence
from typing import Any

import jax
from absl import flags
from jax.experimental import topologies
from ml_collections import ConfigDict

from benchmarks import ahead, compiled
from benchmarks.report import format_table
from gesture_jax import cli
from gesture_jax.errors import InputError
from gesture_jax.parallel.hardware import Chip, find_chip

_CONFIG = cli.define_config()
_TOPOLOGY = flags.DEFINE_string("topology", "v5e:4x4", "The slice, as in v5e:4x4 or v5p:2x2x2.")
_PART = flags.DEFINE_enum(
    "part", "step", ["step", "render", "sample"], "A training step, frames, or a window of motion."
)
_BATCH = flags.DEFINE_list("batch", ["1"], "Examples a chip; several are compiled in turn.")
_EFFORT = flags.DEFINE_float(
    "effort", -1.0, "How hard the compiler tries, from -1 to 1; at 256x256 its own 0 takes hours.",
    -1.0, 1.0,
)  # fmt: skip
_TEXT = cli.define_path("text", "", "File for the last program as compiled, in XLA's HLO.")
flags.mark_flag_as_required("config")

# bfloat16 products that make one of float32: training takes one for it, inference is exact.
_PRODUCTS = {"step": 1, "render": 6, "sample": 6}
# In the compiler's refusal: "Used 20.1G of 15.75G hbm".
_REFUSAL = re.compile(r"Used (\S+) of (\S+) hbm")


def main(_) -> None:
    jax.config.update("jax_exec_time_optimization_effort", _EFFORT.value)
    devices = describe(_TOPOLOGY.value)
    kind = devices[0].device_kind
    chip = find_chip(kind)
    if chip is None:
        raise InputError(
            f"no peaks are known of {kind!r}; gesture_jax/parallel/hardware.py has those known"
        )
    print(f"{_PART.value} of {_CONFIG.value.stage} on {len(devices)} x {kind}, figures of one chip")
    rows, notes = {}, []
    for batch in map(int, _BATCH.value):
        program = make_program(_CONFIG.value, _PART.value, devices, batch)
        rows[str(batch)], found = _compile(
            program, chip, _CONFIG.value.mesh.fsdp, _PRODUCTS[_PART.value]
        )
        notes += [f"batch {batch}: {line}" for line in found]
    print(format_table(rows, first="batch", show=lambda _, value: value))
    print("\n".join(notes))


def describe(topology: str) -> Sequence[Any]:
    """Devices of a slice, which need not be there.

    Raises:
      InputError: where the compiler is not installed, or does not know the slice.
    """
    if importlib.util.find_spec("libtpu") is None:
        raise InputError("the TPU's compiler is not installed; `pip install libtpu==0.0.42.*`")
    try:
        return topologies.get_topology_desc(topology, platform="tpu").devices
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"--topology={topology}: {reason}; give one like v5e:4x4") from error


def make_program(
    config: ConfigDict, part: str, devices: Sequence[Any], batch: int
) -> ahead.Program:
    """The part of a config, `batch` examples a chip; frames and motion are made by one chip."""
    if part == "step":
        return ahead.train_step(config, devices, batch * len(devices))
    if part == "render":
        return ahead.render(config, devices[0], batch)
    return ahead.sample(config, devices[0], batch)


def _compile(
    program: ahead.Program, chip: Chip, fsdp: int, products: int
) -> tuple[dict[str, str], list[str]]:
    """A row of the table, and lines on what the chips exchange."""
    start = time.perf_counter()
    try:
        done = program.lower().compile()
    except jax.errors.JaxRuntimeError as error:
        refusal = _REFUSAL.search(str(error))
        if not refusal:
            raise
        return dict.fromkeys(_COLUMNS, "-") | {"memory": f"does not fit: {refusal[1]}"}, []
    report = compiled.read(done)
    text = done.as_text()
    if _TEXT.value:
        pathlib.Path(_TEXT.value).write_text(text)
    seconds = report.seconds(chip)
    seconds["compute"] *= products
    row = {
        "memory": f"{report.total / 1e9:.2f} GB of {chip.memory / 1e9:.0f}",
        "arguments": f"{report.arguments / 1e9:.2f} GB",
        "temporaries": f"{report.temporaries / 1e9:.2f} GB",
        "operations": f"{report.flops / 1e12:.3f} TFLOP",
        "traffic": f"{report.traffic / 1e9:.1f} GB",
        **{f"{name}, at best": f"{1000 * value:.1f} ms" for name, value in seconds.items()},
        "compiled in": f"{time.perf_counter() - start:.0f} s",
    }
    padded = [
        f"{p.dtype}{list(p.shape)} {p.factor:.1f} times as large, {p.wasted / 1e6:.0f} MB"
        for p in compiled.find_padding(text)[:_WORST]
    ]
    return row, [*_exchanged(report, program, fsdp), f"padded most: {', '.join(padded)}"]


def _exchanged(report: compiled.Report, program: ahead.Program, fsdp: int) -> list[str]:
    lines = [
        f"{kind}: {number} arrays, {size / 1e6:.2f} MB"
        for kind, (number, size) in compiled.count(report.collectives).items()
    ]
    others = compiled.not_of(program.state, report.collectives, fsdp)
    names = sorted({f"{other.kind} {other.dtype}{list(other.shape)}" for other in others})
    return [*lines, f"exchanged beside parameters and statistics: {', '.join(names) or 'nothing'}"]


_WORST = 4
_COLUMNS = (
    "memory", "arguments", "temporaries", "operations", "traffic",
    "compute, at best", "traffic, at best", "links, at best", "compiled in",
)  # fmt: skip


if __name__ == "__main__":
    cli.run(main)
