"""Whether sound may be speech: steady noise and music without drums are told apart from it.

Speech goes from vowels to hisses and back several times a second, so that the centre of its
spectrum moves: by 0.6 octaves and more in recordings of four speakers of PATS and two others, by
telephone too, and by 0.39 at least in drawn people's voices. That of hum, white noise, chords and
melodies of single notes moves by less than a third. Drums, singing, and speech over music are not
noticed.
"""

import numpy as np

from gesture_jax.media.rates import FPS, SAMPLE_RATE_HZ, SAMPLES_PER_FRAME

UNLIKE_SPEECH = (
    "does not sound like speech: its sound hardly changes, as in music or noise; gestures follow "
    "speech, so give a recording of somebody who talks"
)
_LEAST_OCTAVES = 0.33
_LOWEST_HZ = 100
# What is heard: louder than this, and than so far below the loudest frame.
_LEAST_RMS = 10 ** (-50 / 20)
_RANGE = 10 ** (-30 / 20)
# Fewer frames that are heard say nothing.
_LEAST_FRAMES = 50
_MOST_FRAMES = 60 * FPS


def is_unlike_speech(audio: np.ndarray) -> bool:
    """Whether the beginning of sound, [n] float32 at 16 kHz, is clearly no speech."""
    count = min(len(audio) // SAMPLES_PER_FRAME, _MOST_FRAMES)
    frames = audio[: count * SAMPLES_PER_FRAME].reshape(-1, SAMPLES_PER_FRAME)
    rms = np.sqrt(np.mean(np.square(frames), axis=1))
    heard = frames[rms > max(_LEAST_RMS, _RANGE * rms.max(initial=0.0))]
    if len(heard) < _LEAST_FRAMES:
        return False
    return float(np.std(np.log2(_centres(heard)))) < _LEAST_OCTAVES


def _centres(frames: np.ndarray) -> np.ndarray:
    """The centre of each frame's spectrum, in Hz: [t]."""
    frequencies = np.fft.rfftfreq(SAMPLES_PER_FRAME, 1 / SAMPLE_RATE_HZ)
    band = frequencies >= _LOWEST_HZ
    power = np.abs(np.fft.rfft(frames * np.hanning(SAMPLES_PER_FRAME), axis=1)[:, band]) ** 2
    floor = 1e-12  # Below 100 Hz there may be all of it.
    return (power @ frequencies[band] + floor * _LOWEST_HZ) / (power.sum(axis=1) + floor)
