"""What the inference command lines do: files in, files out, in memory that does not grow."""

import dataclasses
import itertools
import json
import os
import pathlib
from collections.abc import Iterator

import numpy as np
from tqdm import tqdm

from gesture_jax.animator import Animator, Source
from gesture_jax.data import images, media
from gesture_jax.data.files import write_beside
from gesture_jax.data.framing import Crop
from gesture_jax.errors import InputError
from gesture_jax.generator import METADATA, GestureGenerator, count_frames

_SHEET_PICTURES = 16


@dataclasses.dataclass(frozen=True)
class Request:
    """One video to generate.

    Attributes:
      image: path of the portrait.
      audio: path of the speech.
      out: path of the mp4 to write.
      seed: of the noise.
      sheet: path of a PNG with frames spread over the clip, if wanted.
      motion: path of an .npz with the motion features, if wanted.
    """

    image: str
    audio: str
    out: str
    seed: int = 0
    sheet: str | None = None
    motion: str | None = None


def read_requests(*, manifest: str | None, **request) -> list[Request]:
    """One request from flags, or a manifest's: a JSON object a line, with the fields of `Request`.

    Raises:
      InputError: where flags are missing or a line of the manifest is not such an object.
    """
    if manifest is None:
        missing = [name for name in ("image", "audio", "out") if request[name] is None]
        if missing:
            raise InputError(
                f"--{missing[0]} is missing; give --image, --audio and --out, or --manifest"
            )
        return [Request(**request)]
    if any(request[name] for name in ("image", "audio", "out", "sheet", "motion")):
        raise InputError(
            f"{manifest}: with --manifest, its lines name all files; drop the other flags"
        )
    try:
        lines = pathlib.Path(manifest).read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        raise InputError(
            f"{manifest}: cannot be read; a text file of JSON lines is wanted"
        ) from None
    numbered = [(number, line) for number, line in enumerate(lines, start=1) if line.strip()]
    if not numbered:
        raise InputError(
            f"{manifest}: is empty; a JSON object with image, audio, out is wanted a line"
        )
    return [_parse_line(f"{manifest}:{number}", line, request["seed"]) for number, line in numbered]


def _parse_line(where: str, line: str, seed: int) -> Request:
    try:
        return Request(**{"seed": seed, **json.loads(line)})
    except (ValueError, TypeError):
        wanted = ", ".join(field.name for field in dataclasses.fields(Request))
        raise InputError(f"{where}: not a JSON object with keys among {wanted}") from None


def write_request(generator: GestureGenerator, request: Request) -> None:
    """Generates one video; frames go to the encoder as they are rendered.

    Raises:
      InputError: for a picture or sound that cannot be read.
    """
    source = generator.animator.encode_source(images.load_image(request.image))
    audio = media.read_audio(request.audio)
    num_frames = count_frames(audio, name=request.audio)
    motions: list[np.ndarray] = []
    sheet = _Sheet(num_frames)

    def frames() -> Iterator[np.ndarray]:
        for motion in generator.motion_windows(source, audio, seed=request.seed):
            motions.append(motion)
            for frame in generator.animator.render_frames(source, motion):
                sheet.see(frame)
                yield frame

    with tqdm(frames(), total=num_frames, desc="generate", unit="frame") as progress:
        media.write_video(request.out, progress, audio=audio, metadata=METADATA)
    if request.sheet:
        images.write_image(request.sheet, sheet.draw())
    if request.motion:
        _write_motion(request.motion, np.concatenate(motions), source)


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


def _write_motion(path: str, motion: np.ndarray, source: Source) -> None:
    with write_beside(path) as beside, beside.open("wb") as file:
        np.savez_compressed(file, motion=motion, portrait=source.image, fps=media.FPS)
