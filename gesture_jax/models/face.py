"""The face recognition network of dlib (King 2017), which embeds a face in 128 dimensions.

It is a ResNet with 29 convolutions, trained with a metric loss: embeddings of one person should be
within a Euclidean distance of 0.6, and those of different people further apart. Its author reports
99.38 % on Labeled Faces in the Wild.

It differs from the usual ResNet as follows: convolutions with a stride of 2 have no padding, the
shortcut of a block that halves its map is the mean of every 2x2 block, and a shortcut or a branch
with fewer channels or a smaller map is padded with zeros.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

SIZE_PX = 150
"""Side of the pictures that it was trained on, see `people.faces`."""
EMBEDDING_DIM = 128
# Width of each block, and whether it halves the map.
BLOCKS = (
    *[(32, False)] * 3,
    (64, True),
    *[(64, False)] * 3,
    (128, True),
    *[(128, False)] * 2,
    (256, True),
    *[(256, False)] * 2,
    (256, True),
)
# The mean that dlib subtracts and the scale it divides by, for 8-bit pictures.
_MEAN, _SCALE = (122.782, 117.001, 104.298), 256.0


class FaceNet(nn.Module):
    """Computes embeddings of aligned faces; its weights are frozen."""

    @nn.compact
    def __call__(self, image: jax.Array) -> jax.Array:
        """[b, 150, 150, 3] in [0, 1] -> [b, 128], not of unit length."""
        x = (255.0 * image - jnp.array(_MEAN)) / _SCALE
        x = nn.relu(_Conv(32, 7, 2, "VALID", name="stem")(x))
        x = nn.max_pool(x, (3, 3), (2, 2))
        for number, (width, halves) in enumerate(BLOCKS):
            x = _Block(width, halves, name=f"block{number}")(x)
        return nn.Dense(EMBEDDING_DIM, use_bias=False, name="embedding")(x.mean(axis=(1, 2)))


class _Block(nn.Module):
    width: int
    halves: bool

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        first = (2, "VALID") if self.halves else (1, "SAME")
        shortcut = nn.avg_pool(x, (2, 2), (2, 2)) if self.halves else x
        x = nn.relu(_Conv(self.width, 3, *first, name="conv1")(x))
        x = _Conv(self.width, 3, 1, "SAME", name="conv2")(x)
        shape = np.maximum(x.shape, shortcut.shape)
        return nn.relu(_pad_to(x, shape) + _pad_to(shortcut, shape))


class _Conv(nn.Module):
    """A convolution, then a scale and an offset per channel, into which dlib folded BatchNorm."""

    width: int
    side: int
    stride: int
    padding: str

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        strides = (self.stride, self.stride)
        conv = nn.Conv(self.width, (self.side, self.side), strides, self.padding, name="conv")
        scale = self.param("scale", nn.initializers.ones, (self.width,))
        offset = self.param("offset", nn.initializers.zeros, (self.width,))
        return scale * conv(x) + offset


def _pad_to(x: jax.Array, shape: np.ndarray) -> jax.Array:
    """Pads with zeros at the bottom, at the right and in the channels."""
    return jnp.pad(
        x, [(0, int(wanted) - have) for wanted, have in zip(shape, x.shape, strict=True)]
    )
