"""Measures of reconstructed frames: pixels, ST-LPIPS, sharpness and identity."""

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

# Every how many driving frames VGG, which is slow, is computed.
_LPIPS_STRIDE = 2
_BATCH = 2
_LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)


class Identity:
    """Recognises the people in a set of portraits."""

    def __init__(self, find: Finder, cuts: dict[str, np.ndarray]):
        """Takes a finder from `faces.open_finder`, and faces from `read_portraits`."""
        self._find, self._variables = find, fetch.load_face()
        self._names = list(cuts)
        self._portraits = identity.embed(self._variables, list(cuts.values()), mirror=True)

    def scores(self, speaker: str, frames: np.ndarray) -> dict[str, float]:
        """Scores frames [n, s, s, 3] in [0, 1]; a frame without a face counts as not recognised."""
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
    """Compares the pixels of frames with those of the clip."""
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
    """Returns the variance of the Laplacian within boxes, relative to that of the true frames.

    Both variances are summed over the frames.

    Args:
      frames: [n, s, s, 3] in [0, 1].
      true: true frames of the same shape.
      boxes: for each frame, boxes of (left, top, right, bottom); a box that is None or has no area
        is skipped.

    Returns:
      1 if the frames are equally sharp; NaN if there is no box.
    """
    sums = np.zeros(2)
    for ours, theirs, of_frame in zip(frames, true, boxes, strict=True):
        for box in of_frame:
            if box is not None and (box := _round(box, len(ours))):
                sums += [_sharpness(picture, box) for picture in (ours, theirs)]
    return float(sums[0] / sums[1]) if sums[1] else np.nan


def _sharpness(picture: np.ndarray, box: tuple[slice, slice]) -> float:
    return float(scipy.ndimage.laplace(picture @ _LUMINANCE)[box].var())


def _round(box, side: int) -> tuple[slice, slice] | None:
    """Returns rows and columns of a box in whole pixels, or None if it is empty."""
    left, top, right, bottom = (round(min(max(float(place), 0.0), side)) for place in box)
    return (slice(top, bottom), slice(left, right)) if right > left and bottom > top else None


def st_lpips(vgg, clip: PhotographClip, candidates: Sequence[np.ndarray]) -> list[float]:
    """Returns the mean ST-LPIPS between each candidate and the frames of the clip.

    Args:
      vgg: variables from `fetch.load_vgg16`.
      clip: a clip with n driving frames.
      candidates: frames [n, s, s, 3] each, or [1, s, s, 3] for one picture in place of all.
    """
    values: list[list[np.ndarray]] = [[] for _ in candidates]
    chosen = np.arange(0, len(clip.frames), _LPIPS_STRIDE)
    once = [
        _features(vgg, each[np.zeros(_BATCH, int)]) if len(each) == 1 else None
        for each in candidates
    ]
    for start in range(0, len(chosen), _BATCH):
        # The last batch is padded, so that each program is compiled once.
        batch = np.resize(chosen[start : start + _BATCH], _BATCH)
        count = len(chosen[start : start + _BATCH])
        true = _features(vgg, clip.frames[batch])
        for frames, known, found in zip(candidates, once, values, strict=True):
            features = known or _features(vgg, frames[batch])
            found.append(np.asarray(_distance(vgg, features, true))[:count])
    return [float(np.concatenate(each).mean()) for each in values]


@jax.jit
def _features(vgg, pictures):
    return perceptual.vgg_features(vgg, pictures)


@jax.jit
def _distance(vgg, ours, theirs):
    return lpips_distance(ours, theirs, [vgg["heads"][name] for name in sorted(vgg["heads"])])


def _mean(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else np.nan
