"""The base model of stage 1: what the reference network and the compact one have in common.

    source frame  --source encoder-->  volume, skips ----------------.
    driving frame --deviation extractor--> motion feature --warping calculator--> warped volume
                                                                     '--deviation decoder--> frame

The motion feature is a g x g grid of rotations, flattened row by row, then one translation: 2307
numbers at the paper's size.
"""

from typing import ClassVar

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp

from gesture_jax.array_types import FeatureMap, Image, Motion
from gesture_jax.errors import InputError
from gesture_jax.models.blocks import conv
from gesture_jax.ops import rotation
from gesture_jax.ops.warp import deviation_warp, exact_deviation_warp, flow_warp

WARPS = {"volume": deviation_warp, "exact": exact_deviation_warp, "flow": flow_warp}
ZEROS = {"kernel_init": nn.initializers.zeros}
_AXES = ("pitch", "yaw", "roll")


@flax.struct.dataclass
class SourceFeatures:
    """What the renderer needs of a source frame; computed once for any number of frames.

    Attributes:
      volume: [b, h, w, d], the latent volume V whose channels are its depth.
      skips: the decoder's inputs of static detail, the coarsest first.
      motion: [b, 9 g^2 + 3], its own motion feature, where the warp is relative to it.
      picture: [b, s, s, 12], the portrait at the size of the frames, `warp.with_differences`, for
        networks that carry its own pixels.
    """

    volume: jax.Array
    skips: tuple[jax.Array, ...]
    motion: jax.Array | None = None
    picture: jax.Array | None = None


@flax.struct.dataclass
class Warped:
    """What the decoder draws a frame from.

    Attributes:
      volume: [b, h, w, d], warped.
      skips: of the source; warped where the warp is a flow.
      seen: [b, h, w, c], features that the field was read from, where the decoder sees them: they
        help to draw what the source does not show.
      flows: [b, f, f, 2, 2], of body and arms, in the layered network.
      front: [b, f, f, 1], the logit of the share of the arms there.
    """

    volume: jax.Array
    skips: tuple[jax.Array, ...]
    seen: jax.Array | None = None
    flows: jax.Array | None = None
    front: jax.Array | None = None


class BaseModel(nn.Module):
    """The parts put together; a subclass makes them in `setup`.

    They are `source_encoder`, `extractor`, `warping` and `decoder`. A subclass has the attributes
    `num_downs`, `warp_kind` and `relative`; its volume has a side of resolution / 2^num_downs.

    Attributes:
      resolution: height and width of the frames.
    """

    resolution: int = 256
    # Whether frames can have the size of the portrait, whatever the resolution is.
    carries_pixels: ClassVar[bool] = False

    @property
    def motion_grid(self) -> int:
        """g: cells a side of the motion feature, half of the volume's."""
        return self.resolution >> (self.num_downs + 1)

    @property
    def motion_dim(self) -> int:
        """Length of the motion feature, 9 g^2 + 3."""
        return 9 * self.motion_grid**2 + 3

    def __call__(
        self,
        source: Image,
        driving: Image,
        *,
        train: bool = False,
        views: tuple[Image, Image] | None = None,
    ) -> dict:
        """Redraws `driving` from `source`; images [b, r, r, 3].

        Args:
          source: the portrait.
          driving: the frame to redraw.
          train: whether statistics of the batch are used and kept.
          views: source and driving as the extractor sees them, in other colours, so that motion
            features cannot carry colours; the pictures themselves by default.

        Returns:
          `image` [b, r, r, 3], `motion` [b, 9 g^2 + 3], `source`, the `SourceFeatures`, and
          `warped` [b, 2g, 2g, d]; in the layered network also `layers`.
        """
        features = self.source_encoder(source)
        source, driving = views or (source, driving)
        if self.relative:
            # In one batch, so that both are seen by the same statistics; in turn, so that a device
            # of many has both of its pairs.
            both = jnp.stack([driving, source], axis=1).reshape(-1, *driving.shape[1:])
            both = self.extract(both, train=train)
            motion, own = both[0::2], both[1::2]
            features = features.replace(motion=own)
        else:
            motion = self.extract(driving, train=train)
        warped = self.warping(features, motion)
        made = self.finish(features, warped)
        return {"motion": motion, "source": features, "warped": warped.volume, **made}

    def finish(self, source: SourceFeatures, warped: Warped) -> dict:
        """From what is warped to the frame, `image` [b, r, r, 3]."""
        del source  # Some networks read its pixels.
        return {"image": self.decoder(warped)}

    def encode_source(self, image: Image) -> SourceFeatures:
        """[b, r, r, 3] in [0, 1] to what the renderer needs of it."""
        features = self.source_encoder(image)
        return features.replace(motion=self.extract(image)) if self.relative else features

    def extract(self, driving: Image, *, train: bool = False) -> Motion:
        """[b, r, r, 3] in [0, 1] to motion features [b, 9 g^2 + 3], entries in [-1, 1]."""
        angles, translation = self.extractor(driving, train=train)
        return rotation.join_feature(rotation.matrix_from_angles(angles), translation)

    def field(self, motion: Motion, own: Motion | None = None) -> jax.Array:
        """The deviation of every cell of the volume: [b, 2g, 2g, 3, 3], entries in (-1, 1).

        Args:
          motion: [b, 9 g^2 + 3], of the driving frame.
          own: that of the source, where the warp is relative to it.
        """
        return self.warping.see(motion, own)[0]

    def warp(self, source: SourceFeatures, motion: Motion) -> FeatureMap:
        """Warps the volume [b, 2g, 2g, d] of a source by motion features [b, 9 g^2 + 3]."""
        return self.warping(source, motion).volume

    def render(self, source: SourceFeatures, motion: Motion) -> Image:
        """Source features and motion features [b, 9 g^2 + 3] to frames [b, r, r, 3]."""
        return self.draw(source, motion)["image"]

    def adapt(self, source: SourceFeatures, motion: Motion) -> Motion:
        """Motion features of others as the portrait would show them; here as they are."""
        del source
        return motion

    def draw(self, source: SourceFeatures, motion: Motion) -> dict:
        """`render` with all that `finish` makes."""
        return self.finish(source, self.warping(source, motion))


def check_warp_kind(warp_kind: str) -> None:
    """Raises InputError for a warp that is not in `WARPS`."""
    if warp_kind not in WARPS:
        raise InputError(f"unknown warp_kind {warp_kind!r}; choose {' or '.join(WARPS)}")


def angle_heads(x: FeatureMap, *, num_bins: int) -> tuple[jax.Array, jax.Array]:
    """The last layer of an extractor, inside its `nn.compact` method.

    Args:
      x: [b, g, g, c].
      num_bins: of each angle, 3 degrees wide.

    Returns:
      Angles [b, g, g, 3] (pitch, yaw, roll) in radians, and translation [b, 3] in (-1, 1).
    """
    x = x.astype(jnp.float32)
    logits = [conv(num_bins, 1, name=f"{axis}_head")(x) for axis in _AXES]
    angles = jnp.stack([rotation.angles_from_logits(one) for one in logits], axis=-1)
    mean = x.mean(axis=(-3, -2), keepdims=True)
    # Training starts without a shift.
    translation = jnp.tanh(conv(3, 1, name="translation_head", **ZEROS)(mean)[..., 0, 0, :])
    return angles, translation


def apply_warp(warp_kind: str, source: SourceFeatures, motion: Motion, field: jax.Array) -> Warped:
    """Warps what a source shows; by a flow, its skips too.

    Args:
      warp_kind: a key of `WARPS`.
      source: the source.
      motion: [b, 9 g^2 + 3], whose translation counts, relative to the source's own if it has one.
      field: [b, 2g, 2g, 3, 3].
    """
    _, translation = rotation.split_feature(motion)
    if source.motion is not None:
        translation = translation - rotation.split_feature(source.motion)[1]
    volume = WARPS[warp_kind](source.volume, field, translation)
    if warp_kind != "flow":
        return Warped(volume, source.skips)
    skips = [flow_warp(x, _enlarge(field, x), translation) for x in source.skips]
    return Warped(volume, tuple(skips))


def cells(motion: Motion, own: Motion | None) -> FeatureMap:
    """What a field is made of: [b, g, g, 9], or with the difference to the source's own, 18.

    Args:
      motion: [b, 9 g^2 + 3].
      own: that of the source, where the warp is relative to it.
    """
    x = _flat(motion)
    return x if own is None else jnp.concatenate([x, x - _flat(own)], axis=-1)


def _flat(motion: Motion) -> FeatureMap:
    matrices, _ = rotation.split_feature(motion)
    return matrices.reshape(*matrices.shape[:-2], 9)


def _enlarge(field: jax.Array, like: FeatureMap) -> jax.Array:
    """The field at the size of a finer map."""
    shape = (like.shape[0], *like.shape[1:3], 3, 3)
    return jax.image.resize(field, shape, "linear")
