"""What a training step keeps of its forward pass for the gradient; the rest is computed once more.

Networks name what is worth keeping; outside of a gradient names change nothing.
"""

from collections.abc import Callable

import jax
from jax.ad_checkpoint import checkpoint_name

_PRODUCT, _BLOCK = "product", "block"
POLICIES = {
    "none": None,
    # Norms and activations are computed again, which is little work.
    "cheap": jax.checkpoint_policies.save_only_these_names(_PRODUCT, _BLOCK),
    # Each block is computed again from its input: the most work, and the least is kept.
    "blocks": jax.checkpoint_policies.save_only_these_names(_BLOCK),
}
"""By name, as the config says it: what is computed again."""


def product(x: jax.Array) -> jax.Array:
    """`x`, the result of a convolution, of attention or of a feed-forward part."""
    return checkpoint_name(x, _PRODUCT)


def block(x: jax.Array) -> jax.Array:
    """`x`, the result of a block of a network."""
    return checkpoint_name(x, _BLOCK)


def keep_less(function: Callable, policy: str) -> Callable:
    """`function`, whose gradient needs less memory and more time, by a name of `POLICIES`."""
    chosen = POLICIES[policy]
    return jax.checkpoint(function, policy=chosen) if chosen else function
