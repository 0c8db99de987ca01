"""Full float32 on every device.

By default GPUs multiply float32 numbers as tf32 (10 bits of mantissa) and TPUs as bfloat16 (7
bits). That is enough for training. It is not enough for a frame of the paper's network: on an H100
that was off by 0.019 on average and 0.3 at most (benchmarks/README.md).
"""

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import jax

P, T = ParamSpec("P"), TypeVar("T")


def float32_matmuls(function: Callable[P, T]) -> Callable[P, T]:
    """Makes matrix products and convolutions of a function exact to float32, once it is traced."""

    @functools.wraps(function)
    def exactly(*args: P.args, **kwargs: P.kwargs) -> T:
        with jax.default_matmul_precision("float32"):
            return function(*args, **kwargs)

    return exactly
