"""Python, the commands, streams and the page make the same frames from a portrait and speech."""

import gc

import numpy as np
import pytest

from gesture_jax.errors import InputError
from gesture_jax.inference import pipeline
from gesture_jax.inference.animator import Animator
from gesture_jax.inference.generator import GestureGenerator
from gesture_jax.inference.manifest import Request
from gesture_jax.inference.portraits import Style
from gesture_jax.media import images
from gesture_jax.media.motion_files import read_motion, write_motion
from gesture_jax.media.sound import read_audio
from gesture_jax.media.video import iterate_pictures
from gesture_jax.media.writer import write_audio
from gesture_jax.page.handlers import Handlers
from gesture_jax.page.model_cache import ModelCache, NamedModel
from gesture_jax.page.sessions import Session
from gesture_jax.procedural import speaker
from tests import tiny
from tests.inference.prefetch_test import assert_no_threads_but, threads

pytestmark = pytest.mark.usefixtures("quickly_compiled")

_SCHEDULE = {"hop": 18, "look_ahead": 10, "blend": 4, "candidates": 2}
_STYLES = {
    "plain": Style(),
    "pasted and marked": Style(crop="24,8,48", paste_back=True, watermark="ours"),
    "auto and marked": Style(crop="auto", watermark="AI"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pipeline")
    tiny.moving_stages(folder)
    picture = np.full((72, 96, 3), 200, np.uint8)
    picture[8:56, 24:72] = speaker.portrait(identity=1, size=48)
    images.write_image(folder / "p.png", picture)
    done = speaker.perform(identity=0, seed=1, duration_sec=2.0, size=16)
    write_audio(folder / "s.wav", done.audio, 16_000)
    return folder


@pytest.fixture(scope="module")
def generator(folder):
    return GestureGenerator.load(stage1=folder / "stage1", stage2=folder / "stage2")


def _request(folder, **files) -> Request:
    paths = {"image": "p.png", "audio": "s.wav", "out": "v.mp4", **files}
    return Request(**{name: str(folder / path) for name, path in paths.items()}, seed=3)


def _write(generator, request, style, options=None) -> tuple[np.ndarray, list[str]]:
    """The frames on their way to the encoder, and the notices."""
    frames = []

    def watch(passing, total):
        for frame in passing:
            frames.append(frame)
            yield frame
        assert len(frames) == total

    notices = pipeline.write_request(generator.animator, generator, request, style, watch, options)
    return np.stack(frames), notices


@pytest.mark.parametrize("name", _STYLES)
def test_clips_files_and_streams_have_the_same_frames(folder, generator, name):
    style = _STYLES[name]
    options = generator.options(schedule=_SCHEDULE, stream_schedule=_SCHEDULE)
    path, speech = str(folder / "p.png"), read_audio(folder / "s.wav")
    clip = generator.generate(path, speech, 16_000, style=style, seed=3, options=options)
    assert len(clip.frames) == 50 and np.ptp(clip.frames.astype(int), axis=0).max() > 20

    of_array = generator.generate(
        images.load_image(path), speech, 16_000, style=style, seed=3, options=options
    )
    np.testing.assert_array_equal(of_array.frames, clip.frames)

    request = _request(folder, save_motion="m.npz")
    written, notices = _write(generator, request, style, options)
    np.testing.assert_array_equal(written, clip.frames)
    np.testing.assert_array_equal(read_motion(request.save_motion), clip.motion)
    assert [notice.replace(str(folder / "s.wav"), "the speech") for notice in notices] == list(
        clip.notices
    )
    assert len(list(iterate_pictures(request.out))) == len(clip.frames)

    stream = generator.stream(path, style=style, seed=3, options=options)
    chunks = [stream.push(speech[k : k + 3_000]) for k in range(0, len(speech), 3_000)]
    streamed = np.concatenate([*chunks, stream.finish()])
    np.testing.assert_array_equal(streamed, clip.frames)
    assert set(stream.notices) <= set(clip.notices)


def test_saved_motion_gives_the_same_frames(folder, generator):
    """Where windows are whole batches, as their motion is rendered batch after batch."""
    options = generator.options(schedule={**_SCHEDULE, "hop": 20})
    first, _ = _write(generator, _request(folder, save_motion="k.npz"), Style(), options)
    again, _ = _write(generator, _request(folder, motion="k.npz", out="w.mp4"), Style())
    np.testing.assert_array_equal(again, first)


def test_saved_motion_may_hold_the_lips(folder, generator):
    """Stage 1 without pixels of the portrait does not use them."""
    first, _ = _write(generator, _request(folder, save_motion="l.npz"), Style())
    motion, portrait = read_motion(folder / "l.npz"), np.zeros((16, 16, 3), np.uint8)
    assert read_motion(folder / "l.npz", "lips", optional=True).shape == (0, 0)
    lips = np.linspace(0, 1, 100, dtype=np.float32).reshape(50, 2)
    write_motion(folder / "l.npz", motion, portrait, lips)
    np.testing.assert_array_equal(read_motion(folder / "l.npz", "lips"), lips)
    plain, _ = _write(generator, _request(folder, motion="l.npz", out="l.mp4"), Style())
    assert plain.shape == first.shape
    write_motion(folder / "l.npz", motion, portrait, lips[1:])
    with pytest.raises(InputError, match="lips has another size than is wanted"):
        _write(generator, _request(folder, motion="l.npz", out="l.mp4"), Style())


class _CountingAnimator(Animator):
    """Counts the portraits that it encodes."""

    num_encoded = 0

    def encode_source(self, image, *, size=None):
        self.num_encoded += 1
        return super().encode_source(image, size=size)


def test_each_video_encodes_its_portrait_once(folder):
    """In Python, for a request, in a stream, and for the page's microphone."""
    animator = _CountingAnimator.load(folder / "stage1")
    generator = GestureGenerator.load(stage1=animator, stage2=folder / "stage2")
    path, speech = str(folder / "p.png"), read_audio(folder / "s.wav")[:16_000]
    models = ModelCache([NamedModel("m", str(folder / "stage1"), str(folder / "stage2"))])
    models._animators["m"] = animator

    def speak_into_the_page():
        handlers = Handlers(models, max_sec=10.0)
        session = Session(folder / "sessions")
        chunk = {"path": str(folder / "s.wav")}
        live = handlers.listen(session, "m", ({"path": path}, None), chunk, ("center", True, True))
        handlers.listen(session, "m", ({"path": path}, None), chunk, ("center", True, True))
        *_, (heard, shown) = live.finish()
        assert heard == 4.0 and shown == 4.0

    ways = [
        lambda: generator.generate(path, speech, 16_000),
        lambda: pipeline.write_request(animator, generator, _request(folder)),
        lambda: generator.stream(path).finish(),
        speak_into_the_page,
    ]
    for count, make in enumerate(ways, start=1):
        make()
        assert animator.num_encoded == count


def test_a_dropped_rendering_leaves_no_thread(folder, generator):
    before = threads()
    speech = np.tile(read_audio(folder / "s.wav"), 30)
    rendering = generator.render(folder / "p.png", speech)
    frames = rendering.frames()
    assert next(frames).shape == next(frames).shape == (16, 16, 3)
    assert threads() - before
    del rendering, frames
    gc.collect()
    assert_no_threads_but(before)


def test_a_bad_portrait_leaves_no_thread(folder, generator):
    before = threads()
    with pytest.raises(InputError, match=r"none\.png: no such file"):
        generator.render(folder / "none.png", read_audio(folder / "s.wav"))
    gc.collect()
    assert_no_threads_but(before)
