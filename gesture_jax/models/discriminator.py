"""A discriminator that tells rendered pictures from real ones, patch by patch.

It is the PatchGAN of pix2pix (Isola et al. 2017, https://arxiv.org/abs/1611.07004), with GroupNorm
in place of BatchNorm: there are no running statistics, and real and rendered batches do not mix.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from gesture_jax.array_types import Image
from gesture_jax.models import blocks

_SLOPE = 0.2
_GROUPS = 16


class PatchDiscriminator(nn.Module):
    """Computes a logit per patch, above zero if the patch looks real.

    Attributes:
      width: number of channels after the first level; each further level has twice as many.
      max_width: the largest number of channels.
      num_levels: number of halvings of the side; pictures need 2^num_levels pixels per side.
      dtype: dtype of the computation; logits are float32.
    """

    width: int = 64
    max_width: int = 512
    num_levels: int = 4
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, image: Image) -> tuple[jax.Array, list[jax.Array]]:
        """[b, h, w, 3] in [0, 1] -> logits [b, h', w'], and per level features [b, h', w', c]."""
        x = (2.0 * image - 1.0).astype(self.dtype)
        features = []
        for level in range(self.num_levels):
            width = min(self.width * 2**level, self.max_width)
            x = nn.Conv(width, (4, 4), 2, padding=1, dtype=self.dtype, name=f"conv{level + 1}")(x)
            if level:  # The first level keeps absolute colours.
                groups = blocks.num_groups(_GROUPS, width)
                x = blocks.group_norm(groups, name=f"norm{level + 1}", dtype=self.dtype)(x)
            x = nn.leaky_relu(x, _SLOPE)
            features.append(x)
        logits = blocks.conv(1, 3, name="logits", dtype=self.dtype)(x)
        return logits[..., 0].astype(jnp.float32), features
