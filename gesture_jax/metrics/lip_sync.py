"""LSE-D and LSE-C, the distance and the confidence of lip sync (Prajwal et al. 2020), by SyncNet.

SyncNet embeds five frames of a face and the 0.2 s of speech that belong to them. The distances of
both embeddings are averaged over the video, for each of 31 shifts of the sound between -0.6 s and
0.6 s. LSE-D is the smallest mean distance, LSE-C the median of all minus the smallest. So a shift
of the sound changes neither; it changes the lag.

The weights are not free of conditions, so each user brings a file (`pretrained.syncnet_weights`).
SyncNet's authors cut faces out by another detector (S3FD) and compress them once more, so values
differ slightly from theirs: compare only values of this package.
"""

import functools
import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import chex
import jax
import numpy as np
from jaxtyping import Float

from gesture_jax.array_types import Audio, typechecked
from gesture_jax.media.rates import FPS, SAMPLES_PER_FRAME
from gesture_jax.models.syncnet import (
    EMBEDDING_DIM,
    NUM_COEFFICIENTS,
    NUM_FRAMES,
    NUM_STEPS,
    SyncNet,
)
from gesture_jax.ops.precision import float32_matmuls
from gesture_jax.speech import mfcc

NAMES = "lse_d", "lse_c", "lse_lag_ms"
"""The keys of `sync_scores`."""
_MAX_SHIFT = 15
# PyTorch's pairwise distance adds this to each difference.
_EPSILON = 1e-6
_BATCH = 8
_STEPS_PER_FRAME = mfcc.STEPS_PER_SEC // FPS


def embed_video(variables: dict[str, Any], faces: Iterable[np.ndarray]) -> np.ndarray:
    """Embeds each five consecutive frames.

    Args:
      variables: of `pretrained.syncnet_weights.load`.
      faces: t pictures [224, 224, 3] uint8, cut out by `people.faces.cut_out_talking`.

    Returns:
      [t - 5, 1024] float32; row i belongs to frames i to i + 4. SyncNet's authors leave the last
      window out.
    """
    return _embed(functools.partial(_embed_video, variables), _windows(faces))[:-1]


def embed_audio(variables: dict[str, Any], audio: Audio) -> np.ndarray:
    """Embeds the 0.2 s of sound from the start of each frame.

    Args:
      variables: of `pretrained.syncnet_weights.load`.
      audio: [n] float32, mono, 16 kHz.

    Returns:
      [n // 640 - 5, 1024] float32; row i belongs to frames i to i + 4.
    """
    chex.assert_rank(audio, 1)
    count = max(len(audio) // SAMPLES_PER_FRAME - NUM_FRAMES, 0)
    steps = mfcc.mfcc(audio) if count else np.zeros((0, NUM_COEFFICIENTS), np.float32)
    starts = range(0, _STEPS_PER_FRAME * count, _STEPS_PER_FRAME)
    return _embed(
        functools.partial(_embed_audio, variables),
        (steps[start : start + NUM_STEPS] for start in starts),
    )


@typechecked
def sync_scores(
    video: Float[np.ndarray, "v d"], audio: Float[np.ndarray, "a d"]
) -> dict[str, float]:
    """LSE-D, LSE-C and the lag of one clip.

    Args:
      video: from `embed_video`.
      audio: from `embed_audio`; rows after the end of the shorter one are ignored.

    Returns:
      By `NAMES`: `lse_d`, lower is better; `lse_c`, higher is better; and `lse_lag_ms`, in steps
      of 40 ms, positive where the mouth is late. NaN without frames.
    """
    chex.assert_rank([video, audio], 2)
    chex.assert_axis_dimension(audio, 1, video.shape[1])
    chex.assert_type([video, audio], float)
    count = min(len(video), len(audio))
    if not count:
        return dict.fromkeys(NAMES, float("nan"))
    # SyncNet's authors pad with zeros, and compare frames at the ends with these.
    padded = np.pad(audio[:count], ((_MAX_SHIFT, _MAX_SHIFT), (0, 0)))
    distances = np.array([
        np.linalg.norm(video[:count] - padded[shift : shift + count] + _EPSILON, axis=1).mean()
        for shift in range(2 * _MAX_SHIFT + 1)
    ])  # fmt: skip
    best = int(distances.argmin())
    confidence = np.median(distances) - distances[best]
    values = distances[best], confidence, (_MAX_SHIFT - best) * 1000 / FPS
    return dict(zip(NAMES, map(float, values), strict=True))


def _windows(faces: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    window: list[np.ndarray] = []
    for face in faces:
        chex.assert_shape(face, (None, None, 3))
        chex.assert_type(face, np.uint8)
        window = [*window[1 - NUM_FRAMES :], face]
        if len(window) == NUM_FRAMES:
            yield np.stack(window)


def _embed(function, inputs: Iterable[np.ndarray]) -> np.ndarray:
    """Embeds in batches of one size, so that each network compiles once."""
    embeddings = [np.zeros((0, EMBEDDING_DIM), np.float32)]
    inputs = iter(inputs)
    while rows := list(itertools.islice(inputs, _BATCH)):
        filled = np.stack([*rows, *[rows[-1]] * (_BATCH - len(rows))])
        embeddings.append(np.asarray(function(filled))[: len(rows)])
    return np.concatenate(embeddings)


@jax.jit
@float32_matmuls
def _embed_video(variables: dict[str, Any], windows: jax.Array) -> jax.Array:
    return SyncNet().apply(variables, windows, method="embed_video")


@jax.jit
@float32_matmuls
def _embed_audio(variables: dict[str, Any], windows: jax.Array) -> jax.Array:
    return SyncNet().apply(variables, windows, method="embed_audio")
