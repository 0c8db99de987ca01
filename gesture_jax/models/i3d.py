"""I3D (Carreira and Zisserman 2017, https://arxiv.org/abs/1705.07750), which classifies actions.

It is Inception-v1 with kernels that also extend over time, trained on Kinetics-400; FVD compares
its logits. Padding is TensorFlow's "SAME", and layers have the names of the TensorFlow release.

A kernel of k frames is computed as a two-dimensional one over k frames stacked along the channels,
and the maximum over a box one axis after the other: the result is the same, and a CPU takes a third
of the time.
"""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from gesture_jax.errors import InputError

NUM_CLASSES = 400
SIZE_PX = 224
# Time is reduced eightfold, and the last pooling needs two of the remaining frames.
MIN_FRAMES = 10
# Widths of a block's branches, in the order of `_Block`.
_BLOCKS = {
    "Mixed_3b": (64, 96, 128, 16, 32, 32),
    "Mixed_3c": (128, 128, 192, 32, 96, 64),
    "Mixed_4b": (192, 96, 208, 16, 48, 64),
    "Mixed_4c": (160, 112, 224, 24, 64, 64),
    "Mixed_4d": (128, 128, 256, 24, 64, 64),
    "Mixed_4e": (112, 144, 288, 32, 64, 64),
    "Mixed_4f": (256, 160, 320, 32, 128, 128),
    "Mixed_5b": (256, 160, 320, 32, 128, 128),
    "Mixed_5c": (384, 192, 384, 48, 128, 128),
}
# Max pooling before a block: kernel and stride over time, rows and columns.
_POOLS = {
    "Mixed_3b": ((1, 3, 3), (1, 2, 2)),
    "Mixed_4b": ((3, 3, 3), (2, 2, 2)),
    "Mixed_5b": ((2, 2, 2), (2, 2, 2)),
}
_EPSILON = 1e-3


class I3D(nn.Module):
    """Computes the logits of clips; weights and batch statistics are frozen."""

    @nn.compact
    def __call__(self, clips: jax.Array) -> jax.Array:
        """[b, t, 224, 224, 3] in [-1, 1] -> [b, 400], before the softmax.

        Raises:
          InputError: for clips of fewer than 10 frames or another size.
        """
        _check_shape(clips.shape)
        x = _Unit(64, kernel=7, stride=2, name="Conv3d_1a_7x7")(clips)
        x = _max_pool(x, (1, 3, 3), (1, 2, 2))
        x = _Unit(64, name="Conv3d_2b_1x1")(x)
        x = _Unit(192, kernel=3, name="Conv3d_2c_3x3")(x)
        for name, widths in _BLOCKS.items():
            if name in _POOLS:
                x = _max_pool(x, *_POOLS[name])
            x = _Block(widths, name=name)(x)
        x = nn.avg_pool(x, (2, 7, 7))
        # Logits of each pair of frames are averaged over time; one spatial position is left.
        return nn.Dense(NUM_CLASSES, name="Logits/Conv3d_0c_1x1/Conv_0")(x).mean(axis=(1, 2, 3))


class _Block(nn.Module):
    """Four parallel branches of kernels 1; 1 and 3; 1 and 3; max pooling and 1."""

    widths: tuple[int, ...]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        alone, narrow, wide, narrower, less_wide, pooled = self.widths
        first = _Unit(narrow, name="Branch_1/Conv3d_0a_1x1")(x)
        second = _Unit(narrower, name="Branch_2/Conv3d_0a_1x1")(x)
        largest = _max_pool(x, (3, 3, 3), (1, 1, 1))
        branches = [
            _Unit(alone, name="Branch_0/Conv3d_0a_1x1")(x),
            _Unit(wide, kernel=3, name="Branch_1/Conv3d_0b_3x3")(first),
            _Unit(less_wide, kernel=3, name="Branch_2/Conv3d_0b_3x3")(second),
            _Unit(pooled, name="Branch_3/Conv3d_0b_1x1")(largest),
        ]
        return jnp.concatenate(branches, axis=-1)


class _Unit(nn.Module):
    """Convolution with a cubic kernel, batch norm and ReLU."""

    features: int
    kernel: int = 1
    stride: int = 1

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kernel, stride = (self.kernel,) * 2, (self.stride,) * 2
        x = _stack_frames(x, self.kernel, self.stride)
        x = nn.Conv(self.features, kernel, stride, use_bias=False, name="Conv_0")(x)
        norm = nn.BatchNorm(True, use_scale=False, epsilon=_EPSILON, name="BatchNorm_0")
        return nn.relu(norm(x))


def _stack_frames(x: jax.Array, kernel: int, stride: int) -> jax.Array:
    """Stacks the frames of each output: [b, t, h, w, c] -> [b, t / stride, h, w, kernel c]."""
    num_frames = x.shape[1]
    last = (-(-num_frames // stride) - 1) * stride
    missing = max(last + kernel - num_frames, 0)
    x = jnp.pad(x, ((0, 0), (missing // 2, missing - missing // 2), (0, 0), (0, 0), (0, 0)))
    frames = [x[:, first : first + last + 1 : stride] for first in range(kernel)]
    return jnp.concatenate(frames, axis=-1)


def _max_pool(x: jax.Array, kernel: Sequence[int], stride: Sequence[int]) -> jax.Array:
    for axis in range(3):
        if kernel[axis] > 1:
            only = lambda sizes, axis=axis: tuple(
                size if place == axis else 1 for place, size in enumerate(sizes)
            )
            x = nn.max_pool(x, only(kernel), only(stride), padding="SAME")
    return x


def _check_shape(shape: Sequence[int]) -> None:
    if shape[1] < MIN_FRAMES or tuple(shape[2:]) != (SIZE_PX, SIZE_PX, 3):
        raise InputError(
            f"I3D needs clips of {MIN_FRAMES} or more RGB frames of {SIZE_PX}x{SIZE_PX}, not "
            f"{list(shape[1:])}"
        )
