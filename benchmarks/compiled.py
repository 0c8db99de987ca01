"""What a compiled program says of itself: memory, operations, collectives, and the time they imply.

All figures are of one chip.
"""

import collections
import dataclasses
import math
import re
from typing import Any

import jax

from gesture_jax.parallel.hardware import Chip

_ITEM_BYTES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s32": 4, "u32": 4, "f32": 4}
_KINDS = "all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute"
_COLLECTIVE = re.compile(rf" = (.*?) ({'|'.join(_KINDS)})(-start)?\(")
# What the main program makes, with the order of its axes in memory and its tiles.
_TILED = re.compile(r" = ([a-z]+\d*)\[([\d,]+)\]\{([\d,]+):T\((\d+),(\d+)\)")
_ARRAY = re.compile(r"\b([a-z]+\d*)\[([\d,]*)\]")


@dataclasses.dataclass(frozen=True)
class Collective:
    """One message of a program, arrays of a kind sent at once."""

    kind: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def bytes(self) -> int:
        return _ITEM_BYTES[self.dtype] * math.prod(self.shape)


@dataclasses.dataclass(frozen=True)
class Padding:
    """What arrays of one kind waste of a chip's memory and traffic.

    Attributes:
      dtype: of their numbers.
      shape: of each.
      factor: by which each is larger than its numbers.
      wasted: bytes, of all that the program makes.
    """

    dtype: str
    shape: tuple[int, ...]
    factor: float
    wasted: int


@dataclasses.dataclass(frozen=True)
class Report:
    """What the compiler says, in bytes and operations of one chip.

    Attributes:
      arguments: the state, the batch and frozen networks.
      temporaries: everything between.
      total: the largest memory: arguments, results that do not take their place, temporaries, code.
      flops: operations, counted by the compiler in the program as it will run.
      traffic: bytes between the chip and its memory.
      collectives: all arrays that chips exchange.
    """

    arguments: int
    temporaries: int
    total: int
    flops: float
    traffic: float
    collectives: tuple[Collective, ...]

    def seconds(self, chip: Chip) -> dict[str, float]:
        """The least time that each resource of a chip takes; the largest is the roofline."""
        return {
            "compute": self.flops / chip.flops,
            "traffic": self.traffic / chip.memory_rate,
            # Each number goes around a ring twice to be summed, once to be gathered.
            "links": sum(
                (2 if c.kind == "all-reduce" else 1) * c.bytes for c in self.collectives
            ) / chip.link_rate,
        }  # fmt: skip


def read(compiled: jax.stages.Compiled) -> Report:
    """Reads a compiled program."""
    memory, cost = compiled.memory_analysis(), compiled.cost_analysis()
    arguments, temporaries = memory.argument_size_in_bytes, memory.temp_size_in_bytes
    results = memory.output_size_in_bytes - memory.alias_size_in_bytes
    total = arguments + results + temporaries + memory.generated_code_size_in_bytes
    collectives = tuple(find_collectives(compiled.as_text()))
    return Report(arguments, temporaries, total, cost["flops"], cost["bytes accessed"], collectives)


def find_collectives(text: str) -> list[Collective]:
    """All arrays that a program's text (HLO) sends between chips, once each."""
    found = []
    for result, kind, start in _COLLECTIVE.findall(text):
        arrays = _ARRAY.findall(result)
        # Begun apart from their end, these name what they read before what they make.
        if start and kind in ("all-gather", "collective-permute"):
            arrays = [a for a in arrays if a[0] != "u32"]
            arrays = arrays[len(arrays) // 2 :]
        for dtype, sizes in arrays:
            found.append(Collective(kind, dtype, tuple(map(int, filter(None, sizes.split(","))))))
    return found


def find_padding(text: str) -> list[Padding]:
    """Arrays of a program's text that fill their tiles badly, the most wasteful kind first.

    Tiles lie over the two axes that are innermost in memory: 8 or fewer rows of 128 for the most
    part, so that an array whose innermost axis has 34 numbers takes almost four times their room.
    """
    wasted = collections.Counter()
    main = text[max(text.find("\nENTRY "), 0) :]
    for dtype, sizes, order, *tile in _TILED.findall(main):
        shape, axes = (tuple(map(int, numbers.split(","))) for numbers in (sizes, order))
        full = list(shape)
        for axis, side in zip(axes, map(int, reversed(tile)), strict=False):
            full[axis] = -(-shape[axis] // side) * side
        kind = dtype, shape, math.prod(full) / math.prod(shape)
        wasted[kind] += _ITEM_BYTES.get(dtype, 4) * (math.prod(full) - math.prod(shape))
    return [Padding(*kind, size) for kind, size in wasted.most_common() if size]


def not_of(state: Any, collectives: tuple[Collective, ...], parts: int = 1) -> list[Collective]:
    """Those that are neither of a shape in the state, whole or one of `parts`, nor single numbers.

    Parameters, their gradients and statistics have such shapes; pictures and volumes do not. The
    compiler may turn axes around, and drop those of one.
    """
    known = set()
    for leaf in jax.tree.leaves(state):
        known.add(_ignoring_order(leaf.shape))
        for axis, size in enumerate(leaf.shape):
            if size % parts == 0:
                cut = *leaf.shape[:axis], size // parts, *leaf.shape[axis + 1 :]
                known.add(_ignoring_order(cut))
    known.add(())
    return [c for c in collectives if _ignoring_order(c.shape) not in known]


def count(collectives: tuple[Collective, ...]) -> dict[str, tuple[int, int]]:
    """How many arrays of each kind, and their bytes."""
    numbers, sizes = collections.Counter(), collections.Counter()
    for each in collectives:
        numbers[each.kind] += 1
        sizes[each.kind] += each.bytes
    return {kind: (numbers[kind], sizes[kind]) for kind in numbers}


def _ignoring_order(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(sorted(size for size in shape if size > 1))
