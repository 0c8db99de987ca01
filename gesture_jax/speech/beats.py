"""Onsets, tempo and beats from the strength of onsets.

The values are those of librosa 0.11 at its defaults: the bundled weights were trained on them.
"""

import functools

import numpy as np

from gesture_jax.speech.spectrum import hann

_DELTA = 0.07  # How far a peak must exceed the mean around it; the strongest onset is 1.
_TEMPO_WINDOW_SEC = 8.0
_MAX_BPM = 320.0
_TIGHTNESS = 100.0


def find_onsets(strength: np.ndarray, *, rate_hz: int, hop: int) -> np.ndarray:
    """Peaks of the onset strength (Böck et al. 2012), scaled to [0, 1].

    A peak is not less than any value of the 30 ms before it, exceeds the mean of the 100 ms on
    either side by 0.07, and follows the last peak by more than 30 ms.

    Args:
      strength: [t], one value for each `hop` samples.
      rate_hz: samples a second.
      hop: samples from one value to the next.

    Returns:
      Indices, ascending; none where the strength is constant.
    """
    strength = strength - strength.min()
    if not strength.any():
        return np.zeros(0, int)
    strength = strength / strength.max()
    before, around = 3 * rate_hz // (100 * hop), rate_hz // (10 * hop)
    windows = lambda value, left, right: np.lib.stride_tricks.sliding_window_view(
        np.pad(strength, (left, right), constant_values=value), left + right + 1
    )
    highest = np.nanmax(windows(np.nan, before, 0), axis=1)
    mean = np.nanmean(windows(np.nan, around, around), axis=1)
    peaks = np.flatnonzero((strength == highest) & (strength >= mean + np.float32(_DELTA)))
    if not before:
        return peaks
    kept: list[int] = []
    for peak in peaks:
        if not kept or peak - kept[-1] > before:
            kept.append(peak)
    return np.array(kept, int)


def move_back(onsets: np.ndarray, energy: np.ndarray) -> np.ndarray:
    """The last local minimum of [t] energy at or before each onset; 0 where there is none."""
    inner = energy[1:-1]
    minima = np.flatnonzero((inner <= energy[:-2]) & (inner < energy[2:])) + 1
    minima = np.concatenate([[0], minima])
    return minima[np.searchsorted(minima, onsets, side="right") - 1]


def estimate_tempo(
    strength: np.ndarray, *, frames_per_sec: float, start_bpm: float = 120.0
) -> float:
    """The tempo in beats per minute (Ellis 2007).

    The autocorrelation of the onset strength in windows of 8 s, of value 1 at lag 0 and averaged
    over the windows, is weighted by a log-normal prior of one octave around `start_bpm`; the best
    lag gives the tempo.

    Args:
      strength: [t].
      frames_per_sec: values of it a second.
      start_bpm: the most likely tempo.
    """
    size = int(_TEMPO_WINDOW_SEC * frames_per_sec)
    padded = np.pad(strength, size // 2, mode="linear_ramp")
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[: len(strength)] * hann(size)
    energy = np.square(frames).sum(axis=1)
    energy[energy < np.finfo(np.float64).tiny] = 1
    length = 1 << (2 * size - 2).bit_length()  # Long enough that the lags do not wrap around.
    spectrum = np.square(np.abs(np.fft.rfft(frames, length))) / energy[:, None]
    correlation = np.fft.irfft(spectrum.mean(axis=0), length)[1:size]
    bpm = 60 * frames_per_sec / np.arange(1, size)
    score = np.log1p(1e6 * correlation) - 0.5 * np.log2(bpm / start_bpm) ** 2
    return float(bpm[np.argmax(np.where(bpm < _MAX_BPM, score, -np.inf))])


def track_beats(strength: np.ndarray, *, frames_per_sec: float, bpm: float) -> np.ndarray:
    """The frames of beats, ascending, by dynamic programming (Ellis 2007).

    Args:
      strength: [t] float32, not all zero.
      frames_per_sec: values of it a second.
      bpm: the tempo.
    """
    period = round(60 * frames_per_sec / bpm)
    score = _local_score(strength, period)
    previous, total = _best_predecessors(score, period)
    beats = [_last_beat(total)]
    while (before := previous[beats[-1]]) >= 0:
        beats.append(before)
    return _trim(np.array(beats[::-1]), score)


def _local_score(strength: np.ndarray, period: int) -> np.ndarray:
    """The strength, of variance one, smoothed by a Gaussian of a 32nd of the period."""
    strength = strength / (strength.std(ddof=1) + np.finfo(np.float32).tiny)
    window = np.exp(-0.5 * (np.arange(-period, period + 1) * 32 / period) ** 2)
    return np.convolve(strength, window)[period:][: len(strength)]


def _best_predecessors(score: np.ndarray, period: int) -> tuple[np.ndarray, np.ndarray]:
    """For each frame, as a beat: the beat before it, -1 for none, and the score up to it.

        total[i] = score[i] + max over d of (total[i - d] - 100 ln(d / period)^2)

    The distance d lies between half the period and twice it. Beats start where the score first
    reaches a hundredth of its maximum.
    """
    distances, penalties = _transitions(period)
    previous = np.full(len(score), -1)
    total = score.copy()
    for frame in range(distances[0], len(score)):
        near = distances[: frame - distances[0] + 1]
        candidates = total[frame - near] - penalties[: len(near)]
        best = np.argmax(candidates)
        total[frame] += candidates[best]
        previous[frame] = frame - near[best]
    previous[: np.argmax(score >= 0.01 * score.max())] = -1
    return previous, total


@functools.cache
def _transitions(period: int) -> tuple[np.ndarray, np.ndarray]:
    """Distances between beats, ascending, and what each costs."""
    distances = np.arange(round(period / 2), 2 * period + 1)
    return distances, _TIGHTNESS * (np.log(distances) - np.log(period)) ** 2


def _last_beat(total: np.ndarray) -> int:
    """The last local maximum that has at least half of their median; else the last frame."""
    rises = np.diff(total) > 0
    maxima = 1 + np.flatnonzero(rises & np.append(total[1:-1] >= total[2:], True))
    if not len(maxima):
        return len(total) - 1
    high = maxima[total[maxima] >= 0.5 * np.median(total[maxima])]
    return high[-1] if len(high) else len(total) - 1


def _trim(beats: np.ndarray, score: np.ndarray) -> np.ndarray:
    """Drops beats before the first and after the last frame that scores well.

    That is more than half of the root mean square of the beats' smoothed scores.
    """
    smoothed = np.convolve(score[beats], np.hanning(5))[2 : len(score) + 2]
    (good,) = np.nonzero(score > 0.5 * np.sqrt(np.mean(np.square(smoothed))))
    return beats[(beats >= good[0]) & (beats <= good[-1])] if len(good) else beats[:0]
