"""The deviation model that the paper released, array for array at its default sizes.

Names are the paper's; `torch_weights.py` maps the released arrays. `base.py` composes the parts;
`compact.py` holds a network that trains and renders without a GPU.
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
from gesture_jax.models.blocks import (
    Bottleneck,
    ConvBlock,
    Gate,
    PReLU,
    ResBlock,
    ResizeBlock,
    batch_norm,
    conv,
    group_norm,
    num_groups,
)


class SourceEncoder(nn.Module):
    """[first, down_blocks, res_ms, Res_Feat, re_up] Encodes an image into volume and skips."""

    width: int
    max_width: int
    num_downs: int
    num_blocks: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, image: Image) -> SourceFeatures:
        dtype = self.dtype
        x = ConvBlock(self.width, 4, kernel_size=7, dtype=dtype, name="first")(image)
        maps = [x]
        for level in range(self.num_downs):
            width = min(self.max_width, self.width * 2 ** (level + 1))
            x = ConvBlock(width, 8, resize="down", dtype=dtype, name=f"down{level}")(x)
            maps.append(x)
        for index in range(self.num_blocks):
            x = ResBlock(self.max_width, dtype=dtype, name=f"res{index}")(x)
        return SourceFeatures(self._volume(x), self._skips(maps))

    def _volume(self, x: FeatureMap) -> FeatureMap:
        """A U-Net over two octaves, whose receptive field is large enough to normalise the pose."""
        wide, wider = self.max_width * 3 // 2, self.max_width * 2
        block = lambda *args, **options: ResizeBlock(*args, dtype=self.dtype, **options)
        skip0 = block(wide, 8, resize="down", name="volume_down0")(x)
        skip1 = block(wider, 16, resize="down", name="volume_down1")(skip0)
        x = block(wider, 16, name="volume_mid")(skip1)
        x = jnp.concatenate([x, skip1], axis=-1)
        x = block(wider, 16, resize="up", name="volume_up1")(x)
        x = jnp.concatenate([x, skip0], axis=-1)
        x = block(wide, 8, resize="up", name="volume_up0")(x)
        norm = group_norm(num_groups(12, wide), name="volume_norm", dtype=self.dtype)
        return conv(self.max_width, 3, name="volume_out", dtype=self.dtype)(nn.relu(norm(x)))

    def _skips(self, maps: list[FeatureMap]) -> tuple[FeatureMap, ...]:
        """Returns a map for every decoder level but the last; e0 and the coarsest are not used."""
        skips = []
        for level, source in enumerate(maps[-2:0:-1]):
            width = up_width(self.width, self.max_width, self.num_downs, level)
            skips.append(ResizeBlock(width, 4, dtype=self.dtype, name=f"skip{level}")(source))
        return tuple(skips)


class DeviationExtractor(nn.Module):
    """[Pose_Base] The latent pose encoder: extracts angles per cell and one translation."""

    width: int
    blocks: tuple[int, ...]
    num_bins: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, driving: Image, *, train: bool) -> tuple[jax.Array, jax.Array]:
        """Returns angles [b, g, g, 3] (pitch, yaw, roll) in radians, and translation [b, 3]."""
        x = conv(self.width, 7, strides=2, name="stem_conv", dtype=self.dtype)(driving)
        x = nn.relu(batch_norm(train=train, name="stem_norm", dtype=self.dtype)(x))
        x = nn.max_pool(x, (3, 3), (2, 2), padding=((1, 1), (1, 1)))
        for stage, count in enumerate(self.blocks):
            width = self.width * 4 * 2**stage
            x = conv(width, 1, name=f"stage{stage}_conv", dtype=self.dtype)(x)
            norm = batch_norm(train=train, name=f"stage{stage}_norm", dtype=self.dtype)
            x = nn.relu(norm(x))
            for index in range(count):
                strides = 2 if stage and not index else 1
                name = f"stage{stage}_block{index}"
                x = Bottleneck(width, strides, dtype=self.dtype, name=name)(x, train=train)
        return angle_heads(x, num_bins=self.num_bins)


class WarpingCalculator(nn.Module):
    """[P_UP2 and the grid arithmetic] Predicts a field of matrices, and warps by it."""

    width: int
    warp_kind: str
    dtype: jnp.dtype

    def __call__(self, source: SourceFeatures, motion: Motion) -> Warped:
        """Warps the volume [b, h, w, d] of a source by [b, 9 g^2 + 3], where h = w = 2 g."""
        field, features = self.predict_field(motion, source.motion)
        warped = apply_warp(self.warp_kind, source, motion, field)
        return warped.replace(features=features) if self.warp_kind == "flow" else warped

    @nn.compact
    def predict_field(self, motion: Motion, own: Motion | None) -> tuple[jax.Array, FeatureMap]:
        """Returns the field [b, 2g, 2g, 3, 3] and the features [b, 2g, 2g, width] behind it."""
        x = cells(motion, own)
        block = lambda factor, *args, **options: ResizeBlock(
            self.width * factor, *args, dtype=self.dtype, **options
        )
        skip_a = conv(self.width, 1, name="in_conv", dtype=self.dtype)(x)
        skip_b = block(2, 4, resize="down", name="down0")(skip_a)
        skip_c = block(4, 8, resize="down", name="down1")(skip_b)
        x = block(8, 8, name="mid")(skip_c)
        for index in range(3):
            x = block(8, 16, name=f"mid_res{index}")(x)
        x = jnp.concatenate([x, skip_c], axis=-1)
        x = jnp.concatenate([block(6, 16, resize="up", name="up1")(x), skip_b], axis=-1)
        x = jnp.concatenate([block(4, 8, resize="up", name="up0")(x), skip_a], axis=-1)
        x = block(2, 8, resize="up", name="up_out")(x)
        features = block(1, 4, name="out_res")(x)
        # Training starts with zero deviation.
        x = jnp.tanh(conv(9, 3, name="out_conv", **ZEROS)(features.astype(jnp.float32)))
        return x.reshape(*x.shape[:3], 3, 3), features


class DeviationDecoder(nn.Module):
    """[GM_2D] Decodes a frame from the warped volume and the source's skips."""

    width: int
    max_width: int
    num_downs: int
    num_blocks: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, warped: Warped) -> Image:
        dtype, skips = self.dtype, warped.skips
        x = warped.volume
        if warped.features is not None:
            x = jnp.concatenate([x, warped.features.astype(x.dtype)], axis=-1)
        x = conv(self.max_width, 1, name="in_conv", dtype=dtype)(x)
        for index in range(self.num_blocks):
            x = ResBlock(self.max_width, dtype=dtype, name=f"res{index}")(x)
        for level in range(self.num_downs):
            width = up_width(self.width, self.max_width, self.num_downs, level)
            x = ConvBlock(width, 8, resize="up", dtype=dtype, name=f"up{level}")(x)
            groups = min(8, max(1, width // 32))
            x = ResBlock(width, groups, dtype=dtype, name=f"up_res{level}")(x)
            if level < len(skips):
                x = Gate(dtype=dtype, name=f"gate{level}")(x, skips[level])
                x = PReLU(name=f"act{level}")(x)
        x = nn.leaky_relu(x, 0.2).astype(jnp.float32)
        return jax.nn.sigmoid(conv(3, 3, name="out_conv")(x))


class DeviationModel(BaseModel):
    """The base model at the sizes of the reference, by default.

    Attributes:
      resolution: height and width of the frames, a multiple of 2^(num_downs + 3).
      width: number of channels after the first layer; doubles per level up to `max_width`.
      max_width: number of channels, that is depth, of the volume.
      num_downs: number of levels from the frame down to the volume; at least 2.
      num_bins: number of bins for each angle, 3 degrees wide.
      extractor_width: number of channels of the extractor's stem.
      extractor_blocks: number of bottlenecks of each stage, with one stage per level.
      field_width: number of channels of the warping calculator.
      warp_kind: "volume", the reference's warp in three dimensions; "exact", the same but the
        identity where the field is zero; or "flow", one displacement per cell, which also warps the
        skips, while the decoder also gets the features of the field. See `ops/warp.py`.
      relative: whether the field depends on the driving motion and its difference to the source's
        own; in the reference it depends on the driving motion only.
      num_source_blocks: number of residual blocks of the source encoder.
      num_decoder_blocks: number of residual blocks of the decoder.
      dtype: dtype of the computation; parameters, heads, fields and frames are float32.
    """

    width: int = 64
    max_width: int = 512
    num_downs: int = 3
    num_bins: int = 66
    extractor_width: int = 64
    extractor_blocks: tuple[int, ...] = (3, 4, 6)
    field_width: int = 64
    warp_kind: str = "volume"
    relative: bool = False
    num_source_blocks: int = 4
    num_decoder_blocks: int = 8
    dtype: jnp.dtype = jnp.float32

    def __post_init__(self):
        """Raises InputError for sizes that do not fit together."""
        super().__post_init__()
        check_warp_kind(self.warp_kind)
        if self.num_downs < 2 or self.resolution % 2 ** (self.num_downs + 3):
            raise InputError(
                f"resolution {self.resolution} with num_downs {self.num_downs}: num_downs has to "
                "be at least 2, and the resolution a multiple of 2^(num_downs + 3)"
            )
        if self.width << self.num_downs < self.max_width:
            raise InputError(
                f"max_width {self.max_width} is more than width {self.width} doubled "
                f"{self.num_downs} times; choose at most {self.width << self.num_downs}"
            )

    def setup(self):
        self.source_encoder = SourceEncoder(
            self.width, self.max_width, self.num_downs, self.num_source_blocks, self.dtype
        )
        self.extractor = DeviationExtractor(
            self.extractor_width, self.extractor_blocks, self.num_bins, self.dtype
        )
        self.warping = WarpingCalculator(self.field_width, self.warp_kind, self.dtype)
        self.decoder = DeviationDecoder(
            self.width, self.max_width, self.num_downs, self.num_decoder_blocks, self.dtype
        )


def up_width(width: int, max_width: int, num_downs: int, level: int) -> int:
    """Returns the number of channels of the decoder after its upsampling number `level`."""
    return min(max_width, width * 2 ** (num_downs - level))
