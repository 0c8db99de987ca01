"""Counts the operations of a function from its jaxpr, without compiling or running it.

The compiler's own count includes the body of a loop only once.
"""

import math
from collections.abc import Callable

import jax
import numpy as np
from jax.extend import core
from jax.interpreters import partial_eval


def count_flops(function: Callable, *args) -> int:
    """Floating-point operations of the matrix products and convolutions of `function(*args)`.

    A multiplication and its addition are two operations. Element-wise operations are left out, as
    in the literature. Products with padding or with the holes of dilation do not count.

    Args:
      function: any function that JAX can trace.
      *args: trees of arrays or of `jax.ShapeDtypeStruct`.
    """
    jaxpr = jax.make_jaxpr(function)(*args).jaxpr
    # Removes unused results, such as gradients of pictures or of frozen networks.
    jaxpr, _ = partial_eval.dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars))
    return 2 * _count_products(jaxpr)


def _count_products(jaxpr: core.Jaxpr) -> int:
    return sum(_COUNTS.get(eqn.primitive.name, _count_inside)(eqn) for eqn in jaxpr.eqns)


def _count_inside(eqn: core.JaxprEqn) -> int:
    """Products inside of calls, branches (the most expensive one) and loops.

    Each pass of a loop counts, but only one of a `while` loop, whose number is unknown.
    """
    inner = [_count_products(jaxpr) for jaxpr in core.jaxprs_in_params(eqn.params)]
    if eqn.primitive.name == "cond":
        return max(inner)
    return eqn.params.get("length", 1) * sum(inner) if eqn.primitive.name == "scan" else sum(inner)


def _count_matmul(eqn: core.JaxprEqn) -> int:
    (contracted, _), _ = eqn.params["dimension_numbers"]
    lengths = eqn.invars[0].aval.shape
    return math.prod(eqn.outvars[0].aval.shape) * math.prod(lengths[axis] for axis in contracted)


def _count_conv(eqn: core.JaxprEqn) -> int:
    options = eqn.params
    (batch, depth, *image), (width, _, *kernel), (_, _, *outputs) = options["dimension_numbers"]
    lhs, rhs = (variable.aval.shape for variable in eqn.invars)
    out = eqn.outvars[0].aval.shape
    pairs = math.prod(
        _count_pairs(lhs[i], rhs[k], out[o], stride, pad[0], hole, spread)
        for i, k, o, stride, pad, hole, spread in zip(
            image, kernel, outputs, options["window_strides"], options["padding"],
            options["lhs_dilation"], options["rhs_dilation"], strict=True,
        )
    )  # fmt: skip
    groups = options["feature_group_count"] * options["batch_group_count"]
    return lhs[batch] * lhs[depth] * rhs[width] * pairs // groups


def _count_pairs(length: int, kernel: int, out: int, stride, pad, hole, spread) -> int:
    """Pairs of output and kernel positions along an axis that read a real input."""
    index = np.arange(out)[:, None] * stride + np.arange(kernel) * spread - pad
    return int(((index >= 0) & (index < (length - 1) * hole + 1) & (index % hole == 0)).sum())


_COUNTS = {"dot_general": _count_matmul, "conv_general_dilated": _count_conv}
