"""Speech-like sound: syllables with pitch, formants, stress and pauses, by additive synthesis."""

import dataclasses

import numpy as np

from gesture_jax.media.rates import FPS, SAMPLE_RATE_HZ
from gesture_jax.procedural.identity import Voice

# First three formants in Hz of five vowels, and how open and how wide a mouth makes them.
_VOWELS = {
    "a": ((730, 1180, 2500), 1.0, 0.6),
    "e": ((520, 1850, 2500), 0.6, 0.9),
    "i": ((300, 2250, 2950), 0.35, 1.0),
    "o": ((480, 870, 2400), 0.75, 0.2),
    "u": ((320, 800, 2300), 0.4, 0.0),
}
_BANDWIDTHS_HZ = (80.0, 110.0, 160.0)
_HIGHEST_HZ = 4500.0
_GLIDE_SEC = 0.03
_STRESS_GAIN = 1.8
_CONSONANTS = ("none", "burst", "hiss", "hum")


@dataclasses.dataclass(frozen=True)
class Syllable:
    """One syllable: times in seconds, gain 1 for unstressed."""

    start: float
    length: float
    vowel: str
    consonant: str
    stressed: bool
    gain: float

    @property
    def peak(self) -> float:
        """Where it is loudest."""
        return self.start + 0.45 * self.length


@dataclasses.dataclass(frozen=True)
class Speech:
    """Sound and what is known of it.

    Attributes:
      audio: [640 t] float32, 16 kHz, peak 0.7.
      stress_times_sec: [s] float32.
      stress_gains: [s] float32, how strong each is; 1 on average.
      mouth_open: [t] in 0 to 1, a value a video frame.
      mouth_wide: [t] in 0 to 1.
      speaking: [t] in 0 to 1: 0 in pauses.
    """

    audio: np.ndarray
    stress_times_sec: np.ndarray
    stress_gains: np.ndarray
    mouth_open: np.ndarray
    mouth_wide: np.ndarray
    speaking: np.ndarray


def speak(voice: Voice, *, seed: int, num_frames: int) -> Speech:
    """Says something that lasts `num_frames` video frames."""
    rng = np.random.default_rng([31337, seed])
    duration = num_frames / FPS
    syllables = _plan(voice, rng, duration)
    time = np.arange(num_frames * SAMPLE_RATE_HZ // FPS) / SAMPLE_RATE_HZ
    envelope, formants = _tracks(voice, syllables, time)
    audio = _voiced(_pitch(voice, syllables, time, rng), formants, envelope)
    audio += _consonants(syllables, time, rng)
    audio += 0.002 * rng.standard_normal(len(audio))  # The room.
    peak = max(np.abs(audio).max(), 1e-9)
    frame_time = np.arange(num_frames) / FPS
    stressed = [s for s in syllables if s.stressed and s.peak < duration]
    bump = lambda value: _bumps(syllables, frame_time, value)
    return Speech(
        audio=(0.7 * audio / peak).astype(np.float32) if syllables else audio.astype(np.float32),
        stress_times_sec=np.array([s.peak for s in stressed], np.float32),
        stress_gains=np.array([s.gain / _STRESS_GAIN for s in stressed], np.float32),
        mouth_open=np.minimum(bump(lambda s: _VOWELS[s.vowel][1] * min(s.gain, 1.6) / 1.4), 1.0),
        mouth_wide=bump(lambda s: _VOWELS[s.vowel][2]),
        speaking=np.minimum(bump(lambda s: 1.5), 1.0),
    )


def _plan(voice: Voice, rng: np.random.Generator, duration: float) -> list[Syllable]:
    """Phrases of syllables with a pause between them."""
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
            consonant = str(rng.choice(_CONSONANTS))
            gain = _STRESS_GAIN * rng.uniform(0.8, 1.25) if stressed else rng.uniform(0.6, 0.95)
            syllables.append(Syllable(now, length, vowel, consonant, stressed, float(gain)))
            to_stress = (
                round(voice.stress_every + rng.uniform(-1.2, 1.2)) if stressed else to_stress
            )
            to_stress -= 1
            now += length
        now += rng.uniform(0.4, 0.95)
    return syllables


def _shape(syllable: Syllable, time: np.ndarray) -> np.ndarray:
    """0 to 1 to 0 over a syllable, rising fast and falling slowly, zero outside."""
    phase = np.clip((time - syllable.start) / syllable.length, 0.0, 1.0)
    return np.sin(np.pi * phase**0.87) ** 0.8


def _bumps(syllables: list[Syllable], time: np.ndarray, value) -> np.ndarray:
    track = np.zeros(len(time))
    for syllable in syllables:
        track = np.maximum(track, value(syllable) * _shape(syllable, time))
    return track


def _tracks(
    voice: Voice, syllables: list[Syllable], time: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Loudness [n] and gliding formants [3, n] in Hz."""
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
        targets += [_VOWELS[syllable.vowel][0]] * 2
    formants = [np.interp(time, knots, column) / voice.tract for column in np.transpose(targets)]
    return envelope, np.stack(formants)


def _pitch(
    voice: Voice, syllables: list[Syllable], time: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Falls over a phrase, rises on stress, wavers a little; [n] in Hz."""
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
    """Harmonics of the pitch, each as loud as the formants let it be (source and filter)."""
    phase = 2 * np.pi * np.cumsum(pitch) / SAMPLE_RATE_HZ
    heard = np.flatnonzero(envelope > 1e-4)
    audio = np.zeros(len(pitch))
    f0, tract, angle = pitch[heard], formants[:, heard], phase[heard]
    for harmonic in range(1, int(_HIGHEST_HZ / max(pitch.min(), 40.0)) + 1):
        frequency = harmonic * f0
        gain = sum(
            weight / (1.0 + ((frequency - centre) / width) ** 2)
            for weight, centre, width in zip((1.0, 0.6, 0.3), tract, _BANDWIDTHS_HZ, strict=True)
        )
        # -6 dB an octave of source and lips together; faded out below half the sampling rate.
        gain = (gain + 0.02) / harmonic**0.5 * (frequency < _HIGHEST_HZ)
        audio[heard] += gain * np.sin(harmonic * angle)
    return audio * envelope


def _consonants(
    syllables: list[Syllable], time: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Short noises where syllables begin."""
    audio = np.zeros(len(time))
    for syllable in syllables:
        if syllable.consonant in ("none", "hum"):
            continue
        length = 0.02 if syllable.consonant == "burst" else 0.06
        start = syllable.start - length / 2
        span = slice(*np.searchsorted(time, [start, start + length]))
        noise = np.diff(rng.standard_normal(span.stop - span.start + 1))  # Mostly high.
        window = np.hanning(len(noise)) if len(noise) else noise
        audio[span] += 0.12 * syllable.gain * noise * window
    return audio
