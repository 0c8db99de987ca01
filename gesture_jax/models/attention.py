"""Attention with rotary positions, whose keys and values many queries share."""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from gesture_jax.models.initializers import dense

LONGEST_WAVE = 10_000.0


class Memory(NamedTuple):
    """Keys and values, [b, t, head, width] each, computed once for any number of queries.

    Attributes:
      key: keys, rotated by their positions.
      value: values, not rotated.
    """

    key: jax.Array
    value: jax.Array


def rotate(x: jax.Array, *, start: int = 0) -> jax.Array:
    """Applies the rotary position embedding (Su et al. 2021) to [*b, t, latent].

    It acts on the whole latent axis: the pairs (0, 1), (2, 3), ... are rotated by the position,
    which begins at `start`, times 10000^(-2 i / latent).
    """
    length, latent = x.shape[-2:]
    frequency = LONGEST_WAVE ** (-np.arange(0, latent, 2) / latent)
    angle = np.arange(start, start + length)[:, None] * frequency
    cos, sin = jnp.asarray(np.cos(angle), x.dtype), jnp.asarray(np.sin(angle), x.dtype)
    even, odd = x[..., 0::2], x[..., 1::2]
    pairs = jnp.stack([even * cos - odd * sin, odd * cos + even * sin], axis=-1)
    return pairs.reshape(x.shape)


class Attention(nn.Module):
    """Attention that rotates queries and keys, but not values, by their positions."""

    latent: int
    num_heads: int
    dropout: float
    dtype: jnp.dtype

    def setup(self):
        make = lambda: dense(self.latent, dtype=self.dtype)
        self.query, self.key, self.value, self.out = make(), make(), make(), make()

    def keys_and_values(self, tokens: jax.Array, *, start: int = 0) -> Memory:
        """Projects tokens [b, t, latent], which begin at position `start`, to keys and values."""
        return Memory(
            self._heads(self.key(rotate(tokens, start=start))), self._heads(self.value(tokens))
        )

    def __call__(self, x: jax.Array, memory: Memory, *, train: bool) -> jax.Array:
        """Transforms [n b, t, latent], where n neighbours attend to one row of the memory."""
        query = self._heads(self.query(rotate(x)))
        weights = nn.dot_product_attention_weights(
            # The frames of all n neighbours are queries to the same memory, which is not repeated.
            query.reshape(len(memory.key), -1, *query.shape[2:]),
            memory.key,
            dropout_rng=self.make_rng("dropout") if train and self.dropout else None,
            dropout_rate=self.dropout,
            broadcast_dropout=False,
            deterministic=not train,
            dtype=self.dtype,
        )
        # Heads come before frames: in Flax's order of the axes a CPU takes three times as long.
        attended = weights @ jnp.swapaxes(memory.value, -3, -2)
        return self.out(jnp.swapaxes(attended, -3, -2).reshape(x.shape))

    def _heads(self, y: jax.Array) -> jax.Array:
        return y.reshape(*y.shape[:-1], self.num_heads, self.latent // self.num_heads)
