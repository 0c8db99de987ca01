"""Rematerialisation: which results of the forward pass a training step keeps for the gradient.

The step computes the others once more. Networks name the results that are worth keeping; the names
change nothing outside of a gradient.
"""

from collections.abc import Callable

import jax
from jax.ad_checkpoint import checkpoint_name

_PRODUCT, _BLOCK = "product", "block"
POLICIES = {
    "none": None,
    # Computes norms and activations again, which is little work.
    "cheap": jax.checkpoint_policies.save_only_these_names(_PRODUCT, _BLOCK),
    # Computes each block again from its input: the most work and the least memory.
    "blocks": jax.checkpoint_policies.save_only_these_names(_BLOCK),
}
"""By the name that a config uses: which results are kept."""


def product(x: jax.Array) -> jax.Array:
    """Marks the result of a convolution, of attention or of a feed-forward layer."""
    return checkpoint_name(x, _PRODUCT)


def block(x: jax.Array) -> jax.Array:
    """Marks the result of a block of a network."""
    return checkpoint_name(x, _BLOCK)


def checkpoint(function: Callable, policy: str) -> Callable:
    """Returns `function` with a gradient that needs less memory and more time.

    Args:
      function: the function to differentiate.
      policy: a key of `POLICIES`; "none" returns `function` itself.
    """
    chosen = POLICIES[policy]
    return jax.checkpoint(function, policy=chosen) if chosen else function
