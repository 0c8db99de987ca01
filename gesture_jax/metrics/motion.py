"""Metrics of motion that need no joints: speed, diversity and seams."""

from collections.abc import Sequence

import chex
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from gesture_jax.array_types import Array, MotionSequence, typechecked
from gesture_jax.errors import InputError

_SMOOTHING_FRAMES = 2.0


@typechecked
def speed(motion: MotionSequence) -> Float[Array, "*b t-1"]:
    """The speed of a motion sequence, smoothed by a Gaussian of 80 ms.

    Args:
      motion: [*b, t, d], features of comparable scale.

    Returns:
      [*b, t - 1], the root mean square over the features of the change from frame to frame.
    """
    chex.assert_shape(motion, (..., None, None))
    chex.assert_type(motion, float)
    rate = jnp.sqrt(jnp.square(jnp.diff(motion, axis=-2)).mean(axis=-1))
    offsets = np.arange(-6, 7)
    kernel = np.exp(-0.5 * (offsets / _SMOOTHING_FRAMES) ** 2)
    # Cuts the middle out of the full result: for a curve shorter than the kernel, mode "same"
    # returns as many values as the kernel has.
    smooth = jnp.vectorize(lambda x: jnp.convolve(x, kernel)[6:-6], signature="(t)->(t)")
    # Near the ends part of the kernel lies outside; the rest is scaled to sum to one.
    return smooth(rate) / smooth(jnp.ones_like(rate))


@typechecked
def speed_error(generated: MotionSequence, real: MotionSequence) -> Float[Array, "*b"]:
    """Distance between two speed curves, relative to the real one: 1 for no motion at all.

    Speech determines when and how strongly people move far more than in which direction, so this
    compares only the former: mean absolute difference of `speed`, divided by the mean real speed.

    Args:
      generated: [*b, t, d].
      real: the same.

    Returns:
      [*b].
    """
    chex.assert_equal_shape([generated, real])
    real_speed = speed(real)
    difference = jnp.abs(speed(generated) - real_speed).mean(axis=-1)
    return difference / jnp.maximum(real_speed.mean(axis=-1), 1e-8)


@typechecked
def speed_correlation(generated: MotionSequence, real: MotionSequence) -> Float[Array, "*b"]:
    """Pearson's correlation of two speed curves: whether both move at the same moments.

    It is 1 for the same timing, about 0 for motion that follows other speech, and 0 for no motion.

    Args:
      generated: [*b, t, d].
      real: the same.

    Returns:
      [*b].
    """
    chex.assert_equal_shape([generated, real])
    return correlation(speed(generated), speed(real))


@typechecked
def correlation(one: Float[Array, "*b t"], other: Float[Array, "*b t"]) -> Float[Array, "*b"]:
    """Pearson's correlation of curves [*b, t] along their last axis: [*b].

    It is 0 where a curve is constant.
    """
    chex.assert_equal_shape([one, other])
    one, other = (curve - curve.mean(axis=-1, keepdims=True) for curve in (one, other))
    norm = jnp.sqrt(jnp.square(one).sum(axis=-1) * jnp.square(other).sum(axis=-1))
    return (one * other).sum(axis=-1) / jnp.maximum(norm, 1e-8)


@typechecked
def diversity(features: Float[Array, "n k"], *, num_pairs: int = 500, seed: int = 0) -> float:
    """Mean L1 distance, summed over the features, of random pairs of examples (Liu et al. 2022).

    No example is paired with itself. More is not better, because jitter is diverse too: compare
    with the value of real motion, for the same features and the same number of pairs.

    Args:
      features: [n, k], such as latents of `fgd.encode_windows`.
      num_pairs: number of pairs, drawn with replacement.
      seed: seeds the draw.

    Raises:
      InputError: for fewer than two examples.
    """
    chex.assert_rank(features, 2)
    chex.assert_type(features, float)
    features = np.asarray(features, np.float64)
    count = len(features)
    if count < 2:
        raise InputError(f"diversity needs two examples or more, not {count}")
    random = np.random.default_rng(seed)
    first = random.integers(count, size=num_pairs)
    second = (first + random.integers(1, count, size=num_pairs)) % count
    return float(np.abs(features[first] - features[second]).sum(axis=1).mean())


@typechecked
def l1_diversity(clips: Sequence[Float[Array, "_ d"]]) -> float:
    """The distance of poses to their clip's mean pose (L1div of BEAT and EMAGE, Liu et al. 2022).

    This is the mean over all frames of the L1 distance, summed over the features, to the mean of
    their clip. So it grows with the number of features, and a clip counts by its length. As with
    `diversity`, more is not better: compare with the value of real motion.

    Args:
      clips: [t, d] each, t of any length.

    Raises:
      InputError: where there is no frame.
    """
    chex.assert_rank(list(clips), 2)
    chex.assert_type(list(clips), float)
    clips = [np.asarray(clip, np.float64) for clip in clips if len(clip)]
    if not clips:
        raise InputError("L1 diversity needs a clip of one frame or more")
    return float(np.concatenate([np.abs(clip - clip.mean(axis=0)) for clip in clips]).sum(1).mean())


@typechecked
def seam_jerk_ratio(motion: Float[Array, "t d"], borders: Sequence[int]) -> float:
    """Jerk across the seams between windows, divided by jerk elsewhere; 1 for invisible seams.

    Jerk is the L2 norm of the third difference, which four frames determine. It crosses a border b
    where some of the four lie before b and some at b or later. That is so for three values, from
    frames b - 3 to b up to frames b - 1 to b + 2.

    Args:
      motion: [t, d].
      borders: first frames of windows; the clip's own first frame and its end are no seams.

    Returns:
      The ratio of the two means; NaN where there is no seam, where there is nothing but seams or
      where the motion is at rest; infinity where it is at rest except at seams.
    """
    chex.assert_rank(motion, 2)
    chex.assert_type(motion, float)
    jerk = np.linalg.norm(np.diff(np.asarray(motion, np.float64), n=3, axis=0), axis=1)
    behind = np.asarray(borders, int)[:, None] - np.arange(len(jerk))
    crossing = ((behind >= 1) & (behind <= 3)).any(axis=0)
    total = lambda chosen: np.array([jerk[chosen].sum(), chosen.sum()])
    (across, num_across), (elsewhere, num_elsewhere) = total(crossing), total(~crossing)
    with np.errstate(divide="ignore", invalid="ignore"):
        return float((across / num_across) / (elsewhere / num_elsewhere))
