"""Controls by which an example of a batch gets what belongs to another one."""

from collections.abc import Callable

import jax
import jax.numpy as jnp


def of_others(
    make: Callable[[jax.Array], jax.Array], values: jax.Array, others: jax.Array
) -> jax.Array:
    """What `make` gives each example for the value of another one; NaN where there is no other.

    Args:
      make: [b, ...] to [b, ...] float.
      values: [b, ...], a row an example.
      others: [b], the `other` of a test batch: rows, or -1 for none.
    """
    made = make(values[others])
    return jnp.where((others >= 0).reshape(-1, *[1] * (made.ndim - 1)), made, jnp.nan)
