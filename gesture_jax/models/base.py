"""The base model of stage 1: the parts that all of its networks have in common.

    source frame  --source encoder-->  volume, skips ----------------.
    driving frame --deviation extractor--> motion feature --warping calculator--> warped volume
                                                                     '--deviation decoder--> frame

The motion feature is a g x g grid of rotations, flattened row by row, followed by one translation:
2307 numbers at the paper's size.
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
    """The renderer's input from a source frame, computed once for any number of frames.

    Attributes:
      volume: [b, h, w, d], the latent volume V whose channels are its depth.
      skips: maps of static detail for the decoder, the coarsest first.
      motion: [b, 9 g^2 + 3], its own motion feature, or None if the warp is not relative to it.
      picture: [b, s, s, 12], the portrait at the size of the frames with its differences
        (`warp.with_differences`), or None for networks that draw every pixel anew.
    """

    volume: jax.Array
    skips: tuple[jax.Array, ...]
    motion: jax.Array | None = None
    picture: jax.Array | None = None


@flax.struct.dataclass
class Warped:
    """The decoder's input for a frame.

    Attributes:
      volume: [b, h, w, d], the warped volume.
      skips: the skips of the source, warped if the warp is a flow.
      features: [b, h, w, c], features from which the field was predicted, or None; they help the
        decoder to draw parts that the source does not show.
      flows: [b, f, f, 2, 2], the flows of body and arms in the layered network.
      front: [b, f, f, 1], the logit of the share of the arms in the layered network.
    """

    volume: jax.Array
    skips: tuple[jax.Array, ...]
    features: jax.Array | None = None
    flows: jax.Array | None = None
    front: jax.Array | None = None


class BaseModel(nn.Module):
    """Composes the four parts, which a subclass defines in `setup`.

    The parts are `source_encoder`, `extractor`, `warping` and `decoder`. A subclass has the
    attributes `num_downs`, `warp_kind` and `relative`; its volume has a side of
    resolution / 2^num_downs.

    Attributes:
      resolution: height and width of the frames.
    """

    resolution: int = 256
    # Whether frames can have the size of the portrait, regardless of the resolution.
    carries_pixels: ClassVar[bool] = False

    @property
    def motion_grid(self) -> int:
        """g: cells per side of the motion feature, half of the volume's."""
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
        """Reconstructs `driving` from `source`; images [b, r, r, 3].

        Args:
          source: the portrait.
          driving: the frame to reconstruct.
          train: whether batch statistics are used and updated.
          views: source and driving for the extractor, in other colours, so that motion features
            cannot carry colours; the pictures themselves by default.

        Returns:
          A dict of `image` [b, r, r, 3], `motion` [b, 9 g^2 + 3], `source`, the `SourceFeatures`,
          and `warped` [b, 2g, 2g, d]; in the layered network also `layers`.
        """
        features = self.source_encoder(source)
        source, driving = views or (source, driving)
        if self.relative:
            # One batch, so that the same statistics normalise both; interleaved, so that with
            # several devices each has both frames of its pairs.
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
        """Decodes the frame, `image` [b, r, r, 3]."""
        del source  # Subclasses may read its pixels.
        return {"image": self.decoder(warped)}

    def encode_source(self, image: Image) -> SourceFeatures:
        """Encodes a source frame, [b, r, r, 3] in [0, 1]."""
        features = self.source_encoder(image)
        return features.replace(motion=self.extract(image)) if self.relative else features

    def extract(self, driving: Image, *, train: bool = False) -> Motion:
        """Extracts motion features [b, 9 g^2 + 3] in [-1, 1] from frames [b, r, r, 3] in [0, 1]."""
        angles, translation = self.extractor(driving, train=train)
        return rotation.join_feature(rotation.matrix_from_angles(angles), translation)

    def field(self, motion: Motion, own: Motion | None = None) -> jax.Array:
        """Predicts the deviation of every cell of the volume: [b, 2g, 2g, 3, 3], in (-1, 1).

        Args:
          motion: [b, 9 g^2 + 3], the motion feature of the driving frame.
          own: that of the source, if the warp is relative to it.
        """
        return self.warping.predict_field(motion, own)[0]

    def warp(self, source: SourceFeatures, motion: Motion) -> FeatureMap:
        """Warps the volume [b, 2g, 2g, d] of a source by motion features [b, 9 g^2 + 3]."""
        return self.warping(source, motion).volume

    def render(self, source: SourceFeatures, motion: Motion) -> Image:
        """Renders frames [b, r, r, 3] from source features and motion features [b, 9 g^2 + 3]."""
        return self.draw(source, motion)["image"]

    def adapt(self, source: SourceFeatures, motion: Motion) -> Motion:
        """Adapts motion features of others to the portrait; by default they stay the same."""
        del source
        return motion

    def draw(self, source: SourceFeatures, motion: Motion) -> dict:
        """Like `render`, but returns all results of `finish`."""
        return self.finish(source, self.warping(source, motion))


def check_warp_kind(warp_kind: str) -> None:
    """Raises InputError for a warp that is not in `WARPS`."""
    if warp_kind not in WARPS:
        raise InputError(f"unknown warp_kind {warp_kind!r}; choose {' or '.join(WARPS)}")


def angle_heads(x: FeatureMap, *, num_bins: int) -> tuple[jax.Array, jax.Array]:
    """The last layer of an extractor; call it inside its `nn.compact` method.

    Args:
      x: [b, g, g, c].
      num_bins: number of bins for each angle, 3 degrees wide.

    Returns:
      Angles [b, g, g, 3] (pitch, yaw, roll) in radians, and translation [b, 3] in (-1, 1).
    """
    x = x.astype(jnp.float32)
    logits = [conv(num_bins, 1, name=f"{axis}_head")(x) for axis in _AXES]
    angles = jnp.stack([rotation.angles_from_logits(one) for one in logits], axis=-1)
    mean = x.mean(axis=(-3, -2), keepdims=True)
    # Training starts with zero translation.
    translation = jnp.tanh(conv(3, 1, name="translation_head", **ZEROS)(mean)[..., 0, 0, :])
    return angles, translation


def apply_warp(warp_kind: str, source: SourceFeatures, motion: Motion, field: jax.Array) -> Warped:
    """Warps the volume of a source; a flow warps its skips, too.

    Args:
      warp_kind: a key of `WARPS`.
      source: the source.
      motion: [b, 9 g^2 + 3]; only its translation is used, relative to the source's if known.
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
    """Returns the input of a warping network.

    Args:
      motion: [b, 9 g^2 + 3].
      own: the motion feature of the source, if the warp is relative to it.

    Returns:
      Rotations [b, g, g, 9]; with `own` also their difference to the source's, [b, g, g, 18].
    """
    x = _flat(motion)
    return x if own is None else jnp.concatenate([x, x - _flat(own)], axis=-1)


def _flat(motion: Motion) -> FeatureMap:
    matrices, _ = rotation.split_feature(motion)
    return matrices.reshape(*matrices.shape[:-2], 9)


def _enlarge(field: jax.Array, like: FeatureMap) -> jax.Array:
    """Resizes the field to the size of a finer map."""
    shape = (like.shape[0], *like.shape[1:3], 3, 3)
    return jax.image.resize(field, shape, "linear")
