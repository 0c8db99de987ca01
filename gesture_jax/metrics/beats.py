"""Beat alignment of motion and sound (BAS, "beat consistency"), in the variants of several papers.

    BAS = mean over a in A of exp(-min over b in B of (a - b)^2 / (2 sigma^2))                  (1)

A are the beats of the sound and B those of the motion; a variant may average over B instead. Papers
agree on (1) and on nothing else, so a value means little without the name of its variant:

| variant | beats of the motion: minima of | beats of the sound | sigma |
|---|---|---|---|
| `onsets` | the speed of all features, smoothed by 80 ms; joints are not needed | onsets | 0.1 s |
| `bailando` | the joints' mean speed, smoothed by 83 ms | onsets | 0.05 s |
| `ha2g` | the change of the arms' angles, relative to its mean | onsets | 0.1 s |
| `beat` | the right wrist's speed | onsets, moved back to the quiet before them | 0.3 s |
| `emage` | each joint's speed by itself; the joints' scores are averaged | onsets | 0.3 s |

`onsets` is ours and the default: Bailando's beats (Li et al. 2022) for any features, with HA2G's
sigma. Bailando is about music, whose beats are given; for speech its onsets replace them, here as
in the other papers: HA2G (Liu et al. 2022), BEAT (Liu et al. 2022) and EMAGE (Liu et al. 2024).
Their code counts in frames of their data. Here all times are in seconds, and a difference between
two frames belongs to the moment between them, not to the frame before or after.

Averaged over the beats of the sound, more beats of the motion raise the value, even those of
jitter. So report a value together with the number of beats per second, the value of real motion,
and `shuffled`, the value with the sound of other clips.
"""

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import Literal

import chex
import numpy as np
import scipy.ndimage

from gesture_jax.array_types import Audio
from gesture_jax.errors import InputError
from gesture_jax.media.rates import FPS, SAMPLE_RATE_HZ
from gesture_jax.metrics import motion_rates
from gesture_jax.people.pose import JOINT_NAMES
from gesture_jax.speech import beats as sound_beats
from gesture_jax.speech import spectrum

# How far a minimum must lie below its neighbours, as a share of the mean rate: above the rounding
# errors of float32.
_MIN_DEPTH = 1e-5
# With 512 samples (32 ms), the 30 ms with which a frame is compared contain no other frame,
# and each frame of a rise is an onset.
_ONSET_HOP = 256
_USUAL_HOP = 512
# Shorter sounds are padded with silence.
_SHORTEST_SAMPLES = 2048

Side = Literal["audio", "motion"]


@dataclasses.dataclass(frozen=True)
class Variant:
    """How beats are found and compared.

    Attributes:
      find_rates: computes rates of change from motion and the names of its joints: [t - 1, k], or
        [t, k] where each rate belongs to a frame.
      sigma_sec: sigma in (1); a beat this far off counts 0.61, one twice as far off 0.14.
      smooth_sec: standard deviation of the Gaussian that smooths the curve; 0 for none.
      reach_sec: a minimum lies below all values within this distance, and below its neighbours.
      relative: whether rates are divided by their means over real motion; see `typical_rates`.
      per_joint: whether each rate has its own beats and score; by default the mean rate has.
      least_depth: how far a minimum must lie below the highest value within reach.
      least_rate: the value that a minimum must exceed.
      cut_sec: the part at either end of a clip that does not count.
      onset_hop: samples between two frames of the sound's spectrogram.
      backtracked: whether onsets are moved back to the least loudness before them.
      over: the side whose beats (1) is averaged over.
    """

    find_rates: Callable[[np.ndarray, Sequence[str]], np.ndarray]
    sigma_sec: float
    smooth_sec: float = 0.0
    reach_sec: float = 0.0
    relative: bool = False
    per_joint: bool = False
    least_depth: float = 0.0
    least_rate: float = 0.0
    cut_sec: float = 0.0
    onset_hop: int = _USUAL_HOP
    backtracked: bool = False
    over: Side = "audio"


def bas(
    variant: str | Variant,
    motion: np.ndarray,
    audio: Audio,
    *,
    names: Sequence[str] = JOINT_NAMES,
    fps: float = FPS,
    typical: np.ndarray | None = None,
) -> float:
    """Beat alignment of one clip's motion with its sound, in [0, 1].

    Args:
      variant: a name in `VARIANTS`, or a variant of your own.
      motion: as `find_motion_beats` takes it.
      audio: [n] float32, mono, 16 kHz; sound after the end of the motion is ignored.
      names: of the joints.
      fps: frames of the motion per second.
      typical: from `typical_rates`.

    Returns:
      0 where the motion has no beats; NaN where the sound has none: leave such clips out of a mean,
      and say how many they are.

    Raises:
      InputError: as `find_motion_beats`.
    """
    beats = find_motion_beats(variant, motion, names=names, fps=fps, typical=typical)
    return align(variant, beats, find_audio_beats(variant, audio), duration_sec=len(motion) / fps)


def find_motion_beats(
    variant: str | Variant,
    motion: np.ndarray,
    *,
    names: Sequence[str] = JOINT_NAMES,
    fps: float = FPS,
    typical: np.ndarray | None = None,
) -> list[np.ndarray]:
    """The times at which a motion slows down, by the criteria of a variant.

    Args:
      variant: a name in `VARIANTS`, or a variant of your own.
      motion: [t, j, 2 or 3] joints, or [t, d] features of comparable scale, which only `onsets`
        can use.
      names: of the joints, [j].
      fps: frames per second.
      typical: [k], from `typical_rates` of real motion. By default the clip's own means are used;
        then little motion no longer has few beats in `ha2g` and `emage`.

    Returns:
      One array [beats] in seconds, ascending; one for each joint where the variant is `per_joint`.
      Empty for motion at rest.

    Raises:
      InputError: for an unknown variant, features where joints are needed, or joints without the
        names that the variant needs.
    """
    chosen = find_variant(variant)
    curves = _find_rates(chosen, motion, names)
    if chosen.relative and len(curves):
        typical = curves.mean(axis=0) if typical is None else typical
        chex.assert_shape(typical, curves.shape[1:])
        curves = curves / np.maximum(typical, 1e-8)
    if not chosen.per_joint:
        curves = curves.mean(axis=1, keepdims=True)
    curves = _smooth(curves, chosen.smooth_sec * fps)
    first = (len(motion) - len(curves)) / 2
    reach = max(round(chosen.reach_sec * fps), 1)
    return [(_find_minima(chosen, curve, reach) + first) / fps for curve in curves.T]


def typical_rates(
    variant: str | Variant, motions: Sequence[np.ndarray], *, names: Sequence[str] = JOINT_NAMES
) -> np.ndarray:
    """The means of a variant's rates over all frames of real clips: [k].

    Use the same means for real and for generated motion, at one frame rate.

    Raises:
      InputError: as `find_motion_beats`, or where there is no motion.
    """
    chosen = find_variant(variant)
    each = [_find_rates(chosen, motion, names) for motion in motions]
    if not sum(map(len, each)):
        raise InputError("typical rates need a motion of two frames or more")
    return np.concatenate(each).mean(axis=0)


def find_audio_beats(variant: str | Variant, audio: Audio) -> np.ndarray:
    """The times at which sounds begin, by the settings of a variant; see `audio_onsets`."""
    chosen = find_variant(variant)
    chex.assert_rank(audio, 1)
    return audio_onsets(audio, hop=chosen.onset_hop, backtracked=chosen.backtracked)


def align(
    variant: str | Variant,
    motion_beats: Sequence[np.ndarray],
    audio_beats: np.ndarray,
    *,
    duration_sec: float,
) -> float:
    """`beat_alignment`, averaged over the joints where the variant is `per_joint`.

    Args:
      variant: the variant, which sets sigma and the side that is averaged over.
      motion_beats: from `find_motion_beats`.
      audio_beats: [a] in seconds.
      duration_sec: of the motion; sound after its end does not count.

    Returns:
      In [0, 1]; 0 for no beats of the motion, NaN for none of the sound.
    """
    chex.assert_rank([*motion_beats, audio_beats], 1)
    chosen = find_variant(variant)
    inside = lambda beats: beats[
        (beats >= chosen.cut_sec) & (beats < duration_sec - chosen.cut_sec)
    ]
    scores = [
        beat_alignment(
            inside(beats), inside(audio_beats), sigma_sec=chosen.sigma_sec, over=chosen.over
        )
        for beats in motion_beats
    ]
    return float(np.mean(scores))


def shuffled(
    variant: str | Variant,
    motion_beats: Sequence[Sequence[np.ndarray]],
    audio_beats: Sequence[np.ndarray],
    durations_sec: Sequence[float],
    *,
    num_others: int = 8,
) -> np.ndarray:
    """The control: `align` of each motion with the sound of the clips after it, averaged.

    This is the value that chance gives, from the numbers of beats alone. Clips with the same beats
    as the motion's own clip are left out, because several videos may share one recording.

    Args:
      variant: as in `align`.
      motion_beats: [n] from `find_motion_beats`.
      audio_beats: [n] from `find_audio_beats`, of the same clips in the same order.
      durations_sec: [n], of the motions.
      num_others: the largest number of clips whose sound each motion is compared with.

    Returns:
      [n]; NaN where no other clip has a beat.
    """
    chex.assert_rank([*itertools.chain(*motion_beats), *audio_beats], 1)
    chex.assert_equal(len(motion_beats), len(audio_beats))
    count = len(motion_beats)
    means = np.full(count, np.nan)
    for index, (beats, duration_sec) in enumerate(zip(motion_beats, durations_sec, strict=True)):
        after = (audio_beats[(index + step) % count] for step in range(1, count))
        others = (sound for sound in after if not np.array_equal(sound, audio_beats[index]))
        scores = [
            align(variant, beats, sound, duration_sec=duration_sec)
            for sound in itertools.islice(others, num_others)
        ]
        known = [score for score in scores if not np.isnan(score)]
        means[index] = np.mean(known) if known else np.nan
    return means


def beats_per_sec(motion_beats: Sequence[np.ndarray], duration_sec: float) -> float:
    """Beats per second, from `find_motion_beats`; the mean over joints where there are several."""
    chex.assert_rank(list(motion_beats), 1)
    return float(np.mean([len(beats) for beats in motion_beats])) / duration_sec


def find_variant(variant: str | Variant) -> Variant:
    """The variant with a name; a `Variant` is returned unchanged.

    Raises:
      InputError: for an unknown name.
    """
    if isinstance(variant, Variant):
        return variant
    if variant not in VARIANTS:
        raise InputError(f"{variant}: no such beat alignment; one of {', '.join(VARIANTS)}")
    return VARIANTS[variant]


def motion_beats(motion: np.ndarray, *, fps: float = FPS) -> np.ndarray:
    """The times at which a motion slows down between strokes: strict local minima of its speed.

    These are the beats of `onsets`, as in Bailando and EDGE; their Gaussian of 5 frames at 60 per
    second is the 80 ms of `motion.speed`. The first and the last value are no minima, and neither
    are equal ones. Speed i is the change from frame i to frame i + 1, so it belongs to the moment
    between them, (i + 0.5) / fps.

    Args:
      motion: [t, d], features of comparable scale.
      fps: frames per second.

    Returns:
      [beats] in seconds, ascending; empty for motion at rest.
    """
    (beats,) = find_motion_beats("onsets", motion, fps=fps)
    return beats


def audio_onsets(audio: Audio, *, hop: int = _ONSET_HOP, backtracked: bool = False) -> np.ndarray:
    """When syllables and other sounds begin, as librosa's `onset_detect` finds it.

    Args:
      audio: [n] float32, mono, 16 kHz.
      hop: samples from one frame of the spectrogram to the next; 16 ms by default.
      backtracked: moves each onset back to the last local minimum of the loudness before it.

    Returns:
      [onsets] in seconds, ascending; empty for silence.
    """
    audio = np.pad(np.asarray(audio, np.float32), (0, max(0, _SHORTEST_SAMPLES - len(audio))))
    decibels = spectrum.mel_spectrogram_db(audio, rate_hz=SAMPLE_RATE_HZ, hop=hop)
    strength = spectrum.onset_strength(decibels, hop=hop)
    onsets = sound_beats.find_onsets(strength, rate_hz=SAMPLE_RATE_HZ, hop=hop)
    if backtracked:
        loudness = spectrum.loudness(spectrum.stft(audio, hop=hop))
        onsets = np.unique(sound_beats.move_back(onsets, loudness))
    return onsets * hop / SAMPLE_RATE_HZ


def beat_alignment(
    motion_beats_sec: np.ndarray,
    audio_beats_sec: np.ndarray,
    *,
    sigma_sec: float = 0.1,
    over: Side = "audio",
) -> float:
    """Equation (1): how close the beats of both sides are, in [0, 1].

    Args:
      motion_beats_sec: [m], in any order.
      audio_beats_sec: [a], in any order.
      sigma_sec: a beat this far off counts 0.61, one twice as far off 0.14.
      over: the side whose beats are averaged over.

    Returns:
      0 for no motion beats; NaN for no audio beats.
    """
    motion_beats_sec, audio_beats_sec = np.asarray(motion_beats_sec), np.asarray(audio_beats_sec)
    chex.assert_rank([motion_beats_sec, audio_beats_sec], 1)
    if not len(audio_beats_sec):
        return float("nan")
    if not len(motion_beats_sec):
        return 0.0
    gaps_sec = np.abs(audio_beats_sec[:, None] - motion_beats_sec)
    gap_sec = gaps_sec.min(axis=1 if over == "audio" else 0)
    return float(np.exp(-0.5 * np.square(gap_sec / sigma_sec)).mean())


def _find_rates(variant: Variant, motion: np.ndarray, names: Sequence[str]) -> np.ndarray:
    motion = np.asarray(motion, np.float64)
    chex.assert_shape(motion, (None, None, ...))
    if len(motion) > 1:
        return variant.find_rates(motion, names)
    # An empty array with the right number of features.
    return variant.find_rates(np.zeros((2, *motion.shape[1:])), names)[:0]


def _smooth(curves: np.ndarray, sigma_frames: float) -> np.ndarray:
    if not sigma_frames or not len(curves):
        return curves
    blur = lambda x: scipy.ndimage.gaussian_filter1d(
        x, sigma_frames, axis=0, mode="constant", truncate=3.0
    )
    # Near the ends part of the kernel lies outside; the rest is scaled to sum to one.
    return blur(curves) / blur(np.ones_like(curves))


def _find_minima(variant: Variant, curve: np.ndarray, reach: int) -> np.ndarray:
    """Indices of the strict minima of [t], compared with up to `reach` values before and after."""
    if len(curve) < 3:
        return np.zeros(0)
    around = np.pad(curve, reach, constant_values=np.nan)
    around = np.lib.stride_tricks.sliding_window_view(around, 2 * reach + 1)
    above = np.delete(around, reach, axis=1) - curve[:, None]
    found = np.nanmin(above, axis=1) > _MIN_DEPTH * curve.mean()
    found &= np.nanmax(above, axis=1) >= variant.least_depth
    found &= curve >= variant.least_rate
    found[[0, -1]] = False
    return np.flatnonzero(found)


VARIANTS = {
    "onsets": Variant(motion_rates.feature_speed, 0.1, smooth_sec=0.08, onset_hop=_ONSET_HOP),
    # 3 and 5 frames at 60 per second.
    "bailando": Variant(motion_rates.joint_speeds, 0.05, smooth_sec=5 / 60, onset_hop=_ONSET_HOP),
    # Neighbouring frames at 15 per second.
    "ha2g": Variant(
        motion_rates.arm_angle_changes, 0.1, reach_sec=1 / 15, relative=True, least_depth=0.03
    ),
    # Two frames at 15 per second.
    "beat": Variant(motion_rates.wrist_speed, 0.3, reach_sec=2 / 15, backtracked=True),
    # Seven frames at 30 per second; 60 frames are cut.
    "emage": Variant(
        motion_rates.upper_body_speeds, 0.3, reach_sec=7 / 30, relative=True, per_joint=True,
        least_rate=0.3, cut_sec=2.0,
    ),
}  # fmt: skip
