"""Initial weights as Flax has them, traced once a shape.

Whenever a network is traced, Flax asks each initial weight for its shape, and to trace a truncated
normal distribution takes longer than to trace the layer that it is for.
"""

import functools

import flax.linen as nn
import jax

lecun_normal = jax.jit(nn.initializers.lecun_normal(), static_argnums=(1, 2))
dense = functools.partial(nn.Dense, kernel_init=lecun_normal)
