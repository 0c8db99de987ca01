"""Measures of motion that need no joints: its speed, variety and seams."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from gesture_jax.array_types import MotionSequence
from gesture_jax.errors import InputError

_SMOOTHING_FRAMES = 2.0


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


def l1_diversity(clips: Sequence[MotionSequence]) -> float:
    """How far poses are from their clip's mean pose (L1div of BEAT and EMAGE, Liu et al. 2022).

    Mean over all frames of the L1 distance, summed over the features, to the mean of their clip;
    hence it grows with the number of features, and a clip counts by its length. As with
    `diversity`, more is not better: compare with the value of real motion.

    Args:
      clips: [t, d] each, t of any length.

    Raises:
      InputError: where there is no frame.
    """
    clips = [np.asarray(clip, np.float64) for clip in clips if len(clip)]
    if not clips:
        raise InputError("L1 diversity wants a clip of one frame or more")
    return float(np.concatenate([np.abs(clip - clip.mean(axis=0)) for clip in clips]).sum(1).mean())


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
