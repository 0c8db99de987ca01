"""Chroma energy normalised statistics (CENS; Müller and Ewert 2011) of a constant-Q transform.

Chroma is the energy of each of the twelve pitch classes. The values are those of librosa 0.11 at
its defaults and a tuning of 440 Hz: the bundled weights were trained on them.
"""

import functools
import math

import numpy as np
import soxr

from gesture_jax.speech.spectrum import hann

NUM_CHROMA = 12
_NUM_OCTAVES = 7
_BINS_PER_OCTAVE = 36
_LOWEST_HZ = 440 * 2 ** (-45 / 12)  # C1, 45 semitones below A4.
# The share of a wavelet's spectrum, summed from its smallest values on, that is set to zero.
_SPARSITY = 0.01
_LEVELS = 0.4, 0.2, 0.1, 0.05
_SMOOTHING_FRAMES = 41
_REACH = _SMOOTHING_FRAMES // 2


def chroma_cens(sound: np.ndarray, *, rate_hz: int, hop: int, rows: slice) -> np.ndarray:
    """CENS of some frames of a sound.

    Each chroma vector is divided by its sum, quantised to the number of `_LEVELS` that a value
    exceeds, smoothed over time by a Hann window, and divided by its Euclidean norm.

    Args:
      sound: [n] float32.
      rate_hz: samples a second, between 8.4 and 33 thousand.
      hop: samples from one frame to the next, a multiple of 64.
      rows: the frames to compute.

    Returns:
      [t, 12] float32, from C on; zeros for silence.
    """
    count = len(sound) // hop + 1
    start, stop, _ = rows.indices(count)
    first, last = max(start - _REACH, 0), min(stop + _REACH, count)
    chroma = _chroma(sound, rate_hz=rate_hz, hop=hop, rows=slice(first, last))
    chroma = _normalise(chroma, chroma.sum(axis=1))
    quantised = sum((chroma > np.float32(level)) / len(_LEVELS) for level in _LEVELS)
    padded = np.pad(quantised, ((_REACH, _REACH), (0, 0)))[start - first :]
    windows = np.lib.stride_tricks.sliding_window_view(padded, _SMOOTHING_FRAMES, axis=0)
    smoothed = windows[: stop - start] @ _smoothing_window()
    return _normalise(smoothed, np.linalg.norm(smoothed, axis=1)).astype(np.float32)


def _normalise(vectors: np.ndarray, norms: np.ndarray) -> np.ndarray:
    """[t, k] divided by [t], but for vectors of no length."""
    return vectors / np.where(norms < np.finfo(np.float32).tiny, 1, norms)[:, None]


def _chroma(sound: np.ndarray, *, rate_hz: int, hop: int, rows: slice) -> np.ndarray:
    """[t, 12]: the magnitudes of the constant-Q transform, summed over octaves."""
    octaves = np.abs(_constant_q(sound, rate_hz=rate_hz, hop=hop, rows=rows)).sum(axis=0)
    # A semitone has three bins, the middle one at its exact pitch.
    return np.roll(octaves, 1, axis=1).reshape(-1, NUM_CHROMA, 3).sum(axis=2)


def _constant_q(sound: np.ndarray, *, rate_hz: int, hop: int, rows: slice) -> np.ndarray:
    """The constant-Q transform, [7, t, 36] complex64, from the highest octave to the lowest.

    Every octave uses the wavelets of the highest one, on the sound at half the sample rate of the
    octave above (Schörkhuber et al. 2014).
    """
    size, bins, weights = _wavelets(rate_hz)
    spectra = []
    for octave in range(_NUM_OCTAVES):
        if octave:
            # Computed in double precision and then rounded, as librosa does: where a recording is
            # silent, the lowest octaves hold nothing but rounding errors.
            sound = (soxr.resample(sound, 2, 1, "HQ") / np.sqrt(0.5)).astype(np.float32)
        frames = np.lib.stride_tricks.sliding_window_view(np.pad(sound, size // 2), size)
        spectra.append(np.fft.rfft(frames[:: hop >> octave][rows]).astype(np.complex64))
    # Not a product of matrices: the threads of BLAS would cost far more than they gain.
    return np.einsum("otbw,bw->otb", np.stack(spectra)[..., bins], weights)


@functools.cache
def _wavelets(rate_hz: int) -> tuple[int, np.ndarray, np.ndarray]:
    """The wavelets of the highest octave in the frequency domain.

    A wavelet is a complex tone under a Hann window whose length is a fixed number of periods,
    scaled so that white noise has the same magnitude at all frequencies.

    Returns:
      The size of the Fourier transform; the indices of the bins where each wavelet has its
      support, [36, w]; and its values there, [36, w] complex64.
    """
    steps = np.arange(_BINS_PER_OCTAVE) / _BINS_PER_OCTAVE
    hz = _LOWEST_HZ * 2 ** (_NUM_OCTAVES - 1 + steps)
    ratio = 2 ** (2 / _BINS_PER_OCTAVE)
    lengths = (ratio + 1) / (ratio - 1) * rate_hz / hz
    size = 2 ** math.ceil(math.log2(lengths[0]))
    wavelets = np.zeros((_BINS_PER_OCTAVE, size), complex)
    for wavelet, length, frequency in zip(wavelets, lengths, hz, strict=True):
        places = np.arange(-length // 2, length // 2)
        window = hann(len(places))
        tone = window / window.sum() * np.exp(2j * np.pi * frequency / rate_hz * places)
        start = (size - len(tone)) // 2
        wavelet[start : start + len(tone)] = tone * math.sqrt(length) / size
    spectra = _sparsify(np.fft.fft(wavelets)[:, : size // 2 + 1])
    first = np.argmax(spectra != 0, axis=1)
    width = max(np.ptp(np.flatnonzero(spectrum)) + 1 for spectrum in spectra)
    bins = first[:, None] + np.arange(width)
    return size, bins, np.take_along_axis(spectra, bins, axis=1).astype(np.complex64)


def _sparsify(spectra: np.ndarray) -> np.ndarray:
    """Sets the smallest values of each row to zero, which add up to `_SPARSITY` of its sum."""
    magnitudes = np.abs(spectra)
    ordered = np.sort(magnitudes, axis=1)
    shares = np.cumsum(ordered, axis=1) / ordered.sum(axis=1, keepdims=True)
    least = np.take_along_axis(ordered, np.argmax(shares >= _SPARSITY, axis=1)[:, None], axis=1)
    return np.where(magnitudes >= least, spectra, 0)


@functools.cache
def _smoothing_window() -> np.ndarray:
    """[41] float64, of sum one: the Hann window of 43 without the zeros at its ends."""
    window = np.hanning(_SMOOTHING_FRAMES + 2)[1:-1]
    return window / window.sum()
