"""Controls in which each example of a batch gets the value of another example."""

from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Float, Int, Shaped

from gesture_jax.array_types import Array, typechecked


@typechecked
def apply_to_other_rows(
    function: Callable[[jax.Array], jax.Array],
    values: Shaped[Array, "b *v"],
    others: Int[Array, "b"],
) -> Float[Array, "b *r"]:
    """Applies a function to values of which each example has that of another example.

    Args:
      function: maps [b, ...] to [b, ...] float.
      values: [b, ...], a row for each example.
      others: [b], the entry `other` of a test batch: the row whose value each example gets, or -1
        for none.

    Returns:
      The function's result; NaN in the rows that have no other one.
    """
    chex.assert_rank(others, 1)
    chex.assert_type(others, int)
    chex.assert_equal_shape_prefix([values, others], 1)
    result = function(values[others])
    return jnp.where((others >= 0).reshape(-1, *[1] * (result.ndim - 1)), result, jnp.nan)
