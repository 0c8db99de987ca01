"""FVD, the Frechet distance of two sets of clips (Unterthiner et al. 2018).

https://arxiv.org/abs/1812.01717. The features are I3D's logits of Kinetics-400, before the softmax.
Values compare at equal numbers, lengths and strides of clips only; what compresses a video moves
them as well. Beside a value belongs that of two halves of the real clips.
"""

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gesture_jax.errors import InputError
from gesture_jax.metrics.frechet import Moments, frechet_distance
from gesture_jax.models.i3d import I3D, MIN_FRAMES, NUM_CLASSES, SIZE_PX
from gesture_jax.ops.precision import float32_matmuls

_MODEL = I3D()
# A CPU is fastest, by an eighth, with one clip at a time.
_BATCH_ON_CPU, _BATCH_ELSEWHERE = 1, 8
# What resizing may leave floats beyond [0, 1].
_SLACK = 1e-3


def fvd(variables: dict[str, Any], real: Iterable, generated: Iterable) -> float:
    """Frechet distance of real and generated clips.

    Args:
      variables: of `pretrained.load_i3d`.
      real: clips, as `logits` takes them.
      generated: others.

    Raises:
      InputError: for fewer than two clips, or such as `logits` refuses.
    """
    return frechet_distance(*(moments(variables, clips) for clips in (real, generated)))


def logits(
    variables: dict[str, Any], clips: Iterable[np.ndarray], *, batch_size: int | None = None
) -> np.ndarray:
    """Features of any number of clips, in batches of one size: compiled once.

    Args:
      variables: of `pretrained.load_i3d`.
      clips: [t, h, w, 3] each, all of one shape and dtype, uint8 or floats in [0, 1]; t 10 or more.
        No more than a batch of them is held at a time.
      batch_size: clips at a time, which changes values by rounding only; without it 1 on a CPU and
        8 elsewhere.

    Returns:
      [n, 400] float32.

    Raises:
      InputError: for clips that are too short, of several shapes or out of their range.
    """
    empty = np.zeros((0, NUM_CLASSES), np.float32)
    return np.concatenate([empty, *_iterate_logits(variables, clips, batch_size)])


def moments(
    variables: dict[str, Any], clips: Iterable[np.ndarray], *, batch_size: int | None = None
) -> Moments:
    """Moments of the features of `logits`, merged batch by batch; arguments and errors are its."""
    total = Moments.of(np.zeros((0, NUM_CLASSES)))
    for features in _iterate_logits(variables, clips, batch_size):
        total = total.merge(Moments.of(features))
    return total


def preprocess(clips: jax.Array) -> jax.Array:
    """[b, t, h, w, 3], uint8 or in [0, 1] -> [b, t, 224, 224, 3] in [-1, 1], as I3D wants it.

    The shorter side is scaled to 224 pixels, bilinearly between pixel centres and without a filter
    against aliasing, as the published pipelines do; of the longer one the middle is taken.
    """
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
    """[k, 400] of each batch, k the clips in it."""
    if batch_size is None:
        batch_size = _BATCH_ON_CPU if jax.default_backend() == "cpu" else _BATCH_ELSEWHERE
    variables = jax.device_put(variables)
    clips = _check_clips(clips)
    while batch := list(itertools.islice(clips, batch_size)):
        padded = np.pad(np.stack(batch), ((0, batch_size - len(batch)), *((0, 0),) * 4))
        yield np.asarray(_logits(variables, padded))[: len(batch)]


@jax.jit
@float32_matmuls  # So that a value does not depend on where it was computed.
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
                f"FVD wants clips of one shape and dtype, not {list(first.shape)} {first.dtype} "
                f"and {list(clip.shape)} {clip.dtype}"
            )
        yield clip


def _check_clip(clip: np.ndarray) -> None:
    if clip.ndim != 4 or clip.shape[-1] != 3 or 0 in clip.shape:
        raise InputError(f"FVD wants clips [t, h, w, 3], not {list(clip.shape)}")
    if len(clip) < MIN_FRAMES:
        raise InputError(f"FVD wants clips of {MIN_FRAMES} frames or more, not {len(clip)}")
    if clip.dtype == np.uint8:
        return
    inside = clip.min() >= -_SLACK and clip.max() <= 1.0 + _SLACK  # NaN is not.
    if clip.dtype.kind != "f" or not inside:
        raise InputError(
            f"FVD wants clips in uint8, or floats in [0, 1], not {clip.dtype} in "
            f"[{clip.min():g}, {clip.max():g}]"
        )
