"""What the inference command lines do: files in, files out; frames are not kept, the sound is."""

import functools
import itertools
import sys
from collections.abc import Callable, Iterable, Iterator

import numpy as np
from tqdm import tqdm

from gesture_jax.errors import InputError, one_line
from gesture_jax.inference.animator import Animator
from gesture_jax.inference.generator import METADATA, GestureGenerator, Options, count_frames
from gesture_jax.inference.manifest import Request
from gesture_jax.inference.portraits import Portrait, Style
from gesture_jax.media import images
from gesture_jax.media.framing import Crop
from gesture_jax.media.motion_files import read_motion, write_motion
from gesture_jax.media.sound import has_audio, read_sound
from gesture_jax.media.video import iterate_video
from gesture_jax.media.writer import Recording, write_video
from gesture_jax.speech.detection import UNLIKE_SPEECH, is_unlike_speech
from gesture_jax.storage.outputs import check_ending, check_outputs

_SHEET_PICTURES = 16

# Passes frames on as they come, of so many if that is known; may show progress, or raise to stop.
Watch = Callable[[Iterator[np.ndarray], int | None], Iterator[np.ndarray]]


def show_progress(frames: Iterator[np.ndarray], total: int | None) -> Iterator[np.ndarray]:
    """A `Watch` that draws a bar on stderr."""
    with tqdm(frames, total=total, unit="frame") as progress:
        yield from progress


def write_requests(
    animator: Animator,
    generator: GestureGenerator | None,
    requests: Iterable[tuple[str, Request | InputError]],
    style: Style = Style(),  # noqa: B008
    options: Options | None = None,
) -> None:
    """Generates all that is asked for; a bad row of a manifest does not end the others.

    Args:
      animator: the trained stage 1.
      generator: of stage 2; needed where a request does not bring its motion.
      requests: from `manifest.read_requests`.
      style: how portraits are cut and frames are shown.
      options: how the generator works, by default as its config says.

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
            tell(write_request(animator, generator, request, style, options=options))
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
    """One video; frames go to the encoder as they are rendered.

    Args:
      animator: the trained stage 1.
      generator: of stage 2; needed where the request does not bring its motion.
      request: what goes in and where results go.
      style: how the portrait is cut and frames are shown.
      watch: sees the frames on their way to the encoder.
      options: how the generator works, by default as its config says.

    Returns:
      What its user should know: that its framing is unlike that of training frames, for example.

    Raises:
      InputError: where something of it is bad.
    """
    sound = read_sound(request.audio)
    audio = sound.samples
    num_frames = count_frames(audio, name=request.audio)
    draws = generator if not request.motion else None
    if draws is None and not request.motion:
        raise InputError(f"{request.out}: wants --stage2, as it brings no motion")
    # Before all else, as it may be done beside it.
    heard = draws.hear(audio, options) if draws else None
    portrait = Portrait.open(request.image, animator, style)
    source = portrait.source
    animator.prepare(source)
    if request.motion:
        shape = num_frames, animator.model.motion_dim
        windows = iter([read_motion(request.motion, shape=shape)])
    else:
        assert draws and heard
        draws.prepare(options)
        windows = draws.motion_from_features(
            source.motion, heard, num_frames,
            seed=request.seed, speaker=request.speaker, options=options,
        )  # fmt: skip
    kept: list[np.ndarray] = []
    sheet = _Sheet(num_frames)

    def frames() -> Iterator[np.ndarray]:
        for motion in _keeping(windows, kept) if request.save_motion else windows:
            for frame in portrait.render(motion):
                sheet.see(frame)
                yield frame

    watched = watch(frames(), num_frames)
    original = Recording(request.audio, sound.track)
    write_video(request.out, watched, audio=original, metadata=METADATA)
    if request.sheet:
        images.write_image(request.sheet, sheet.draw())
    if request.save_motion:
        write_motion(request.save_motion, np.concatenate(kept), source.image)
    unlike = [f"{request.audio}: {UNLIKE_SPEECH}"] if is_unlike_speech(audio) else []
    return [*sound.notices, *unlike, *portrait.notices]


def animate(
    animator: Animator,
    image: str,
    driving: str,
    out: str,
    *,
    crop_px: int = 0,
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
      driving: path of the video whose motion is taken.
      out: path of the mp4 to write.
      crop_px: border shaved off the driving video.
      relative: applies the driving video's changes to the portrait's own pose; else the portrait
        takes the poses themselves.
      side_by_side: shows the portrait, the driving frame and the result in a row.
      save_motion: path of an .npz with the motion features, if wanted.
      style: how the portrait is cut and frames are shown.
      watch: sees the frames on their way to the encoder.
      num_frames: for `watch`, where it is known.

    Returns:
      What its user should know, as of `write_request`.

    Raises:
      InputError: for files that cannot be read, or what does not go together.
    """
    if side_by_side and (style.paste_back or style.explain):
        raise InputError("--side_by_side shows squares; drop it, or --paste_back and --explain")
    check_ending(save_motion, ".npz")
    check_outputs({"out": out, "save_motion": save_motion}, {"image": image, "driving": driving})
    portrait = Portrait.open(image, animator, style)
    source = portrait.source
    size = source.size if side_by_side else animator.resolution
    driving_frames = iterate_video(driving, size=size, crop=Crop(crop_px))
    # The copies are apart by no more than a batch.
    driving_frames, shown = itertools.tee(driving_frames)
    motions = animator.iterate_motion(driving_frames)
    if relative:
        motions = animator.retarget(source, motions)
    kept: list[np.ndarray] = []
    if save_motion:
        motions = _keeping(motions, kept)
    if side_by_side:
        own = images.to_uint8(source.image)
        frames = animator.render_frames(source, motions, adapt=True)
        frames = (np.hstack([own, *pair]) for pair in zip(shown, frames, strict=True))
        frames = portrait.show(frames)
    else:
        del shown  # Or it would keep all frames.
        frames = portrait.render(motions)
    sound = read_sound(driving) if has_audio(driving) else None
    watched = watch(frames, num_frames)
    original = Recording(driving, sound.track) if sound else None
    write_video(out, watched, audio=original, metadata=METADATA)
    if save_motion:
        write_motion(save_motion, np.stack(kept), source.image)
    return [*(sound.notices if sound else ()), *portrait.notices]


def tell(notices: Iterable[str]) -> None:
    """Prints what users should know on stderr, each of it once."""
    for notice in notices:
        _tell_once(one_line(notice))


@functools.cache
def _tell_once(notice: str) -> None:
    print(f"note: {notice}", file=sys.stderr)


def _keeping(items: Iterable[np.ndarray], kept: list[np.ndarray]) -> Iterator[np.ndarray]:
    for item in items:
        kept.append(item)
        yield item


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
