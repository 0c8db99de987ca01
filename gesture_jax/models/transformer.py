"""Layers of stage 2's transformer, for speech and for motion that attends to it."""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype

from gesture_jax.array_types import MotionSequence, Prior
from gesture_jax.models.attention import Attention, Memory
from gesture_jax.models.initializers import dense, lecun_normal
from gesture_jax.ops import remat

EPSILON = 1e-5


class Film(NamedTuple):
    """Factors and offsets, [k b, 1, latent], that modulate a sub-layer (Perez et al. 2018)."""

    scale: jax.Array
    shift: jax.Array


class _Layer(nn.Module):
    """The parts that both kinds of layers share."""

    latent: int
    feedforward: int
    num_heads: int
    dropout: float
    dtype: jnp.dtype

    def _attention(self, name: str | None = None) -> Attention:
        return Attention(self.latent, self.num_heads, self.dropout, self.dtype, name=name)

    def _norm(self, name: str, x: jax.Array) -> jax.Array:
        return nn.LayerNorm(epsilon=EPSILON, dtype=self.dtype, name=f"{name}_norm")(x)

    def _drop(self, x: jax.Array, train: bool) -> jax.Array:
        return nn.Dropout(self.dropout, deterministic=not train)(x)

    def _attend_to_self(self, x: jax.Array, train: bool) -> jax.Array:
        y, attention = self._norm("self", x), self._attention("self_attention")
        return self._attend(attention, y, attention.keys_and_values(y), train)

    def _attend(self, attention: Attention, x: jax.Array, memory: Memory, train: bool) -> jax.Array:
        return self._drop(remat.product(attention(x, memory, train=train)), train)

    def _feed_forward(self, x: jax.Array, train: bool) -> jax.Array:
        y = dense(self.feedforward, dtype=self.dtype, name="feedforward_in")(x)
        y = self._drop(nn.gelu(y, approximate=False), train)
        y = dense(self.latent, dtype=self.dtype, name="feedforward_out")(y)
        return self._drop(remat.product(y), train)


class SpeechLayer(_Layer):
    """Pre-norm self-attention and feed-forward over speech tokens."""

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        x = x + self._attend_to_self(x, train)
        return remat.block(x + self._feed_forward(self._norm("feedforward", x), train))


class MotionLayer(_Layer):
    """Self-attention, attention to speech and time, and feed-forward, each modulated by a FiLM."""

    def setup(self):
        self.speech_attention = self._attention()
        modulation = lambda: dense(2 * self.latent, dtype=self.dtype)
        self.self_film, self.speech_film = modulation(), modulation()
        self.feedforward_film = modulation()

    def keys_and_values(self, tokens: jax.Array, start: int) -> Memory:
        """Projects tokens of speech or time, which begin at position `start`, for `__call__`."""
        return self.speech_attention.keys_and_values(tokens, start=start)

    def films(self, condition: jax.Array) -> tuple[Film, Film, Film]:
        """Computes the modulation from a summary of speech and time, [k b, latent]."""
        condition = mish(condition)
        layers = (self.self_film, self.speech_film, self.feedforward_film)
        halves = (jnp.split(layer(condition)[:, None], 2, axis=-1) for layer in layers)
        return tuple(Film(scale + 1.0, shift) for scale, shift in halves)

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        memory: Memory,
        films: tuple[Film, Film, Film],
        *,
        num_rows: int,
        train: bool,
    ) -> jax.Array:
        """Transforms [n b, t, latent], or [k n b, t, latent], to [k n b, t, latent].

        Args:
          x: n neighbours share one row of the memory.
          memory: keys and values of speech and time, of k b examples.
          films: for self-attention, attention to speech and feed-forward.
          num_rows: k n b.
          train: whether dropout acts.
        """
        self_film, speech_film, feedforward_film = films
        y = self._attend_to_self(x, train)
        # Windows under different conditions are the same until they first attend to the speech.
        x, y = (jnp.tile(z, (num_rows // len(z), 1, 1)) for z in (x, y))
        x = x + _modulate(y, self_film)
        y = self._attend(self.speech_attention, self._norm("speech", x), memory, train)
        x = x + _modulate(y, speech_film)
        y = self._feed_forward(self._norm("feedforward", x), train)
        return remat.block(x + _modulate(y, feedforward_film))


def _modulate(y: jax.Array, film: Film) -> jax.Array:
    """Modulates [k n b, t, latent], where n neighbours share a row of the film."""
    neighbours = y.reshape(len(film.scale), -1, y.shape[-1])
    return (film.scale * neighbours + film.shift).reshape(y.shape)


class MotionIn(nn.Module):
    """A dense layer over each frame concatenated with all prior frames.

    The product with the prior frames is computed only once.
    """

    latent: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, noisy: MotionSequence, prior: Prior) -> jax.Array:
        """[b, t, d] and [b, p, d], the most recent one last, to [b, t, latent]."""
        prior = prior.reshape(len(prior), 1, -1)
        depth = noisy.shape[-1] + prior.shape[-1]
        kernel = self.param("kernel", lecun_normal, (depth, self.latent), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (self.latent,))
        arrays = promote_dtype(noisy, prior, kernel, bias, dtype=self.dtype)
        noisy, prior, kernel, bias = arrays
        noisy_kernel, prior_kernel = jnp.split(kernel, [noisy.shape[-1]])
        return noisy @ noisy_kernel + (prior @ prior_kernel + bias)


def mish(x: jax.Array) -> jax.Array:
    """The activation of Misra 2019."""
    return x * jnp.tanh(nn.softplus(x))
