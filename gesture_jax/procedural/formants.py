"""Synthesises speech-like sound: syllables with pitch, formants, stress and pauses.

It needs nothing but NumPy. Its consonants are hardly audible; `espeak.py` makes real speech.
"""

import dataclasses

import numpy as np

from gesture_jax.media.rates import SAMPLE_RATE_HZ
from gesture_jax.procedural.identity import Voice
from gesture_jax.procedural.talk import Talk, draw_pause
from gesture_jax.speech.phones import Phone

# First three formants in Hz of five vowels.
_VOWELS = {
    "a": (730, 1180, 2500),
    "e": (520, 1850, 2500),
    "i": (300, 2250, 2950),
    "o": (480, 870, 2400),
    "u": (320, 800, 2300),
}
_BANDWIDTHS_HZ = (80.0, 110.0, 160.0)
_MAX_HZ = 4500.0
_GLIDE_SEC = 0.03
_STRESS_GAIN = 1.8
# Consonants, and the phones that they resemble.
_SYMBOLS = {"none": "", "burst": "p", "hiss": "s", "hum": "m"}
_ONSET_SEC = 0.05


@dataclasses.dataclass(frozen=True)
class Syllable:
    """A syllable, with times in seconds and a gain of about 1 where it is not stressed."""

    start: float
    length: float
    vowel: str
    consonant: str
    stressed: bool
    gain: float

    @property
    def peak(self) -> float:
        """The time at which it is loudest."""
        return self.start + 0.45 * self.length

    @property
    def phones(self) -> list[Phone]:
        """Its consonant, if there is one, and its vowel."""
        end = self.start + self.length
        symbol = _SYMBOLS[self.consonant]
        onset = self.start + (_ONSET_SEC if symbol else 0.0)
        vowel = Phone(self.vowel, onset, end, self.stressed)
        return [Phone(symbol, self.start, onset), vowel] if symbol else [vowel]


def synthesise(voice: Voice, *, rng: np.random.Generator, duration: float) -> Talk:
    """Synthesises made-up speech with formants.

    Args:
      voice: the voice.
      rng: source of randomness.
      duration: length in seconds.
    """
    syllables = _plan(voice, rng, duration)
    time = np.arange(round(duration * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    envelope, formants = _tracks(voice, syllables, time)
    audio = _voiced(_pitch(voice, syllables, time, rng), formants, envelope)
    audio += _consonants(syllables, time, rng)
    stressed = [s for s in syllables if s.stressed and s.peak < duration]
    return Talk(
        audio=audio / max(np.abs(audio).max(), 1e-9),
        phones=[phone for syllable in syllables for phone in syllable.phones],
        stresses=[(s.peak, s.gain / _STRESS_GAIN) for s in stressed],
    )


def _plan(voice: Voice, rng: np.random.Generator, duration: float) -> list[Syllable]:
    """Plans phrases of syllables, with pauses between the phrases."""
    syllables = []
    now = rng.uniform(0.1, 0.45)
    while now < duration - 0.1:
        to_stress = int(rng.integers(0, 2))
        phrase_end = now + rng.uniform(1.3, 3.0)
        while now < min(phrase_end, duration - 0.1):
            stressed = to_stress <= 0
            length = voice.syllable_sec * rng.uniform(0.8, 1.2) * (1.45 if stressed else 1.0)
            vowel = str(
                rng.choice(list(_VOWELS), p=(0.55, 0.2, 0.05, 0.15, 0.05) if stressed else None)
            )
            consonant = str(rng.choice(list(_SYMBOLS)))
            gain = _STRESS_GAIN * rng.uniform(0.8, 1.25) if stressed else rng.uniform(0.6, 0.95)
            syllables.append(Syllable(now, length, vowel, consonant, stressed, float(gain)))
            to_stress = (
                round(voice.stress_every + rng.uniform(-1.2, 1.2)) if stressed else to_stress
            )
            to_stress -= 1
            now += length
        now += draw_pause(rng)
    return syllables


def _shape(syllable: Syllable, time: np.ndarray) -> np.ndarray:
    """Returns an envelope that rises fast and falls slowly over a syllable, zero outside."""
    phase = np.clip((time - syllable.start) / syllable.length, 0.0, 1.0)
    return np.sin(np.pi * phase**0.87) ** 0.8


def _tracks(
    voice: Voice, syllables: list[Syllable], time: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns loudness [n] and gliding formants [3, n] in Hz."""
    envelope = np.zeros(len(time))
    for syllable in syllables:
        span = slice(*np.searchsorted(time, [syllable.start, syllable.start + syllable.length]))
        envelope[span] = syllable.gain * _shape(syllable, time[span])
    if not syllables:
        return envelope, np.repeat([[500.0], [1500.0], [2500.0]], len(time), axis=1)
    knots, targets = [], []
    for syllable in syllables:
        end = syllable.start + syllable.length
        knots += [
            syllable.start + _GLIDE_SEC,
            max(end - _GLIDE_SEC, syllable.start + 2 * _GLIDE_SEC),
        ]
        targets += [_VOWELS[syllable.vowel]] * 2
    formants = [np.interp(time, knots, column) / voice.tract for column in np.transpose(targets)]
    return envelope, np.stack(formants)


def _pitch(
    voice: Voice, syllables: list[Syllable], time: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Returns the pitch [n] in Hz, which falls over a phrase, rises on stress and wavers."""
    pitch = np.full(len(time), 1.0)
    phrase_start = None
    for index, syllable in enumerate(syllables):
        before = syllables[index - 1] if index else None
        if before is None or syllable.start - before.start - before.length > 0.2:
            phrase_start = syllable.start
        span = slice(*np.searchsorted(time, [syllable.start, syllable.start + syllable.length]))
        fall = 1.08 - 0.09 * (time[span] - phrase_start)
        rise = 0.22 * _shape(syllable, time[span]) * (syllable.gain / _STRESS_GAIN)
        pitch[span] = fall + (rise if syllable.stressed else 0.0)
    waver = np.interp(time, np.arange(0, time[-1] + 0.2, 0.1), _steps(rng, time[-1] + 0.2, 0.1))
    width = round(0.03 * SAMPLE_RATE_HZ)
    smooth = np.convolve(np.pad(pitch, width, mode="edge"), np.ones(width) / width, "same")[
        width:-width
    ]
    return voice.pitch_hz * (smooth + 0.02 * waver)


def _steps(rng: np.random.Generator, end: float, step: float) -> np.ndarray:
    return rng.standard_normal(len(np.arange(0, end, step)))


def _voiced(pitch: np.ndarray, formants: np.ndarray, envelope: np.ndarray) -> np.ndarray:
    """Sums the harmonics of the pitch, weighted by the formants (source-filter synthesis)."""
    phase = 2 * np.pi * np.cumsum(pitch) / SAMPLE_RATE_HZ
    audible = np.flatnonzero(envelope > 1e-4)
    audio = np.zeros(len(pitch))
    f0, tract, angle = pitch[audible], formants[:, audible], phase[audible]
    for harmonic in range(1, int(_MAX_HZ / max(pitch.min(), 40.0)) + 1):
        frequency = harmonic * f0
        gain = sum(
            weight / (1.0 + ((frequency - centre) / width) ** 2)
            for weight, centre, width in zip((1.0, 0.6, 0.3), tract, _BANDWIDTHS_HZ, strict=True)
        )
        # The source falls by 3 dB per octave, and ends below half the sampling rate.
        gain = (gain + 0.02) / harmonic**0.5 * (frequency < _MAX_HZ)
        audio[audible] += gain * np.sin(harmonic * angle)
    return audio * envelope


def _consonants(
    syllables: list[Syllable], time: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Synthesises consonants as short noises at the starts of syllables."""
    audio = np.zeros(len(time))
    for syllable in syllables:
        if syllable.consonant in ("none", "hum"):
            continue
        length = 0.02 if syllable.consonant == "burst" else 0.06
        start = syllable.start - length / 2
        span = slice(*np.searchsorted(time, [start, start + length]))
        noise = np.diff(rng.standard_normal(span.stop - span.start + 1))  # Mostly high frequencies.
        window = np.hanning(len(noise)) if len(noise) else noise
        audio[span] += 0.12 * syllable.gain * noise * window
    return audio
