"""The face recognition network of dlib (King 2017): a face to 128 numbers that say whose it is.

A ResNet with 29 convolutions, trained by a metric loss: embeddings of one person are meant to be
within 0.6 of each other, in Euclidean distance, and those of different people further apart. Its
author reports 99.38 % on Labeled Faces in the Wild.

Where dlib differs from the usual ResNet: convolutions with a stride of 2 have no padding, the
shortcut of a block that halves its map is the mean of every 2x2 block, and a shortcut with fewer
channels or a smaller map is filled up with zeros. A smaller branch is, too.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

SIZE_PX = 150
"""Side of the pictures that it was trained on, see `data.faces`."""
EMBEDDING_DIM = 128
# Width, whether it halves the map.
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
# What dlib subtracts, and by what it divides, in units of 8-bit pictures.
_MEAN, _SCALE = (122.782, 117.001, 104.298), 256.0


class FaceNet(nn.Module):
    """Aligned faces to embeddings; frozen."""

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
        return nn.relu(_fill_up(x, shape) + _fill_up(shortcut, shape))


class _Conv(nn.Module):
    """A convolution, then a scale and an offset of each channel, which dlib made of BatchNorm."""

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


def _fill_up(x: jax.Array, shape: np.ndarray) -> jax.Array:
    """Zeros at the bottom, at the right and in further channels."""
    return jnp.pad(
        x, [(0, int(wanted) - have) for wanted, have in zip(shape, x.shape, strict=True)]
    )
