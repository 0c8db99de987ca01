"""FGD, diversity and beat alignment of two folders of videos, with controls."""

import dataclasses
import pathlib
from collections.abc import Sequence

import numpy as np

from gesture_jax.evaluation import video_motion, videos
from gesture_jax.evaluation.results import Results, make_controls, small_sample_notes
from gesture_jax.evaluation.video_motion import ClipMotion
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
Sides = dict[str, list[ClipMotion]]
"""The motion of all videos, by "real" and "generated"."""


@dataclasses.dataclass(frozen=True)
class MotionOptions:
    """Which kind of motion is compared, and how.

    Attributes:
      kind: one of `video_motion.KINDS`.
      bas_variant: a key of `beats.VARIANTS`.
      window: frames in a window of FGD and diversity.
      fit: folder of videos to fit FGD's autoencoder to; empty for the real videos.
      autoencoder: file of an autoencoder that is already fitted.
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
    """Computes all metrics of motion.

    Args:
      real: the real videos.
      generated: the generated videos.
      options: which kind of motion is compared, and how.
      keep: file to write a fitted autoencoder to, for a later `options.autoencoder`.
      paired: whether the generated videos belong to the real ones in the same order.
      seed: seeds the fit, the pairs, the shuffled control and the bootstrap.

    Raises:
      InputError: where motion is missing or shorter than a window, or lacks the joints that the
        beat alignment needs.
    """
    beats.find_variant(options.bas_variant)  # Fails early for an unknown name.
    sides = {
        name: video_motion.read_all(paths, options.kind, label=name)
        for name, paths in (("real", real), ("generated", generated))
    }
    variables, fitted = _find_autoencoder(options, sides["real"], keep, seed)
    controls = {
        name: [dataclasses.replace(clip, motion=change(clip.motion)) for clip in sides["real"]]
        for name, change in make_controls(seed).items()
    }
    results = Results()
    for part in (
        _score_sets(sides, controls, variables, options.window, paired, seed),
        _score_beats(sides, controls, options.bas_variant, seed),
        _describe(sides, options, variables, fitted, seed),
    ):
        results.add(part)
    return results


def _find_autoencoder(
    options: MotionOptions, real: list[ClipMotion], keep: pathlib.Path, seed: int
) -> tuple[fgd.Variables, list[pathlib.Path]]:
    """Reads or fits FGD's autoencoder: its variables, and the files that they were fitted to."""
    if options.autoencoder:
        return fgd.read_autoencoder(options.autoencoder), []
    if options.fit:
        real = video_motion.read_all(videos.find_videos(options.fit), options.kind, label="to fit")
    for clip in real:
        _check_length(clip, options.window)
    windows = fgd.Windows((clip.vectors for clip in real), window=options.window, stride=_STRIDE)
    variables = fgd.fit_autoencoder(windows, seed=seed, num_steps=_FIT_STEPS, progress=True)
    fgd.write_autoencoder(keep, variables)
    return variables, [clip.path for clip in real]


def _windows(clip: ClipMotion, window: int) -> np.ndarray:
    _check_length(clip, window)
    return fgd.cut_windows(clip.vectors, window=window, stride=_STRIDE)


def _check_length(clip: ClipMotion, window: int) -> None:
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
    """FGD and diversity of the latents of windows."""
    encode = lambda clips: [fgd.encode_windows(variables, _windows(c, window)) for c in clips]
    latents = {name: encode(clips) for name, clips in {**sides, **controls}.items()}
    notes = small_sample_notes("FGD", {side: latents[side] for side in sides})
    real = latents.pop("real")
    diversity = lambda clips: set_score(motion_metrics.diversity, clips, seed=seed)
    rows = {
        # Each control is computed from a real clip, so they are paired.
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
    """Beat alignment and the number of beats."""
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
            f"{silent} of {len(sides['generated'])} generated videos have no onset in their sound "
            "and are left out of the beat alignment"
        )
    return results


class _BeatFinder:
    """One variant of the beat alignment, relative to the typical rates of the real clips."""

    def __init__(self, variant: str, real: list[ClipMotion]):
        self._variant = variant
        self._names = real[0].names
        self._typical = beats.typical_rates(variant, [c.motion for c in real], names=self._names)
        self._sounds: dict[pathlib.Path, np.ndarray] = {}

    def motion(self, clip: ClipMotion) -> list[np.ndarray]:
        return beats.find_motion_beats(
            self._variant, clip.motion, names=self._names, typical=self._typical
        )

    def sound(self, clip: ClipMotion) -> np.ndarray:
        # Controls share the path and the sound of the clips that they are computed from.
        if clip.path not in self._sounds:
            self._sounds[clip.path] = beats.find_audio_beats(self._variant, clip.audio)
        return self._sounds[clip.path]

    def score(self, clips: list[ClipMotion]) -> dict[str, list[float]]:
        """One value for each clip, by metric."""
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

    def score_other_sounds(self, clips: list[ClipMotion]) -> np.ndarray:
        """The alignment of each clip's motion with the sounds of other clips."""
        return beats.shuffled(
            self._variant,
            [self.motion(clip) for clip in clips],
            [self.sound(clip) for clip in clips],
            [clip.duration_sec for clip in clips],
        )

    def curves(self, clip: ClipMotion, side: str) -> dict[str, np.ndarray]:
        """The curves of a clip for the plots: its speed, and its beats relative to the onsets."""
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
        missing = sum(clip.num_missing for clip in clips)
        if missing:
            share = missing / (sum(clip.motion.size for clip in clips) / 2)
            notes.append(
                f"{side} videos: {share:.1%} of the joints were not detected and are interpolated"
            )
    return Results(protocol=protocol, notes=notes)
