"""Short-time spectra of sound: STFT, mel spectrogram, MFCC, onset strength and loudness.

The values are those of librosa 0.11 (McFee et al. 2015) at its defaults, computed here with NumPy
alone: the bundled weights were trained on them. Frames are 2048 samples long, `hop` samples apart
and centred on multiples of `hop`; before and after the sound there is silence.
"""

import functools
import math

import numpy as np

NUM_MFCC = 20
_FRAME = 2048
_NUM_BANDS = 128
_MIN_POWER = 1e-10
_RANGE_DB = 80.0
# The mel scale of Slaney's Auditory Toolbox (1998): linear up to 1 kHz, logarithmic above.
_LINEAR_HZ = 200 / 3
_LOG_START_HZ = 1000.0
_LOG_START_MEL = _LOG_START_HZ / _LINEAR_HZ
_LOG_STEP = math.log(6.4) / 27


def stft(sound: np.ndarray, *, hop: int) -> np.ndarray:
    """The short-time Fourier transform of [n] float32: [1 + n // hop, 1025] complex64."""
    padded = np.pad(sound, _FRAME // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, _FRAME)[::hop]
    return np.fft.rfft(frames * hann(_FRAME)).astype(np.complex64)


def mel_spectrogram_db(sound: np.ndarray, *, rate_hz: int, hop: int) -> np.ndarray:
    """The power in 128 mel bands, in dB, at most 80 dB below the loudest: [t, 128] float32."""
    spectrum = stft(sound, hop=hop)
    power = _mel_power(np.square(spectrum.real) + np.square(spectrum.imag), rate_hz)
    decibels = 10 * np.log10(np.maximum(power, np.float32(_MIN_POWER)))
    return np.maximum(decibels, decibels.max() - np.float32(_RANGE_DB))


def mfcc(decibels: np.ndarray) -> np.ndarray:
    """The first 20 coefficients of the orthonormal DCT-II of [t, 128] decibels: [t, 20]."""
    return decibels @ _dct()


def onset_strength(decibels: np.ndarray, *, hop: int) -> np.ndarray:
    """The spectral flux (Böck and Widmer 2013), [t] float32, of [t, 128] decibels:

        strength[i] = mean over bands of max(0, decibels[j] - decibels[j - 1]),  j = i - 1024 / hop

    A frame shows a sound that begins half its length later; the delay of j makes up for it.
    """
    rises = np.maximum(np.diff(decibels, axis=0), 0).mean(axis=1)
    return np.pad(rises, (1 + _FRAME // (2 * hop), 0))[: len(decibels)]


def loudness(spectrum: np.ndarray) -> np.ndarray:
    """The root mean square of each windowed frame, [t], by Parseval from the STFT, [t, 1025]."""
    power = np.square(np.abs(spectrum))
    power[:, [0, -1]] *= 0.5  # The bins that negative frequencies do not share.
    return np.sqrt(2 * power.sum(axis=1) / _FRAME**2)


@functools.cache
def hann(size: int) -> np.ndarray:
    """The periodic Hann window, [size] float64."""
    return np.hanning(size + 1)[:-1]


def _mel_power(power: np.ndarray, rate_hz: int) -> np.ndarray:
    """The power in each mel band, [t, 128], of [t, 1025].

    A band is a triangle; its middle is the end of the band before it and the start of the next. A
    product with the matrix of all triangles, most of which is zero, would cost more.
    """
    starts, rising, falling = _mel_filters(rate_hz)
    rising, falling = (np.add.reduceat(power * side, starts, axis=1) for side in (rising, falling))
    return rising[:, :-1] + falling[:, 1:]


@functools.cache
def _mel_filters(rate_hz: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Triangles of equal area between 0 Hz and half the rate.

    Returns:
      The first bin of the spectrum in each interval between two edges, [129]; and for each bin the
      weight in the band that rises there and in the one that falls there, [1025] float32 each.
    """
    edges = mel_edges(_NUM_BANDS, low_hz=0.0, high_hz=rate_hz / 2)
    hz = np.fft.rfftfreq(_FRAME, 1 / rate_hz)
    starts = np.searchsorted(hz, edges[:-1])
    interval = np.searchsorted(edges[1:-1], hz, side="right")
    place = (hz - edges[interval]) / np.diff(edges)[interval]
    # The last interval only falls and the first one only rises: their other weights are unused.
    heights = np.pad(2 / (edges[2:] - edges[:-2]), 1)
    rising, falling = place * heights[1:][interval], (1 - place) * heights[:-1][interval]
    return starts, rising.astype(np.float32), falling.astype(np.float32)


def mel_edges(num_bands: int, *, low_hz: float, high_hz: float) -> np.ndarray:
    """The edges in Hz of bands that are equally wide in mel, [num_bands + 2].

    Band i reaches from edge i to edge i + 2, and edge i + 1 is its middle.
    """
    return _mel_to_hz(np.linspace(_hz_to_mel(low_hz), _hz_to_mel(high_hz), num_bands + 2))


def _hz_to_mel(hz: float) -> float:
    if hz < _LOG_START_HZ:
        return hz / _LINEAR_HZ
    return _LOG_START_MEL + math.log(hz / _LOG_START_HZ) / _LOG_STEP


def _mel_to_hz(mel: np.ndarray) -> np.ndarray:
    above = _LOG_START_HZ * np.exp(_LOG_STEP * (mel - _LOG_START_MEL))
    return np.where(mel < _LOG_START_MEL, mel * _LINEAR_HZ, above)


@functools.cache
def _dct() -> np.ndarray:
    """The first columns of the orthonormal DCT-II, [128, 20] float32."""
    angles = np.pi / _NUM_BANDS * np.outer(np.arange(_NUM_BANDS) + 0.5, np.arange(NUM_MFCC))
    basis = np.cos(angles) * math.sqrt(2 / _NUM_BANDS)
    basis[:, 0] /= math.sqrt(2)
    return basis.astype(np.float32)
