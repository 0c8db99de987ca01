"""Speech features in a process of their own, beside the loading of networks and rendering.

librosa and what it imports take seconds to start, and features a tenth of the speech's time. The
other process runs this file: it reads pieces of sound, each after its length as a number of four
bytes, and writes rows of features; a length of zero ends a recording. Where it is ahead of whoever
takes the rows, its full pipe holds it back, so that memory is constant in the length of the speech.
"""

import contextlib
import gc
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:  # The other process is started before what hears is loaded, here as there.
    import numpy as np

_LENGTH_BYTES = 4


class FeatureWorker:
    """Computes the "baseline" features of `SpeechFeatureExtractor` ahead of their use."""

    def __init__(self):
        """Starts the process, which loads what it needs without being waited for."""
        self._child, self._is_busy = self._start(), False

    def iterate(self, audio: "np.ndarray", *, num_frames: int) -> "Iterator[np.ndarray]":
        """See `SpeechFeatureExtractor.iterate`; starts at once, with one recording after the other.

        Raises:
          RuntimeError: where the process has ended before its work.
        """
        from gesture_jax.speech import extractor

        if self._is_busy:  # With a recording that somebody may still hold, but has left.
            self.close()
        if self._child.stdin.closed:
            self._child = self._start()
        self._is_busy = True
        pieces = extractor.split(audio, num_frames)
        feeder = threading.Thread(target=_feed, args=(self._child.stdin, pieces), daemon=True)
        feeder.start()
        return self._take(self._child, feeder, num_frames)

    def _take(
        self, child: subprocess.Popen, feeder: threading.Thread, num_frames: int
    ) -> "Iterator[np.ndarray]":
        import numpy as np

        from gesture_jax.speech import extractor

        size = extractor.BLOCK * extractor.NUM_FEATURES * np.dtype(np.float32).itemsize
        try:
            while num_frames > 0:
                data = child.stdout.read(size)
                if len(data) < size:
                    raise RuntimeError(f"the process that hears has ended, {child.wait()}")
                rows = np.frombuffer(data, np.float32).reshape(extractor.BLOCK, -1)[:num_frames]
                num_frames -= len(rows)
                yield rows
        finally:
            if child is self._child:
                self._is_busy = False
                if num_frames > 0:  # Of a recording that nobody wants any more rows are to come.
                    self.close()
            feeder.join()

    def close(self) -> None:
        """Ends the process."""
        self._child.kill()
        self._child.wait()
        for pipe in (self._child.stdin, self._child.stdout):
            with contextlib.suppress(BrokenPipeError):
                pipe.close()

    def __enter__(self) -> "FeatureWorker":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @staticmethod
    def _start() -> subprocess.Popen:
        command = [sys.executable, "-m", __name__]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def _feed(pipe: BinaryIO, pieces: "Iterable[np.ndarray]") -> None:
    with contextlib.suppress(BrokenPipeError, ValueError):  # Closed meanwhile.
        for piece in pieces:
            pipe.write(len(piece).to_bytes(_LENGTH_BYTES, "little") + piece.tobytes())
        pipe.write(bytes(_LENGTH_BYTES))
        pipe.flush()


def _main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # It ends with who started it,
    if hasattr(signal, "SIGPIPE"):  # and silently.
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    gc.set_threshold(100_000)  # As in `cli.run`.
    import numpy as np

    from gesture_jax.speech import extractor

    sound, features = sys.stdin.buffer, sys.stdout.buffer
    # Loads all that is needed.
    extractor.speech_features(np.random.default_rng(0).standard_normal(6_400).astype(np.float32))
    listener = extractor.StreamingFeatures()
    while length := sound.read(_LENGTH_BYTES):
        count = int.from_bytes(length, "little")
        if count == 0:
            listener = extractor.StreamingFeatures()
            continue
        piece = np.frombuffer(sound.read(4 * count), np.float32)
        features.write(listener.push(piece).tobytes())
        features.flush()


if __name__ == "__main__":
    _main()
