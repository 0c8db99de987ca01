"""Beat alignment of motion and sound (BAS, "beat consistency"), by the name of its variant.

    BAS = mean over a in A of exp(-min over b in B of (a - b)^2 / (2 sigma^2))                  (1)

A are the beats of the sound and B those of the motion; a variant may average over B instead. Papers
agree on (1) and on nothing else, so that a value without the name of its variant says little:

| variant | beats of the motion: minima of | beats of the sound | sigma |
|---|---|---|---|
| `onsets` | the speed of all features, smoothed by 80 ms; joints are not needed | onsets | 0.1 s |
| `bailando` | the joints' mean speed, smoothed by 83 ms | onsets | 0.05 s |
| `ha2g` | the change of the arms' angles, relative to the usual | onsets | 0.1 s |
| `beat` | the right wrist's speed | onsets, moved back to the quiet before them | 0.3 s |
| `emage` | each joint's speed by itself; their scores are averaged | onsets | 0.3 s |

`onsets` is ours and the default: Bailando's beats (Li et al. 2022), of any features, with HA2G's
width. Theirs is of music, whose beats are given; with speech its onsets take their place, here as
in the others: HA2G (Liu et al. 2022), BEAT (Liu et al. 2022) and EMAGE (Liu et al. 2024). Their
code counts in frames of their data; here all is in seconds, and a difference of two frames is that
of the moment between them, not of the frame before or after.

Many beats of the motion raise the usual form, jitter's included. So a value belongs beside the
number of beats a second, the value of real motion, and `shuffled`: that with other clips' sound.
"""

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import scipy.ndimage

from gesture_jax.array_types import Audio
from gesture_jax.errors import InputError
from gesture_jax.media.rates import FPS, SAMPLE_RATE_HZ
from gesture_jax.metrics import rates
from gesture_jax.people.pose import JOINT_NAMES
from gesture_jax.speech import beats as sound_beats
from gesture_jax.speech import spectrum

# Of the mean rate; what a minimum must lie below its neighbours, more than float32 rounds.
_MIN_DEPTH = 1e-5
# At 512 samples, 32 ms, the comparison with the 30 ms before compares with nothing, and each frame
# of a rise is an onset.
_ONSET_HOP = 256
_USUAL_HOP = 512
# Shorter sounds are padded with silence.
_SHORTEST_SAMPLES = 2048

Side = Literal["audio", "motion"]


@dataclasses.dataclass(frozen=True)
class Variant:
    """How beats are found and compared.

    Attributes:
      find_rates: from motion and the names of its joints to [t - 1, k] rates of change, or to
        [t, k] where each is that of its frame.
      sigma_sec: of (1): a beat this far off counts 0.61, one twice as far 0.14.
      smooth_sec: standard deviation of the Gaussian that smooths the curve; 0 for none.
      reach_sec: a minimum lies below all within this of it, and next to it at least.
      typical: rates are divided by what they usually are; see `typical_rates`.
      apart: each rate has its own beats and its own score; else the mean rate has.
      least_depth: how far a minimum must lie below the most within reach, of usual rates.
      least_rate: what a minimum must exceed, of usual rates.
      cut_sec: what does not count at either end of a clip.
      onset_hop: samples between two frames of the sound's spectrogram.
      backtracked: onsets are moved back to the least loudness before them.
      over: whose beats the mean is over; those of the other side may be as many as they like.
    """

    find_rates: Callable[[np.ndarray, Sequence[str]], np.ndarray]
    sigma_sec: float
    smooth_sec: float = 0.0
    reach_sec: float = 0.0
    typical: bool = False
    apart: bool = False
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
    usual: np.ndarray | None = None,
) -> float:
    """Beat alignment of one clip's motion with its sound, in [0, 1].

    Args:
      variant: by name, one of `VARIANTS`, or one's own.
      motion: as `find_motion_beats` takes it.
      audio: [n] float32, mono, 16 kHz; what goes on longer than the motion is not heard.
      names: of the joints.
      fps: frames of the motion a second.
      usual: of `typical_rates`.

    Returns:
      0 where the motion has no beats; NaN where the sound has none, which a mean over clips leaves
      out and counts.

    Raises:
      InputError: as `find_motion_beats`.
    """
    beats = find_motion_beats(variant, motion, names=names, fps=fps, usual=usual)
    return align(variant, beats, find_audio_beats(variant, audio), duration_sec=len(motion) / fps)


def find_motion_beats(
    variant: str | Variant,
    motion: np.ndarray,
    *,
    names: Sequence[str] = JOINT_NAMES,
    fps: float = FPS,
    usual: np.ndarray | None = None,
) -> list[np.ndarray]:
    """When a motion slows down, as a variant sees it.

    Args:
      variant: by name, one of `VARIANTS`, or one's own.
      motion: [t, j, 2 or 3] joints, or [t, d] features of comparable scale, which only `onsets`
        can use.
      names: of the joints, [j].
      fps: frames a second.
      usual: [k] of `typical_rates` of real motion; the clip's own means without it, which takes
        from `ha2g` and `emage` that little motion has few beats.

    Returns:
      [beats] in seconds, ascending, once; for each joint where a variant takes joints apart. Empty
      for motion at rest.

    Raises:
      InputError: for an unknown variant, features where joints are wanted, or joints that have not
        the names of those wanted.
    """
    chosen = find_variant(variant)
    curves = _find_rates(chosen, motion, names)
    if chosen.typical and len(curves):
        usual = curves.mean(axis=0) if usual is None else usual
        curves = curves / np.maximum(usual, 1e-8)
    if not chosen.apart:
        curves = curves.mean(axis=1, keepdims=True)
    curves = _smooth(curves, chosen.smooth_sec * fps)
    first = (len(motion) - len(curves)) / 2
    reach = max(round(chosen.reach_sec * fps), 1)
    return [(_find_minima(chosen, curve, reach) + first) / fps for curve in curves.T]


def typical_rates(
    variant: str | Variant, motions: Sequence[np.ndarray], *, names: Sequence[str] = JOINT_NAMES
) -> np.ndarray:
    """What a variant's rates are on average over all frames of real clips: [k].

    To be given, from the same real clips, for real and for generated motion at the same rate of
    frames.

    Raises:
      InputError: as `find_motion_beats`, or where there is no motion.
    """
    chosen = find_variant(variant)
    each = [_find_rates(chosen, motion, names) for motion in motions]
    if not sum(map(len, each)):
        raise InputError("typical rates want a motion of two frames or more")
    return np.concatenate(each).mean(axis=0)


def find_audio_beats(variant: str | Variant, audio: Audio) -> np.ndarray:
    """Finds when sounds begin, as a variant defines it; see `audio_onsets`."""
    chosen = find_variant(variant)
    return audio_onsets(audio, hop=chosen.onset_hop, backtracked=chosen.backtracked)


def align(
    variant: str | Variant,
    motion_beats: Sequence[np.ndarray],
    audio_beats: np.ndarray,
    *,
    duration_sec: float,
) -> float:
    """`beat_alignment`, averaged over the joints where a variant takes them apart.

    Args:
      variant: whose sigma and side are used.
      motion_beats: of `find_motion_beats`.
      audio_beats: [a] in seconds.
      duration_sec: of the motion; sound after its end does not count.

    Returns:
      In [0, 1]; 0 for no beats of the motion, NaN for none of the sound.
    """
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

    What a value has by chance, from the number of beats on either side alone. Clips whose beats are
    those of the motion's own clip, as where several people speak one recording, are left out.

    Args:
      variant: as of `align`.
      motion_beats: [n] of `find_motion_beats`.
      audio_beats: [n] of `find_audio_beats`, of the same clips in the same order.
      durations_sec: [n], of the motions.
      num_others: how many clips' sounds each motion is compared with, at most.

    Returns:
      [n]; NaN where no other clip has a beat.
    """
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
    """Beats a second of `find_motion_beats`, the mean over the joints where they are apart."""
    return float(np.mean([len(beats) for beats in motion_beats])) / duration_sec


def find_variant(variant: str | Variant) -> Variant:
    """The variant by its name; one's own as it is.

    Raises:
      InputError: for a name that is none.
    """
    if isinstance(variant, Variant):
        return variant
    if variant not in VARIANTS:
        raise InputError(f"{variant}: no such beat alignment; one of {', '.join(VARIANTS)}")
    return VARIANTS[variant]


def motion_beats(motion: np.ndarray, *, fps: float = FPS) -> np.ndarray:
    """When a motion slows down between two strokes: strict local minima of its `motion.speed`.

    The beats of `onsets`, as in Bailando and EDGE, whose Gaussian of 5 frames at 60 a second is the
    80 ms of `speed`. The first and last value are no minima, nor are equal ones. Speed i is the
    change from frame i to frame i + 1, hence that of the moment between them, (i + 0.5) / fps.

    Args:
      motion: [t, d], features of comparable scale.
      fps: frames a second.

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
    """(1): how close to each beat of one side a beat of the other is, in [0, 1].

    Args:
      motion_beats_sec: [m], in any order.
      audio_beats_sec: [a].
      sigma_sec: a beat this far off counts 0.61, one twice as far 0.14.
      over: whose beats are averaged over.

    Returns:
      0 for no motion beats; NaN for no audio beats, which a mean over clips leaves out and counts.
    """
    motion_beats_sec, audio_beats_sec = np.asarray(motion_beats_sec), np.asarray(audio_beats_sec)
    if not len(audio_beats_sec):
        return float("nan")
    if not len(motion_beats_sec):
        return 0.0
    gaps_sec = np.abs(audio_beats_sec[:, None] - motion_beats_sec)
    gap_sec = gaps_sec.min(axis=1 if over == "audio" else 0)
    return float(np.exp(-0.5 * np.square(gap_sec / sigma_sec)).mean())


def _find_rates(variant: Variant, motion: np.ndarray, names: Sequence[str]) -> np.ndarray:
    motion = np.asarray(motion, np.float64)
    if len(motion) > 1:
        return variant.find_rates(motion, names)
    # No rate, of as many features as there would be.
    return variant.find_rates(np.zeros((2, *motion.shape[1:])), names)[:0]


def _smooth(curves: np.ndarray, sigma_frames: float) -> np.ndarray:
    if not sigma_frames or not len(curves):
        return curves
    blur = lambda x: scipy.ndimage.gaussian_filter1d(
        x, sigma_frames, axis=0, mode="constant", truncate=3.0
    )
    # Near the ends the kernel loses weight; what is left is made to sum to one.
    return blur(curves) / blur(np.ones_like(curves))


def _find_minima(variant: Variant, curve: np.ndarray, reach: int) -> np.ndarray:
    """Indices of strict minima of [t], among the values up to `reach` before and after."""
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
    "onsets": Variant(rates.feature_speed, 0.1, smooth_sec=0.08, onset_hop=_ONSET_HOP),
    # 3 and 5 frames at 60 a second.
    "bailando": Variant(rates.joint_speeds, 0.05, smooth_sec=5 / 60, onset_hop=_ONSET_HOP),
    # Neighbours at 15 frames a second.
    "ha2g": Variant(rates.arm_angle_changes, 0.1, reach_sec=1 / 15, typical=True, least_depth=0.03),
    # Two frames at 15 a second.
    "beat": Variant(rates.wrist_speed, 0.3, reach_sec=2 / 15, backtracked=True),
    # Seven frames at 30 a second; 60 of them are cut.
    "emage": Variant(
        rates.upper_body_speeds, 0.3, reach_sec=7 / 30, typical=True, apart=True, least_rate=0.3,
        cut_sec=2.0,
    ),
}  # fmt: skip
