"""How well the lips of a video fit its speech, from the opening of the mouth in each frame.

- **Correlation and lag**: Pearson's correlation of the mouth's opening with the envelope of the
  speech, at the lag within 0.4 s that makes it largest. The largest of 81 correlations is positive
  even for the speech of somebody else, so compare it with that control.
- **Closure**: the share of all /p/, /b/ and /m/ with closed lips within 80 ms of the phone's
  middle. Lips are closed in a frame if their gap is in the lowest 15 % of the clip's own range,
  which extends from the 5th to the 95th percentile of its gaps: landmarks of closed lips do not
  coincide, and their distance differs from face to face. A mouth that never moves is therefore
  always closed. So closure is also reported relative to chance: the share of all moments of speech
  with closed lips within 80 ms.
- **Mouth in silence**: the mean speed of the lips in silence over their mean speed in speech.
  Lips have 0.3 s to come to rest, and may open 0.2 s before the next word.

All functions take an opening of any unit, for example of a drawn mouth; none needs a network.
"""

from collections.abc import Sequence

import chex
import numpy as np
import scipy.ndimage

from gesture_jax.array_types import Audio
from gesture_jax.media.rates import FPS, SAMPLE_RATE_HZ
from gesture_jax.speech.phones import Phone

NAMES = (
    "lip_correlation", "lip_lag_ms", "lip_closure", "lip_closure_above_chance", "lip_silence",
)  # fmt: skip
"""The keys of `lip_scores`."""
_MAX_LAG_SEC, _STEP_SEC = 0.4, 0.01
_WINDOW_SEC = 0.08
# Fewer frames give no correlation.
_MIN_FRAMES = 25
_CLOSED_SHARE = 0.15
_RANGE_PERCENTILES = 5, 95
_NEAR_SEC = 0.08
# Sound is quiet below both: -50 dB, and 30 dB below the loud parts of the recording.
_QUIET_RMS = 10 ** (-50 / 20)
_QUIET_SHARE, _LOUD_PERCENTILE = 10 ** (-30 / 20), 95
_MIN_SILENCE_SEC, _SETTLE_SEC, _ONSET_SEC = 0.6, 0.3, 0.2


def lip_scores(
    opening: np.ndarray, audio: Audio, phones: Sequence[Phone], *, fps: float = FPS
) -> dict[str, float]:
    """All scores of one clip.

    Args:
      opening: [t], how far the mouth is open in each frame, in any unit; NaN where it is unknown.
      audio: [n] float32, mono, 16 kHz; sound after the end of the shorter one is ignored.
      phones: from `speech.phones`.
      fps: frames per second.

    Returns:
      By `NAMES`: `lip_correlation`, -1 to 1; `lip_lag_ms`, positive where the mouth is late;
      `lip_closure`, 0 to 1; `lip_closure_above_chance`, -1 to 1; and `lip_silence`, 0 or more. NaN
      where the clip has no such moments.
    """
    opening = np.asarray(opening, np.float64)
    chex.assert_rank([opening, audio], 1)
    opening = opening[: int(len(audio) / SAMPLE_RATE_HZ * fps)]
    correlation, lag_ms = correlate(opening, audio, fps=fps)
    share, chance = closure(opening, phones, fps=fps)
    silence = silence_ratio(opening, audio, fps=fps)
    return dict(zip(NAMES, (correlation, lag_ms, share, share - chance, silence), strict=True))


def envelope(audio: Audio, times_sec: np.ndarray) -> np.ndarray:
    """The amplitude of sound: its root mean square in the 80 ms around each time.

    Args:
      audio: [n] float32, mono, 16 kHz; silence before its start and after its end.
      times_sec: [*b].

    Returns:
      [*b] float64.
    """
    audio, times_sec = np.asarray(audio), np.asarray(times_sec)
    chex.assert_rank(audio, 1)
    total = np.concatenate([[0.0], np.cumsum(np.square(audio, dtype=np.float64))])
    half = round(_WINDOW_SEC / 2 * SAMPLE_RATE_HZ)
    middle = np.rint(times_sec * SAMPLE_RATE_HZ).astype(int)
    at = lambda index: total[np.clip(index, 0, len(audio))]
    power = (at(middle + half) - at(middle - half)) / (2 * half)
    return np.sqrt(np.maximum(power, 0.0))


def correlate(opening: np.ndarray, audio: Audio, *, fps: float = FPS) -> tuple[float, float]:
    """The largest correlation of the mouth's opening with the envelope, and its lag.

    Lags are multiples of 10 ms. Only frames that are 0.4 s or more from both ends count, so that
    all lags use the same frames.

    Args:
      opening: [t], NaN where it is unknown.
      audio: [n] float32, mono, 16 kHz.
      fps: frames per second.

    Returns:
      The correlation, and the lag in milliseconds, positive where the mouth is late. The lag is
      NaN where no correlation is positive; both are NaN for a mouth or a sound that does not
      change, or fewer than 25 frames.
    """
    chex.assert_rank([opening, audio], 1)
    nothing = float("nan"), float("nan")
    times = np.arange(len(opening)) / fps
    end = min(len(opening) / fps, len(audio) / SAMPLE_RATE_HZ) - _MAX_LAG_SEC
    counts = ~np.isnan(opening) & (times >= _MAX_LAG_SEC) & (times <= end)
    if counts.sum() < _MIN_FRAMES:
        return nothing
    steps = round(_MAX_LAG_SEC / _STEP_SEC)
    lags = np.arange(-steps, steps + 1) * _STEP_SEC
    mouth = opening[counts] - opening[counts].mean()
    sound = envelope(audio, times[counts, None] - lags)
    sound -= sound.mean(axis=0)
    lengths = np.linalg.norm(mouth) * np.linalg.norm(sound, axis=0)
    if lengths.min() < 1e-12:
        return nothing
    correlations = mouth @ sound / lengths
    best = int(correlations.argmax())
    lag = 1000 * float(lags[best]) if correlations[best] > 0 else float("nan")
    return float(correlations[best]), lag


def closure(
    opening: np.ndarray, phones: Sequence[Phone], *, fps: float = FPS
) -> tuple[float, float]:
    """How often lips are closed for /p/, /b/ and /m/, and how often at any moment of speech.

    Args:
      opening: [t], NaN where it is unknown.
      phones: of the speech; those that reach beyond the last frame do not count.
      fps: frames per second.

    Returns:
      Two shares, 0 to 1; see the top of this file. NaN where there are no such phones.
    """
    chex.assert_rank(opening, 1)
    if np.isnan(opening).all():
        return float("nan"), float("nan")
    spoken = [p for p in phones if not p.is_silence and p.end_sec <= len(opening) / fps]
    low, high = np.nanpercentile(opening, _RANGE_PERCENTILES)
    is_closed = opening <= low + _CLOSED_SHARE * (high - low)
    middles = np.array([phone.middle_sec for phone in spoken if phone.is_bilabial])
    moments = [np.arange(p.start_sec, p.end_sec, _STEP_SEC) for p in spoken]
    shares = (
        _share_closed(is_closed, ~np.isnan(opening), times, fps)
        for times in (middles, np.concatenate([np.zeros(0), *moments]))
    )
    return next(shares), next(shares)


def _share_closed(
    is_closed: np.ndarray, is_known: np.ndarray, times: np.ndarray, fps: float
) -> float:
    """The share of times near which lips are closed, among those near which they are known."""
    frames = np.arange(len(is_closed)) / fps
    # A frame that is exactly 80 ms away counts, whatever the rounding error.
    near = np.abs(times[:, None] - frames) <= _NEAR_SEC + 1e-6
    known = (near & is_known).any(axis=1)
    return float((near & is_closed).any(axis=1)[known].mean()) if known.any() else float("nan")


def silence_ratio(opening: np.ndarray, audio: Audio, *, fps: float = FPS) -> float:
    """The mean speed of the lips in silence, over their mean speed in the rest of the clip.

    Silence is where the envelope stays below -50 dB, or 30 dB below the 95th percentile of the
    recording, for 0.6 s or longer. The first 0.3 s and the last 0.2 s of each silence count neither
    as silence nor as speech.

    Args:
      opening: [t], NaN where it is unknown.
      audio: [n] float32, mono, 16 kHz.
      fps: frames per second.

    Returns:
      0 for lips at rest in silence, 1 for lips that move as in speech; NaN where the clip has no
      silence, no speech, or lips that never move.
    """
    chex.assert_rank([opening, audio], 1)
    known = ~np.isnan(opening)
    if known.sum() < 2:
        return float("nan")
    frames = np.arange(len(opening))
    # A Gaussian of one frame removes jitter of single frames.
    smooth = scipy.ndimage.gaussian_filter1d(np.interp(frames, frames[known], opening[known]), 1.0)
    speed = np.abs(np.diff(smooth))
    times = (frames[:-1] + 0.5) / fps
    rests, speaks = np.zeros(len(speed), bool), np.ones(len(speed), bool)
    for start, stop in find_silences(audio):
        speaks &= (times < start) | (times > stop)
        rests |= (times >= start + _SETTLE_SEC) & (times <= stop - _ONSET_SEC)
    rests, speaks = (each & known[:-1] & known[1:] for each in (rests, speaks))
    if not rests.any() or not speaks.any() or not speed[speaks].any():
        return float("nan")
    return float(speed[rests].mean() / speed[speaks].mean())


def find_silences(audio: Audio) -> np.ndarray:
    """The start and the end of each silence as `silence_ratio` defines it: [s, 2] in seconds."""
    chex.assert_rank(audio, 1)
    curve = envelope(audio, np.arange(0.0, len(audio) / SAMPLE_RATE_HZ, _STEP_SEC))
    loud = np.percentile(curve, _LOUD_PERCENTILE) if len(curve) else 0.0
    is_quiet = curve <= max(_QUIET_RMS, _QUIET_SHARE * loud)
    edges = np.flatnonzero(np.diff(np.pad(is_quiet.astype(np.int8), 1))).reshape(-1, 2)
    silences = edges * _STEP_SEC
    return silences[silences[:, 1] - silences[:, 0] >= _MIN_SILENCE_SEC - 1e-6]
