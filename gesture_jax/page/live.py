"""The live tab: sound from the microphone in, frames of a portrait that talks along out."""

import io
import queue
import threading
from collections.abc import Callable, Iterator

import numpy as np
from PIL import Image

from gesture_jax.errors import InputError
from gesture_jax.inference.rendering import METADATA
from gesture_jax.inference.stream import GestureStream
from gesture_jax.media.rates import FPS, SAMPLE_RATE_HZ, SAMPLES_PER_FRAME
from gesture_jax.media.sound import SILENT, is_silent
from gesture_jax.media.writer import write_video

# Frames are kept as JPEGs of this quality for the video at the end.
_QUALITY = 95


class Live:
    """One stream. `push` returns at once; a thread of its own generates the frames."""

    def __init__(
        self,
        open_stream: Callable[[], GestureStream],
        *,
        max_sec: float,
        shorten: Callable[[str], str] = str,
    ):
        """Starts the thread.

        Args:
          open_stream: called in the thread; it loads the model and encodes the portrait.
          max_sec: of sound; later sound is ignored.
          shorten: shortens paths in the messages for the visitor.
        """
        self._open_stream, self._shorten = open_stream, shorten
        self._notices: list[str] = []
        self._room = round(max_sec * SAMPLE_RATE_HZ)
        self._sound: list[np.ndarray] = []
        self._inbox: queue.Queue[np.ndarray | None] = queue.Queue()
        self._frames: list[bytes] = []
        self._shown = 0
        self._stopped = threading.Event()
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def push(self, sound: np.ndarray) -> None:
        """Takes the next [n] samples at 16 kHz.

        Raises:
          InputError: where the stream has failed.
        """
        self._check()
        sound = sound[: self._room]
        self._room -= len(sound)
        if len(sound):
            self._sound.append(sound)
            self._inbox.put(sound)

    def next_frames(self) -> bytes | None:
        """The frames that are new since the last call, as a WebP animation; None without any."""
        ready = self._frames[self._shown :]
        self._shown += len(ready)
        return _animation(ready) if ready else None

    @property
    def seconds(self) -> tuple[float, float]:
        """Seconds of sound that has arrived, and of frames that are ready."""
        heard = sum(map(len, self._sound)) / SAMPLE_RATE_HZ
        return heard, len(self._frames) / FPS

    @property
    def notices(self) -> list[str]:
        """Sentences that the user should read, after `finish`."""
        silent = is_silent(np.concatenate(self._sound)) if self._sound else False
        return [*([f"the recording {SILENT}"] if silent else []), *self._notices]

    def finish(self) -> Iterator[tuple[float, float]]:
        """Ends the stream; yields `seconds` until all frames are ready.

        Raises:
          InputError: where the stream has failed.
        """
        self._inbox.put(None)
        while self._thread.is_alive():
            self._thread.join(timeout=0.25)
            yield self.seconds
        self._check()

    def write(self, path: str) -> None:
        """Writes the video with its sound, after `finish`.

        Raises:
          InputError: where no sound has arrived.
        """
        if not self._frames:
            raise InputError("nothing was heard; allow the page to use the microphone, and talk")
        audio = np.concatenate(self._sound)[: len(self._frames) * SAMPLES_PER_FRAME]
        write_video(path, map(_decode, self._frames), audio=audio, metadata=METADATA)

    def stop(self) -> None:
        """Ends the thread, and drops the frames that are still to come."""
        self._stopped.set()
        self._inbox.put(None)

    def _check(self) -> None:
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            stream = self._open_stream()
            self._notices = [self._shorten(notice) for notice in stream.notices]
            while (sound := self._inbox.get()) is not None:
                self._keep(stream.push(sound))
            self._keep(stream.finish())
        except InputError as error:
            self._error = InputError(self._shorten(str(error)))
        except Exception as error:  # The next call raises it.
            self._error = error

    def _keep(self, frames: np.ndarray) -> None:
        for frame in frames:
            if self._stopped.is_set():
                return
            file = io.BytesIO()
            Image.fromarray(frame).save(file, "jpeg", quality=_QUALITY, subsampling=0)
            self._frames.append(file.getvalue())


def _animation(frames: list[bytes]) -> bytes:
    first, *others = [Image.open(io.BytesIO(frame)) for frame in frames]
    file = io.BytesIO()
    duration = 1000 // FPS
    first.save(
        file, "webp", save_all=True, append_images=others, duration=duration, loop=1, quality=90,
        method=0,
    )  # fmt: skip
    return file.getvalue()


def _decode(frame: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(frame)))
