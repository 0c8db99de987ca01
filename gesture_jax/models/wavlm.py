"""WavLM (Chen et al. 2022, https://arxiv.org/abs/2110.13900): a speech feature every 20 ms.

It has the Large structure, which transformers' `WavLMModel` selects by `feat_extract_norm="layer"`
and `do_stable_layer_norm=True`: seven convolutions with LayerNorm, a convolution that encodes
positions, and pre-norm transformer layers. The attention of head h from frame i to frame j adds to
its logits

  (1)  g_i d_h(j - i),   g_i = a_i (b_i w_h - 1) + 2,

where d is a learned value for each bucket of distances (2), which all layers share. Each layer has
its own a and b, which are sigmoids of frame i, and its own learned w (gated relative position
bias).
"""

import dataclasses
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

_EPSILON = 1e-5
_GATES, _WIDTH_OF_GATE = 2, 4


@dataclasses.dataclass(frozen=True)
class WavLMConfig:
    """Sizes; the defaults are WavLM-Large's (315 M parameters).

    Attributes:
      conv_features: number of channels of each convolution over the waveform.
      conv_kernels: their kernel sizes, in samples of the layer below.
      conv_strides: their strides, in samples of the layer below.
      conv_bias: whether they have a bias.
      latent: d, width of the transformer and of the result.
      feedforward: inner width of the feed-forward parts.
      num_layers: number of layers of the transformer.
      num_heads: number of heads of every attention.
      position_kernel: kernel size, in frames, of the convolution that encodes positions.
      position_groups: number of groups of that convolution.
      num_buckets: number of buckets of relative distances, both directions together.
      max_distance: distance in frames from which on all distances share a bucket.
    """

    conv_features: tuple[int, ...] = (512,) * 7
    conv_kernels: tuple[int, ...] = (10, 3, 3, 3, 3, 2, 2)
    conv_strides: tuple[int, ...] = (5, 2, 2, 2, 2, 2, 2)
    conv_bias: bool = False
    latent: int = 1024
    feedforward: int = 4096
    num_layers: int = 24
    num_heads: int = 16
    position_kernel: int = 128
    position_groups: int = 16
    num_buckets: int = 320
    max_distance: int = 800

    @property
    def hop(self) -> int:
        """Samples from one frame to the next: 320."""
        return math.prod(self.conv_strides)

    @property
    def receptive_field(self) -> int:
        """Number of samples that the convolutions read for one frame: 400."""
        field = 1
        for kernel, stride in zip(self.conv_kernels[::-1], self.conv_strides[::-1], strict=True):
            field = (field - 1) * stride + kernel
        return field

    def num_frames(self, num_samples):
        """Returns the number of frames for a number of samples, an int or an array."""
        return (num_samples - self.receptive_field) // self.hop + 1


def distance_buckets(length: int, *, num_buckets: int, max_distance: int) -> np.ndarray:
    """(2) Returns the bucket of every distance, key minus query, from 1 - length to length - 1.

    Half of the buckets are for keys ahead. In either half, the nearer half of the buckets hold one
    distance each; the others grow logarithmically up to `max_distance`.

    Returns:
      [2 length - 1] int32.
    """
    half = num_buckets // 2
    exact = half // 2
    signed = np.arange(1 - length, length)
    distance = np.abs(signed)
    growth = np.log(np.maximum(distance, exact) / exact) / np.log(max_distance / exact)
    far = np.minimum(exact + (growth * (half - exact)).astype(int), half - 1)
    return (half * (signed > 0) + np.where(distance < exact, distance, far)).astype(np.int32)


class WavLM(nn.Module):
    """Computes the last hidden states of speech.

    Attributes:
      config: its sizes.
      dtype: dtype of the computation; parameters and the result are float32.
    """

    config: WavLMConfig = WavLMConfig()
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, waveform: jax.Array, lengths: jax.Array | None = None) -> jax.Array:
        """Frame i reads the samples from 320 i to 320 i + 400, and all other frames by attention.

        Args:
          waveform: [b, n] float32, 16 kHz, with zero mean and unit variance.
          lengths: [b] int, number of valid samples at the beginning, or None if all are valid. The
            samples after these have no effect on the frames before.

        Returns:
          [b, (n - 400) // 320 + 1, d] float32, with zeros for frames beyond the length.
        """
        config = self.config
        x = self._read(waveform)
        valid = jnp.ones(x.shape[:2], bool)
        if lengths is not None:
            valid = jnp.arange(x.shape[1]) < config.num_frames(lengths)[:, None]
        # The convolution that encodes positions reads beyond the end, where it must find zeros.
        x = jnp.where(valid[..., None], x, 0.0)
        positions = PositionalConv(config, self.dtype, name="position_conv")(x)
        x = x + nn.gelu(positions, approximate=False)
        position_bias = self._position_bias(x.shape[1])
        for index in range(config.num_layers):
            layer = EncoderLayer(config, self.dtype, name=f"layer_{index}")
            x = layer(x, position_bias, valid)
        x = _norm("out_norm", self.dtype)(x)
        return jnp.where(valid[..., None], x, 0.0).astype(jnp.float32)

    def _read(self, waveform: jax.Array) -> jax.Array:
        config, x = self.config, waveform[..., None]
        sizes = zip(config.conv_features, config.conv_kernels, config.conv_strides, strict=True)
        for index, (features, kernel, stride) in enumerate(sizes):
            x = nn.Conv(
                features,
                (kernel,),
                stride,
                padding="VALID",
                use_bias=config.conv_bias,
                dtype=self.dtype,
                name=f"conv{index}",
            )(x)
            x = nn.gelu(_norm(f"conv{index}_norm", self.dtype)(x), approximate=False)
        x = _norm("in_norm", self.dtype)(x)
        return nn.Dense(config.latent, dtype=self.dtype, name="in")(x)

    def _position_bias(self, length: int) -> jax.Array:
        """d of (1), [heads, query, key]."""
        config = self.config
        shape = (config.num_buckets, config.num_heads)
        by_bucket = self.param("position_bias", nn.initializers.normal(1.0), shape)
        buckets = distance_buckets(
            length, num_buckets=config.num_buckets, max_distance=config.max_distance
        )
        by_distance = by_bucket[buckets].T
        frame = jnp.arange(length)
        return by_distance[:, frame - frame[:, None] + length - 1].astype(self.dtype)


class PositionalConv(nn.Module):
    """Grouped convolution over frames, with weight normalisation per offset."""

    config: WavLMConfig
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        size, groups, width = self.config.position_kernel, self.config.position_groups, x.shape[-1]
        shape = (size, width // groups, width)
        direction = self.param("direction", nn.initializers.normal(1.0), shape)
        scale = self.param("scale", nn.initializers.ones, (size,))
        bias = self.param("bias", nn.initializers.zeros, (width,))
        length = jnp.sqrt(jnp.sum(jnp.square(direction), axis=(1, 2)))
        kernel = direction * (scale / length)[:, None, None]
        x = jax.lax.conv_general_dilated(
            x.astype(self.dtype),
            kernel.astype(self.dtype),
            window_strides=(1,),
            padding=[(size // 2, (size - 1) // 2)],
            dimension_numbers=("NWC", "WIO", "NWC"),
            feature_group_count=groups,
        )
        return x + bias.astype(self.dtype)


class EncoderLayer(nn.Module):
    """Pre-norm attention and feed-forward."""

    config: WavLMConfig
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, position_bias: jax.Array, valid: jax.Array) -> jax.Array:
        y = _norm("attention_norm", self.dtype)(x)
        attention = GatedAttention(self.config, self.dtype, name="attention")
        x = x + attention(y, position_bias, valid)
        y = _norm("feedforward_norm", self.dtype)(x)
        y = nn.Dense(self.config.feedforward, dtype=self.dtype, name="feedforward_in")(y)
        y = nn.gelu(y, approximate=False)
        return x + nn.Dense(x.shape[-1], dtype=self.dtype, name="feedforward_out")(y)


class GatedAttention(nn.Module):
    """Self-attention with the bias of (1), which ignores invalid frames."""

    config: WavLMConfig
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, position_bias: jax.Array, valid: jax.Array) -> jax.Array:
        project = lambda name, y: nn.Dense(x.shape[-1], dtype=self.dtype, name=name)(y)
        heads = lambda y: y.reshape(*y.shape[:-1], self.config.num_heads, -1)
        bias = jnp.einsum("bqh,hqk->bhqk", self._gate(heads(x)), position_bias)
        attended = nn.dot_product_attention(
            heads(project("query", x)),
            heads(project("key", x)),
            heads(project("value", x)),
            bias=bias,
            mask=valid[:, None, None, :],
            dtype=self.dtype,
        )
        return project("out", attended.reshape(x.shape))

    def _gate(self, x: jax.Array) -> jax.Array:
        """g of (1), [b, t, heads], from [b, t, heads, width]."""
        gates = nn.Dense(_GATES * _WIDTH_OF_GATE, dtype=self.dtype, name="gates")(x)
        gates = nn.sigmoid(gates.reshape(*x.shape[:-1], _GATES, _WIDTH_OF_GATE).sum(axis=-1))
        weight = self.param("gate_weight", nn.initializers.ones, x.shape[-2:-1])
        return gates[..., 0] * (gates[..., 1] * weight.astype(self.dtype) - 1.0) + 2.0


def _norm(name: str, dtype: jnp.dtype) -> nn.LayerNorm:
    # Large models have large means, for which the fast variance loses precision.
    return nn.LayerNorm(epsilon=_EPSILON, use_fast_variance=False, dtype=dtype, name=name)
