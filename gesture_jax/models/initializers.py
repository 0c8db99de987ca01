"""Flax's weight initializers, jitted so that each is traced once per shape.

Whenever a network is traced, Flax evaluates the shape of each initial weight, and tracing a
truncated normal distribution takes longer than tracing the layer itself.
"""

import functools

import flax.linen as nn
import jax

lecun_normal = jax.jit(nn.initializers.lecun_normal(), static_argnums=(1, 2))
dense = functools.partial(nn.Dense, kernel_init=lecun_normal)
