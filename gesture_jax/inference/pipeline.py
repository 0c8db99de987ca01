"""Files in, files out: what the inference commands and the web page do with one request.

Frames go to the encoder as they are rendered, so that memory is constant in the length of a video
but for its sound, which is read as a whole.
"""

import functools
import itertools
import sys
from collections.abc import Callable, Iterable, Iterator

import numpy as np
from tqdm import tqdm

from gesture_jax.errors import InputError, one_line
from gesture_jax.inference.animator import Animator
from gesture_jax.inference.generator import GestureGenerator, Options, count_frames
from gesture_jax.inference.manifest import Request
from gesture_jax.inference.portraits import Portrait, Style
from gesture_jax.inference.rendering import METADATA, Rendering
from gesture_jax.media import images
from gesture_jax.media.framing import Crop
from gesture_jax.media.motion_files import read_motion, write_motion
from gesture_jax.media.sound import Sound, has_audio, read_sound
from gesture_jax.media.video import iterate_video
from gesture_jax.media.writer import Recording, write_video
from gesture_jax.people.lips import NUM_VALUES
from gesture_jax.storage.output_paths import check_ending, check_outputs

_SHEET_PICTURES = 16

# Passes frames on as they come; gets their number, if it is known. It may show progress, or raise
# to stop.
Watch = Callable[[Iterator[np.ndarray], int | None], Iterator[np.ndarray]]


def show_progress(frames: Iterator[np.ndarray], total: int | None) -> Iterator[np.ndarray]:
    """A `Watch` that draws a progress bar on stderr."""
    with tqdm(frames, total=total, unit="frame") as progress:
        yield from progress


def write_requests(
    animator: Animator,
    generator: GestureGenerator | None,
    requests: Iterable[tuple[str, Request | InputError]],
    style: Style = Style(),  # noqa: B008
    options: Options | None = None,
) -> None:
    """Writes the videos of all requests; a bad row of a manifest does not end the others.

    Args:
      animator: the trained stage 1.
      generator: the trained stage 2; needed for requests without a motion file.
      requests: from `manifest.read_requests`.
      style: how portraits are cropped, and how frames are shown.
      options: how motion is generated; by default as the config of stage 2 says.

    Raises:
      InputError: where the one request of the flags is bad; at the end, where rows of a manifest
        were, with the reason for the first of them.
    """
    failed, count = [], 0
    for where, request in requests:
        count += 1
        try:
            if isinstance(request, InputError):
                raise request
            print_notices(write_request(animator, generator, request, style, options=options))
            print(f"video: {request.out}")
        except InputError as error:
            if not where:
                raise
            failed.append(f"{where}: {error}")
            print(f"left out: {failed[-1]}", file=sys.stderr)
    if failed:
        raise InputError(f"{len(failed)} of {count} rows failed; {failed[0]}")


def write_request(
    animator: Animator,
    generator: GestureGenerator | None,
    request: Request,
    style: Style = Style(),  # noqa: B008
    watch: Watch = show_progress,
    options: Options | None = None,
) -> list[str]:
    """Writes one video.

    Args:
      animator: the trained stage 1.
      generator: the trained stage 2; needed for a request without a motion file.
      request: names the files to read and to write.
      style: how the portrait is cropped, and how frames are shown.
      watch: sees the frames on their way to the encoder.
      options: how motion is generated; by default as the config of stage 2 says.

    Returns:
      Notices, sentences that the user should read: that the portrait is framed unlike training
      frames, for example.

    Raises:
      InputError: where a file cannot be read or written, or an option does not fit.
    """
    sound = read_sound(request.audio)
    num_frames = count_frames(sound.samples, name=request.audio)
    rendering = _render(animator, generator, request, sound, num_frames, style, options)
    motion: list[np.ndarray] = []
    frames = rendering.frames(kept_motion=motion if request.save_motion else None)
    sheet = _Sheet(num_frames)
    _write(request.out, watch(sheet.collect(frames), num_frames), request.audio, sound)
    if request.sheet:
        images.write_image(request.sheet, sheet.draw())
    if request.save_motion:
        _write_motion(request.save_motion, np.concatenate(motion), animator, rendering.portrait)
    return [*sound.notices, *rendering.notices]


def _render(
    animator: Animator,
    generator: GestureGenerator | None,
    request: Request,
    sound: Sound,
    num_frames: int,
    style: Style,
    options: Options | None,
) -> Rendering:
    """Generates motion for the sound; or takes that of the request's motion file."""
    if request.motion:
        portrait = Portrait.open(request.image, animator, style)
        portrait.prepare()
        motion = _read_motion(request.motion, num_frames, animator)
        return Rendering(portrait, [motion], portrait.notices)
    if generator is None:
        raise InputError(f"{request.out}: needs --stage2, as the request names no motion file")
    return generator.render(
        request.image, sound.samples, style=style, seed=request.seed, speaker=request.speaker,
        gestures=request.gestures, options=options, name=request.audio,
    )  # fmt: skip


def _write_motion(path: str, motion: np.ndarray, animator: Animator, portrait: Portrait) -> None:
    """Writes motion [t, d], or [t, d + l] with the positions of the lips."""
    motion, lips = np.split(motion, [animator.model.motion_dim], axis=1)
    write_motion(path, motion, portrait.source.image, lips if lips.shape[1] else None)


def _read_motion(path: str, num_frames: int, animator: Animator) -> np.ndarray:
    """Reads what `_write_motion` wrote."""
    motion = read_motion(path, shape=(num_frames, animator.model.motion_dim))
    lips = read_motion(path, "lips", shape=(num_frames, NUM_VALUES), optional=True)
    return np.concatenate([motion, lips], axis=1) if len(lips) else motion


def animate(
    animator: Animator,
    image: str,
    driving: str,
    out: str,
    *,
    border_px: int = 0,
    relative: bool = True,
    side_by_side: bool = False,
    save_motion: str | None = None,
    style: Style = Style(),  # noqa: B008
    watch: Watch = show_progress,
    num_frames: int | None = None,
) -> list[str]:
    """Moves a portrait like a driving video; keeps that video's sound, if it has any.

    Args:
      animator: the trained stage 1.
      image: path of the portrait.
      driving: path of the video that the motion is taken from.
      out: path of the mp4 to write.
      border_px: width of a border that is cut off the driving video, in pixels.
      relative: applies the driving video's changes to the portrait's own pose; else the portrait
        takes the poses themselves.
      side_by_side: shows the portrait, the driving frame and the result in a row.
      save_motion: path of an .npz with the motion features, if wanted.
      style: how the portrait is cropped, and how frames are shown.
      watch: sees the frames on their way to the encoder.
      num_frames: for `watch`, where it is known.

    Returns:
      Notices, as `write_request` does.

    Raises:
      InputError: where a file cannot be read or written, or options contradict each other.
    """
    if side_by_side and (style.paste_back or style.explain):
        raise InputError("--side_by_side shows squares; drop it, or --paste_back and --explain")
    check_ending(save_motion, ".npz")
    check_outputs({"out": out, "save_motion": save_motion}, {"image": image, "driving": driving})
    portrait = Portrait.open(image, animator, style)
    source = portrait.source
    size = source.size if side_by_side else animator.resolution
    driving_frames = iterate_video(driving, size=size, crop=Crop(border_px))
    # One copy is ahead of the other by no more than a batch.
    driving_frames, shown = itertools.tee(driving_frames)
    motions = animator.iterate_motion(driving_frames)
    if relative:
        motions = animator.retarget(source, motions)
    kept_motion: list[np.ndarray] = []
    if save_motion:
        motions = _keep(motions, kept_motion)
    if side_by_side:
        own = images.to_uint8(source.image)
        frames = portrait.render_squares(motions)
        rows = (np.hstack([own, *pair]) for pair in zip(shown, frames, strict=True))
        frames = portrait.finish(rows)
    else:
        del shown  # An unused copy would keep all frames.
        frames = portrait.render(motions)
    sound = read_sound(driving) if has_audio(driving) else None
    _write(out, watch(frames, num_frames), driving, sound)
    if save_motion:
        write_motion(save_motion, np.stack(kept_motion), source.image)
    return [*(sound.notices if sound else ()), *portrait.notices]


def print_notices(notices: Iterable[str]) -> None:
    """Prints notices on stderr, each of them once in a process."""
    for notice in notices:
        _print_once(one_line(notice))


@functools.cache
def _print_once(notice: str) -> None:
    print(f"note: {notice}", file=sys.stderr)


def _write(out: str, frames: Iterator[np.ndarray], heard: str, sound: Sound | None) -> None:
    """Encodes frames, with the sound of the file `heard` as it was given."""
    audio = Recording(heard, sound.track) if sound else None
    write_video(out, frames, audio=audio, metadata=METADATA)


def _keep(items: Iterable[np.ndarray], kept: list[np.ndarray]) -> Iterator[np.ndarray]:
    for item in items:
        kept.append(item)
        yield item


class _Sheet:
    """Keeps a few frames spread over a clip."""

    def __init__(self, num_frames: int):
        numbers = np.linspace(0, num_frames - 1, min(_SHEET_PICTURES, num_frames))
        self._numbers = set(numbers.astype(int).tolist())
        self._frames: list[np.ndarray] = []

    def collect(self, frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Passes frames on, and keeps some of them."""
        for number, frame in enumerate(frames):
            if number in self._numbers:
                self._frames.append(frame)
            yield frame

    def draw(self) -> np.ndarray:
        """The kept frames in two rows."""
        half = -(-len(self._frames) // 2)
        return images.contact_sheet([self._frames[:half], self._frames[half:]])
