"""A small and fast stage 1 with the same parts and the same motion feature, for CPUs and phones.

The reference (`deviation.py`) computes at all sizes up to that of the frame; this network uses only
two: the coarse map of r / 2^num_downs per side, which holds the volume, and the fine map of twice
that side, which holds static detail. Pixels are folded into channels at the input and unfolded at
the output (sub-pixel convolution, Shi et al. 2016). Nothing is normalised: steps are cheap, and the
quality depends on their number. docs/stage1.md shows the effect of each choice.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from gesture_jax.array_types import FeatureMap, Image, Motion
from gesture_jax.errors import InputError
from gesture_jax.models.base import (
    ZEROS,
    BaseModel,
    SourceFeatures,
    Warped,
    angle_heads,
    apply_warp,
    cells,
    check_warp_kind,
)
from gesture_jax.models.blocks import Gate, conv
from gesture_jax.ops.image import fold, unfold

# The rotations of a motion feature stay within a tenth of the identity for most of the training; at
# unit scale they are learned faster (docs/stage1.md).
DEVIATION_SCALE = 10.0


class CompactBlock(nn.Module):
    """Residual block without normalisation: ReLU, conv3, ReLU, conv3."""

    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: FeatureMap) -> FeatureMap:
        y = x
        for index in (1, 2):
            y = conv(x.shape[-1], 3, name=f"conv{index}", dtype=self.dtype)(nn.relu(y))
        return x + y


class CompactEncoder(nn.Module):
    """Encodes an image into the volume and one skip, the fine map."""

    fine_width: int
    width: int
    num_downs: int
    num_blocks: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, image: Image) -> SourceFeatures:
        x = fold(image, 2 ** (self.num_downs - 1))
        x = conv(self.fine_width, 3, name="in_conv", dtype=self.dtype)(x)
        fine = CompactBlock(self.dtype, name="fine_res")(x)
        x = conv(self.width, 1, name="down_conv", dtype=self.dtype)(fold(fine, 2))
        for index in range(self.num_blocks):
            x = CompactBlock(self.dtype, name=f"res{index}")(x)
        return SourceFeatures(x, (fine,))


class CompactExtractor(nn.Module):
    """Extracts angles per cell and one translation from a driving frame."""

    width: int
    num_downs: int
    num_blocks: int
    num_bins: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, driving: Image, *, train: bool) -> tuple[jax.Array, jax.Array]:
        """Returns angles [b, g, g, 3] (pitch, yaw, roll) in radians, and translation [b, 3]."""
        del train  # It has no batch statistics.
        x = fold(driving, 2**self.num_downs)
        x = conv(self.width, 3, name="in_conv", dtype=self.dtype)(x)
        x = CompactBlock(self.dtype, name="coarse_res")(x)
        x = conv(2 * self.width, 1, name="down_conv", dtype=self.dtype)(fold(x, 2))
        for index in range(self.num_blocks):
            x = CompactBlock(self.dtype, name=f"res{index}")(x)
        return angle_heads(nn.relu(x), num_bins=self.num_bins)


class CompactWarping(nn.Module):
    """Predicts a field of matrices from a motion feature, and warps by it."""

    width: int
    warp_feature_width: int
    warp_kind: str
    dtype: jnp.dtype

    def __call__(self, source: SourceFeatures, motion: Motion) -> Warped:
        """Warps volume and skips of a source by motion features [b, 9 g^2 + 3]."""
        field, features = self.predict_field(motion, source.motion)
        return apply_warp(self.warp_kind, source, motion, field).replace(features=features)

    @nn.compact
    def predict_field(self, motion: Motion, own: Motion | None) -> tuple[jax.Array, FeatureMap]:
        """Returns the field [b, 2g, 2g, 3, 3] and the features [b, 2g, 2g, c] behind it."""
        x = DEVIATION_SCALE * (cells(motion, own) - identity_cells(own))
        x = conv(self.width, 1, name="in_conv", dtype=self.dtype)(x)
        for index in range(2):
            x = CompactBlock(self.dtype, name=f"res{index}")(x)
        x = unfold(conv(4 * self.warp_feature_width, 1, name="up_conv", dtype=self.dtype)(x), 2)
        features = CompactBlock(self.dtype, name="out_res")(x)
        # Training starts with zero deviation.
        x = jnp.tanh(conv(9, 3, name="out_conv", **ZEROS)(features.astype(jnp.float32)))
        return x.reshape(*x.shape[:3], 3, 3), features


class CompactDecoder(nn.Module):
    """Decodes a frame from the warped volume and skip, and the features of the field."""

    fine_width: int
    width: int
    num_downs: int
    num_blocks: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, warped: Warped) -> Image:
        dtype = self.dtype
        x = jnp.concatenate([warped.volume, warped.features], axis=-1)
        x = conv(self.width, 1, name="in_conv", dtype=dtype)(x)
        for index in range(self.num_blocks):
            x = CompactBlock(dtype, name=f"res{index}")(x)
        x = unfold(conv(4 * self.fine_width, 3, name="up_conv", dtype=dtype)(nn.relu(x)), 2)
        x = Gate(dtype=dtype, name="gate")(x, warped.skips[0])
        x = nn.relu(CompactBlock(dtype, name="fine_res")(x)).astype(jnp.float32)
        factor = 2 ** (self.num_downs - 1)
        return jax.nn.sigmoid(unfold(conv(3 * factor**2, 3, name="out_conv")(x), factor))


class CompactModel(BaseModel):
    """The base model for presets that run without a GPU.

    Attributes:
      resolution: height and width of the frames, a multiple of 2^(num_downs + 1).
      num_downs: the volume has resolution / 2^num_downs cells per side, the motion feature half.
      width: number of channels, that is depth, of the volume.
      fine_width: number of channels of the skip, at twice the volume's side.
      extractor_width: number of channels of the extractor; twice as many at the motion feature's
        size.
      field_width: number of channels of the warping calculator.
      warp_feature_width: number of its channels that the decoder gets.
      num_bins: number of bins for each angle, 3 degrees wide.
      warp_kind: a key of `base.WARPS`.
      relative: whether the field also depends on the source's own motion.
      num_source_blocks: number of residual blocks of the source encoder.
      num_extractor_blocks: number of residual blocks of the extractor.
      num_decoder_blocks: number of residual blocks of the decoder.
      dtype: dtype of the computation; parameters, heads, fields and frames are float32.
    """

    num_downs: int = 3
    width: int = 96
    fine_width: int = 32
    extractor_width: int = 48
    field_width: int = 64
    warp_feature_width: int = 32
    num_bins: int = 66
    warp_kind: str = "flow"
    relative: bool = True
    num_source_blocks: int = 1
    num_extractor_blocks: int = 1
    num_decoder_blocks: int = 3
    dtype: jnp.dtype = jnp.float32

    def __post_init__(self):
        """Raises InputError for sizes that do not fit together."""
        super().__post_init__()
        check_warp_kind(self.warp_kind)
        if self.num_downs < 1 or self.resolution % 2 ** (self.num_downs + 1):
            raise InputError(
                f"resolution {self.resolution} with num_downs {self.num_downs}: num_downs has to "
                "be at least 1, and the resolution a multiple of 2^(num_downs + 1)"
            )

    def setup(self):
        self.source_encoder = CompactEncoder(
            self.fine_width, self.width, self.num_downs, self.num_source_blocks, self.dtype
        )
        self.extractor = CompactExtractor(
            self.extractor_width, self.num_downs, self.num_extractor_blocks, self.num_bins,
            self.dtype,
        )  # fmt: skip
        self.warping = CompactWarping(
            self.field_width, self.warp_feature_width, self.warp_kind, self.dtype
        )
        self.decoder = CompactDecoder(
            self.fine_width, self.width, self.num_downs, self.num_decoder_blocks, self.dtype
        )


def identity_cells(own: Motion | None) -> jax.Array:
    """`cells` for the identity rotation and no difference."""
    identity = jnp.eye(3).ravel()
    return identity if own is None else jnp.concatenate([identity, jnp.zeros(9)])
