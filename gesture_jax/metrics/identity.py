"""Whose face it is: embeddings of faces, and how alike two of them are.

CSIM, as papers on talking heads report it, is the cosine of the embeddings of two faces. Its value
depends on the network: numbers of other networks do not compare. Whether two faces are of one
person is decided by the Euclidean distance, for which this network was trained: below 0.6 they are
(`models.face`).

That threshold tells strangers apart, not people who look alike: portraits of one image generator
are within 0.2 to 0.5 of each other. `recognise` compares what distinguishes people among those that
are known: it subtracts the mean of all portraits first.
"""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from gesture_jax.models.face import EMBEDDING_DIM, FaceNet
from gesture_jax.ops.precision import float32_matmuls

SAME_PERSON = 0.6
_BATCH = 8


def embed(
    variables: dict[str, Any], faces: Sequence[np.ndarray], *, mirror: bool = False
) -> np.ndarray:
    """Embeddings of any number of faces, in batches of one size: compiled once.

    Args:
      variables: of `pretrained.load_face`.
      faces: [150, 150, 3] uint8 each, cut out by `data.faces.cut_out`.
      mirror: gives the mean of each face's embedding and its mirror image's, which is steadier.

    Returns:
      [n, 128] float32.
    """
    if mirror:
        return (embed(variables, faces) + embed(variables, [face[:, ::-1] for face in faces])) / 2
    embeddings = [np.zeros((0, EMBEDDING_DIM), np.float32)]
    for start in range(0, len(faces), _BATCH):
        batch = np.stack(faces[start : start + _BATCH])
        filled = np.pad(batch, [(0, _BATCH - len(batch)), (0, 0), (0, 0), (0, 0)], mode="edge")
        embeddings.append(np.asarray(_embed_batch(variables, filled))[: len(batch)])
    return np.concatenate(embeddings)


@jax.jit
@float32_matmuls
def _embed_batch(variables: dict[str, Any], faces: jax.Array) -> jax.Array:
    return FaceNet().apply(variables, faces.astype(np.float32) / 255.0)


def distances(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """Euclidean distances of embeddings [n, 128] and [m, 128]: [n, m]."""
    return np.linalg.norm(ours[:, None] - theirs[None], axis=-1)


def csim(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """Cosines of pairs of embeddings [*b, 128]: [*b]."""
    lengths = np.linalg.norm(ours, axis=-1) * np.linalg.norm(theirs, axis=-1)
    return (ours * theirs).sum(axis=-1) / lengths


def recognise(ours: np.ndarray, portraits: np.ndarray) -> np.ndarray:
    """Whose face each one is.

    Args:
      ours: embeddings [n, 128].
      portraits: embeddings [m, 128] of m people, three or more; two have only one direction.

    Returns:
      [n] integers, the portrait with the largest cosine, both relative to the mean of the
      portraits.
    """
    mean = portraits.mean(axis=0)
    return csim((ours - mean)[:, None], (portraits - mean)[None]).argmax(axis=1)
