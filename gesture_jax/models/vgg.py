"""VGG (Simonyan and Zisserman 2015), for features of pictures.

It serves two purposes: the perceptual loss, which compares its features by L1, and ST-LPIPS
(`lpips`), a distance of pictures that tolerates small shifts.
"""

import dataclasses
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from gesture_jax.models import lpips
from gesture_jax.models.blocks import conv

_WIDTHS = (64, 128, 256, 512, 512)
_BLUR = np.array([1.0, 2.0, 1.0]) / 4


@dataclasses.dataclass(frozen=True)
class VGGConfig:
    """A variant of VGG.

    Attributes:
      convs: number of 3x3 convolutions in each of the five blocks.
      taps: for each block the number of the convolution after whose ReLU its features are taken.
      blur: whether it down-samples by 2x2 max pooling at stride 1 and a 3x3 blur at stride 2, as
        the shift-tolerant variant does; otherwise by the usual max pooling at stride 2.
    """

    convs: tuple[int, ...]
    taps: tuple[int, ...]
    blur: bool

    @property
    def min_size(self) -> int:
        """Side of the smallest picture that passes all blocks."""
        return 24 if self.blur else 16


# LPIPS takes relu1_2, 2_2, 3_3, 4_3, 5_3.
VGG16 = VGGConfig((2, 2, 3, 3, 3), (2, 2, 3, 3, 3), blur=True)
# TPSMM takes relu1_1, 2_1, 3_1, 4_1, 5_1.
VGG19 = VGGConfig((2, 2, 4, 4, 1), (1, 1, 1, 1, 1), blur=False)


class VGG(nn.Module):
    """Computes features of five blocks from pictures.

    Attributes:
      config: the variant of VGG.
      dtype: dtype of the computation.
    """

    config: VGGConfig = VGG16
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, image: jax.Array, *, num_blocks: int = len(_WIDTHS)) -> list[jax.Array]:
        """[b, h, w, 3] in [0, 1], at least `min_size` per side -> `num_blocks` of [b, h', w', c].

        Later blocks are not computed, but their variables may be given.
        """
        x = lpips.standardise(image).astype(self.dtype)
        features = []
        for block, width in enumerate(_WIDTHS[:num_blocks]):
            if block:
                x = _blur_pool(x) if self.config.blur else nn.max_pool(x, (2, 2), (2, 2))
            for number in range(self.config.convs[block]):
                name = f"conv{block + 1}_{number + 1}"
                x = nn.relu(conv(width, 3, name=name, dtype=self.dtype)(x))
                if number + 1 == self.config.taps[block]:
                    features.append(x)
        return features


def perceptual_distance(ours: Sequence[jax.Array], theirs: Sequence[jax.Array]) -> jax.Array:
    """Sums the mean absolute difference of features over the blocks (TPSMM); a float32 scalar."""
    distance = lambda one, other: jnp.abs(one - other).mean(dtype=jnp.float32)
    return sum(map(distance, ours, theirs))


def _blur_pool(x: jax.Array) -> jax.Array:
    """Down-samples to half the side plus one, with two pixels of reflection before the blur."""
    x = nn.max_pool(x, (2, 2), (1, 1))
    x = jnp.pad(x, ((0, 0), (2, 2), (2, 2), (0, 0)), mode="reflect")
    for axis in (1, 2):
        length = (x.shape[axis] - 3) // 2 + 1
        take = lambda offset, x=x, axis=axis, length=length: jax.lax.slice_in_dim(
            x, offset, offset + 2 * length - 1, stride=2, axis=axis
        )
        x = sum(weight * take(offset) for offset, weight in enumerate(_BLUR))
    return x
