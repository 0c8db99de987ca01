"""Full float32 on every device.

Left to themselves GPUs multiply float32 numbers as tf32, of 10 bits, and TPUs as bfloat16, of 7.
Training bears that. A frame of the paper's network does not: on an H100 it was 0.019 off on
average, and 0.3 at most (benchmarks/README.md).
"""

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import jax

P, T = ParamSpec("P"), TypeVar("T")


def float32_matmuls(function: Callable[P, T]) -> Callable[P, T]:
    """`function`, to be compiled, whose matrix products and convolutions are exact to float32."""

    @functools.wraps(function)
    def exactly(*args: P.args, **kwargs: P.kwargs) -> T:
        with jax.default_matmul_precision("float32"):
            return function(*args, **kwargs)

    return exactly
