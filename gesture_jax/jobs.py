"""What the inference command lines do: files in, files out, in memory that does not grow."""

import itertools
import os
import sys
from collections.abc import Iterable, Iterator

import numpy as np
from tqdm import tqdm

from gesture_jax.animator import Animator
from gesture_jax.data import images, media
from gesture_jax.data.framing import Crop
from gesture_jax.data.motion_files import read_motion, write_motion
from gesture_jax.errors import InputError
from gesture_jax.generator import METADATA, GestureGenerator, count_frames
from gesture_jax.manifest import Request

_SHEET_PICTURES = 16


def write_requests(
    animator: Animator,
    generator: GestureGenerator | None,
    requests: Iterable[tuple[str, Request | InputError]],
) -> None:
    """Generates all that is asked for; a bad row of a manifest does not end the others.

    Args:
      animator: the trained stage 1.
      generator: of stage 2; needed where a request does not bring its motion.
      requests: from `manifest.read_requests`.

    Raises:
      InputError: where the one request of the flags is bad; at the end, where rows were, with what
        is wrong with the first of them.
    """
    failed, count = [], 0
    for where, request in requests:
        count += 1
        try:
            if isinstance(request, InputError):
                raise request
            _write_request(animator, generator, request)
            print(f"video: {request.out}")
        except InputError as error:
            if not where:
                raise
            failed.append(f"{where}: {error}")
            print(f"left out: {failed[-1]}", file=sys.stderr)
    if failed:
        raise InputError(f"{len(failed)} of {count} rows failed; {failed[0]}")


def _write_request(
    animator: Animator, generator: GestureGenerator | None, request: Request
) -> None:
    """One video; frames go to the encoder as they are rendered."""
    source = animator.encode_source(images.load_image(request.image))
    audio = media.read_audio(request.audio)
    num_frames = count_frames(audio, name=request.audio)
    if request.motion:
        shape = num_frames, animator.model.motion_dim
        windows = iter([read_motion(request.motion, shape=shape)])
    elif generator is None:
        raise InputError(f"{request.out}: wants --stage2, as it brings no motion")
    else:
        windows = generator.motion_windows(
            source, audio, seed=request.seed, speaker=request.speaker
        )
    kept: list[np.ndarray] = []
    sheet = _Sheet(num_frames)

    def frames() -> Iterator[np.ndarray]:
        for motion in windows:
            if request.save_motion:
                kept.append(motion)
            for frame in animator.render_frames(source, motion):
                sheet.see(frame)
                yield frame

    with tqdm(frames(), total=num_frames, desc="generate", unit="frame") as progress:
        media.write_video(request.out, progress, audio=audio, metadata=METADATA)
    if request.sheet:
        images.write_image(request.sheet, sheet.draw())
    if request.save_motion:
        write_motion(request.save_motion, np.concatenate(kept), source.image)


def animate(
    image: str,
    driving: str,
    out: str,
    *,
    stage1: str | os.PathLike,
    crop_px: int = 0,
    relative: bool = False,
    side_by_side: bool = False,
) -> None:
    """Moves a portrait like a driving video; keeps that video's sound, if it has any.

    Args:
      image: path of the portrait.
      driving: path of the video whose motion is taken.
      out: path of the mp4 to write.
      stage1: workdir of the trained stage 1.
      crop_px: border shaved off the driving video.
      relative: applies the driving video's changes to the portrait's own pose; else the portrait
        takes the poses themselves.
      side_by_side: shows the portrait, the driving frame and the result in a row.

    Raises:
      InputError: for files that cannot be read, or a workdir without stage 1.
    """
    portrait = images.load_image(image)
    animator = Animator.load(stage1)
    source = animator.encode_source(portrait)
    driving_frames = media.iterate_video(driving, size=animator.resolution, crop=Crop(crop_px))
    # The copies are apart by no more than a batch.
    driving_frames, shown = itertools.tee(driving_frames)
    motions = animator.iterate_motion(driving_frames)
    if relative:
        motions = animator.retarget(source, motions)
    frames = animator.render_frames(source, motions)
    if side_by_side:
        frames = (np.hstack([source.image, *pair]) for pair in zip(shown, frames, strict=True))
    else:
        del shown  # Or it would keep all frames.
    audio = media.read_audio(driving) if media.has_audio(driving) else None
    with tqdm(frames, desc="animate", unit="frame") as progress:
        media.write_video(out, progress, audio=audio, metadata=METADATA)


class _Sheet:
    """Keeps a few frames spread over a clip."""

    def __init__(self, num_frames: int):
        wanted = np.linspace(0, num_frames - 1, min(_SHEET_PICTURES, num_frames))
        self._wanted = set(wanted.astype(int).tolist())
        self._seen = 0
        self._frames: list[np.ndarray] = []

    def see(self, frame: np.ndarray) -> None:
        if self._seen in self._wanted:
            self._frames.append(frame)
        self._seen += 1

    def draw(self) -> np.ndarray:
        half = -(-len(self._frames) // 2)
        return images.contact_sheet([self._frames[:half], self._frames[half:]])
