"""What happens when somebody presses a button: uploads in, videos out, bad ones told of.

Arguments come as browsers send them, unchecked: files as dicts with a path, which Gradio has made
sure is one of its uploads, numbers as whatever was sent.
"""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

from gesture_jax.errors import InputError
from gesture_jax.inference import pipeline
from gesture_jax.inference.manifest import Request
from gesture_jax.inference.pipeline import Watch
from gesture_jax.inference.portraits import Portrait, Style
from gesture_jax.media.motion_files import read_motion
from gesture_jax.media.rates import FPS, SAMPLE_RATE_HZ
from gesture_jax.media.sound import has_audio, read_audio
from gesture_jax.media.video import iterate_pictures
from gesture_jax.page import plot
from gesture_jax.page.jobs import Finished, Progress, follow
from gesture_jax.page.live import Live
from gesture_jax.page.model_cache import ModelCache
from gesture_jax.page.sessions import Session
from gesture_jax.page.settings import sections
from gesture_jax.storage.files import as_path


@dataclasses.dataclass(frozen=True)
class Result:
    """What a visitor gets.

    Attributes:
      video: path of the mp4.
      motion: path of the .npz.
      svg: the motion against the sound.
      notices: what to know about it.
    """

    video: str
    motion: str
    svg: str
    notices: list[str]


@dataclasses.dataclass(frozen=True)
class Handlers:
    """Does what visitors ask for.

    Attributes:
      shelf: the models.
      max_sec: longest speech or driving video that is taken.
      mark: the watermark's text that every video gets; None leaves it to visitors.
    """

    shelf: ModelCache
    max_sec: float
    mark: str | None = None

    def talk(
        self, visit: Session, model: str, image: Any, audio: Any, look: tuple, seed: Any,
        speaker: str | None, sampler: str, *values: Any,
    ) -> Iterator[Progress | Finished[Result]]:  # fmt: skip
        """A portrait and speech to a video.

        Args:
          visit: whose it is.
          model: the name of one.
          image: the uploaded portrait.
          audio: the uploaded speech.
          look: framing, paste back, watermark.
          seed: of the noise.
          speaker: whose manner, where the model knows several.
          sampler: how noise is removed.
          *values: of `settings.SETTINGS`.

        Raises:
          InputError: for what is missing or bad.
        """
        image, audio = _upload(visit, image, "a portrait"), _upload(visit, audio, "speech")
        style, changes = self.style(*look), sections(list(values), sampler)
        if not isinstance(seed, int) or isinstance(seed, bool):
            raise InputError("the seed has to be a whole number")
        folder, stop = visit.begin()
        video, motion = str(folder / "video.mp4"), str(folder / "motion.npz")
        request = Request(
            image, audio, video, seed=seed, speaker=speaker or None, save_motion=motion
        )

        def job(watch: Watch) -> Result:
            sound = self._read_sound(audio)
            generator = self.shelf.generator(model)
            options = generator.options(**changes)
            notices = pipeline.write_request(
                generator.animator, generator, request, style, watch, options
            )
            return Result(video, motion, plot.draw(read_motion(motion), sound), notices)

        return _told_briefly(follow(job, stop), image, audio)

    def animate(
        self, visit: Session, model: str, image: Any, driving: Any, look: tuple, relative: Any,
        side_by_side: Any,
    ) -> Iterator[Progress | Finished[Result]]:  # fmt: skip
        """A portrait and a driving video to a video; arguments as of `talk`.

        Raises:
          InputError: for what is missing or bad.
        """
        image, driving = _upload(visit, image, "a portrait"), _upload(visit, driving, "a video")
        style = self.style(*look)
        folder, stop = visit.begin()
        video, motion = str(folder / "video.mp4"), str(folder / "motion.npz")

        def job(watch: Watch) -> Result:
            num_frames = self._count_frames(driving)
            sound = self._read_sound(driving) if has_audio(driving) else None
            notices = pipeline.animate(
                self.shelf.animator(model), image, driving, video, relative=bool(relative),
                side_by_side=bool(side_by_side), save_motion=motion, style=style, watch=watch,
                num_frames=num_frames,
            )  # fmt: skip
            return Result(video, motion, plot.draw(read_motion(motion), sound), notices)

        return _told_briefly(follow(job, stop), image, driving)

    def listen(self, visit: Session, model: str, image: Any, chunk: Any, look: tuple) -> Live:
        """Takes a piece of sound from the microphone; the first one begins the stream.

        Raises:
          InputError: for what is missing or bad.
        """
        if visit.live is None:
            image = _upload(visit, image, "a portrait")
            style = self.style(*look)

            def open_stream():
                generator = self.shelf.generator(model)
                portrait = Portrait.open(image, generator.animator, style)
                return generator.stream(portrait.source.image), portrait.show

            visit.begin()
            visit.live = Live(open_stream, max_sec=self.max_sec)
        if chunk is not None:
            path = _upload(visit, chunk, "sound")
            visit.live.push(read_audio(path, stop_sec=self.max_sec))
        return visit.live

    def style(self, crop: Any, paste_back: Any, mark: Any) -> Style:
        """How portraits are cut and frames are shown."""
        text = self.mark if self.mark is not None else ("" if mark else None)
        return Style.parse(crop=str(crop), paste_back=bool(paste_back), mark=text)

    def _read_sound(self, path: str):
        sound = read_audio(path, stop_sec=self.max_sec + 1)
        if len(sound) > self.max_sec * SAMPLE_RATE_HZ:
            raise InputError(f"{path}: lasts longer than {self.max_sec:g} s; cut it")
        return sound

    def _count_frames(self, path: str) -> int:
        pictures = iterate_pictures(path, stop_sec=self.max_sec + 1, most_px=16)
        count = sum(1 for _ in pictures)
        if count > self.max_sec * FPS:
            raise InputError(f"{path}: lasts longer than {self.max_sec:g} s; cut it")
        return count


def _upload(visit: Session, file: Any, what: str) -> str:
    """The path of an uploaded file.

    Raises:
      InputError: where there is none.
    """
    path = file.get("path") if isinstance(file, dict) else None
    if not path:
        raise InputError(f"{what} is missing; upload one, or choose an example")
    visit.uploads.add(path)
    return path


def _told_briefly(updates: Iterator, *paths: str) -> Iterator:
    """Errors and notices call an uploaded file by its name, not by where it is kept."""
    brief = _shortener(*paths)
    try:
        for update in updates:
            if isinstance(update, Finished):
                notices = [brief(notice) for notice in update.result.notices]
                update = Finished(dataclasses.replace(update.result, notices=notices))
            yield update
    except InputError as error:
        raise InputError(brief(str(error))) from error


def _shortener(*paths: str) -> Callable[[str], str]:
    def brief(text: str) -> str:
        for path in paths:
            text = text.replace(path, as_path(path).name)
        return text

    return brief
