"""Stage 1 that carries the portrait's own pixels, in two layers.

A network that draws every pixel anew is never sharper than what it has learned to draw. Nearly all
that a frame of a talking person shows is in the portrait already, some pixels away. So the portrait
itself is warped: once for the body and what is behind it, once for the arms and hands, which move
far and cover the body. Two masks put the frame together:

    warped = front * portrait[flow of the arms] + (1 - front) * portrait[flow of the body]
    frame  = kept * warped + (1 - kept) * drawn

`drawn` comes from a decoder, as in the compact network: it fills what the portrait does not show.
Flows and masks are smooth maps of the network's resolution. Enlarged, they move a portrait of any
size, so that a frame is as sharp as the picture that the user gave.
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
    at_rest,
)
from gesture_jax.ops import image as image_ops
from gesture_jax.ops import rotation
from gesture_jax.ops.image import fold, unfold
from gesture_jax.ops.warp import Places, displace, find_places, read_bicubic, read_bilinear

# How far the finer level may move what the coarser one says, in halves of the frame's side.
_REFINEMENT = 0.1
# Neither the warped picture nor the drawn one is ever left out, so that both go on learning.
_LEAST_SHARE = 0.02
# A drawn place is small where, in a square of this share of the frame's side around it, at most the
# first of these shares is drawn; from the second on it is large.
_SMALL_PLACE = 0.1
_MUCH_DRAWN = 0.08, 0.2
# Training starts with mostly drawn frames (a share of warped pixels of 0.13) and few arms.
_KEPT_BIAS, _FRONT_BIAS = -2.0, -2.0


@flax.struct.dataclass
class Layers:
    """What a frame is put together from.

    Attributes:
      flows: [b, f, f, 2, 2], where the pixels of body and arms come from, as (x, y) displacements
        in units where the frame reaches from -1 to 1.
      warped: [b, r, r, 3], the portrait moved by both.
      drawn: [b, r, r, 3], what the decoder draws.
      front: [b, r, r, 1], the share of the arms in `warped`.
      kept: [b, r, r, 1], the share of `warped` in the frame.
    """

    flows: jax.Array
    warped: Image
    drawn: Image
    front: FeatureMap
    kept: FeatureMap

    def mostly_warped(self) -> Image:
        """The frame, drawn in small places only, such as an open mouth: [b, r, r, 3]."""
        drawn = 1.0 - self.kept
        around = image_ops.box_blur(drawn, round(_SMALL_PLACE * drawn.shape[1]))
        low, high = _MUCH_DRAWN
        is_small = jnp.clip((high - around) / (high - low), 0.0, 1.0)
        return self.warped + drawn * is_small * (self.drawn - self.warped)


@flax.struct.dataclass
class Drawing:
    """What the decoder makes: a picture and the logits of the masks, see `Layers`."""

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
    """What a frame of the portrait's size is put together from.

    Attributes:
      seen: [b, s, s], where the pixels of that layer come from which is mostly seen.
      other: [b, s, s], the same of the other layer.
      share: [b, s, s, 1], of the layer that is seen, from 0.5 on.
      kept: [b, s, s, 1], as in `Layers`.
      drawn: [b, s, s, 3].
    """

    seen: Places
    other: Places
    share: FeatureMap
    kept: FeatureMap
    drawn: Image


class LayeredWarping(nn.Module):
    """Motion feature to two flows and the warp by them.

    Attributes:
      width: channels at the motion feature's size.
      warp_feature_width: channels that the decoder sees of them, at twice that size.
      refine_width: channels that refine the flows, at four times that size.
      num_blocks: residual blocks at the motion feature's size.
      dtype: of the computation; flows are float32.
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
        seen = self._see(motion, source.motion)
        flows, front = _split(conv(5, 3, name="out_conv", **ZEROS)(seen.astype(jnp.float32)))
        flows = jnp.tanh(flows) + _translation(motion, source.motion)
        front = front + _FRONT_BIAS
        volume = _blend(source.volume, flows, front)
        flows, front, wide_seen = (_enlarge(x, fine.shape[1]) for x in (flows, front, seen))
        finer = self._refine(_blend(fine, flows, front), wide_seen)
        flows = flows + _REFINEMENT * jnp.tanh(finer[0])
        front = front + finer[1]
        body, arms = (displace(picture, f) for f in _at_size(flows, picture.shape[1]))
        return Warped(
            volume, (_blend(fine, flows, front), body, arms), seen=seen, flows=flows, front=front
        )

    def _see(self, motion: Motion, own: Motion | None) -> FeatureMap:
        x = DEVIATION_SCALE * (cells(motion, own) - at_rest(own))
        x = conv(self.width, 1, name="in_conv", dtype=self.dtype)(x)
        for index in range(self.num_blocks):
            x = CompactBlock(self.dtype, name=f"res{index}")(x)
        x = unfold(conv(4 * self.warp_feature_width, 1, name="up_conv", dtype=self.dtype)(x), 2)
        return CompactBlock(self.dtype, name="out_res")(x)

    def _refine(self, warped: FeatureMap, seen: FeatureMap) -> tuple[jax.Array, FeatureMap]:
        """Looks at the warped source, where the edges of arms are."""
        x = jnp.concatenate([warped, seen], axis=-1)
        x = nn.relu(conv(self.refine_width, 3, name="refine_in", dtype=self.dtype)(x))
        return _split(conv(5, 3, name="refine_out", **ZEROS)(x.astype(jnp.float32)))


class LayeredDecoder(nn.Module):
    """Warped volume, detail and pictures to what is drawn, and to the masks."""

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
        x = jnp.concatenate([warped.volume, warped.seen], axis=-1)
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
      resolution: height and width of what the networks see, a multiple of 2^(num_downs + 1).
      num_downs: the volume has resolution / 2^num_downs cells a side, the motion feature half.
      width: channels, that is depth, of the volume.
      fine_width: channels of the detail, at twice the volume's side.
      extractor_width: channels of the extractor; twice as many at the motion feature's size.
      field_width: channels of the warping calculator.
      warp_feature_width: channels that the decoder sees of it.
      refine_width: channels that refine the flows.
      num_bins: of each angle, 3 degrees wide.
      relative: whether the flows are made of the source's own motion too.
      num_source_blocks: residual blocks of the source encoder.
      num_extractor_blocks: residual blocks of the extractor.
      num_field_blocks: residual blocks of the warping calculator.
      num_decoder_blocks: residual blocks of the decoder at the volume's size.
      num_fine_blocks: residual blocks of the decoder at twice that size.
      dtype: of the computation; parameters, heads, flows and frames are float32.
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
        """`image` [b, r, r, 3] and the `layers` that it is put together from."""
        drawing = self.decoder(warped)
        _, body, arms = warped.skips
        layers = _compose(drawing, warped.flows, body, arms)
        return {"image": _mix(layers), "layers": layers}

    def draw_enlarged(self, source: SourceFeatures, motion: Motion) -> Enlarged:
        """What `locate` and `compose` make frames of the size of `source.picture` from."""
        assert source.picture is not None
        size = source.picture.shape[1]
        warped = self.warping(source, motion)
        drawing = self.decoder(warped)
        maps = jnp.concatenate([drawing.drawn, drawing.front, drawing.kept], axis=-1)
        flows = warped.flows.reshape(*warped.flows.shape[:3], 4)
        return Enlarged(*(image_ops.enlarge(x, size) for x in (flows, maps)))

    def adapt(self, source: SourceFeatures, motion: Motion) -> Motion:
        """Motion features of others as this portrait shows them: [b, 9 g^2 + 3].

        A motion feature carries a trace of the looks of whoever it was read from, which would be
        drawn: dark places beside the hands, for example. So the portrait is first only warped by
        it, and the motion is read again from what that shows.
        """
        return self.extract(self.draw(source, motion)["layers"].mostly_warped())


class PortraitEncoder(CompactEncoder):
    """`CompactEncoder`, whose skips are the fine map and the picture itself."""

    def __call__(self, image: Image) -> SourceFeatures:
        features = super().__call__(image)
        # The picture is the input: only the flows learn from how it is read.
        picture = jax.lax.stop_gradient(image)
        return features.replace(skips=(*features.skips, picture))


def _compose(drawing: Drawing, flows: jax.Array, body: Image, arms: Image) -> Layers:
    front = jax.nn.sigmoid(drawing.front)
    kept = _LEAST_SHARE + (1.0 - 2.0 * _LEAST_SHARE) * jax.nn.sigmoid(drawing.kept)
    warped = front * arms + (1.0 - front) * body
    return Layers(flows, warped, drawing.drawn, front, kept)


def _mix(layers: Layers) -> Image:
    return layers.kept * layers.warped + (1.0 - layers.kept) * layers.drawn


def locate(enlarged: Enlarged) -> Located:
    """Where the pixels of frames come from.

    This and `compose` are programs of their own. In one program with what comes before, XLA would
    enlarge the flows and find the places again for every number that is read there, which takes
    several times as long on a CPU.
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
    """Frames of the size of a portrait: only what is drawn is of the network's size.

    Args:
      picture: [1, s, s, 12], `SourceFeatures.picture`.
      located: [b, s, s, ...].

    Returns:
      [b, s, s, 3] in [0, 1].
    """
    (picture,) = picture
    seen = jnp.clip(read_bicubic(picture, located.seen), 0.0, 1.0)
    other = read_bilinear(picture[..., :3], located.other)
    warped = located.share * seen + (1.0 - located.share) * other
    return located.kept * warped + (1.0 - located.kept) * located.drawn


def _split(x: jax.Array) -> tuple[jax.Array, FeatureMap]:
    """Five channels: two flows [b, h, w, 2, 2], and the logit of the arms [b, h, w, 1]."""
    return x[..., :4].reshape(*x.shape[:3], 2, 2), x[..., 4:]


def _blend(x: FeatureMap, flows: jax.Array, front: FeatureMap) -> FeatureMap:
    """Both warps of a map of the flows' size, mixed by the share of the arms."""
    share = jax.nn.sigmoid(front)
    body, arms = (displace(x, flows[..., layer, :]) for layer in (0, 1))
    return (share * arms + (1.0 - share) * body).astype(x.dtype)


def _translation(motion: Motion, own: Motion | None) -> jax.Array:
    """[b, 1, 1, 1, 2]: the shift of everything, relative to the source's own."""
    _, translation = rotation.split_feature(motion)
    if own is not None:
        translation = translation - rotation.split_feature(own)[1]
    return translation[:, None, None, None, :2]


def _at_size(flows: jax.Array, size: int) -> tuple[jax.Array, jax.Array]:
    """The flows of body and arms, [b, size, size, 2] each."""
    flows = _enlarge(flows, size)
    return flows[..., 0, :], flows[..., 1, :]


def _enlarge(x: jax.Array, size: int) -> jax.Array:
    """[b, h, w, *rest] to [b, size, size, *rest], bilinearly."""
    if x.shape[1] == size:
        return x
    return jax.image.resize(x, (x.shape[0], size, size, *x.shape[3:]), "linear")
