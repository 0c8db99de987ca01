"""VGG (Simonyan and Zisserman 2015), for what it sees in pictures rather than pixels.

Two uses of one trunk: features to compare by L1 (the perceptual loss), and ST-LPIPS (`lpips`), a
distance of pictures that small shifts leave small.
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
    """Which VGG.

    Attributes:
      convs: 3x3 convolutions in each of the five blocks.
      taps: for each block, after which convolution's ReLU its features are taken.
      blur: down-samples by a maximum of 2x2 at stride 1, then a 3x3 blur at stride 2, as the
        shift-tolerant trunk does; else by the usual maximum at stride 2.
    """

    convs: tuple[int, ...]
    taps: tuple[int, ...]
    blur: bool

    @property
    def min_size(self) -> int:
        """Side of the smallest picture that passes all blocks."""
        return 24 if self.blur else 16


# relu1_2, 2_2, 3_3, 4_3, 5_3, as LPIPS takes them.
VGG16 = VGGConfig((2, 2, 3, 3, 3), (2, 2, 3, 3, 3), blur=True)
# relu1_1, 2_1, 3_1, 4_1, 5_1, as TPSMM takes them.
VGG19 = VGGConfig((2, 2, 4, 4, 1), (1, 1, 1, 1, 1), blur=False)


class VGG(nn.Module):
    """Pictures to features of five blocks.

    Attributes:
      config: which VGG.
      dtype: of the computation.
    """

    config: VGGConfig = VGG16
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, image: jax.Array, *, num_blocks: int = len(_WIDTHS)) -> list[jax.Array]:
        """[b, h, w, 3] in [0, 1], `min_size` or more a side -> `num_blocks` of [b, h', w', c].

        Blocks after these are not computed; variables of all five may be given.
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
    """Mean absolute difference of features, summed over the blocks (TPSMM); a float32 scalar."""
    distance = lambda one, other: jnp.abs(one - other).mean(dtype=jnp.float32)
    return sum(map(distance, ours, theirs))


def _blur_pool(x: jax.Array) -> jax.Array:
    """Half the side plus one: the picture is reflected by two pixels before it is blurred."""
    x = nn.max_pool(x, (2, 2), (1, 1))
    x = jnp.pad(x, ((0, 0), (2, 2), (2, 2), (0, 0)), mode="reflect")
    for axis in (1, 2):
        length = (x.shape[axis] - 3) // 2 + 1
        take = lambda offset, x=x, axis=axis, length=length: jax.lax.slice_in_dim(
            x, offset, offset + 2 * length - 1, stride=2, axis=axis
        )
        x = sum(weight * take(offset) for offset, weight in enumerate(_BLUR))
    return x
