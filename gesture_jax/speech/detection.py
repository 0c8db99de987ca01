"""Detects sound that is clearly no speech: steady noise, and music without drums.

Speech alternates between vowels and hisses several times a second, so its spectral centroid moves.
The standard deviation of the centroid is 0.6 octaves or more in recordings of four speakers of PATS
and two others, also by telephone, and at least 0.39 in the voices of procedural people. For hum,
white noise, chords and melodies of single notes it is less than a third of an octave. Drums,
singing, and speech over music are not detected.
"""

import numpy as np

from gesture_jax.media.rates import FPS, SAMPLE_RATE_HZ, SAMPLES_PER_FRAME

UNLIKE_SPEECH = (
    "does not sound like speech: its sound hardly changes, as in music or noise; gestures follow "
    "speech, so give a recording of somebody who talks"
)
_MIN_SPREAD_OCTAVES = 0.33
_LOWEST_HZ = 100
# A frame is audible if it is louder than this, and than this far below the loudest frame.
_MIN_RMS = 10 ** (-50 / 20)
_RANGE = 10 ** (-30 / 20)
# With fewer audible frames there is no verdict.
_MIN_FRAMES = 50
_MAX_FRAMES = 60 * FPS


def is_unlike_speech(audio: np.ndarray) -> bool:
    """Returns whether the first minute of [n] float32 at 16 kHz is clearly no speech."""
    count = min(len(audio) // SAMPLES_PER_FRAME, _MAX_FRAMES)
    frames = audio[: count * SAMPLES_PER_FRAME].reshape(-1, SAMPLES_PER_FRAME)
    rms = np.sqrt(np.mean(np.square(frames), axis=1))
    audible = frames[rms > max(_MIN_RMS, _RANGE * rms.max(initial=0.0))]
    if len(audible) < _MIN_FRAMES:
        return False
    return float(np.std(np.log2(_centroids(audible)))) < _MIN_SPREAD_OCTAVES


def _centroids(frames: np.ndarray) -> np.ndarray:
    """The spectral centroid of each frame, in Hz: [t]."""
    frequencies = np.fft.rfftfreq(SAMPLES_PER_FRAME, 1 / SAMPLE_RATE_HZ)
    band = frequencies >= _LOWEST_HZ
    power = np.abs(np.fft.rfft(frames * np.hanning(SAMPLES_PER_FRAME), axis=1)[:, band]) ** 2
    floor = 1e-12  # All of the power may lie below 100 Hz.
    return (power @ frequencies[band] + floor * _LOWEST_HZ) / (power.sum(axis=1) + floor)
