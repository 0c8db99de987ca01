"""Measures of motion that need no joints: its speed, variety, beats and seams.

Frame i is shown at i / 25 s.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import librosa
import numpy as np
import scipy.signal

from gesture_jax.array_types import Audio, MotionSequence
from gesture_jax.data.media import FPS, SAMPLE_RATE_HZ
from gesture_jax.errors import InputError

_SMOOTHING_FRAMES = 2.0
# Of the mean speed; what a minimum must lie below its neighbours, more than float32 rounds.
_MIN_DEPTH = 1e-5
# At 512 samples, 32 ms, librosa's comparison with the 30 ms before compares with nothing, and each
# frame of a rise is an onset.
_ONSET_HOP = 256
# librosa analyses as many samples at once.
_SHORTEST_SAMPLES = 2048


def speed(motion: MotionSequence) -> jax.Array:
    """How fast a motion sequence moves, smoothed by a Gaussian of 80 ms.

    Args:
      motion: [*b, t, d], features of comparable scale.

    Returns:
      [*b, t - 1], root mean square over the features of the change from frame to frame.
    """
    rate = jnp.sqrt(jnp.square(jnp.diff(motion, axis=-2)).mean(axis=-1))
    offsets = np.arange(-6, 7)
    kernel = np.exp(-0.5 * (offsets / _SMOOTHING_FRAMES) ** 2)
    # The middle of the full result: mode "same" of a shorter curve has the length of the kernel.
    smooth = jnp.vectorize(lambda x: jnp.convolve(x, kernel)[6:-6], signature="(t)->(t)")
    # Near the ends the kernel loses weight; what is left is made to sum to one.
    return smooth(rate) / smooth(jnp.ones_like(rate))


def speed_error(generated: MotionSequence, real: MotionSequence) -> jax.Array:
    """Distance between two speed curves, relative to the real one: 1 for no motion at all.

    Speech says when and how strongly people move, far less where to; so the comparison is of when
    and how strongly. Mean absolute difference of `speed` over the mean real speed.

    Args:
      generated: [*b, t, d].
      real: the same.

    Returns:
      [*b].
    """
    real_speed = speed(real)
    difference = jnp.abs(speed(generated) - real_speed).mean(axis=-1)
    return difference / jnp.maximum(real_speed.mean(axis=-1), 1e-8)


def speed_correlation(generated: MotionSequence, real: MotionSequence) -> jax.Array:
    """Do both move at the same moments? Pearson's correlation of the two speed curves.

    1 for the same timing, about 0 for motion that follows other speech, 0 for no motion at all.

    Args:
      generated: [*b, t, d].
      real: the same.

    Returns:
      [*b].
    """
    curves = [speed(motion) for motion in (generated, real)]
    one, other = (curve - curve.mean(axis=-1, keepdims=True) for curve in curves)
    norm = jnp.sqrt(jnp.square(one).sum(axis=-1) * jnp.square(other).sum(axis=-1))
    return (one * other).sum(axis=-1) / jnp.maximum(norm, 1e-8)


def diversity(features: np.ndarray, *, num_pairs: int = 500, seed: int = 0) -> float:
    """Mean L1 distance, summed over the features, of random pairs of examples (Liu et al. 2022).

    No example is paired with itself. More is not better: jitter is diverse too; compare with the
    value of real motion, by the same features and the same number of pairs.

    Args:
      features: [n, k], such as latents of `fgd.encode_windows`.
      num_pairs: pairs drawn, with replacement.
      seed: of the draw.

    Raises:
      InputError: for fewer than two examples.
    """
    features = np.asarray(features, np.float64)
    count = len(features)
    if count < 2:
        raise InputError(f"diversity wants two examples or more, not {count}")
    random = np.random.default_rng(seed)
    first = random.integers(count, size=num_pairs)
    second = (first + random.integers(1, count, size=num_pairs)) % count
    return float(np.abs(features[first] - features[second]).sum(axis=1).mean())


def motion_beats(motion: MotionSequence) -> np.ndarray:
    """When a motion slows down between two strokes: strict local minima of its `speed`.

    As in Bailando and EDGE, whose Gaussian of 5 frames at 60 a second is the 80 ms of `speed`. The
    first and last value are no minima, nor are equal ones. Speed i is the change from frame i to
    frame i + 1, hence that of the moment between them, (i + 0.5) / 25 s.

    Args:
      motion: [t, d] at 25 frames a second, features of comparable scale.

    Returns:
      [beats] in seconds, ascending; empty for motion at rest.
    """
    if len(motion) < 2:
        return np.zeros(0)
    curve = np.asarray(speed(motion))
    minima, _ = scipy.signal.find_peaks(-curve, threshold=_MIN_DEPTH * curve.mean())
    return (minima + 0.5) / FPS


def audio_onsets(audio: Audio) -> np.ndarray:
    """When syllables and other sounds begin, by librosa's detector at steps of 16 ms.

    Args:
      audio: [n] float32, mono, 16 kHz.

    Returns:
      [onsets] in seconds, ascending; empty for silence.
    """
    sound = librosa.util.fix_length(
        np.asarray(audio, np.float32), size=max(len(audio), _SHORTEST_SAMPLES)
    )
    return librosa.onset.onset_detect(
        y=sound, sr=SAMPLE_RATE_HZ, hop_length=_ONSET_HOP, units="time"
    )


def beat_alignment(
    motion_beats_sec: np.ndarray, audio_beats_sec: np.ndarray, *, sigma_sec: float = 0.1
) -> float:
    """How close to each beat of the sound a beat of the motion is, in [0, 1].

    Mean over the audio beats a of exp(-min_b (a - b)^2 / (2 sigma^2)), b the motion beats. Many
    motion beats raise it, jitter's included: report their number a second beside it, the value of
    the real motion and that with the sound of another clip.

    Args:
      motion_beats_sec: [m], in any order.
      audio_beats_sec: [a].
      sigma_sec: a beat this far off counts 0.61, one twice as far 0.14.

    Returns:
      0 for no motion beats; NaN for no audio beats, which a mean over clips leaves out and counts.
    """
    motion_beats_sec, audio_beats_sec = np.asarray(motion_beats_sec), np.asarray(audio_beats_sec)
    if not len(audio_beats_sec):
        return float("nan")
    if not len(motion_beats_sec):
        return 0.0
    gap_sec = np.abs(audio_beats_sec[:, None] - motion_beats_sec).min(axis=1)
    return float(np.exp(-0.5 * np.square(gap_sec / sigma_sec)).mean())


def seam_jerk_ratio(motion: MotionSequence, borders: Sequence[int]) -> float:
    """Do seams between windows show? Jerk across them over jerk elsewhere; 1 where they do not.

    Jerk is the L2 norm of the third difference, which four frames make: it crosses a border b where
    some of them lie before b and some from b on, which three do, from frames b - 3 to b up to
    frames b - 1 to b + 2.

    Args:
      motion: [t, d].
      borders: first frames of windows; the clip's own first frame and its end are no seams.

    Returns:
      Ratio of the two means; NaN where there is no seam or nothing elsewhere, or the motion is at
      rest, and infinity where it is at rest except at seams.
    """
    jerk = np.linalg.norm(np.diff(np.asarray(motion, np.float64), n=3, axis=0), axis=1)
    behind = np.asarray(borders, int)[:, None] - np.arange(len(jerk))
    crossing = ((behind >= 1) & (behind <= 3)).any(axis=0)
    total = lambda chosen: np.array([jerk[chosen].sum(), chosen.sum()])
    (across, num_across), (elsewhere, num_elsewhere) = total(crossing), total(~crossing)
    with np.errstate(divide="ignore", invalid="ignore"):
        return float((across / num_across) / (elsewhere / num_elsewhere))
