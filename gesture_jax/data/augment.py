"""Augmentation of a pair of frames, the same for both: swap in time, mirror, colour jitter.

The odds are TPSMM's (reference 5): half of the pairs are swapped, of the other half one in two is
mirrored, and all are jittered. The jitter is one affine map of colours, which Pillow applies at
once: contrast turns about mid grey rather than the picture's mean, hue about the axis of greys.
"""

import dataclasses
import math

import numpy as np
from PIL import Image

from gesture_jax.data.regions import mirror_boxes

_LUMINANCE = np.array([0.299, 0.587, 0.114])
_MID_GREY = 127.5


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """What is done to a pair at random.

    Attributes:
      swap: probability that source and driving change places.
      mirror: probability that those which are not swapped are mirrored.
      jitter: most that brightness, contrast and saturation are scaled by, up or down, and most that
        hue is turned, as a share of the circle.
    """

    swap: float = 0.5
    mirror: float = 0.5
    jitter: float = 0.1

    def apply(
        self,
        pair: np.ndarray,
        boxes: np.ndarray,
        points: np.ndarray,
        generator: np.random.Generator,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Augments a pair.

        Args:
          pair: [2, h, w, 3] uint8, source and driving.
          boxes: [2, r, 4] float32, of `regions.region_boxes`, which move with the pictures.
          points: [2, j, 2] float32, (x, y) in pixels; likewise.
          generator: of the choices; every call draws the same number of them.

        Returns:
          The pair, its boxes and its points.
        """
        swapped, mirrored = generator.random(2) < (self.swap, self.mirror)
        changes = generator.uniform(-self.jitter, self.jitter, 4)
        if swapped:
            pair, boxes, points = pair[::-1], boxes[::-1], points[::-1]
        elif mirrored:
            size = pair.shape[2]
            pair, boxes = pair[:, :, ::-1], mirror_boxes(boxes, size=size)
            points = points * np.float32([-1, 1]) + np.float32([size, 0])
        if not self.jitter:
            return np.ascontiguousarray(pair), boxes, points
        matrix = colour_matrix(*changes)
        return np.stack([_recolour(frame, matrix) for frame in pair]), boxes, points


def colour_matrix(brightness: float, contrast: float, saturation: float, hue: float) -> np.ndarray:
    """[3, 4]: the map of colours in [0, 255] to matrix[:, :3] colour + matrix[:, 3].

    Args:
      brightness: 0.1 is a tenth brighter.
      contrast: 0.1 is a tenth more.
      saturation: 0.1 is a tenth more.
      hue: turn about the axis of greys, 1 is the full circle.
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
