"""Stage 1 made small and quick: the same parts and the same motion feature, for CPUs and phones.

What the reference (`deviation.py`) draws at full size is drawn here at two sizes only: the coarse
map, r / 2^num_downs a side, where the volume lies, and the fine map of twice its side, where static
detail is kept. Pixels are folded into channels on the way in and unfolded on the way out (sub-pixel
convolution, Shi et al. 2016), and nothing is normalised: steps are cheap, and it is their number
that pictures come from. See docs/stage1.md for what each choice was worth.
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

# Entries of a motion feature's rotations stay within a tenth of those of the identity for most of
# the training; brought to unit size, they are learned faster (docs/stage1.md).
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
    """Image to volume and one skip, the fine map."""

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
    """Driving frame to angles a cell and one translation."""

    width: int
    num_downs: int
    num_blocks: int
    num_bins: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, driving: Image, *, train: bool) -> tuple[jax.Array, jax.Array]:
        """Returns angles [b, g, g, 3] (pitch, yaw, roll) in radians, and translation [b, 3]."""
        del train  # Nothing here depends on the batch.
        x = fold(driving, 2**self.num_downs)
        x = conv(self.width, 3, name="in_conv", dtype=self.dtype)(x)
        x = CompactBlock(self.dtype, name="coarse_res")(x)
        x = conv(2 * self.width, 1, name="down_conv", dtype=self.dtype)(fold(x, 2))
        for index in range(self.num_blocks):
            x = CompactBlock(self.dtype, name=f"res{index}")(x)
        return angle_heads(nn.relu(x), num_bins=self.num_bins)


class CompactWarping(nn.Module):
    """Motion feature to a field of matrices, and the warp by it."""

    width: int
    warp_feature_width: int
    warp_kind: str
    dtype: jnp.dtype

    def __call__(self, source: SourceFeatures, motion: Motion) -> Warped:
        """Warps volume and skips of a source by [b, 9 g^2 + 3]."""
        field, seen = self.see(motion, source.motion)
        return apply_warp(self.warp_kind, source, motion, field).replace(seen=seen)

    @nn.compact
    def see(self, motion: Motion, own: Motion | None) -> tuple[jax.Array, FeatureMap]:
        """The field [b, 2g, 2g, 3, 3], and the features [b, 2g, 2g, c] that it is read from."""
        x = DEVIATION_SCALE * (cells(motion, own) - at_rest(own))
        x = conv(self.width, 1, name="in_conv", dtype=self.dtype)(x)
        for index in range(2):
            x = CompactBlock(self.dtype, name=f"res{index}")(x)
        x = unfold(conv(4 * self.warp_feature_width, 1, name="up_conv", dtype=self.dtype)(x), 2)
        seen = CompactBlock(self.dtype, name="out_res")(x)
        # Training starts from no deviation.
        x = jnp.tanh(conv(9, 3, name="out_conv", **ZEROS)(seen.astype(jnp.float32)))
        return x.reshape(*x.shape[:3], 3, 3), seen


class CompactDecoder(nn.Module):
    """Warped volume and skip, and what the field's network has seen, to a frame."""

    fine_width: int
    width: int
    num_downs: int
    num_blocks: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, warped: Warped) -> Image:
        dtype = self.dtype
        x = jnp.concatenate([warped.volume, warped.seen], axis=-1)
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
      num_downs: the volume has resolution / 2^num_downs cells a side, the motion feature half.
      width: channels, that is depth, of the volume.
      fine_width: channels of the skip, at twice the volume's side.
      extractor_width: channels of the extractor; twice as many at the motion feature's size.
      field_width: channels of the warping calculator.
      warp_feature_width: channels that the decoder sees of it.
      num_bins: of each angle, 3 degrees wide.
      warp_kind: a key of `base.WARPS`.
      relative: whether the field is made of the source's own motion too.
      num_source_blocks: residual blocks of the source encoder.
      num_extractor_blocks: residual blocks of the extractor.
      num_decoder_blocks: residual blocks of the decoder.
      dtype: of the computation; parameters, heads, fields and frames are float32.
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


def at_rest(own: Motion | None) -> jax.Array:
    """`cells` of no rotation."""
    identity = jnp.eye(3).ravel()
    return identity if own is None else jnp.concatenate([identity, jnp.zeros(9)])
