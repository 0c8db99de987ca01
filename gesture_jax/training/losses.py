"""Losses of stage 1, all of them on pictures.

One backward pass over the sum of both losses trains the generator and the discriminator. So the
discriminator's loss needs the generator's pictures as constants, and the generator's terms need the
discriminator's parameters as constants; the caller applies `jax.lax.stop_gradient`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Float, Int

from gesture_jax.array_types import Array, FeatureMap, Image, PixelWeights, typechecked
from gesture_jax.metrics.perceptual import vgg_features, vgg_network
from gesture_jax.models import vgg
from gesture_jax.ops import image as image_ops

Scalar = Float[Array, ""]


@typechecked
def pyramid_l1(
    image: Image, target: Image, *, num_levels: int, weights: PixelWeights | None = None
) -> Scalar:
    """Mean absolute difference, averaged over the scales 1, 1/2, 1/4, ...; a scalar.

    Args:
      image: [b, h, w, 3].
      target: [b, h, w, 3].
      num_levels: number of scales.
      weights: [b, h, w, 1], 0 or more: how much each pixel counts in the mean over all pixels of
        the batch. A pixel of a coarser scale has the mean weight of the pixels that it covers. All
        count alike by default.
    """
    _check_pictures(image, target, weights)
    if weights is None:
        weights = jnp.ones_like(image[..., :1])
    levels = zip(
        *(image_ops.pyramid(x, num_levels=num_levels) for x in (image, target, weights)),
        strict=True,
    )
    return jnp.stack([_weighted_mean(jnp.abs(a - b), w) for a, b, w in levels]).mean()


@typechecked
def weighted_squares(image: Image, target: Image, *, weights: PixelWeights) -> Scalar:
    """Mean squared difference; a scalar.

    It stresses the few pixels that are far off, such as those of hands, and it is what PSNR
    measures.

    Args:
      image: [b, h, w, 3].
      target: [b, h, w, 3].
      weights: [b, h, w, 1], 0 or more: how much each pixel counts in the mean.
    """
    _check_pictures(image, target, weights)
    return _weighted_mean(jnp.square(image - target), weights)


def _check_pictures(image: Image, target: Image, weights: PixelWeights | None = None) -> None:
    chex.assert_shape([image, target], (None, None, None, 3))
    chex.assert_equal_shape([image, target])
    chex.assert_type([image, target], float)
    if weights is not None:
        chex.assert_shape(weights, (*image.shape[:-1], 1))
        chex.assert_type(weights, float)


def _weighted_mean(values: jax.Array, weights: FeatureMap) -> jax.Array:
    # A batch in which no pixel has any weight has a loss of zero.
    weighted = (weights * values.mean(axis=-1, keepdims=True)).sum()
    return weighted / jnp.maximum(weights.sum(), 1e-6)


@typechecked
def total_variation(x: FeatureMap) -> Scalar:
    """Mean absolute difference of neighbours in a map [b, h, w, c], down and across; a scalar."""
    chex.assert_rank(x, 4)
    chex.assert_type(x, float)
    down, across = jnp.diff(x, axis=1), jnp.diff(x, axis=2)
    return jnp.abs(down).mean() + jnp.abs(across).mean()


@typechecked
def missed_points(
    flows: Float[Array, "b f f l 2"],
    source: Float[Array, "b k 2"],
    driving: Float[Array, "b k 2"],
    *,
    layer: Int[Array, "k"],
) -> Scalar:
    """How far flows miss points that are known in both frames; a scalar.

    A flow at a point of the driving frame should lead to the same point of the source.

    Args:
      flows: [b, f, f, l, 2], displacements (x, y) of l layers, in units where the frame reaches
        from -1 to 1.
      source: [b, k, 2], the points in the source, (x, y) in these units; NaN where unknown.
      driving: [b, k, 2], the same points in the driving frame.
      layer: [k] integers, the layer that carries each point.

    Returns:
      The mean distance, over the points that are known and lie inside both frames.
    """
    chex.assert_rank([flows, source, driving, layer], [5, 3, 3, 1])
    chex.assert_shape(flows, (len(source), None, None, None, 2))
    chex.assert_shape([source, driving], (len(source), len(layer), 2))
    chex.assert_type([flows, source, driving, layer], [float, float, float, int])
    inside = lambda points: (jnp.abs(points) <= 1.0).all(axis=-1)  # False where NaN.
    known = inside(source) & inside(driving)
    source, driving = (jnp.where(known[..., None], x, 0.0) for x in (source, driving))
    found = jax.vmap(image_ops.read_points)(flows, driving)  # [b, k, l, 2]
    found = jnp.take_along_axis(found, jnp.asarray(layer)[None, :, None, None], axis=2)[:, :, 0]
    # The square root has no gradient at zero.
    missed = jnp.sqrt(jnp.square(driving + found - source).sum(axis=-1) + 1e-8)
    return (known * missed).sum() / jnp.maximum(known.sum(), 1)


@typechecked
def pyramid_perceptual(
    variables: Mapping[str, Any],
    image: Image,
    target: Image,
    *,
    num_levels: int,
    num_blocks: int = 5,
    dtype: Any = jnp.float32,
) -> Scalar:
    """`vgg.perceptual_distance`, averaged over those scales that are large enough for VGG.

    Args:
      variables: of `pretrained.load_vgg16` or `load_vgg19`.
      image: [b, h, w, 3] in [0, 1].
      target: [b, h, w, 3] in [0, 1]; a constant.
      num_levels: the largest number of scales 1, 1/2, 1/4, ...
      num_blocks: how many of VGG's blocks are computed and compared, from the first one on. This
        does not change the scales: all of them are large enough for all five blocks.
      dtype: the dtype in which VGG computes.
    """
    _check_pictures(image, target)
    smallest = vgg_network(variables).config.min_size
    pairs = zip(
        image_ops.pyramid(image, num_levels=num_levels),
        image_ops.pyramid(jax.lax.stop_gradient(target), num_levels=num_levels),
        strict=True,
    )
    features = lambda x: vgg_features(variables, x, num_blocks=num_blocks, dtype=dtype)
    return jnp.stack([
        vgg.perceptual_distance(features(ours), features(theirs))
        for ours, theirs in pairs
        if min(ours.shape[1:3]) >= smallest
    ]).mean()  # fmt: skip


@typechecked
def hinge_discriminator(real_logits: Float[Array, "*r"], fake_logits: Float[Array, "*f"]) -> Scalar:
    """E[max(0, 1 - D(real))] + E[max(0, 1 + D(fake))], which the discriminator minimises; a scalar.

    Lim and Ye 2017, "Geometric GAN", https://arxiv.org/abs/1705.02894. Logits of any shape.
    """
    chex.assert_type([real_logits, fake_logits], float)
    return jax.nn.relu(1.0 - real_logits).mean() + jax.nn.relu(1.0 + fake_logits).mean()


@typechecked
def hinge_generator(fake_logits: Float[Array, "*f"]) -> Scalar:
    """-E[D(fake)], which the generator minimises against `hinge_discriminator`; a scalar."""
    chex.assert_type(fake_logits, float)
    return -fake_logits.mean()


@typechecked
def feature_matching(
    fake_features: Sequence[Float[Array, "..."]], real_features: Sequence[Float[Array, "..."]]
) -> Scalar:
    """Mean absolute difference of the discriminator's features, averaged over layers; a scalar.

    Wang et al. 2018, "pix2pixHD", https://arxiv.org/abs/1711.11585, equation 4, which sums where
    this averages. Features of real pictures are constants.
    """
    chex.assert_trees_all_equal_shapes(list(fake_features), list(real_features))
    chex.assert_type([*fake_features, *real_features], float)
    pairs = zip(fake_features, real_features, strict=True)
    distances = [jnp.abs(fake - jax.lax.stop_gradient(real)).mean() for fake, real in pairs]
    return jnp.stack(distances).mean()
