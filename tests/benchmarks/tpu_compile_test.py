"""Compilation of a step for a TPU without having one, and analysis of compiled programs."""

import importlib.util
import math
import re
import subprocess
import sys

import jax
import pytest

from benchmarks import compiled
from gesture_jax.parallel.hardware import Chip
from tests import tiny


@pytest.fixture(scope="module")
def table():
    """The output of the command for the smallest stage 1, with a state in two shards."""
    if importlib.util.find_spec("libtpu") is None:
        pytest.skip("the TPU's compiler is not installed: pip install libtpu")
    changes = {**tiny.flags(tiny.stage1()), "mesh.fsdp": 2}
    command = [sys.executable, "-m", "benchmarks.tpu_compile", "--topology=v5e:2x2"]
    command += ["--config=configs/stage1.py:smoke"]
    command += [f"--config.{name}={value}" for name, value in changes.items()]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return done.stdout


@pytest.mark.slow
def test_the_tpu_compiler_accepts_the_step_and_reports_its_memory(table):
    assert "on 4 x TPU v5 lite" in table
    memory, limit = re.search(r"([\d.]+) GB of (\d+)", table).groups()
    assert 0 < float(memory) < float(limit) == 16


@pytest.mark.slow
def test_tpus_exchange_only_parameters(table):
    """Other arrays are small sums over the batch, and no pictures."""
    assert "all-reduce: " in table and "all-gather: " in table
    (others,) = re.findall(r"besides parameters and statistics: (.*)", table)
    for kind, sizes in re.findall(r"([a-z-]+) \w+\[([\d, ]*)\]", others):
        assert kind == "all-reduce"
        assert math.prod(map(int, sizes.split(","))) < 3 * 16**2


_TEXT = """
  %sum.1 = (f32[]{:T(128)}, f32[3,3,8,16]{3,2,1,0:T(8,128)S(1)}) all-reduce(%a, %b), channel_id=1
  %begin = (bf16[8,64]{1,0}, bf16[16,64]{1,0}) all-gather-start(%c), dimensions={0}
  %end = bf16[16,64]{1,0} all-gather-done(%begin)
  %sent = (f32[2,32,32,3]{3,2,1,0}, f32[2,32,32,3]{3,2,1,0}, u32[], u32[]) collective-permute-start(%d)
  ROOT %other = f32[4,4]{1,0} add(%all-reduce.3, %e)
"""  # noqa: E501


def test_collectives_are_found_in_the_text():
    found = compiled.find_collectives(_TEXT)
    assert [(each.kind, each.shape, each.bytes) for each in found] == [
        ("all-reduce", (), 4),
        ("all-reduce", (3, 3, 8, 16), 4608),
        ("all-gather", (16, 64), 2048),
        ("collective-permute", (2, 32, 32, 3), 24576),
    ]
    assert compiled.count(found)["all-reduce"] == (2, 4612)


def test_padding_is_found_in_the_text():
    """Two arrays have rows of 34 numbers padded to 128, and three rows padded to four."""
    text = """
%fusion (a: f32[8,1]) -> f32[8,1] { %x = f32[8,1]{1,0:T(8,128)} add(%a, %a) }
ENTRY %main {
  %slab = f32[10,3,34]{2,1,0:T(4,128)} custom-call(%volume)
  %again = f32[10,3,34]{2,1,0:T(4,128)S(1)} copy(%slab)
  ROOT %turned = bf16[128,16]{0,1:T(8,128)(2,1)} copy(%b)
}"""
    (found,) = compiled.find_padding(text)
    assert (found.dtype, found.shape) == ("f32", (10, 3, 34))
    assert found.factor == pytest.approx(4 * 128 / (3 * 34))
    assert found.wasted == 2 * 4 * 10 * (4 * 128 - 3 * 34)


def test_pictures_are_distinguished_from_parameters():
    state = {"kernel": jax.ShapeDtypeStruct((3, 3, 16, 8), "f4"),
             "dense": jax.ShapeDtypeStruct((1, 32, 64), "f4")}  # fmt: skip
    others = lambda parts: compiled.not_of(state, compiled.find_collectives(_TEXT), parts)
    assert [each.shape for each in others(2)] == [(2, 32, 32, 3)]
    assert [each.shape for each in others(1)] == [(16, 64), (2, 32, 32, 3)]


def test_the_least_time_of_a_chip():
    chip = Chip(flops=100.0, memory=1.0, memory_rate=10.0, link_rate=2.0)
    sent = ("all-reduce", "f32", (5,)), ("all-gather", "bf16", (3,))
    sent = tuple(compiled.Collective(*each) for each in sent)
    report = compiled.Report(0, 0, 0, flops=50.0, traffic=20.0, collectives=sent)
    assert report.seconds(chip) == {"compute": 0.5, "traffic": 2.0, "links": (2 * 20 + 6) / 2}
