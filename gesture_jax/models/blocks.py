"""Building blocks of the deviation model (reference names in brackets).

Every convolution has a bias and pads symmetrically, as in the reference; all resizing uses the
nearest neighbour.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from gesture_jax.array_types import FeatureMap
from gesture_jax.models.initializers import lecun_normal
from gesture_jax.ops import image, remat
from gesture_jax.ops.conv import conv_general_dilated, conv_upsampled

_MIN_CHANNELS_PER_GROUP = 8
EPSILON = 1e-5


def conv(
    features: int,
    kernel_size: int,
    *,
    name: str,
    strides: int = 1,
    dtype=jnp.float32,
    upsample: bool = False,
    **options,
) -> nn.Conv:
    """A square convolution padded by half its kernel; `upsample` doubles the map's size before."""
    return nn.Conv(
        features,
        (kernel_size, kernel_size),
        strides,
        padding=kernel_size // 2,
        dtype=dtype,
        name=name,
        conv_general_dilated=conv_upsampled if upsample else conv_general_dilated,
        **{"kernel_init": lecun_normal, **options},
    )


def num_groups(wanted: int, *channels: int) -> int:
    """Returns a number of groups that divides all widths, `wanted` if possible.

    Each group has at least 8 channels.
    """
    most = min(wanted, *(max(1, c // _MIN_CHANNELS_PER_GROUP) for c in channels))
    while any(c % most for c in channels):
        most -= 1
    return most


def group_norm(groups: int, *, name: str, dtype=jnp.float32) -> nn.GroupNorm:
    """GroupNorm; Flax computes its statistics in float32 for any dtype."""
    return nn.GroupNorm(num_groups=groups, epsilon=EPSILON, dtype=dtype, name=name)


def batch_norm(*, train: bool, name: str, dtype=jnp.float32) -> nn.BatchNorm:
    """BatchNorm with PyTorch's momentum of 0.1."""
    return nn.BatchNorm(
        use_running_average=not train, momentum=0.9, epsilon=EPSILON, dtype=dtype, name=name
    )


class ConvBlock(nn.Module):
    """[Same, Down, Up] Convolution, GroupNorm, ReLU; resized before (up) or after (down)."""

    features: int
    groups: int
    kernel_size: int = 3
    resize: str = "none"  # "none", "down" (2x2 mean) or "up" (nearest).
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: FeatureMap) -> FeatureMap:
        up = self.resize == "up"
        x = conv(self.features, self.kernel_size, name="conv", dtype=self.dtype, upsample=up)(x)
        groups = num_groups(self.groups, self.features)
        x = nn.relu(group_norm(groups, name="norm", dtype=self.dtype)(x))
        return remat.block(image.average_pool(x) if self.resize == "down" else x)


class ResBlock(nn.Module):
    """[RB] Pre-activation residual block of constant width."""

    features: int
    groups: int | None = None  # None: min(16, features / 32).
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: FeatureMap) -> FeatureMap:
        groups = num_groups(self.groups or min(16, max(1, self.features // 32)), self.features)
        y = x
        for index in (1, 2):
            y = nn.relu(group_norm(groups, name=f"norm{index}", dtype=self.dtype)(y))
            y = conv(self.features, 3, name=f"conv{index}", dtype=self.dtype)(y)
        return remat.block(x + y)


class ResizeBlock(nn.Module):
    """[RB2] Pre-activation residual block that may change width and size."""

    features: int
    groups: int
    resize: str = "none"  # "none", "down" or "up", both nearest.
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: FeatureMap) -> FeatureMap:
        width = x.shape[-1]
        groups = num_groups(self.groups, width, self.features)
        y = nn.relu(group_norm(groups, name="norm1", dtype=self.dtype)(x))
        y = self._shrink(y)
        y = conv(self.features, 3, name="conv1", dtype=self.dtype, upsample=self.resize == "up")(y)
        y = nn.relu(group_norm(groups, name="norm2", dtype=self.dtype)(y))
        y = conv(self.features, 3, name="conv2", dtype=self.dtype)(y)
        if self.resize == "none" and width == self.features:
            return remat.block(x + y)
        shortcut = conv(self.features, 1, name="shortcut", dtype=self.dtype)(self._shrink(x))
        wide = image.upsample_nearest(shortcut) if self.resize == "up" else shortcut
        return remat.block(y + wide)

    def _shrink(self, x: FeatureMap) -> FeatureMap:
        return image.downsample_nearest(x) if self.resize == "down" else x


class Bottleneck(nn.Module):
    """[BN-bottleneck] ResNet's bottleneck with BatchNorm and the stride in its 3x3 convolution."""

    features: int
    strides: int = 1
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: FeatureMap, *, train: bool) -> FeatureMap:
        inner = self.features // 4
        norm = lambda name: batch_norm(train=train, name=name, dtype=self.dtype)
        y = nn.relu(norm("norm1")(conv(inner, 1, name="conv1", dtype=self.dtype)(x)))
        y = conv(inner, 3, strides=self.strides, name="conv2", dtype=self.dtype)(y)
        y = nn.relu(norm("norm2")(y))
        y = norm("norm3")(conv(self.features, 1, name="conv3", dtype=self.dtype)(y))
        if self.strides != 1:
            x = conv(self.features, 1, strides=self.strides, name="shortcut", dtype=self.dtype)(x)
            x = norm("shortcut_norm")(x)
        return remat.block(nn.relu(x + y))


class Gate(nn.Module):
    """Mixes static source detail and synthesis, with a weight per pixel and channel."""

    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: FeatureMap, skip: FeatureMap) -> FeatureMap:
        mask = jax.nn.sigmoid(conv(x.shape[-1], 3, name="conv", dtype=self.dtype)(x))
        self.sow("intermediates", "mask", mask)  # For inspection.
        return mask * x + (1.0 - mask) * skip


class PReLU(nn.Module):
    """ReLU with a learned slope per channel below zero."""

    initial_slope: float = math.pi - 3.0  # The reference starts at 0.14159.

    @nn.compact
    def __call__(self, x: FeatureMap) -> FeatureMap:
        slope = self.param("slope", nn.initializers.constant(self.initial_slope), (x.shape[-1],))
        return jnp.where(x >= 0, x, slope.astype(x.dtype) * x)
