"""How many operations a function costs, counted from its jaxpr: nothing is compiled or run.

The compiler's own count takes the body of a loop once.
"""

import math
from collections.abc import Callable

import jax
import numpy as np
from jax.extend import core
from jax.interpreters import partial_eval


def count_flops(function: Callable, *args) -> int:
    """Floating-point operations of the matrix products and convolutions of `function(*args)`.

    A product and its sum are two operations. Element-wise work is left out, as it is in the
    literature. Of a convolution only products of real inputs count: no padding, no holes.

    Args:
      function: traceable by JAX.
      *args: arrays, or `jax.ShapeDtypeStruct`, in any trees.
    """
    jaxpr = jax.make_jaxpr(function)(*args).jaxpr
    # What nobody reads is not computed: gradients of pictures, of networks that stay as they are.
    jaxpr, _ = partial_eval.dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars))
    return 2 * _count_products(jaxpr)


def _count_products(jaxpr: core.Jaxpr) -> int:
    return sum(_COUNTS.get(eqn.primitive.name, _count_inside)(eqn) for eqn in jaxpr.eqns)


def _count_inside(eqn: core.JaxprEqn) -> int:
    """Of calls, of branches (the dearest one), of loops (each pass; of `while`, one)."""
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
    (batch, depth, *image), (width, _, *kernel), (_, _, *made) = options["dimension_numbers"]
    lhs, rhs = (variable.aval.shape for variable in eqn.invars)
    out = eqn.outvars[0].aval.shape
    places = math.prod(
        _count_pairs(lhs[i], rhs[k], out[o], stride, pad[0], hole, spread)
        for i, k, o, stride, pad, hole, spread in zip(
            image, kernel, made, options["window_strides"], options["padding"],
            options["lhs_dilation"], options["rhs_dilation"], strict=True,
        )
    )  # fmt: skip
    groups = options["feature_group_count"] * options["batch_group_count"]
    return lhs[batch] * lhs[depth] * rhs[width] * places // groups


def _count_pairs(length: int, kernel: int, out: int, stride, pad, hole, spread) -> int:
    """Pairs of output and kernel places along an axis that meet a real input."""
    places = np.arange(out)[:, None] * stride + np.arange(kernel) * spread - pad
    return int(((places >= 0) & (places < (length - 1) * hole + 1) & (places % hole == 0)).sum())


_COUNTS = {"dot_general": _count_matmul, "conv_general_dilated": _count_conv}
