"""A stage 1 that moves the portrait's own pixels, in two layers.

A network that draws every pixel anew is never sharper than what it has learned to draw. Nearly
everything in a frame of a talking person is already in the portrait, some pixels away. The portrait
itself is therefore warped: once for the body and the background, and once for the arms and hands,
which move far and cover the body. Two masks compose the frame:

    warped = front * portrait[flow of the arms] + (1 - front) * portrait[flow of the body]
    frame  = kept * warped + (1 - kept) * drawn

`drawn` comes from a decoder, as in the compact network, and fills parts that the portrait does not
show. Flows and masks are smooth maps at the network's resolution. They are enlarged to move a
portrait of any size, so that a frame is as sharp as the user's picture.
"""

from typing import ClassVar

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp

from gesture_jax.array_types import FeatureMap, Image, Motion
from gesture_jax.errors import InputError
from gesture_jax.models.base import ZEROS, BaseModel, SourceFeatures, Warped, cells
from gesture_jax.models.blocks import Gate, conv
from gesture_jax.models.compact import (
    DEVIATION_SCALE,
    CompactBlock,
    CompactEncoder,
    CompactExtractor,
    identity_cells,
)
from gesture_jax.ops import image as image_ops
from gesture_jax.ops import rotation
from gesture_jax.ops.image import fold, unfold
from gesture_jax.ops.warp import Places, displace, find_places, read_bicubic, read_bilinear

# The largest correction of the flows by the finer level, in halves of the frame's side.
_REFINEMENT = 0.1
# Neither the warped picture nor the drawn one is ever masked out, so that both keep learning.
_MIN_SHARE = 0.02
# A drawn region is small if at most the first of these shares is drawn in the square around it,
# whose side is given as a share of the frame's side; from the second share on it is large.
_SMALL_REGION = 0.1
_DRAWN_SHARES = 0.08, 0.2
# Training starts with mostly drawn frames (a share of warped pixels of 0.13) and few arms.
_KEPT_BIAS, _FRONT_BIAS = -2.0, -2.0


@flax.struct.dataclass
class Layers:
    """The layers of a frame.

    Attributes:
      flows: [b, f, f, 2, 2], the displacements (x, y) to the source pixels of body and arms, in
        units where the frame reaches from -1 to 1.
      warped: [b, r, r, 3], the portrait moved by both flows.
      drawn: [b, r, r, 3], the picture that the decoder draws.
      front: [b, r, r, 1], the share of the arms in `warped`.
      kept: [b, r, r, 1], the share of `warped` in the frame.
    """

    flows: jax.Array
    warped: Image
    drawn: Image
    front: FeatureMap
    kept: FeatureMap

    def mostly_warped(self) -> Image:
        """Returns the frame with only small drawn regions, such as a mouth: [b, r, r, 3]."""
        drawn = 1.0 - self.kept
        around = image_ops.box_blur(drawn, round(_SMALL_REGION * drawn.shape[1]))
        low, high = _DRAWN_SHARES
        is_small = jnp.clip((high - around) / (high - low), 0.0, 1.0)
        return self.warped + drawn * is_small * (self.drawn - self.warped)


@flax.struct.dataclass
class Drawing:
    """The decoder's output: a picture and the logits of the masks, see `Layers`."""

    drawn: Image
    front: FeatureMap
    kept: FeatureMap


@flax.struct.dataclass
class Enlarged:
    """Flows and masks at the size of the portrait.

    Attributes:
      flows: [b, s, s, 4], (x, y) of the body, then of the arms, as in `Layers`.
      maps: [b, s, s, 5], the drawn picture and the logits of `front` and `kept`.
    """

    flows: jax.Array
    maps: FeatureMap


@flax.struct.dataclass
class Located:
    """The layers of a frame of the portrait's size.

    Attributes:
      main: [b, s, s], the source positions of the layer with the larger share.
      other: [b, s, s], those of the other layer.
      share: [b, s, s, 1], the share of the main layer, at least 0.5.
      kept: [b, s, s, 1], as in `Layers`.
      drawn: [b, s, s, 3].
    """

    main: Places
    other: Places
    share: FeatureMap
    kept: FeatureMap
    drawn: Image


class LayeredWarping(nn.Module):
    """Predicts two flows from a motion feature, and warps by them.

    Attributes:
      width: number of channels at the motion feature's size.
      warp_feature_width: number of channels that the decoder gets, at twice that size.
      refine_width: number of channels that refine the flows, at four times that size.
      num_blocks: number of residual blocks at the motion feature's size.
      dtype: dtype of the computation; flows are float32.
    """

    width: int
    warp_feature_width: int
    refine_width: int
    num_blocks: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, source: SourceFeatures, motion: Motion) -> Warped:
        """Warps volume, detail and picture of a source by motion features [b, 9 g^2 + 3]."""
        fine, picture = source.skips
        features = self._features(motion, source.motion)
        flows, front = _split(conv(5, 3, name="out_conv", **ZEROS)(features.astype(jnp.float32)))
        flows = jnp.tanh(flows) + _translation(motion, source.motion)
        front = front + _FRONT_BIAS
        volume = _blend(source.volume, flows, front)
        flows, front, fine_features = (_enlarge(x, fine.shape[1]) for x in (flows, front, features))
        flows_change, front_change = self._refine(_blend(fine, flows, front), fine_features)
        flows = flows + _REFINEMENT * jnp.tanh(flows_change)
        front = front + front_change
        body, arms = (displace(picture, f) for f in _at_size(flows, picture.shape[1]))
        skips = _blend(fine, flows, front), body, arms
        return Warped(volume, skips, features=features, flows=flows, front=front)

    def _features(self, motion: Motion, own: Motion | None) -> FeatureMap:
        x = DEVIATION_SCALE * (cells(motion, own) - identity_cells(own))
        x = conv(self.width, 1, name="in_conv", dtype=self.dtype)(x)
        for index in range(self.num_blocks):
            x = CompactBlock(self.dtype, name=f"res{index}")(x)
        x = unfold(conv(4 * self.warp_feature_width, 1, name="up_conv", dtype=self.dtype)(x), 2)
        return CompactBlock(self.dtype, name="out_res")(x)

    def _refine(self, warped: FeatureMap, features: FeatureMap) -> tuple[jax.Array, FeatureMap]:
        """Predicts corrections from the warped source, which shows the edges of arms."""
        x = jnp.concatenate([warped, features], axis=-1)
        x = nn.relu(conv(self.refine_width, 3, name="refine_in", dtype=self.dtype)(x))
        return _split(conv(5, 3, name="refine_out", **ZEROS)(x.astype(jnp.float32)))


class LayeredDecoder(nn.Module):
    """Draws a picture and the masks from the warped volume, detail and pictures."""

    fine_width: int
    width: int
    num_downs: int
    num_blocks: int
    num_fine_blocks: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, warped: Warped) -> Drawing:
        dtype, factor = self.dtype, 2 ** (self.num_downs - 1)
        fine, body, arms = warped.skips
        x = jnp.concatenate([warped.volume, warped.features], axis=-1)
        x = conv(self.width, 1, name="in_conv", dtype=dtype)(x)
        for index in range(self.num_blocks):
            x = CompactBlock(dtype, name=f"res{index}")(x)
        x = unfold(conv(4 * self.fine_width, 3, name="up_conv", dtype=dtype)(nn.relu(x)), 2)
        x = Gate(dtype=dtype, name="gate")(x, fine)
        pixels = fold(jnp.concatenate([body, arms], axis=-1), factor)
        x = x + conv(self.fine_width, 1, name="pixels_conv", dtype=dtype)(pixels)
        for index in range(self.num_fine_blocks):
            x = CompactBlock(dtype, name=f"fine_res{index}")(x)
        x = nn.relu(x).astype(jnp.float32)
        drawn = unfold(conv(3 * factor**2, 3, name="out_conv")(x), factor)
        masks = unfold(conv(2 * factor**2, 3, name="masks_conv", **ZEROS)(x), factor)
        front = masks[..., :1] + _enlarge(warped.front, masks.shape[1])
        return Drawing(jax.nn.sigmoid(drawn), front, masks[..., 1:] + _KEPT_BIAS)


class LayeredModel(BaseModel):
    """The base model that warps the portrait's own pixels.

    Attributes:
      resolution: height and width of the networks' input, a multiple of 2^(num_downs + 1).
      num_downs: the volume has resolution / 2^num_downs cells per side, the motion feature half.
      width: number of channels, that is depth, of the volume.
      fine_width: number of channels of the detail, at twice the volume's side.
      extractor_width: number of channels of the extractor; twice as many at the motion feature's
        size.
      field_width: number of channels of the warping calculator.
      warp_feature_width: number of its channels that the decoder gets.
      refine_width: number of channels that refine the flows.
      num_bins: number of bins for each angle, 3 degrees wide.
      relative: whether the flows also depend on the source's own motion.
      num_source_blocks: number of residual blocks of the source encoder.
      num_extractor_blocks: number of residual blocks of the extractor.
      num_field_blocks: number of residual blocks of the warping calculator.
      num_decoder_blocks: number of residual blocks of the decoder at the volume's size.
      num_fine_blocks: number of residual blocks of the decoder at twice that size.
      dtype: dtype of the computation; parameters, heads, flows and frames are float32.
    """

    carries_pixels: ClassVar[bool] = True

    num_downs: int = 3
    width: int = 128
    fine_width: int = 48
    extractor_width: int = 64
    field_width: int = 96
    warp_feature_width: int = 48
    refine_width: int = 32
    num_bins: int = 66
    relative: bool = True
    num_source_blocks: int = 2
    num_extractor_blocks: int = 2
    num_field_blocks: int = 3
    num_decoder_blocks: int = 2
    num_fine_blocks: int = 1
    dtype: jnp.dtype = jnp.float32

    def __post_init__(self):
        """Raises InputError for sizes that do not fit together."""
        super().__post_init__()
        if self.num_downs < 2 or self.resolution % 2 ** (self.num_downs + 1):
            raise InputError(
                f"resolution {self.resolution} with num_downs {self.num_downs}: num_downs has to "
                "be at least 2, and the resolution a multiple of 2^(num_downs + 1)"
            )

    def setup(self):
        self.source_encoder = PortraitEncoder(
            self.fine_width, self.width, self.num_downs, self.num_source_blocks, self.dtype
        )
        self.extractor = CompactExtractor(
            self.extractor_width, self.num_downs, self.num_extractor_blocks, self.num_bins,
            self.dtype,
        )  # fmt: skip
        self.warping = LayeredWarping(
            self.field_width,
            self.warp_feature_width,
            self.refine_width,
            self.num_field_blocks,
            self.dtype,
        )
        self.decoder = LayeredDecoder(
            self.fine_width, self.width, self.num_downs, self.num_decoder_blocks,
            self.num_fine_blocks, self.dtype,
        )  # fmt: skip

    def finish(self, source: SourceFeatures, warped: Warped) -> dict:
        """Returns `image` [b, r, r, 3] and its `layers`."""
        drawing = self.decoder(warped)
        _, body, arms = warped.skips
        layers = _compose(drawing, warped.flows, body, arms)
        return {"image": _mix(layers), "layers": layers}

    def draw_enlarged(self, source: SourceFeatures, motion: Motion) -> Enlarged:
        """Returns the input from which `locate` and `compose` make frames of the picture's size."""
        assert source.picture is not None
        size = source.picture.shape[1]
        warped = self.warping(source, motion)
        drawing = self.decoder(warped)
        maps = jnp.concatenate([drawing.drawn, drawing.front, drawing.kept], axis=-1)
        flows = warped.flows.reshape(*warped.flows.shape[:3], 4)
        return Enlarged(*(image_ops.enlarge(x, size) for x in (flows, maps)))

    def adapt(self, source: SourceFeatures, motion: Motion) -> Motion:
        """Adapts motion features [b, 9 g^2 + 3] of others to the portrait.

        A motion feature carries a trace of the appearance of the person it was extracted from,
        which would show in the frame, for example as dark spots beside the hands. The portrait is
        therefore first only warped by it, and the motion is extracted again from the result.
        """
        return self.extract(self.draw(source, motion)["layers"].mostly_warped())


class PortraitEncoder(CompactEncoder):
    """A `CompactEncoder` whose skips are the fine map and the picture itself."""

    def __call__(self, image: Image) -> SourceFeatures:
        features = super().__call__(image)
        # The picture is an input: gradients reach the flows only.
        picture = jax.lax.stop_gradient(image)
        return features.replace(skips=(*features.skips, picture))


def _compose(drawing: Drawing, flows: jax.Array, body: Image, arms: Image) -> Layers:
    front = jax.nn.sigmoid(drawing.front)
    kept = _MIN_SHARE + (1.0 - 2.0 * _MIN_SHARE) * jax.nn.sigmoid(drawing.kept)
    warped = front * arms + (1.0 - front) * body
    return Layers(flows, warped, drawing.drawn, front, kept)


def _mix(layers: Layers) -> Image:
    return layers.kept * layers.warped + (1.0 - layers.kept) * layers.drawn


def locate(enlarged: Enlarged) -> Located:
    """Finds the source positions of the pixels of frames.

    This function and `compose` are compiled separately. Compiled together with `draw_enlarged`, XLA
    would enlarge the flows and find the positions again for every value that is read there, which
    takes several times as long on a CPU.
    """
    body, arms = enlarged.flows[..., :2], enlarged.flows[..., 2:]
    drawn, front, kept = jnp.split(enlarged.maps, (3, 4), axis=-1)
    front, kept = jax.nn.sigmoid(front), jax.nn.sigmoid(kept)
    is_arm = front > 0.5
    return Located(
        find_places(jnp.where(is_arm, arms, body)),
        find_places(jnp.where(is_arm, body, arms)),
        jnp.maximum(front, 1.0 - front),
        kept,
        drawn,
    )


def compose(picture: FeatureMap, located: Located) -> Image:
    """Composes frames of the portrait's size; only drawn parts have the network's resolution.

    Args:
      picture: [1, s, s, 12], `SourceFeatures.picture`.
      located: [b, s, s, ...].

    Returns:
      [b, s, s, 3] in [0, 1].
    """
    (picture,) = picture
    main = jnp.clip(read_bicubic(picture, located.main), 0.0, 1.0)
    return blend(main, read_bilinear(picture[..., :3], located.other), located)


def blend(main: Image, other: Image, located: Located) -> Image:
    """Blends what is read at the positions of both layers, [*b, h, w, 3], with the drawing."""
    warped = located.share * main + (1.0 - located.share) * other
    return located.kept * warped + (1.0 - located.kept) * located.drawn


def _split(x: jax.Array) -> tuple[jax.Array, FeatureMap]:
    """Splits 5 channels into two flows [b, h, w, 2, 2] and the logit of the arms [b, h, w, 1]."""
    return x[..., :4].reshape(*x.shape[:3], 2, 2), x[..., 4:]


def _blend(x: FeatureMap, flows: jax.Array, front: FeatureMap) -> FeatureMap:
    """Warps a map of the flows' size by both flows, and mixes them by the share of the arms."""
    share = jax.nn.sigmoid(front)
    body, arms = (displace(x, flows[..., layer, :]) for layer in (0, 1))
    return (share * arms + (1.0 - share) * body).astype(x.dtype)


def _translation(motion: Motion, own: Motion | None) -> jax.Array:
    """Returns the global translation relative to the source's own, [b, 1, 1, 1, 2]."""
    _, translation = rotation.split_feature(motion)
    if own is not None:
        translation = translation - rotation.split_feature(own)[1]
    return translation[:, None, None, None, :2]


def _at_size(flows: jax.Array, size: int) -> tuple[jax.Array, jax.Array]:
    """Resizes the flows of body and arms to [b, size, size, 2] each."""
    flows = _enlarge(flows, size)
    return flows[..., 0, :], flows[..., 1, :]


def _enlarge(x: jax.Array, size: int) -> jax.Array:
    """Resizes [b, h, w, *rest] to [b, size, size, *rest], bilinearly."""
    if x.shape[1] == size:
        return x
    return jax.image.resize(x, (x.shape[0], size, size, *x.shape[3:]), "linear")
