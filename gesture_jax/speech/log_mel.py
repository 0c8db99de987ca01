"""Log-mel speech features, which depend on no sound after their own video frame.

A row has 129 values: four spectra of 32 mel bands, one every 10 ms, in the order of time; and how
loud another person is who talks to the portrait. A spectrum is that of a Hann window of 25 ms, and
the last one of a row ends where the video frame ends. The bands are in decibels relative to a
running level, which follows a louder frame at once and falls by 1.5 dB per second otherwise, so
that the distance from the microphone hardly matters. All values are of order one.
"""

import functools
from typing import TYPE_CHECKING

import numpy as np

from gesture_jax.errors import InputError
from gesture_jax.media.rates import SAMPLE_RATE_HZ, SAMPLES_PER_FRAME
from gesture_jax.speech import spectrum

if TYPE_CHECKING:  # It loads JAX, which the features do not need.
    from gesture_jax.array_types import Audio

NUM_BANDS, SPECTRA_PER_FRAME = 32, 4
NUM_FEATURES = NUM_BANDS * SPECTRA_PER_FRAME + 1
_WINDOW, _HOP, _FFT = 400, SAMPLES_PER_FRAME // SPECTRA_PER_FRAME, 512
# Samples before a frame that its first window reads.
_BEFORE = _WINDOW - _HOP
_LOW_HZ, _HIGH_HZ = 60.0, 7_600.0
_MIN_POWER = 1e-10
# The running level, in dB relative to full scale.
_FIRST_LEVEL_DB, _MIN_LEVEL_DB, _RELEASE_DB = -25.0, -45.0, 0.06
# The range of a band relative to the level, and the decibels that become a difference of one.
_LOWEST_DB, _HIGHEST_DB, _UNIT_DB = -60.0, 10.0, 20.0
# The other person is inaudible this far below the running level of what that person says.
_OTHER_RANGE_DB = 40.0


def is_silent(rows: np.ndarray) -> np.ndarray:
    """Returns in which rows [t, 129] the speech is digital silence, as behind a gate: [t] bool."""
    return (rows[:, :-1] <= _LOWEST_DB / _UNIT_DB).all(axis=1)


class StreamingLogMel:
    """Computes log-mel features of a live stream; how it is cut into chunks changes nothing.

    Attributes:
      delay: number of frames of later sound that a row may wait for; none.
    """

    delay = 0

    def __init__(self):
        self._sound, self._other = _FrameBuffer(), _FrameBuffer()
        self._level_db = self._other_level_db = _FIRST_LEVEL_DB

    def push(self, sound: "Audio", other: "Audio | None" = None) -> np.ndarray:
        """Takes the next samples and returns the rows of all frames that they complete.

        Args:
          sound: [n] float32, mono, 16 kHz: what the portrait says.
          other: [n] of the same kind: what another person says meanwhile; None for silence.

        Returns:
          [t, 129] float32.

        Raises:
          InputError: for samples that are not finite, or where the lengths differ.
        """
        sound = np.asarray(sound, np.float32)
        other = np.zeros_like(sound) if other is None else np.asarray(other, np.float32)
        if len(sound) != len(other):
            raise InputError(
                f"the other person's sound has {len(other)} samples, the speech {len(sound)}; "
                "both have to be equally long"
            )
        if not (np.isfinite(sound).all() and np.isfinite(other).all()):
            raise InputError("the speech has samples that are not finite numbers")
        pieces = zip(self._sound.push(sound), self._other.push(other), strict=True)
        rows = [self._row(piece, other_piece) for piece, other_piece in pieces]
        return np.array(rows, np.float32).reshape(-1, NUM_FEATURES)

    def _row(self, piece: "Audio", other_piece: "Audio") -> np.ndarray:
        power = _band_power(piece)
        self._level_db = _follow(self._level_db, _loudness_db(power))
        bands = np.clip(_decibels(power) - self._level_db, _LOWEST_DB, _HIGHEST_DB) / _UNIT_DB
        other_db = _loudness_db(_band_power(other_piece)) if other_piece.any() else -np.inf
        self._other_level_db = _follow(self._other_level_db, other_db)
        other = 1.0 + (other_db - self._other_level_db) / _OTHER_RANGE_DB
        return np.append(bands, np.clip(other, 0.0, 1.0))


class _FrameBuffer:
    """Cuts a stream into frames, each with the samples before it that its spectra read."""

    def __init__(self):
        self._waiting = np.zeros(_BEFORE, np.float32)

    def push(self, sound: "Audio") -> list[np.ndarray]:
        """Takes [n] samples; returns the frames that are complete, [880] each."""
        sound = np.concatenate([self._waiting, sound])
        count = (len(sound) - _BEFORE) // SAMPLES_PER_FRAME
        starts = range(0, count * SAMPLES_PER_FRAME, SAMPLES_PER_FRAME)
        self._waiting = sound[count * SAMPLES_PER_FRAME :]
        return [sound[start : start + _BEFORE + SAMPLES_PER_FRAME] for start in starts]


def _band_power(piece: "Audio") -> np.ndarray:
    """The power in each band of the spectra of one frame, [4, 32].

    All bands together have the mean square of the sound between 60 Hz and 7.6 kHz.
    """
    windows = np.lib.stride_tricks.sliding_window_view(piece, _WINDOW)[::_HOP]
    window = spectrum.hann(_WINDOW)
    spectra = np.fft.rfft(windows * window, _FFT)
    power = np.square(spectra.real) + np.square(spectra.imag)
    return power @ _triangles() * (2.0 / (_FFT * np.square(window).sum()))


@functools.cache
def _triangles() -> np.ndarray:
    """The weight of each bin of a spectrum in each band, [257, 32]; a triangle is 1 at its top."""
    edges = spectrum.mel_edges(NUM_BANDS, low_hz=_LOW_HZ, high_hz=_HIGH_HZ)
    hz, widths = np.fft.rfftfreq(_FFT, 1 / SAMPLE_RATE_HZ)[:, None], np.diff(edges)
    rising, falling = (hz - edges[:-2]) / widths[:-1], (edges[2:] - hz) / widths[1:]
    return np.maximum(np.minimum(rising, falling), 0.0)


def _decibels(power: np.ndarray) -> np.ndarray:
    return 10.0 * np.log10(np.maximum(power, _MIN_POWER))


def _loudness_db(power: np.ndarray) -> float:
    return float(_decibels(power.sum(axis=1).mean()))


def _follow(level_db: float, loudness_db: float) -> float:
    """The running level after one more frame."""
    return max(loudness_db, level_db - _RELEASE_DB, _MIN_LEVEL_DB)
