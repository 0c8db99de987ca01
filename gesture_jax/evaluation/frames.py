"""PSNR, SSIM, ST-LPIPS and LPIPS of a video and its reconstruction, frame by frame.

They are for pairs that should be equal, such as a clip and its self-reenactment. A video that was
generated from speech moves differently from the recording, as it should, so its frames are not
compared.
"""

import collections
import functools
import itertools
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gesture_jax.evaluation import videos
from gesture_jax.metrics import image as image_metrics
from gesture_jax.metrics import perceptual
from gesture_jax.ops import image as image_ops
from gesture_jax.ops.precision import float32_matmuls

_BATCH = 8
# Small, because networks compare few frames of a video, and a padded batch costs as much as a full
# one.
_NETWORK_BATCH = 2


class Boxes(NamedTuple):
    """Boxes around the hands and the person in each frame, in pixels: left, top, right, bottom.

    Attributes:
      hands: [t, 2, 4], zeros for a hand that was not found.
      person: [t, 1, 4], zeros where no person was found.
    """

    hands: np.ndarray
    person: np.ndarray

    def frame(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """The boxes of one frame; beyond the end, those of the last frame."""
        return tuple(table[min(number, len(table) - 1)] for table in self)


def compare(
    real: pathlib.Path,
    generated: pathlib.Path,
    networks: Mapping[str, Any],
    *,
    size: int,
    perceptual_stride: int,
    boxes: Boxes | None = None,
) -> dict[str, float]:
    """Scores of one pair of videos, each the mean over its frames.

    Args:
      real: the real video.
      generated: the generated video; the longer of both is compared up to the end of the other.
      networks: variables of the perceptual distances to compute, by name: "st_lpips", "lpips".
      size: side in pixels at which videos are compared.
      perceptual_stride: the perceptual distances use every so-many-th frame, the others use all.
      boxes: of the real video, to score its hands and its background separately too.

    Returns:
      `psnr`, `ssim` and the distances in `networks`; with boxes, also the same names with `_hands`
      and `_background`, NaN for a region that no frame shows; and `frames_left_out`, the number of
      frames that the longer video has beyond the end of the other.
    """
    pixels = _Averager(_compare_pixels, _BATCH)
    perceptual = [
        _Averager(functools.partial(_compare_features, {name: variables}), _NETWORK_BATCH)
        for name, variables in networks.items()
    ]
    left_out = 0
    sides = (videos.read_frames(path, size=size) for path in (generated, real))
    for number, pair in enumerate(itertools.zip_longest(*sides)):
        if any(frame is None for frame in pair):
            left_out += 1
            continue
        row = (*pair, *(boxes.frame(number) if boxes else ()))
        pixels.add(row)
        for averager in perceptual if number % perceptual_stride == 0 else ():
            averager.add(row)
    scores = {"frames_left_out": left_out}
    for averager in (pixels, *perceptual):
        scores |= averager.finish()
    return scores


class _Averager:
    """Averages scores over frames, in batches of one shape, so that `score` compiles once."""

    def __init__(self, score: Callable[..., dict[str, jax.Array]], batch_size: int):
        self._score, self._batch_size, self._rows = score, batch_size, []
        self._values: dict[str, list[np.ndarray]] = collections.defaultdict(list)

    def add(self, row: tuple[np.ndarray, ...]) -> None:
        self._rows.append(row)
        if len(self._rows) == self._batch_size:
            self._flush()

    def finish(self) -> dict[str, float]:
        """The means over the frames that have a value."""
        if self._rows:
            self._flush()
        return {name: _mean(np.concatenate(values)) for name, values in self._values.items()}

    def _flush(self) -> None:
        rows, self._rows = self._rows, []
        filled = rows + [rows[-1]] * (self._batch_size - len(rows))
        scores = self._score(*(np.stack(column) for column in zip(*filled, strict=True)))
        for name, values in jax.device_get(scores).items():
            self._values[name].append(values[: len(rows)])


def _mean(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean(dtype=np.float64)) if len(known) else float("nan")


@jax.jit
@float32_matmuls
def _compare_pixels(ours, theirs, *boxes) -> dict[str, jax.Array]:
    pictures = _to_float(ours), _to_float(theirs)
    scores = {}
    for region, mask in _masks(boxes, theirs.shape).items():
        scores[f"psnr{region}"] = image_metrics.psnr(*pictures, mask)
        scores[f"ssim{region}"] = image_metrics.ssim(*pictures, mask)
    return scores


@jax.jit
@float32_matmuls
def _compare_features(networks, ours, theirs, *boxes) -> dict[str, jax.Array]:
    pictures = _to_float(ours), _to_float(theirs)
    ((name, variables),) = networks.items()
    masks = _masks(boxes, theirs.shape)
    distances = perceptual.lpips(variables, *pictures, masks=list(masks.values()))
    return {f"{name}{region}": each for region, each in zip(masks, distances, strict=True)}


def _to_float(pictures: jax.Array) -> jax.Array:
    return pictures.astype(jnp.float32) / 255.0


def _masks(boxes: tuple[jax.Array, ...], shape: tuple[int, ...]) -> dict[str, jax.Array | None]:
    """Masks of the regions, by the ending of a score's name; None is the whole frame."""
    if not boxes:
        return {"": None}
    height, width = shape[1:3]
    hands, person = (image_ops.box_mask(each, height=height, width=width) for each in boxes)
    # Where no person was found, the background is unknown.
    has_person = person.max(axis=(1, 2, 3), keepdims=True)
    return {"": None, "_hands": hands, "_background": has_person * (1.0 - person)}
