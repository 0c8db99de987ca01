"""FGD, diversity and beat alignment of two folders, with their floor and their controls."""

import dataclasses
import pathlib
from collections.abc import Sequence

import numpy as np

from gesture_jax.evaluation import video_motion, videos
from gesture_jax.evaluation.results import Results, changes, small_sample_notes
from gesture_jax.evaluation.video_motion import Moves
from gesture_jax.metrics import beats, fgd
from gesture_jax.metrics import motion as motion_metrics
from gesture_jax.metrics.scores import frechet_score, halves_scores, mean_score, set_score

METRICS = (
    "fgd",
    "fgd_halves",
    "div",
    "div_real",
    "bas",
    "bas_real",
    "beats_per_sec",
    "beats_per_sec_real",
)
_FIT_STEPS = 2000
_STRIDE = 10
Sides = dict[str, list[Moves]]
"""All videos, by "real" and "generated"."""


@dataclasses.dataclass(frozen=True)
class MotionOptions:
    """Which motion, and how it is measured.

    Attributes:
      kind: one of `moves.KINDS`.
      bas_variant: one of `beats.VARIANTS`.
      window: of FGD and diversity, in frames.
      fit: folder of videos that FGD's autoencoder is fitted to; the real ones without it.
      autoencoder: file of a fitted one, which is used as it is.
    """

    kind: str = "pose"
    bas_variant: str = "onsets"
    window: int = 64
    fit: str = ""
    autoencoder: str = ""


def score(
    real: Sequence[pathlib.Path],
    generated: Sequence[pathlib.Path],
    options: MotionOptions,
    *,
    keep: pathlib.Path,
    paired: bool = False,
    seed: int = 0,
) -> Results:
    """All measures of motion.

    Args:
      real: videos.
      generated: others.
      options: which motion, and how it is measured.
      paired: whether each generated video belongs to the real one of its place.
      keep: where a fitted autoencoder is written, for `options.autoencoder` of another time.
      seed: of the fit, the pairs, the shuffled control and the bootstrap.

    Raises:
      InputError: where motion is missing or shorter than a window, or has not the joints that the
        beat alignment wants.
    """
    beats.find_variant(options.bas_variant)  # Before what takes long.
    sides = {
        name: video_motion.read_all(paths, options.kind, what=name)
        for name, paths in (("real", real), ("generated", generated))
    }
    variables, fitted = _find_autoencoder(options, sides["real"], keep, seed)
    controls = {
        name: [dataclasses.replace(clip, motion=change(clip.motion)) for clip in sides["real"]]
        for name, change in changes(seed).items()
    }
    results = Results()
    for part in (
        _score_sets(sides, controls, variables, options.window, paired, seed),
        _score_beats(sides, controls, options.bas_variant, seed),
        _describe(sides, options, variables, fitted, seed),
    ):
        results.add(part)
    return results


def _find_autoencoder(options: MotionOptions, real: list[Moves], keep: pathlib.Path, seed: int):
    """The variables, and the files that they were fitted to."""
    if options.autoencoder:
        return fgd.read_autoencoder(options.autoencoder), []
    if options.fit:
        real = video_motion.read_all(videos.find_videos(options.fit), options.kind, what="to fit")
    for clip in real:
        _check_length(clip, options.window)
    windows = fgd.Windows((clip.vectors for clip in real), window=options.window, stride=_STRIDE)
    variables = fgd.fit_autoencoder(windows, seed=seed, num_steps=_FIT_STEPS, progress=True)
    fgd.write_autoencoder(keep, variables)
    return variables, [clip.path for clip in real]


def _windows(clip: Moves, window: int) -> np.ndarray:
    _check_length(clip, window)
    return fgd.cut_windows(clip.vectors, window=window, stride=_STRIDE)


def _check_length(clip: Moves, window: int) -> None:
    if len(clip.motion) < window:
        raise videos.too_short(clip.path, window)


def _score_sets(
    sides: Sides,
    controls: Sides,
    variables: fgd.Variables,
    window: int,
    paired: bool,
    seed: int,
) -> Results:
    """FGD and diversity, of the latents of windows."""
    encode = lambda clips: [fgd.encode_windows(variables, _windows(c, window)) for c in clips]
    latents = {name: encode(clips) for name, clips in {**sides, **controls}.items()}
    notes = small_sample_notes("FGD", {side: latents[side] for side in sides})
    real = latents.pop("real")
    diversity = lambda clips: set_score(motion_metrics.diversity, clips, seed=seed)
    rows = {
        # Controls are made of the real clips, one of each.
        name: {
            "fgd": frechet_score(real, clips, paired=paired or name != "generated", seed=seed),
            "div": diversity(clips),
        }
        for name, clips in latents.items()
    }
    scores = {**rows.pop("generated"), "div_real": diversity(real)}
    if halves := halves_scores(real, latents["generated"], seed=seed):
        scores["fgd_halves"], rows["real"] = halves[0], {"fgd_halves": halves[1]}
    return Results(scores=scores, controls=rows, notes=notes)


def _score_beats(sides: Sides, controls: Sides, variant: str, seed: int) -> Results:
    """Beat alignment, and how many beats there are."""
    find = _BeatFinder(variant, sides["real"])
    results, rows = Results(), {}
    for name, clips in {**sides, **controls}.items():
        rows[name] = find.score(clips)
        if name not in sides:
            continue
        for clip in clips:
            results.curves.setdefault(clip.name, {}).update(find.curves(clip, name))
    generated = rows.pop("generated")
    results.clips = {
        clip.name: {name: values[index] for name, values in generated.items()}
        for index, clip in enumerate(sides["generated"])
    }
    other = find.score_other_sounds(sides["generated"])
    real = {f"{name}_real": values for name, values in rows.pop("real").items()}
    means = lambda values: {name: mean_score(each, seed=seed) for name, each in values.items()}
    results.scores = means({**generated, **real})
    results.controls = {name: means(values) for name, values in rows.items()}
    results.controls["other speech"] = means({"bas": other})
    silent = sum(1 for clip in sides["generated"] if not len(find.sound(clip)))
    if silent:
        results.notes.append(
            f"{silent} of {len(sides['generated'])} generated videos have no onset in their sound, "
            "and no part in the beat alignment"
        )
    return results


class _BeatFinder:
    """One variant of the beat alignment, at the usual rates of the real clips."""

    def __init__(self, variant: str, real: list[Moves]):
        self._variant = variant
        self._names = real[0].names
        self._usual = beats.typical_rates(variant, [c.motion for c in real], names=self._names)
        self._sounds: dict[pathlib.Path, np.ndarray] = {}

    def motion(self, clip: Moves) -> list[np.ndarray]:
        return beats.find_motion_beats(
            self._variant, clip.motion, names=self._names, usual=self._usual
        )

    def sound(self, clip: Moves) -> np.ndarray:
        # Controls have the sound of the clips that they are made of.
        if clip.path not in self._sounds:
            self._sounds[clip.path] = beats.find_audio_beats(self._variant, clip.audio)
        return self._sounds[clip.path]

    def score(self, clips: list[Moves]) -> dict[str, list[float]]:
        """By metric, a value a clip."""
        found = [self.motion(clip) for clip in clips]
        aligned = [
            beats.align(self._variant, each, self.sound(clip), duration_sec=clip.duration_sec)
            for clip, each in zip(clips, found, strict=True)
        ]
        rates = [
            beats.beats_per_sec(each, clip.duration_sec)
            for clip, each in zip(clips, found, strict=True)
        ]
        return {"bas": aligned, "beats_per_sec": rates}

    def score_other_sounds(self, clips: list[Moves]) -> np.ndarray:
        """A value a clip: its motion with the sounds of others."""
        return beats.shuffled(
            self._variant,
            [self.motion(clip) for clip in clips],
            [self.sound(clip) for clip in clips],
            [clip.duration_sec for clip in clips],
        )

    def curves(self, clip: Moves, side: str) -> dict[str, np.ndarray]:
        """What plots show of a clip: its speed, and where its beats are about the onsets."""
        motion, sound = np.concatenate(self.motion(clip)), self.sound(clip)
        curves = {f"speed_{side}": np.asarray(motion_metrics.speed(clip.vectors))}
        if len(motion) and len(sound):
            gaps = motion[None] - sound[:, None]
            nearest = np.abs(gaps).argmin(axis=1)
            curves[f"offsets_{side}"] = gaps[np.arange(len(gaps)), nearest]
        return curves


def _describe(
    sides: Sides,
    options: MotionOptions,
    variables: fgd.Variables,
    fitted: list[pathlib.Path],
    seed: int,
) -> Results:
    protocol = {
        "motion": options.kind,
        "bas_variant": options.bas_variant,
        "bas_sigma_sec": beats.find_variant(options.bas_variant).sigma_sec,
        "bas_averaged_over": beats.find_variant(options.bas_variant).over,
        "fgd_window_frames": options.window,
        "fgd_stride_frames": _STRIDE,
        "fgd_autoencoder_sha256": fgd.hash_autoencoder(variables),
    }
    if fitted:
        protocol["fgd_fit_seed"], protocol["fgd_fit_steps"] = seed, _FIT_STEPS
        protocol["fgd_fit_data_sha256"] = videos.hash_videos(fitted)
    notes = []
    for side, clips in sides.items():
        missing, all_of_them = sum(c.num_missing for c in clips), sum(c.motion.size for c in clips)
        if missing:
            share = missing / (all_of_them / 2)
            notes.append(
                f"{side} videos: {share:.1%} of the joints were not seen, and are interpolated"
            )
    return Results(protocol=protocol, notes=notes)
