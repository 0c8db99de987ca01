"""Measures of redrawn frames: pixels, ST-LPIPS, sharpness, and whose face it is."""

from collections.abc import Sequence

import jax
import numpy as np
import scipy.ndimage

from benchmarks.photographs.clips import Finder, PhotographClip, cut_face
from gesture_jax.media import images
from gesture_jax.metrics import identity, perceptual
from gesture_jax.metrics import image as image_metrics
from gesture_jax.models.lpips import lpips_distance
from gesture_jax.pretrained import fetch

# VGG is slow: it sees one driving frame in so many.
_LPIPS_STRIDE = 2
_BATCH = 2
_LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)


class Identity:
    """Recognises the people of some portraits."""

    def __init__(self, find: Finder, cuts: dict[str, np.ndarray]):
        """Arguments: of `faces.open_finder`, and of `read_portraits`."""
        self._find, self._variables = find, fetch.load_face()
        self._names = list(cuts)
        self._portraits = identity.embed(self._variables, list(cuts.values()), mirror=True)

    def scores(self, speaker: str, frames: np.ndarray) -> dict[str, float]:
        """Shares of frames [n, s, s, 3] in [0, 1]; one without a face is not recognised."""
        cuts = [cut_face(frame, self._find) for frame in images.to_uint8(frames)]
        cuts = [cut for cut in cuts if cut is not None]
        found = identity.embed(self._variables, cuts, mirror=True)
        own = self._names.index(speaker)
        recognised = identity.recognise(found, self._portraits) == own
        distances = identity.distances(found, self._portraits[own : own + 1])
        return {
            "recognised": float(recognised.sum() / len(frames)),
            "same person": float((distances < identity.SAME_PERSON).sum() / len(frames)),
            "CSIM": _mean(identity.csim(found, self._portraits[own])),
            "faces not found": float(len(frames) - len(found)),
        }


def compare(clip: PhotographClip, frames: np.ndarray) -> dict[str, float]:
    """Measures of pixels, of frames that ought to be those of the clip."""
    background = np.broadcast_to(clip.background, clip.hand_mask.shape)
    pixels = _compare_pixels(frames, clip.frames, clip.hand_mask, background)
    faces = [[face.box if face else None] for face in clip.faces]
    return {
        **{name: _mean(np.asarray(values)) for name, values in pixels.items()},
        "sharpness, face": relative_sharpness(frames, clip.frames, faces),
        "sharpness, hands": relative_sharpness(frames, clip.frames, clip.hands),
    }


@jax.jit
def _compare_pixels(frames, true, hands, background) -> dict[str, jax.Array]:
    return {
        "PSNR": image_metrics.psnr(frames, true),
        "SSIM": image_metrics.ssim(frames, true),
        "PSNR, hands": image_metrics.psnr(frames, true, hands),
        "PSNR, background": image_metrics.psnr(frames, true, background),
    }


def relative_sharpness(frames: np.ndarray, true: np.ndarray, boxes) -> float:
    """Variance of the Laplacian within boxes, summed over the frames, of that of true ones.

    Args:
      frames: [n, s, s, 3] in [0, 1].
      true: likewise.
      boxes: for each frame boxes of (left, top, right, bottom); None, or without an area, where
        there is nothing to look at.

    Returns:
      1 for frames as sharp; NaN where there is no box.
    """
    sums = np.zeros(2)
    for ours, theirs, of_frame in zip(frames, true, boxes, strict=True):
        for box in of_frame:
            if box is not None and (box := _whole(box, len(ours))):
                sums += [_sharpness(picture, box) for picture in (ours, theirs)]
    return float(sums[0] / sums[1]) if sums[1] else np.nan


def _sharpness(picture: np.ndarray, box: tuple[slice, slice]) -> float:
    return float(scipy.ndimage.laplace(picture @ _LUMINANCE)[box].var())


def _whole(box, side: int) -> tuple[slice, slice] | None:
    """Rows and columns of a box; None where it has none."""
    left, top, right, bottom = (round(min(max(float(place), 0.0), side)) for place in box)
    return (slice(top, bottom), slice(left, right)) if right > left and bottom > top else None


def st_lpips(vgg, clip: PhotographClip, ways: Sequence[np.ndarray]) -> list[float]:
    """Mean ST-LPIPS of some frames to those of the clip, for each way to make them.

    Args:
      vgg: of `pretrained.load_vgg16`.
      clip: with n driving frames.
      ways: [n, s, s, 3] each, or [1, s, s, 3] for a picture that stands for all.
    """
    values: list[list[np.ndarray]] = [[] for _ in ways]
    chosen = np.arange(0, len(clip.frames), _LPIPS_STRIDE)
    once = [_see(vgg, way[np.zeros(_BATCH, int)]) if len(way) == 1 else None for way in ways]
    for start in range(0, len(chosen), _BATCH):
        # The last batch is filled up, so that each program is compiled once.
        batch = np.resize(chosen[start : start + _BATCH], _BATCH)
        count = len(chosen[start : start + _BATCH])
        true = _see(vgg, clip.frames[batch])
        for way, features, each in zip(ways, once, values, strict=True):
            each.append(np.asarray(_distance(vgg, features or _see(vgg, way[batch]), true))[:count])
    return [float(np.concatenate(each).mean()) for each in values]


@jax.jit
def _see(vgg, pictures):
    return perceptual.vgg_features(vgg, pictures)


@jax.jit
def _distance(vgg, ours, theirs):
    return lpips_distance(ours, theirs, [vgg["heads"][name] for name in sorted(vgg["heads"])])


def _mean(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else np.nan
