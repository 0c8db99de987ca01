"""Finds faces with MediaPipe's face mesh (extra `[pose]`) and aligns them for face recognition.

MediaPipe's wheel contains the weights. The recognition network (`models.face`) was trained on faces
that dlib aligned: turned, scaled and moved by the similarity transform that brings the corners of
both eyes and the base of the nose closest to those of a mean face. The same points are vertices of
MediaPipe's mesh.
"""

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator

import numpy as np
from PIL import Image

from gesture_jax.errors import InputError
from gesture_jax.media.framing import Box
from gesture_jax.models import syncnet
from gesture_jax.models.face import SIZE_PX
from gesture_jax.people import pose

# Vertices of the mesh: outer and inner corner of the eye on the viewer's right, the same on the
# left, and the base of the nose.
_POINTS = (263, 362, 33, 133, 2)
# The middles of the inner edges of the upper and the lower lip, and the outer corners of the eyes.
_LIPS, _EYES = (13, 14), (33, 263)
# Their positions in dlib's mean face, (x, y) in units of the face, and the margin around it.
_MEAN_FACE = np.array(
    [(0.8596, 0.2135), (0.6461, 0.2290), (0.1206, 0.2137), (0.3341, 0.2291), (0.4901, 0.6278)]
)
_PADDING = 0.25
_MIN_DETECTION = 0.3
# The room around a face that SyncNet's authors keep, relative to half its size, and the value of
# the pixels outside of the picture.
_TALKING_MARGIN, _GREY = 0.4, 110


@dataclasses.dataclass(frozen=True)
class Face:
    """A face in a picture.

    Attributes:
      box: (left, top, right, bottom) in pixels, from the forehead to the chin.
      points: [5, 2] float32, (x, y) in pixels: the corners of the eyes and the base of the nose.
      mouth_opening: the gap between the lips, as a share of the distance between the outer corners
        of the eyes. Both are distances in three dimensions, so that turning the head changes them
        little. It is about 0.02 for closed lips and 0.3 for a wide open mouth.
    """

    box: Box
    points: np.ndarray
    mouth_opening: float = float("nan")


@contextlib.contextmanager
def open_finder() -> Iterator[Callable[[np.ndarray], Face | None]]:
    """Opens a detector that finds the most prominent face of a picture.

    Yields:
      A function that maps a picture, [h, w, 3] uint8, to its face, or to None if none is found.
      Faces smaller than a tenth of the picture are found less reliably.

    Raises:
      InputError: where the extra `[pose]` is not installed.
    """
    with _open_model(refine=False) as model:
        yield lambda picture: _find(model, picture)


def _open_model(*, refine: bool):
    """Opens MediaPipe's model; refined landmarks of lips and eyes take another network."""
    if not pose.is_installed():
        raise InputError(f"no face model is installed; {pose.remedy()}")
    import mediapipe

    return mediapipe.solutions.face_mesh.FaceMesh(
        static_image_mode=True,
        max_num_faces=1,
        refine_landmarks=refine,
        min_detection_confidence=_MIN_DETECTION,
    )


def find_mesh(picture: np.ndarray) -> np.ndarray | None:
    """Finds the landmarks of the most prominent face.

    Args:
      picture: [h, w, 3] uint8.

    Returns:
      [478, 2] float32, (x, y) in pixels; None where no face is found.

    Raises:
      InputError: where the extra `[pose]` is not installed.
    """
    with _open_model(refine=True) as model:
        mesh = _find_mesh(model, picture)
    return None if mesh is None else mesh[:, :2]


def _find_mesh(model, picture: np.ndarray) -> np.ndarray | None:
    found = model.process(np.ascontiguousarray(picture)).multi_face_landmarks
    if not found:
        return None
    height, width = picture.shape[:2]
    # MediaPipe's depth is relative to the width.
    mesh = np.array([(p.x * width, p.y * height, p.z * width) for p in found[0].landmark])
    return mesh.astype(np.float32)


def _find(model, picture: np.ndarray) -> Face | None:
    mesh = _find_mesh(model, picture)
    if mesh is None:
        return None
    left, top, right, bottom = (*mesh[:, :2].min(axis=0), *mesh[:, :2].max(axis=0))
    box = float(left), float(top), float(right), float(bottom)
    length = lambda ends: np.linalg.norm(mesh[ends[0]] - mesh[ends[1]])
    opening = float(length(_LIPS) / max(length(_EYES), 1e-6))
    return Face(box, mesh[list(_POINTS), :2], opening)


def mouth_opening(frames: Iterable[np.ndarray]) -> np.ndarray:
    """Measures how far the mouth is open in each frame of a video.

    Args:
      frames: [h, w, 3] uint8 each.

    Returns:
      [t] float32, see `Face.mouth_opening`; NaN where no face is found.

    Raises:
      InputError: where the extra `[pose]` is not installed.
    """
    with open_finder() as find:
        found = [find(frame) for frame in frames]
    return np.array([np.nan if face is None else face.mouth_opening for face in found], np.float32)


def cut_out(picture: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Cuts out an aligned face.

    Args:
      picture: [h, w, 3] uint8.
      points: [5, 2], see `Face`.

    Returns:
      [150, 150, 3] uint8; black outside of the picture.
    """
    size = SIZE_PX / (1.0 + 2.0 * _PADDING)
    turn, shift = _fit_similarity(size * (_PADDING + _MEAN_FACE), np.asarray(points, np.float64))
    image = Image.fromarray(picture)
    # Scales down first, as sampling every n-th pixel would alias.
    if (factor := int(abs(turn))) > 1:
        image, turn, shift = image.reduce(factor), turn / factor, shift / factor
    rows = (turn.real, -turn.imag, shift.real, turn.imag, turn.real, shift.imag)
    square = (SIZE_PX, SIZE_PX)
    return np.asarray(
        image.transform(square, Image.Transform.AFFINE, rows, Image.Resampling.BILINEAR)
    )


def cut_out_talking(picture: np.ndarray, box: Box) -> np.ndarray:
    """Cuts out a face as SyncNet's authors do: with room below and at the sides.

    Args:
      picture: [h, w, 3] uint8.
      box: around the face, see `Face`.

    Returns:
      [224, 224, 3] uint8; grey outside of the picture.
    """
    left, top, right, bottom = box
    half = max(right - left, bottom - top) / 2
    x, y = (left + right) / 2, (top + bottom) / 2
    reach = half * (1 + _TALKING_MARGIN)
    corners = x - reach, y - half, x + reach, y + half * (1 + 2 * _TALKING_MARGIN)
    margin = math.ceil(2 * reach)
    padded = np.pad(picture, ((margin, margin), (margin, margin), (0, 0)), constant_values=_GREY)
    # A detector may report a box outside of the picture.
    high = np.array(padded.shape[1::-1] * 2)
    corners = np.clip(np.add(corners, margin), 0, high).tolist()
    square = (syncnet.SIZE_PX, syncnet.SIZE_PX)
    return np.asarray(Image.fromarray(padded).resize(square, Image.Resampling.BILINEAR, corners))


def _fit_similarity(start: np.ndarray, end: np.ndarray) -> tuple[complex, complex]:
    """Fits a similarity transform between two sets of points [k, 2].

    Returns:
      Complex numbers a (rotation and scale) and b (shift) that minimise the sum of |a z + b - w|^2
      over the points z of `start` and w of `end`.
    """
    z, w = (points @ np.array([1.0, 1.0j]) for points in (start, end))
    centred = z - z.mean()
    turn = np.vdot(centred, w) / np.vdot(centred, centred)
    return complex(turn), complex(w.mean() - turn * z.mean())
