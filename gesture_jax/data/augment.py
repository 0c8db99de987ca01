"""Augmentation of a pair of frames, the same for both: swap in time, mirror, colour jitter.

The probabilities are those of TPSMM (reference 5): half of the pairs are swapped, one in two of the
other half is mirrored, and all are jittered. The jitter is a single affine map of colours, which
Pillow applies in one pass: contrast scales about mid grey rather than the picture's mean, and hue
rotates about the axis of greys.
"""

import dataclasses
import math
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from gesture_jax.people.regions import mirror_boxes

_LUMINANCE = np.array([0.299, 0.587, 0.114])
_MID_GREY = 127.5


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """Random changes to pairs of frames.

    Attributes:
      swap: probability that source and driving change places.
      mirror: probability that a pair that is not swapped is mirrored.
      jitter: largest relative change of brightness, contrast and saturation, and largest rotation
        of the hue as a share of the circle.
    """

    swap: float = 0.5
    mirror: float = 0.5
    jitter: float = 0.1

    def choose(self, generator: np.random.Generator) -> "Change":
        """Draws the change of one pair; every call draws the same number of random values."""
        swapped, mirrored = generator.random(2) < (self.swap, self.mirror)
        changes = generator.uniform(-self.jitter, self.jitter, 4)
        matrix = colour_matrix(*changes) if self.jitter else None
        return Change(bool(swapped), bool(mirrored and not swapped), matrix)


@dataclasses.dataclass(frozen=True)
class Change:
    """The change of one pair of frames.

    Attributes:
      swapped: whether source and driving change places.
      mirrored: whether both are mirrored.
      matrix: [3, 4], see `colour_matrix`; None keeps the colours.
    """

    swapped: bool = False
    mirrored: bool = False
    matrix: np.ndarray | None = None

    def order(self, pair: np.ndarray) -> np.ndarray:
        """Swaps the rows of [2, ...], source and driving, if the pair is swapped."""
        return pair[::-1] if self.swapped else pair

    def place(
        self, boxes: np.ndarray, points: np.ndarray, *, size: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Applies the change to boxes and points.

        Args:
          boxes: [2, r, 4] float32, from `regions.region_boxes`.
          points: [2, j, 2] float32, (x, y) in pixels.
          size: side of the pictures in pixels.
        """
        boxes, points = self.order(boxes), self.order(points)
        if self.mirrored:
            boxes = mirror_boxes(boxes, size=size)
            points = points * np.float32([-1, 1]) + np.float32([size, 0])
        return boxes, points

    def draw(self, pair: np.ndarray) -> np.ndarray:
        """Applies the change to the pictures, [2, h, w, 3] uint8."""
        pair = self.order(pair)
        if self.mirrored:
            pair = pair[:, :, ::-1]
        if self.matrix is None:
            return np.ascontiguousarray(pair)
        return np.stack([_recolour(frame, self.matrix) for frame in pair])

    def as_batch(self) -> dict[str, np.ndarray]:
        """The input of `draw_on_device`: `mirrored`, a bool, and `colours` [3, 4] float32."""
        colours = np.eye(3, 4) if self.matrix is None else self.matrix
        return {"mirrored": np.bool_(self.mirrored), "colours": colours.astype(np.float32)}


def draw_on_device(frames: jax.Array, batch: Mapping[str, jax.Array]) -> jax.Array:
    """Computes the pairs of `Change.draw` from frames on the device.

    Args:
      frames: [n, h, w, 3] uint8.
      batch: `numbers` [b, 2] of the frames, and `Change.as_batch` of each pair.

    Returns:
      [b, 2, h, w, 3] float32 in [0, 1]; colours differ by at most 1/255 from `Change.draw`.
    """
    pairs = frames[batch["numbers"]]
    mirrored = batch["mirrored"][:, None, None, None, None]
    pairs = jnp.where(mirrored, pairs[:, :, :, ::-1], pairs).astype(jnp.float32)
    matrix, offset = batch["colours"][..., :3], batch["colours"][..., 3]
    with jax.default_matmul_precision("float32"):
        pairs = jnp.einsum("bkhwc,bdc->bkhwd", pairs, matrix)
    pairs = pairs + offset[:, None, None, None, :]
    return jnp.clip(jnp.floor(pairs + 0.5), 0.0, 255.0) / 255.0


def colour_matrix(brightness: float, contrast: float, saturation: float, hue: float) -> np.ndarray:
    """Returns the map of colours in [0, 255] to matrix[:, :3] colour + matrix[:, 3]: [3, 4].

    Args:
      brightness: 0.1 is a tenth brighter.
      contrast: 0.1 is a tenth more.
      saturation: 0.1 is a tenth more.
      hue: rotation about the axis of greys; 1 is the full circle.
    """
    angle = 2 * math.pi * hue
    axis = np.full(3, 1 / math.sqrt(3))
    cross = np.cross(np.eye(3), axis)
    turn = np.eye(3) + math.sin(angle) * cross + (1 - math.cos(angle)) * cross @ cross
    grey = np.tile(_LUMINANCE, (3, 1))
    saturate = grey + (1 + saturation) * (np.eye(3) - grey)
    scale = (1 + brightness) * (1 + contrast)
    offset = np.full((3, 1), -contrast * _MID_GREY)
    return np.concatenate([scale * saturate @ turn, offset], axis=1)


def _recolour(frame: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    picture = Image.fromarray(np.ascontiguousarray(frame))
    return np.asarray(picture.convert("RGB", tuple(matrix.ravel().tolist())))
