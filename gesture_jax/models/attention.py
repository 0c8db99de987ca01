"""Attention with rotary positions, whose memory is read once for many that attend to it."""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from gesture_jax.models.initializers import dense

LONGEST_WAVE = 10_000.0


class Memory(NamedTuple):
    """What queries attend to, read once however many of them there are: [b, t, head, width] each.

    Attributes:
      key: rotated by their positions.
      value: not rotated.
    """

    key: jax.Array
    value: jax.Array


def rotate(x: jax.Array, *, start: int = 0) -> jax.Array:
    """Rotary position embedding (Su et al. 2021) of [*b, t, latent], over the whole latent axis.

    Neighbours (0, 1), (2, 3), ... turn as pairs, by their position, of which the first is `start`,
    times 10000^(-2 i / latent).
    """
    length, latent = x.shape[-2:]
    frequency = LONGEST_WAVE ** (-np.arange(0, latent, 2) / latent)
    angle = np.arange(start, start + length)[:, None] * frequency
    cos, sin = jnp.asarray(np.cos(angle), x.dtype), jnp.asarray(np.sin(angle), x.dtype)
    even, odd = x[..., 0::2], x[..., 1::2]
    pairs = jnp.stack([even * cos - odd * sin, odd * cos + even * sin], axis=-1)
    return pairs.reshape(x.shape)


class Attention(nn.Module):
    """Attention whose queries and keys, not values, are rotated by their positions."""

    latent: int
    num_heads: int
    dropout: float
    dtype: jnp.dtype

    def setup(self):
        make = lambda: dense(self.latent, dtype=self.dtype)
        self.query, self.key, self.value, self.out = make(), make(), make(), make()

    def read(self, tokens: jax.Array, *, start: int = 0) -> Memory:
        """[b, t, latent] as the memory of `__call__`; `start` is the first one's position."""
        return Memory(
            self._heads(self.key(rotate(tokens, start=start))), self._heads(self.value(tokens))
        )

    def __call__(self, x: jax.Array, memory: Memory, *, train: bool) -> jax.Array:
        """[n b, t, latent], of which n neighbours attend to one row of the memory."""
        query = self._heads(self.query(rotate(x)))
        weights = nn.dot_product_attention_weights(
            # The frames of all n are queries to the same memory, so that it need not be repeated.
            query.reshape(len(memory.key), -1, *query.shape[2:]),
            memory.key,
            dropout_rng=self.make_rng("dropout") if train and self.dropout else None,
            dropout_rate=self.dropout,
            broadcast_dropout=False,
            deterministic=not train,
            dtype=self.dtype,
        )
        # Heads before frames: as Flax has its values, a CPU takes three times as long.
        attended = weights @ jnp.swapaxes(memory.value, -3, -2)
        return self.out(jnp.swapaxes(attended, -3, -2).reshape(x.shape))

    def _heads(self, y: jax.Array) -> jax.Array:
        return y.reshape(*y.shape[:-1], self.num_heads, self.latent // self.num_heads)
