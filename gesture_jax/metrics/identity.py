"""Embeddings of faces, and how similar two faces are.

CSIM, as papers on talking heads report it, is the cosine of the embeddings of two faces. Its value
depends on the network, so numbers of different networks cannot be compared. This network was
trained for the Euclidean distance: two faces belong to one person if it is below 0.6
(`models.face`).

That threshold distinguishes strangers, but not people who look alike: portraits of one image
generator are within 0.2 to 0.5 of each other. So `recognise` first subtracts the mean of all known
portraits, and compares the differences between people that remain.
"""

from collections.abc import Sequence
from typing import Any

import chex
import jax
import numpy as np
from jaxtyping import Float, Int, UInt8

from gesture_jax.array_types import Array, typechecked
from gesture_jax.models.face import EMBEDDING_DIM, FaceNet
from gesture_jax.ops.precision import float32_matmuls

SAME_PERSON = 0.6
_BATCH = 8


@typechecked
def embed(
    variables: dict[str, Any], faces: Sequence[UInt8[Array, "h w 3"]], *, mirror: bool = False
) -> Float[np.ndarray, "n d"]:
    """Embeddings of any number of faces, in batches of one size, so that they compile once.

    Args:
      variables: of `pretrained.load_face`.
      faces: [150, 150, 3] uint8 each, cut out by `people.faces.cut_out`.
      mirror: averages the embeddings of each face and of its mirror image, which is more stable.

    Returns:
      [n, 128] float32.
    """
    chex.assert_shape(list(faces), (None, None, 3))
    chex.assert_type(list(faces), np.uint8)
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


@typechecked
def distances(
    ours: Float[np.ndarray, "n d"], theirs: Float[np.ndarray, "m d"]
) -> Float[np.ndarray, "n m"]:
    """Euclidean distances between embeddings [n, 128] and [m, 128]: [n, m]."""
    chex.assert_rank([ours, theirs], 2)
    chex.assert_axis_dimension(theirs, 1, ours.shape[1])
    chex.assert_type([ours, theirs], float)
    return np.linalg.norm(ours[:, None] - theirs[None], axis=-1)


@typechecked
def csim(
    ours: Float[np.ndarray, "*#b d"], theirs: Float[np.ndarray, "*#b d"]
) -> Float[np.ndarray, "..."]:
    """Cosines of pairs of embeddings [*b, 128], whose leading axes broadcast: [*b]."""
    chex.assert_shape([ours, theirs], (..., None))
    chex.assert_axis_dimension(theirs, -1, ours.shape[-1])
    chex.assert_type([ours, theirs], float)
    lengths = np.linalg.norm(ours, axis=-1) * np.linalg.norm(theirs, axis=-1)
    return (ours * theirs).sum(axis=-1) / lengths


@typechecked
def recognise(
    ours: Float[np.ndarray, "n d"], portraits: Float[np.ndarray, "m d"]
) -> Int[np.ndarray, "n"]:
    """Assigns each face to one of the known people.

    Args:
      ours: embeddings [n, 128].
      portraits: embeddings [m, 128] of m people, three or more: two would differ from their mean
        in one direction only.

    Returns:
      [n] integers, the portrait with the largest cosine; embeddings are taken relative to the mean
      of the portraits.
    """
    chex.assert_rank([ours, portraits], 2)
    chex.assert_axis_dimension(portraits, 1, ours.shape[1])
    chex.assert_type([ours, portraits], float)
    mean = portraits.mean(axis=0)
    return csim((ours - mean)[:, None], (portraits - mean)[None]).argmax(axis=1)
