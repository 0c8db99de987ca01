"""Reads memory, operations and collectives from a compiled program, and the time that they imply.

All figures are per chip.
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
# An array in the main program, with the order of its axes in memory and its tiles.
_TILED = re.compile(r" = ([a-z]+\d*)\[([\d,]+)\]\{([\d,]+):T\((\d+),(\d+)\)")
_ARRAY = re.compile(r"\b([a-z]+\d*)\[([\d,]*)\]")


@dataclasses.dataclass(frozen=True)
class Collective:
    """An array that chips exchange."""

    kind: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def bytes(self) -> int:
        return _ITEM_BYTES[self.dtype] * math.prod(self.shape)


@dataclasses.dataclass(frozen=True)
class Padding:
    """Memory that arrays of one dtype and shape waste by padding.

    Attributes:
      dtype: data type.
      shape: shape of each array.
      factor: size of an array with padding, relative to its size without.
      wasted: wasted bytes, summed over all such arrays in the program.
    """

    dtype: str
    shape: tuple[int, ...]
    factor: float
    wasted: int


@dataclasses.dataclass(frozen=True)
class Report:
    """The compiler's figures, in bytes and operations per chip.

    Attributes:
      arguments: size of the state, the batch and the frozen networks.
      temporaries: size of all intermediate arrays.
      total: peak memory: arguments, results that do not reuse their memory, temporaries and code.
      flops: operations, counted by the compiler in the optimised program.
      traffic: bytes moved between the chip and its memory.
      collectives: all arrays that chips exchange.
    """

    arguments: int
    temporaries: int
    total: int
    flops: float
    traffic: float
    collectives: tuple[Collective, ...]

    def seconds(self, chip: Chip) -> dict[str, float]:
        """Returns the least time for each resource of a chip; the largest is the roofline."""
        return {
            "compute": self.flops / chip.flops,
            "traffic": self.traffic / chip.memory_rate,
            # Around a ring, a sum sends each number twice and a gather once.
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
    """Returns every array that a program (HLO text) sends between chips."""
    found = []
    for result, kind, start in _COLLECTIVE.findall(text):
        arrays = _ARRAY.findall(result)
        # The asynchronous start of these operations lists its inputs before its outputs.
        if start and kind in ("all-gather", "collective-permute"):
            arrays = [a for a in arrays if a[0] != "u32"]
            arrays = arrays[len(arrays) // 2 :]
        for dtype, sizes in arrays:
            found.append(Collective(kind, dtype, tuple(map(int, filter(None, sizes.split(","))))))
    return found


def find_padding(text: str) -> list[Padding]:
    """Returns the padded arrays in a program's text, the most wasteful kind first.

    Tiles cover the two axes that are innermost in memory, mostly 8 or fewer rows of 128 numbers. So
    an array with 34 numbers in its innermost axis takes almost four times their memory.
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
    """Returns the collectives of arrays that are no scalars and have no shape found in the state.

    Shapes in the state, whole or as one of `parts`, are those of parameters, their gradients and
    statistics; pictures and volumes have others. The order of axes, and axes of size 1, are
    ignored, since the compiler may change them.
    """
    known = set()
    for leaf in jax.tree.leaves(state):
        known.add(_ignoring_order(leaf.shape))
        for axis, size in enumerate(leaf.shape):
            if size % parts == 0:
                part = *leaf.shape[:axis], size // parts, *leaf.shape[axis + 1 :]
                known.add(_ignoring_order(part))
    known.add(())
    return [c for c in collectives if _ignoring_order(c.shape) not in known]


def count(collectives: tuple[Collective, ...]) -> dict[str, tuple[int, int]]:
    """Returns the number of arrays and their bytes, for each kind of collective."""
    numbers, sizes = collections.Counter(), collections.Counter()
    for each in collectives:
        numbers[each.kind] += 1
        sizes[each.kind] += each.bytes
    return {kind: (numbers[kind], sizes[kind]) for kind in numbers}


def _ignoring_order(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(sorted(size for size in shape if size > 1))
