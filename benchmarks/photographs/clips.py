"""Test clips of known people: frames, and the positions of face, hands and background.

`benchmarks.photographs` measures on these.
"""

import dataclasses
import pathlib
from collections.abc import Callable

import numpy as np
import scipy.ndimage

from gesture_jax.data.clips import ClipSource
from gesture_jax.errors import InputError
from gesture_jax.media import images
from gesture_jax.ops.image import box_mask
from gesture_jax.people import faces
from gesture_jax.people.faces import Face
from gesture_jax.people.regions import HANDS, region_boxes

# A pixel belongs to the background if the person's share of it in the first frame is below _PERSON,
# and no frame, blurred and in [0, 1], differs from the first by more than _MOVED.
_PERSON, _MOVED, _BLUR_PX = 0.2, 12 / 255, 1.0
# Both regions are widened by this share of the frame.
_MARGIN = 0.02
_LEAST_BACKGROUND = 0.01

Finder = Callable[[np.ndarray], Face | None]


@dataclasses.dataclass(frozen=True)
class PhotographClip:
    """The data of one clip.

    Attributes:
      speaker: the person's name.
      source: [s, s, 3] float32 in [0, 1], the first frame of the clip.
      frames: [n, s, s, 3] float32, driving frames spread over the rest of it.
      faces: the face in each driving frame; None if none is found.
      hands: [n, 2, 4] boxes in pixels, (left, top, right, bottom); zeros if unknown.
      background: [s, s, 1] float32, 1 outside the person's reach.
    """

    speaker: str
    source: np.ndarray
    frames: np.ndarray
    faces: list[Face | None]
    hands: np.ndarray
    background: np.ndarray

    @property
    def hand_mask(self) -> np.ndarray:
        """[n, s, s, 1] float32, 1 within the boxes of the hands."""
        side = len(self.source)
        return np.asarray(box_mask(self.hands, height=side, width=side))

    def notes(self) -> list[str]:
        """Returns a sentence for each part that cannot be measured."""
        missing = sum(face is None for face in self.faces)
        parts = {
            f"no face is found in {missing} of {len(self.faces)} driving frames": missing,
            "no hands are known": not self.hands.any(),
            "there is no background outside the person's reach": not self.background.any(),
        }
        return [f"{self.speaker}: {sentence}" for sentence, holds in parts.items() if holds]


def read_clips(data: str, find: Finder, *, num_frames: int) -> tuple[list[PhotographClip], int]:
    """Reads the first clip of each person in the test split, and counts the remaining clips.

    Args:
      data: a dataset made by `gesture_jax.prepare`.
      find: a finder from `faces.open_finder`.
      num_frames: number of driving frames per clip.

    Raises:
      InputError: if fewer than two people are in the split, or a clip is too short.
    """
    if num_frames < 1:
        raise InputError(f"{num_frames} driving frames; give 1 or more")
    source = ClipSource(data, "test")
    first: dict[str, int] = {}
    for index, record in enumerate(source):
        first.setdefault(record["speaker"], index)
    if len(first) < 2:
        raise InputError(f"{data}: the test split shows {len(first)} person; two are needed")
    segment = _open_segmentation()
    clips = [_read_clip(source, index, find, segment, num_frames) for index in first.values()]
    return clips, len(source) - len(first)


def _read_clip(source: ClipSource, index: int, find: Finder, segment, count: int) -> PhotographClip:
    record, length = source[index], source.num_frames(index)
    if length <= count:
        raise InputError(f"{record['clip_id']}: {length} frames; more than {count} are needed")
    everything = source.read_frames(index, range(length))
    chosen = np.linspace(0, length - 1, count + 1).round().astype(int)[1:]
    boxes = region_boxes(record["joints"][chosen], source.joint_names, size=source.size)
    return PhotographClip(
        speaker=record["speaker"],
        source=_to_float(everything[0]),
        frames=_to_float(everything[chosen]),
        faces=[find(frame) for frame in everything[chosen]],
        hands=boxes[:, HANDS],
        background=background_mask(everything, segment(everything[0])),
    )


def _open_segmentation() -> Callable[[np.ndarray], np.ndarray]:
    """Returns a function from a picture [h, w, 3] uint8 to the person's share of each pixel."""
    import mediapipe

    model = mediapipe.solutions.selfie_segmentation.SelfieSegmentation(model_selection=0)
    return lambda picture: model.process(np.ascontiguousarray(picture)).segmentation_mask


def background_mask(frames: np.ndarray, person: np.ndarray) -> np.ndarray:
    """Returns a mask of pixels without a person in the first frame and without change later.

    Args:
      frames: [t, s, s, 3] uint8.
      person: [s, s], the person's share of each pixel of the first frame.

    Returns:
      [s, s, 1] float32 of 0 and 1; all 0 if hardly any background is left.
    """
    blurred = lambda frame: scipy.ndimage.gaussian_filter(_to_float(frame), (_BLUR_PX,) * 2 + (0,))
    first = blurred(frames[0])
    taken = person >= _PERSON
    for frame in frames[1:]:
        taken |= np.abs(blurred(frame) - first).max(axis=-1) > _MOVED
    side = 2 * round(_MARGIN * len(person)) + 1
    free = ~scipy.ndimage.maximum_filter(taken, size=side)
    return (free & (free.mean() >= _LEAST_BACKGROUND))[..., None].astype(np.float32)


def read_portraits(folder: str, find: Finder, *, size: int) -> dict[str, np.ndarray]:
    """Reads the aligned face, [150, 150, 3] uint8, of every portrait by name.

    Args:
      folder: folder of pictures; SPEAKER.jpg shows a speaker of the dataset.
      find: a finder from `faces.open_finder`.
      size: side of the frames. Portraits are scaled to it, so that the faces that are compared
        have the same resolution.

    Raises:
      InputError: if there is no portrait, or one shows no face.
    """
    found = pathlib.Path(folder).glob("*")
    paths = sorted(path for path in found if path.suffix.lower() in images.ENDINGS)
    if not paths:
        raise InputError(f"{folder}: no portraits; give a folder of {', '.join(images.ENDINGS)}")
    cuts = {}
    for path in paths:
        picture = images.to_uint8(images.square(images.load_image(path), size=size))
        if (cut := cut_face(picture, find)) is None:
            raise InputError(f"{path}: no face is found; take it out of the folder")
        cuts[path.stem] = cut
    return cuts


def cut_face(picture: np.ndarray, find: Finder) -> np.ndarray | None:
    """Returns the aligned face in a picture [h, w, 3] uint8, or None if none is found."""
    face = find(picture)
    return None if face is None else faces.cut_out(picture, face.points)


def _to_float(frames: np.ndarray) -> np.ndarray:
    return frames.astype(np.float32) / 255.0
