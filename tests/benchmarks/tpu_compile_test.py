"""A step compiled for a TPU that is not there, and how a compiled program is read."""

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
    """What the command prints of the smallest stage 1 whose state lies in two pieces."""
    if importlib.util.find_spec("libtpu") is None:
        pytest.skip("the TPU's compiler is not installed: pip install libtpu")
    changes = {**tiny.flags(tiny.stage1()), "mesh.fsdp": 2}
    command = [sys.executable, "-m", "benchmarks.tpu_compile", "--topology=v5e:2x2"]
    command += ["--config=configs/stage1.py:smoke"]
    command += [f"--config.{name}={value}" for name, value in changes.items()]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return done.stdout


def test_a_tpus_compiler_takes_the_step_and_tells_its_memory(table):
    assert "on 4 x TPU v5 lite" in table
    memory, limit = re.search(r"([\d.]+) GB of (\d+)", table).groups()
    assert 0 < float(memory) < float(limit) == 16


def test_for_a_tpu_too_only_what_is_learned_is_exchanged(table):
    """No pictures: what has no parameter's shape is summed over the batch, and small."""
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


def test_collectives_are_read_off_the_text():
    found = compiled.find_collectives(_TEXT)
    assert [(each.kind, each.shape, each.bytes) for each in found] == [
        ("all-reduce", (), 4),
        ("all-reduce", (3, 3, 8, 16), 4608),
        ("all-gather", (16, 64), 2048),
        ("collective-permute", (2, 32, 32, 3), 24576),
    ]
    assert compiled.count(found)["all-reduce"] == (2, 4612)


def test_padding_is_read_off_the_text():
    """Two arrays of 34 numbers in rows of 128, three of them in tiles of four; and a full one."""
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


def test_pictures_are_told_from_parameters():
    state = {"kernel": jax.ShapeDtypeStruct((3, 3, 16, 8), "f4"),
             "dense": jax.ShapeDtypeStruct((1, 32, 64), "f4")}  # fmt: skip
    others = lambda parts: compiled.not_of(state, compiled.find_collectives(_TEXT), parts)
    assert [each.shape for each in others(2)] == [(2, 32, 32, 3)]
    assert [each.shape for each in others(1)] == [(16, 64), (2, 32, 32, 3)]


def test_the_time_that_a_chip_takes_at_least():
    chip = Chip(flops=100.0, memory=1.0, memory_rate=10.0, link_rate=2.0)
    sent = ("all-reduce", "f32", (5,)), ("all-gather", "bf16", (3,))
    sent = tuple(compiled.Collective(*each) for each in sent)
    report = compiled.Report(0, 0, 0, flops=50.0, traffic=20.0, collectives=sent)
    assert report.seconds(chip) == {"compute": 0.5, "traffic": 2.0, "links": (2 * 20 + 6) / 2}
