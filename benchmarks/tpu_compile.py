"""Compiles our programs for TPUs and reports on them, on a machine without a TPU.

    python -m benchmarks.tpu_compile --topology=v5e:4x4 --config=configs/stage1.py:paper --batch=1,2

Needs `pip install libtpu`, which contains the compiler. Prints, for each batch size per chip:
memory, operations, the least time that they take (at the chip's peaks, which no program reaches),
the arrays that chips exchange, and the arrays that are padded most.
"""

import os

# Set before JAX is imported: there is no TPU to query, and TPU programs cannot be cached.
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
_TOPOLOGY = flags.DEFINE_string("topology", "v5e:4x4", "The slice, such as v5e:4x4 or v5p:2x2x2.")
_PART = flags.DEFINE_enum(
    "part",
    "step",
    ["step", "render", "sample"],
    "The program: a training step, rendering, sampling.",
)
_BATCH = flags.DEFINE_list("batch", ["1"], "Examples per chip; a list compiles several programs.")
_EFFORT = flags.DEFINE_float(
    "effort", -1.0, "The compiler's effort, from -1 to 1; at 256x256 its default, 0, takes hours.",
    -1.0, 1.0,
)  # fmt: skip
_TEXT = cli.define_path("text", "", "File for the HLO text of the last compiled program.")
flags.mark_flag_as_required("config")

# bfloat16 products for one float32 product: training uses one, inference is exact.
_PRODUCTS = {"step": 1, "render": 6, "sample": 6}
# Part of the compiler's error message: "Used 20.1G of 15.75G hbm".
_REFUSAL = re.compile(r"Used (\S+) of (\S+) hbm")


def main(_) -> None:
    jax.config.update("jax_exec_time_optimization_effort", _EFFORT.value)
    devices = describe(_TOPOLOGY.value)
    kind = devices[0].device_kind
    chip = find_chip(kind)
    if chip is None:
        raise InputError(
            f"the peaks of {kind!r} are unknown; add them to gesture_jax/parallel/hardware.py"
        )
    print(f"{_PART.value} of {_CONFIG.value.stage} on {len(devices)} x {kind}, figures per chip")
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
    """Returns the devices of a slice, which need not exist.

    Raises:
      InputError: if the compiler is not installed, or does not know the slice.
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
    """Makes the program for a part, with `batch` examples per chip; inference uses one chip."""
    if part == "step":
        return ahead.train_step(config, devices, batch * len(devices))
    if part == "render":
        return ahead.render(config, devices[0], batch)
    return ahead.sample(config, devices[0], batch)


def _compile(
    program: ahead.Program, chip: Chip, fsdp: int, products: int
) -> tuple[dict[str, str], list[str]]:
    """Returns a row of the table, and lines about the arrays that chips exchange."""
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
        f"{p.dtype}{list(p.shape)} {p.factor:.1f} times as large, {p.wasted / 1e6:.0f} MB wasted"
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
    return [*lines, f"exchanged besides parameters and statistics: {', '.join(names) or 'nothing'}"]


_WORST = 4
_COLUMNS = (
    "memory", "arguments", "temporaries", "operations", "traffic",
    "compute, at best", "traffic, at best", "links, at best", "compiled in",
)  # fmt: skip


if __name__ == "__main__":
    cli.run(main)
