"""Losses of pictures: what stage 1 is trained by.

The two sides of the adversarial game are trained by one backward pass over the sum of their losses.
So the discriminator's loss wants the generator's pictures as constants, and the generator's terms
want the discriminator's parameters as constants; `jax.lax.stop_gradient` is the caller's to place.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gesture_jax.array_types import FeatureMap, Image
from gesture_jax.models import vgg
from gesture_jax.models.alexnet import AlexNet
from gesture_jax.models.lpips import lpips_distance
from gesture_jax.ops import image as image_ops


def pyramid_l1(
    image: Image, target: Image, *, num_levels: int, weights: FeatureMap | None = None
) -> jax.Array:
    """Mean absolute difference, averaged over the scales 1, 1/2, 1/4, ...; a scalar.

    Args:
      image: [b, h, w, 3].
      target: [b, h, w, 3].
      num_levels: how many scales.
      weights: [b, h, w, 1], 0 or more: how much each pixel counts in the mean over all pixels of
        the batch, at coarser scales the pool of what it covers; all count alike without it.
    """
    if weights is None:
        weights = jnp.ones_like(image[..., :1])
    levels = zip(
        *(image_ops.pyramid(x, num_levels=num_levels) for x in (image, target, weights)),
        strict=True,
    )
    return jnp.stack([_weighted_mean(jnp.abs(a - b), w) for a, b, w in levels]).mean()


def weighted_squares(image: Image, target: Image, *, weights: FeatureMap) -> jax.Array:
    """Mean squared difference; a scalar.

    It weighs the few pixels that are far off, as hands are, and is what PSNR measures.

    Args:
      image: [b, h, w, 3].
      target: [b, h, w, 3].
      weights: [b, h, w, 1], 0 or more: how much each pixel counts in the mean.
    """
    return _weighted_mean(jnp.square(image - target), weights)


def _weighted_mean(values: jax.Array, weights: FeatureMap) -> jax.Array:
    # Of no weight at all there is no mean, but a batch may be so.
    weighted = (weights * values.mean(axis=-1, keepdims=True)).sum()
    return weighted / jnp.maximum(weights.sum(), 1e-6)


def total_variation(x: FeatureMap) -> jax.Array:
    """Mean absolute difference of neighbours in a map [b, h, w, c], down and across; a scalar."""
    down, across = jnp.diff(x, axis=1), jnp.diff(x, axis=2)
    return jnp.abs(down).mean() + jnp.abs(across).mean()


def missed_points(
    flows: jax.Array, source: jax.Array, driving: jax.Array, *, layer: np.ndarray
) -> jax.Array:
    """How far flows miss points that are known in both frames; a scalar.

    A flow at a point of the driving frame has to lead to the same point of the source.

    Args:
      flows: [b, f, f, l, 2], displacements (x, y) of l layers, in units where the frame reaches
        from -1 to 1.
      source: [b, k, 2], the points in the source, (x, y) in these units; NaN where unknown.
      driving: [b, k, 2], the same points in the driving frame.
      layer: [k] integers, the layer that carries each point.

    Returns:
      The mean distance, over the points that are known and lie inside both frames.
    """
    inside = lambda points: (jnp.abs(points) <= 1.0).all(axis=-1)  # False where NaN.
    known = inside(source) & inside(driving)
    source, driving = (jnp.where(known[..., None], x, 0.0) for x in (source, driving))
    found = jax.vmap(image_ops.read_points)(flows, driving)  # [b, k, l, 2]
    found = jnp.take_along_axis(found, jnp.asarray(layer)[None, :, None, None], axis=2)[:, :, 0]
    # The square root has no gradient at zero.
    missed = jnp.sqrt(jnp.square(driving + found - source).sum(axis=-1) + 1e-8)
    return (known * missed).sum() / jnp.maximum(known.sum(), 1)


def pyramid_perceptual(
    variables: Mapping[str, Any],
    image: Image,
    target: Image,
    *,
    num_levels: int,
    num_blocks: int = 5,
    dtype: Any = jnp.float32,
) -> jax.Array:
    """`vgg.perceptual_distance`, averaged over the scales 1, 1/2, 1/4, ... that VGG can see.

    Args:
      variables: of `pretrained.load_vgg16` or `load_vgg19`.
      image: [b, h, w, 3] in [0, 1].
      target: [b, h, w, 3] in [0, 1]; a constant.
      num_levels: scales at most.
      num_blocks: of VGG that are computed and compared, from the first on. The scales are those
        that all five can see, whatever it is.
      dtype: what VGG computes in.
    """
    smallest = vgg_of(variables).config.min_size
    pairs = zip(
        image_ops.pyramid(image, num_levels=num_levels),
        image_ops.pyramid(jax.lax.stop_gradient(target), num_levels=num_levels),
        strict=True,
    )
    look = lambda picture: see(variables, picture, num_blocks=num_blocks, dtype=dtype)
    return jnp.stack([
        vgg.perceptual_distance(look(ours), look(theirs))
        for ours, theirs in pairs
        if min(ours.shape[1:3]) >= smallest
    ]).mean()  # fmt: skip


def vgg_of(variables: Mapping[str, Any]) -> vgg.VGG:
    """The network that the variables are of: ST-LPIPS's heads come with VGG-16."""
    return vgg.VGG(vgg.VGG16 if "heads" in variables else vgg.VGG19)


def see(
    variables: Mapping[str, Any], image: Image, *, num_blocks: int = 5, dtype: Any = jnp.float32
) -> list[jax.Array]:
    """VGG's features of pictures [b, h, w, 3] in [0, 1], one [b, h', w', c] a block."""
    params = {"params": variables["params"]}
    return vgg_of(variables).clone(dtype=dtype).apply(params, image, num_blocks=num_blocks)


def st_lpips(variables: Mapping[str, Any], image: Image, target: Image) -> jax.Array:
    """ST-LPIPS of pictures [b, h, w, 3] in [0, 1], by `pretrained.load_vgg16`: [b]."""
    (distance,) = lpips(variables, image, target)
    return distance


def lpips(
    variables: Mapping[str, Any],
    image: Image,
    target: Image,
    *,
    masks: Sequence[FeatureMap | None] = (None,),
) -> list[jax.Array]:
    """`lpips_distance` of pictures, once for each mask.

    Args:
      variables: of `pretrained.load_lpips` for LPIPS, of `load_vgg16` for ST-LPIPS.
      image: [b, h, w, 3] in [0, 1], as large as the network wants.
      target: the same.
      masks: [b, h, w, 1] each, 1 where a difference counts; None is everywhere.

    Returns:
      [b] for each mask; NaN where it is empty.
    """
    heads = [variables["heads"][name] for name in sorted(variables["heads"])]
    ours, theirs = (_features(variables, picture) for picture in (image, target))
    return [lpips_distance(ours, theirs, heads, mask) for mask in masks]


def _features(variables: Mapping[str, Any], image: Image) -> list[jax.Array]:
    # The convolutions of VGG's blocks have two numbers each.
    if "conv1" in variables["params"]:
        return AlexNet().apply({"params": variables["params"]}, image)
    return see(variables, image)


def hinge_discriminator(real_logits: jax.Array, fake_logits: jax.Array) -> jax.Array:
    """E[max(0, 1 - D(real))] + E[max(0, 1 + D(fake))], what the discriminator minimises; a scalar.

    Lim and Ye 2017, "Geometric GAN", https://arxiv.org/abs/1705.02894. Logits of any shape.
    """
    return jax.nn.relu(1.0 - real_logits).mean() + jax.nn.relu(1.0 + fake_logits).mean()


def hinge_generator(fake_logits: jax.Array) -> jax.Array:
    """-E[D(fake)], what the generator minimises against `hinge_discriminator`; a scalar."""
    return -fake_logits.mean()


def feature_matching(
    fake_features: Sequence[jax.Array], real_features: Sequence[jax.Array]
) -> jax.Array:
    """Mean absolute difference of the discriminator's features, averaged over layers; a scalar.

    Wang et al. 2018, "pix2pixHD", https://arxiv.org/abs/1711.11585, equation 4, which sums where
    this averages. Features of real pictures are constants.
    """
    pairs = zip(fake_features, real_features, strict=True)
    distances = [jnp.abs(fake - jax.lax.stop_gradient(real)).mean() for fake, real in pairs]
    return jnp.stack(distances).mean()
