"""What the page's buttons do: uploads in, videos out, and a sentence for bad input.

Arguments arrive unchecked, as browsers send them: files as dicts with a path, of which Gradio has
made sure that it is one of its uploads, and numbers as anything.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from gesture_jax.checkpoint import packed
from gesture_jax.errors import InputError
from gesture_jax.inference import pipeline
from gesture_jax.inference.avatar import check_path
from gesture_jax.inference.manifest import Request
from gesture_jax.inference.pipeline import Watch
from gesture_jax.inference.portraits import Style
from gesture_jax.media.motion_files import read_motion
from gesture_jax.media.rates import FPS, SAMPLE_RATE_HZ
from gesture_jax.media.sound import has_audio, read_audio
from gesture_jax.media.video import iterate_pictures
from gesture_jax.page import making, plot
from gesture_jax.page.jobs import Finished, Progress, follow
from gesture_jax.page.live import Live
from gesture_jax.page.model_cache import ModelCache
from gesture_jax.page.sessions import Session
from gesture_jax.page.settings import sections
from gesture_jax.storage.files import as_path


@dataclasses.dataclass(frozen=True)
class Result:
    """A finished video.

    Attributes:
      video: path of the mp4.
      motion: path of the .npz.
      svg: a plot of the motion against the sound.
      notices: sentences that the user should read.
    """

    video: str
    motion: str
    svg: str
    notices: list[str]


@dataclasses.dataclass(frozen=True)
class Handlers:
    """Handles the requests of visitors.

    Attributes:
      models: the models that can be chosen.
      max_sec: longest speech or driving video that is accepted.
      watermark: the text that is drawn on every video; None leaves the choice to visitors.
    """

    models: ModelCache
    max_sec: float
    watermark: str | None = None

    def talk(
        self, session: Session, model: str, portrait: tuple, audio: Any, style_values: tuple,
        seed: Any, speaker: str | None, sampler: str, *values: Any,
    ) -> Iterator[Progress | Finished[Result]]:  # fmt: skip
        """Makes a video from a portrait and speech.

        Args:
          session: the visitor's session.
          model: name of the model.
          portrait: the uploaded picture, and the uploaded avatar that may replace it.
          audio: the uploaded speech.
          style_values: the arguments of `style`.
          seed: of the noise.
          speaker: whose manner of moving, where the model knows several speakers.
          sampler: name of the sampler.
          *values: of `settings.SETTINGS`.

        Raises:
          InputError: for a missing upload or a bad value.
        """
        image, audio = _portrait(session, portrait), _upload(session, audio, "speech")
        style, changes = self.style(*style_values), sections(list(values), sampler)
        if not isinstance(seed, int) or isinstance(seed, bool):
            raise InputError("the seed has to be a whole number")
        folder, stop = session.begin()
        video, motion = str(folder / "video.mp4"), str(folder / "motion.npz")
        request = Request(
            image, audio, video, seed=seed, speaker=speaker or None, save_motion=motion
        )

        def job(watch: Watch) -> Result:
            sound = self._read_sound(audio)
            generator = self.models.generator(_model_of(image, model))
            options = generator.options(**changes)
            notices = pipeline.write_request(
                generator.animator, generator, request, style, watch, options
            )
            return Result(video, motion, plot.draw(read_motion(motion), sound), notices)

        return _with_short_names(follow(job, stop), image, audio)

    def animate(
        self, session: Session, model: str, portrait: tuple, driving: Any, style_values: tuple,
        relative: Any, side_by_side: Any,
    ) -> Iterator[Progress | Finished[Result]]:  # fmt: skip
        """Makes a video from a portrait and a driving video; for the arguments see `talk`.

        Raises:
          InputError: for a missing upload or a bad value.
        """
        image, driving = _portrait(session, portrait), _upload(session, driving, "a video")
        style = self.style(*style_values)
        folder, stop = session.begin()
        video, motion = str(folder / "video.mp4"), str(folder / "motion.npz")

        def job(watch: Watch) -> Result:
            num_frames = self._count_frames(driving)
            sound = self._read_sound(driving) if has_audio(driving) else None
            notices = pipeline.animate(
                self.models.animator(_model_of(image, model)), image, driving, video,
                relative=bool(relative), side_by_side=bool(side_by_side), save_motion=motion,
                style=style, watch=watch, num_frames=num_frames,
            )  # fmt: skip
            return Result(video, motion, plot.draw(read_motion(motion), sound), notices)

        return _with_short_names(follow(job, stop), image, driving)

    def listen(
        self, session: Session, model: str, portrait: tuple, chunk: Any, style_values: tuple
    ) -> Live:
        """Takes a chunk of sound from the microphone; the first one starts the stream.

        Raises:
          InputError: for a missing upload or a bad value.
        """
        if session.live is None:
            image = _portrait(session, portrait)
            style, name = self.style(*style_values), _model_of(image, model)
            open_stream = lambda: self.models.generator(name).stream(image, style=style)
            session.begin()
            session.live = Live(open_stream, max_sec=self.max_sec, shorten=_shortener(image))
        if chunk is not None:
            path = _upload(session, chunk, "sound")
            session.live.push(read_audio(path, stop_sec=self.max_sec))
        return session.live

    def personalize(
        self, session: Session, image: Any, video: Any, consent: Any
    ) -> Iterator[Progress | Finished[str]]:
        """Makes an avatar, whose path is the result.

        Args:
          session: the visitor's session.
          image: the uploaded portrait.
          video: the uploaded video, instead of it.
          consent: whether the visitor confirms that the person agreed.

        Raises:
          InputError: for a missing upload or consent, or where nobody suitable is found.
        """
        if (image is None) == (video is None):
            raise InputError("give a portrait or a video, one of them")
        flag = "image" if video is None else "video"
        path = _upload(session, image or video, "a portrait or a video")
        if consent is not True:
            raise InputError("confirm that the person who is shown agreed to become an avatar")
        folder, stop = session.begin()
        job = functools.partial(making.make_avatar, flag, path, folder / "avatar", stop)
        return _with_short_names(follow(job, stop), path)

    def style(self, crop: Any, paste_back: Any, watermark: Any) -> Style:
        """How portraits are cropped and frames are shown, from the values of the controls."""
        text = self.watermark if self.watermark is not None else ("" if watermark else None)
        return Style(crop=str(crop), paste_back=bool(paste_back), watermark=text)

    def _read_sound(self, path: str) -> np.ndarray:
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


def _upload(session: Session, file: Any, name: str) -> str:
    """The path of an uploaded file.

    Raises:
      InputError: where there is none.
    """
    path = file.get("path") if isinstance(file, dict) else None
    if not path:
        raise InputError(f"{name} is missing; upload one, or choose an example")
    session.uploads.add(path)
    return path


def _portrait(session: Session, portrait: tuple) -> str:
    """The path of the avatar, if there is one, or else of the portrait."""
    image, avatar = portrait
    if avatar is None:
        return _upload(session, image, "a portrait")
    path = _upload(session, avatar, "an avatar")
    check_path(path)
    return path


def _model_of(image: str, model: str) -> str:
    """The model of an uploaded avatar, which is the file itself; or the model that was chosen.

    Raises:
      InputError: for a chosen model that is a file: visitors may only load what they uploaded.
    """
    if packed.is_avatar(image):
        return image
    if packed.is_avatar(model):
        raise InputError("no such model; choose one from the list")
    return model


def _with_short_names(updates: Iterator, *paths: str) -> Iterator:
    """Replaces the paths of uploaded files by their names, in errors and notices."""
    shorten = _shortener(*paths)
    try:
        for update in updates:
            if isinstance(update, Finished):
                update = Finished(_shorten_notices(update.result, shorten))
            yield update
    except InputError as error:
        raise InputError(shorten(str(error))) from error


def _shorten_notices(result: Any, shorten: Callable[[str], str]) -> Any:
    if not isinstance(result, Result):
        return result
    return dataclasses.replace(result, notices=[shorten(notice) for notice in result.notices])


def _shortener(*paths: str) -> Callable[[str], str]:
    def shorten(text: str) -> str:
        for path in paths:
            text = text.replace(path, as_path(path).name)
        return text

    return shorten
