"""Mel-frequency cepstral coefficients as python_speech_features computes them, for SyncNet.

`speech.spectrum` has those of librosa, which differ: here windows are rectangular and 25 ms long,
26 bands follow the mel scale 2595 log10(1 + f / 700), the coefficients are liftered, and the first
one is the logarithm of the energy.
"""

import functools

import chex
import numpy as np
import scipy.fft

from gesture_jax.array_types import Audio
from gesture_jax.media.rates import SAMPLE_RATE_HZ

STEPS_PER_SEC = 100
_FRAME, _HOP, _FFT = 400, SAMPLE_RATE_HZ // STEPS_PER_SEC, 512
_PREEMPHASIS = 0.97
_NUM_BANDS, _NUM_COEFFICIENTS = 26, 13
_LIFTER = 22
_FULL_SCALE = 32768
_EPSILON = np.finfo(np.float64).eps


def mfcc(audio: Audio) -> np.ndarray:
    """Computes 13 coefficients every 10 ms.

    Args:
      audio: [n] float32, mono, 16 kHz, in [-1, 1], with n > 0.

    Returns:
      [1 + ceil((n - 400) / 160), 13] float32; the last frame is padded with silence.
    """
    chex.assert_rank(audio, 1)
    # Files have 16 bits; scaling changes the energy only.
    sound = np.clip(np.rint(audio * float(_FULL_SCALE)), -_FULL_SCALE, _FULL_SCALE - 1)
    sound = np.append(sound[0], sound[1:] - _PREEMPHASIS * sound[:-1])
    count = 1 + max(0, -(-(len(sound) - _FRAME) // _HOP))
    padded = np.pad(sound, (0, max(0, (count - 1) * _HOP + _FRAME - len(sound))))
    frames = np.lib.stride_tricks.sliding_window_view(padded, _FRAME)[::_HOP][:count]
    power = np.square(np.abs(np.fft.rfft(frames, _FFT))) / _FFT
    bands = np.log(np.maximum(power @ _filters().T, _EPSILON))
    coefficients = scipy.fft.dct(bands, type=2, norm="ortho")[:, :_NUM_COEFFICIENTS]
    order = np.arange(_NUM_COEFFICIENTS)
    coefficients *= 1 + _LIFTER / 2 * np.sin(np.pi * order / _LIFTER)
    coefficients[:, 0] = np.log(np.maximum(power.sum(axis=1), _EPSILON))
    return coefficients.astype(np.float32)


@functools.cache
def _filters() -> np.ndarray:
    """Triangles with edges at whole bins, each of height 1: [26, 257]."""
    mel = np.linspace(0, 2595 * np.log10(1 + SAMPLE_RATE_HZ / 2 / 700), _NUM_BANDS + 2)
    edges = np.floor((_FFT + 1) * 700 * (10 ** (mel / 2595) - 1) / SAMPLE_RATE_HZ)
    left, middle, right = (edges[start : start + _NUM_BANDS, None] for start in range(3))
    bins = np.arange(_FFT // 2 + 1)
    rising, falling = (bins - left) / (middle - left), (right - bins) / (right - middle)
    return np.where(bins < middle, np.maximum(rising, 0), np.maximum(falling, 0))
