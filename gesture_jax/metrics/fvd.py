"""FVD, the Frechet distance between two sets of clips (Unterthiner et al. 2018).

https://arxiv.org/abs/1812.01717. The features are I3D's logits of Kinetics-400, before the softmax.
Compare values for equal numbers, lengths and strides of clips only; video compression changes them
too. Report a value together with that of two halves of the real clips.
"""

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8

from gesture_jax.array_types import Array, typechecked
from gesture_jax.errors import InputError
from gesture_jax.metrics.frechet import Moments, frechet_distance
from gesture_jax.models.i3d import I3D, MIN_FRAMES, NUM_CLASSES, SIZE_PX
from gesture_jax.ops.precision import float32_matmuls

_MODEL = I3D()
# A CPU is fastest with one clip at a time, by an eighth.
_BATCH_ON_CPU, _BATCH_ELSEWHERE = 1, 8
# How far resizing may move floats beyond [0, 1].
_SLACK = 1e-3


def fvd(variables: dict[str, Any], real: Iterable, generated: Iterable) -> float:
    """Frechet distance between real and generated clips.

    Args:
      variables: of `pretrained.load_i3d`.
      real: clips, as `logits` takes them.
      generated: clips too.

    Raises:
      InputError: for fewer than two clips, or for clips that `logits` refuses.
    """
    return frechet_distance(*(moments(variables, clips) for clips in (real, generated)))


def logits(
    variables: dict[str, Any], clips: Iterable[np.ndarray], *, batch_size: int | None = None
) -> np.ndarray:
    """Features of any number of clips, in batches of one size, so that they compile once.

    Args:
      variables: of `pretrained.load_i3d`.
      clips: [t, h, w, 3] each, all of one shape and dtype, uint8 or floats in [0, 1]; t 10 or more.
        Only one batch is held in memory at a time.
      batch_size: clips in a batch, which changes values by rounding only; 1 on a CPU and 8
        elsewhere by default.

    Returns:
      [n, 400] float32.

    Raises:
      InputError: for clips that are too short, differ in shape, or are out of range.
    """
    empty = np.zeros((0, NUM_CLASSES), np.float32)
    return np.concatenate([empty, *_iterate_logits(variables, clips, batch_size)])


def moments(
    variables: dict[str, Any], clips: Iterable[np.ndarray], *, batch_size: int | None = None
) -> Moments:
    """Moments of the features that `logits` computes, with the same arguments and errors."""
    total = Moments.of(np.zeros((0, NUM_CLASSES)))
    for features in _iterate_logits(variables, clips, batch_size):
        total = total.merge(Moments.of(features))
    return total


@typechecked
def preprocess(
    clips: Float[Array, "b t h w 3"] | UInt8[Array, "b t h w 3"],
) -> Float[Array, f"b t {SIZE_PX} {SIZE_PX} 3"]:
    """[b, t, h, w, 3], uint8 or in [0, 1] -> [b, t, 224, 224, 3] in [-1, 1], the input of I3D.

    The shorter side is scaled to 224 pixels, bilinearly between pixel centres and without a filter
    against aliasing, as in published pipelines; the longer one is cropped to its middle.
    """
    chex.assert_shape(clips, (None, None, None, None, 3))
    chex.assert_type(clips, np.uint8 if clips.dtype == jnp.uint8 else float)
    if clips.dtype == jnp.uint8:
        clips = clips.astype(jnp.float32) / 255.0
    shorter = min(clips.shape[2:4])
    height, width = (-(-side * SIZE_PX // shorter) for side in clips.shape[2:4])
    shape = (*clips.shape[:2], height, width, 3)
    clips = jax.image.resize(clips, shape, "linear", antialias=False)
    top, left = (height - SIZE_PX) // 2, (width - SIZE_PX) // 2
    return 2.0 * clips[:, :, top : top + SIZE_PX, left : left + SIZE_PX] - 1.0


def _iterate_logits(
    variables: dict[str, Any], clips: Iterable[np.ndarray], batch_size: int | None
) -> Iterator[np.ndarray]:
    """[k, 400] for each batch of k clips."""
    if batch_size is None:
        batch_size = _BATCH_ON_CPU if jax.default_backend() == "cpu" else _BATCH_ELSEWHERE
    variables = jax.device_put(variables)
    clips = _check_clips(clips)
    while batch := list(itertools.islice(clips, batch_size)):
        padded = np.pad(np.stack(batch), ((0, batch_size - len(batch)), *((0, 0),) * 4))
        yield np.asarray(_logits(variables, padded))[: len(batch)]


@jax.jit
@float32_matmuls  # A value must not depend on the device.
def _logits(variables: dict[str, Any], clips: jax.Array) -> jax.Array:
    return _MODEL.apply(variables, preprocess(clips))


def _check_clips(clips: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    first = None
    for clip in clips:
        clip = np.asarray(clip)
        _check_clip(clip)
        first = clip if first is None else first
        if (clip.shape, clip.dtype) != (first.shape, first.dtype):
            raise InputError(
                f"FVD needs clips of one shape and dtype, not {list(first.shape)} {first.dtype} "
                f"and {list(clip.shape)} {clip.dtype}"
            )
        yield clip


def _check_clip(clip: np.ndarray) -> None:
    if clip.ndim != 4 or clip.shape[-1] != 3 or 0 in clip.shape:
        raise InputError(f"FVD needs clips [t, h, w, 3], not {list(clip.shape)}")
    if len(clip) < MIN_FRAMES:
        raise InputError(f"FVD needs clips of {MIN_FRAMES} frames or more, not {len(clip)}")
    if clip.dtype == np.uint8:
        return
    inside = clip.min() >= -_SLACK and clip.max() <= 1.0 + _SLACK  # NaN is not inside.
    if clip.dtype.kind != "f" or not inside:
        raise InputError(
            f"FVD needs clips in uint8, or floats in [0, 1], not {clip.dtype} in "
            f"[{clip.min():g}, {clip.max():g}]"
        )
