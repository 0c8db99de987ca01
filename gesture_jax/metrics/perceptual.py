"""Distances between pictures by the features of pretrained networks: LPIPS and ST-LPIPS.

LPIPS (Zhang et al. 2018, https://arxiv.org/abs/1801.03924) compares features of AlexNet. ST-LPIPS
(Ghildyal and Liu 2022, https://arxiv.org/abs/2207.13686) compares those of a VGG-16 that was
trained to tolerate small shifts. The perceptual loss of training uses `vgg_features` too.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Float

from gesture_jax.array_types import Array, Image, PixelWeights, typechecked
from gesture_jax.models import vgg
from gesture_jax.models.alexnet import AlexNet
from gesture_jax.models.lpips import lpips_distance


def vgg_network(variables: Mapping[str, Any]) -> vgg.VGG:
    """The VGG that the variables belong to: 16 where ST-LPIPS's heads are among them, else 19."""
    return vgg.VGG(vgg.VGG16 if "heads" in variables else vgg.VGG19)


@typechecked
def vgg_features(
    variables: Mapping[str, Any],
    image: Float[Array, "b h w 3"],
    *,
    num_blocks: int = 5,
    dtype: Any = jnp.float32,
) -> list[Float[Array, "b _ _ _"]]:
    """Features of pictures, one [b, h', w', c] for each block of VGG.

    Args:
      variables: of `pretrained.load_vgg16` or `load_vgg19`.
      image: [b, h, w, 3] in [0, 1].
      num_blocks: how many blocks are computed, from the first one on.
      dtype: the dtype of the computation and of the features.
    """
    chex.assert_shape(image, (None, None, None, 3))
    chex.assert_type(image, float)
    params = {"params": variables["params"]}
    return vgg_network(variables).clone(dtype=dtype).apply(params, image, num_blocks=num_blocks)


@typechecked
def st_lpips(variables: Mapping[str, Any], image: Image, target: Image) -> Float[Array, "*b"]:
    """ST-LPIPS between pictures [b, h, w, 3] in [0, 1], by `pretrained.load_vgg16`: [b]."""
    (distance,) = lpips(variables, image, target)
    return distance


@typechecked
def lpips(
    variables: Mapping[str, Any],
    image: Image,
    target: Image,
    *,
    masks: Sequence[PixelWeights | None] = (None,),
) -> list[Float[Array, "*b"]]:
    """LPIPS or ST-LPIPS between pictures, once for each mask.

    Args:
      variables: of `pretrained.load_lpips` for LPIPS, of `load_vgg16` for ST-LPIPS.
      image: [b, h, w, 3] in [0, 1], at least as large as the network needs.
      target: the same.
      masks: [b, h, w, 1] each, 1 where a difference counts; None counts everywhere.

    Returns:
      [b] for each mask; NaN where the mask is empty.
    """
    chex.assert_shape([image, target], (None, None, None, 3))
    chex.assert_equal_shape([image, target])
    chex.assert_type([image, target], float)
    chex.assert_shape([mask for mask in masks if mask is not None], (*image.shape[:-1], 1))
    heads = [variables["heads"][name] for name in sorted(variables["heads"])]
    ours, theirs = (_features(variables, picture) for picture in (image, target))
    return [lpips_distance(ours, theirs, heads, mask) for mask in masks]


def _features(variables: Mapping[str, Any], image: Image) -> list[jax.Array]:
    # AlexNet's convolutions are numbered 1 to 5; those of VGG have a block's number as well.
    if "conv1" in variables["params"]:
        return AlexNet().apply({"params": variables["params"]}, image)
    return vgg_features(variables, image)
