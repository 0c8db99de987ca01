"""Measures how well a stage 1 animates photographs of people that it was not trained on.

    python -m benchmarks.photographs WEIGHTS --data=DATASET --portraits=DIR [--out=DIR]

WEIGHTS is the workdir of a stage 1, a file packed from it by `gesture_jax.pack`, or a bundled preset.
DATASET is made by `gesture_jax.prepare --portraits=DIR --test_portraits=NAME,...`. The first clip of
each person in its test split is measured, with its first frame as the source. --portraits is the
folder of all portraits, including those for training: a face has to be closer to its own portrait
than to any other. --beside names other weights to compare with. The extra `[pose]` finds faces and
people.

Prints a table with means over the clips and, in brackets, the lowest and highest values. Appends
every figure to `results.jsonl`, and writes contact sheets to --out.

| row | meaning |
|---|---|
| PSNR, SSIM, ST-LPIPS | for the whole frame |
| share of ST-LPIPS | ST-LPIPS of the reconstruction, relative to that of the source copied |
| sharpness | variance of the Laplacian within the box of the face or of the hands, relative to the driving frame |
| PSNR, hands | within the boxes of the hands |
| PSNR, background | outside the person's reach: where nobody stands and nothing moves |
| recognised | share of frames with a face that is closest, among all portraits, to the person's own (`metrics.identity.recognise`); with the person's own motion, with another person's motion, and with the changes of another person's motion |
| CSIM | cosine similarity of the embeddings of frame and portrait, with the person's own motion |
| same person | share of frames within the distance at which the face network was trained to accept a person |
"""  # noqa: E501  (each row of the table is one line)

import argparse
import itertools
import pathlib
import sys
from collections.abc import Iterator, Sequence

import jax
import numpy as np
from absl import logging

from benchmarks import report
from benchmarks.photographs import sheet
from benchmarks.photographs.clips import PhotographClip, read_clips, read_portraits
from benchmarks.photographs.scores import Identity, compare, st_lpips
from gesture_jax import cli
from gesture_jax.errors import InputError
from gesture_jax.inference import bundled
from gesture_jax.inference.animator import Animator
from gesture_jax.media import images
from gesture_jax.people import faces
from gesture_jax.pretrained import fetch
from gesture_jax.storage.cache import cache_dir

# The smallest and largest acceptable mean.
TARGETS = {
    "share of ST-LPIPS": (None, 0.6),
    "sharpness, face": (0.8, 1.2),
    "sharpness, hands": (0.8, 1.2),
    "PSNR, background": (35.0, None),
    "recognised, own motion": (0.98, None),
    "recognised, another's motion": (0.98, None),
    "recognised, another's changes": (0.98, None),
}
_MODES = ("own motion", "another's motion", "another's changes")
_COPY, _TRUE = "source copied", "true frames"

Scores = dict[str, list[float]]
"""Values by measure, one per clip; NaN where a clip cannot be measured."""


def animate(animator: Animator, clips: Sequence[PhotographClip]) -> Iterator[dict[str, np.ndarray]]:
    """Yields the frames of each clip by mode, [n, s, s, 3] each, at the size of the clip."""
    size = len(clips[0].source)
    larger = size if animator.model.carries_pixels and size > animator.resolution else None
    # The first row of each motion belongs to the source.
    motions = [animator.extract_motion([clip.source, *clip.frames]) for clip in clips]
    for number, clip in enumerate(clips):
        source = animator.encode_source(clip.source, size=larger)
        other = motions[(number + len(clips) // 2) % len(clips)]
        driven = motions[number], other, np.stack([*animator.retarget(source, other)])
        # `animate` and `generate` also adapt motion that is not the portrait's own.
        adapt = False, True, True
        pairs = zip(driven, adapt, strict=True)
        frames = [animator.render(source, motion[1:], adapt=each) for motion, each in pairs]
        yield {
            mode: np.stack([images.square(frame, size=size) for frame in each])
            for mode, each in zip(_MODES, frames, strict=True)
        }


def measure(
    animators: dict[str, Animator],
    clips: Sequence[PhotographClip],
    recogniser: Identity,
    out: str | None,
) -> dict[str, Scores]:
    """Scores each stage 1 by name, the source copied, and the true frames.

    Args:
      animators: the networks by name.
      clips: returned by `read_clips`.
      recogniser: recognises the people.
      out: folder for contact sheets, if any.
    """
    vgg = fetch.load_vgg16()
    streams = [animate(animator, clips) for animator in animators.values()]
    scores: dict[str, Scores] = {name: {} for name in (*animators, _COPY, _TRUE)}
    sheets: dict[str, list[list[np.ndarray]]] = {name: [] for name in animators}
    for clip, *made in zip(clips, *streams, strict=True):
        copied = np.broadcast_to(clip.source, clip.frames.shape)
        own = [modes[_MODES[0]] for modes in made]
        *distances, copy = st_lpips(vgg, clip, [*own, clip.source[None]])
        for name, modes, distance in zip(animators, made, distances, strict=True):
            row = compare(clip, modes[_MODES[0]])
            row |= {"ST-LPIPS": distance, "share of ST-LPIPS": distance / copy}
            for mode, frames in modes.items():
                row |= _of_mode(recogniser.scores(clip.speaker, frames), mode)
            _append(scores[name], row)
            sheets[name].append(sheet.draw_row(clip, modes[_MODES[0]]))
        _append(scores[_COPY], {**compare(clip, copied), "ST-LPIPS": copy})
        _append(scores[_TRUE], _of_mode(recogniser.scores(clip.speaker, clip.frames), _MODES[0]))
        print(f"{clip.speaker}: measured", file=sys.stderr)
    for name, rows in sheets.items() if out else ():
        pathlib.Path(out).mkdir(parents=True, exist_ok=True)
        images.write_image(pathlib.Path(out) / f"{name}.png", images.contact_sheet(rows))
    return scores


def _of_mode(found: dict[str, float], mode: str) -> dict[str, float]:
    shown = {key: found[key] for key in ("recognised", "faces not found")}
    row = {f"{key}, {mode}": value for key, value in shown.items()}
    return row | ({key: found[key] for key in ("CSIM", "same person")} if mode == _MODES[0] else {})


def _append(scores: Scores, row: dict[str, float]) -> None:
    for name, value in row.items():
        scores.setdefault(name, []).append(value)


def tabulate(scores: dict[str, Scores]) -> dict[str, dict[str, str]]:
    """Returns rows of target, whether the first weights reach it, means and ranges."""
    table = {}
    first = next(iter(scores))
    for measure in scores[first]:
        table[measure] = _judge(measure, _average(scores, first, measure))
        for name, each in scores.items():
            table[measure][name] = "-"
            if known := _known(each.get(measure, [])):
                values = _average(scores, name, measure), min(known), max(known)
                mean, low, high = (_show(measure, value) for value in values)
                table[measure][name] = f"{mean} ({low} to {high})"
    return table


def _average(scores: dict[str, Scores], name: str, measure: str) -> float:
    """Returns the mean over the clips; for shares, the ratio of means, as clips differ a lot."""
    if measure == "share of ST-LPIPS":
        ours, copies = (scores[each]["ST-LPIPS"] for each in (name, _COPY))
        return float(np.mean(ours) / np.mean(copies))
    known = _known(scores[name].get(measure, []))
    return float(np.mean(known)) if known else np.nan


def _known(values: Sequence[float]) -> list[float]:
    return [value for value in values if np.isfinite(value)]


def _judge(measure: str, average: float) -> dict[str, str]:
    if measure not in TARGETS:
        return {"target": "", "reached": ""}
    low, high = TARGETS[measure]
    bounds = [f"at least {_show(measure, low)}"] if low is not None else []
    bounds += [f"at most {_show(measure, high)}"] if high is not None else []
    holds = (low is None or average >= low) and (high is None or average <= high)
    return {"target": ", ".join(bounds), "reached": "yes" if holds else "no"}


def _show(measure: str, value: float) -> str:
    if _unit(measure) == "%":
        return f"{value:.0%}"
    return f"{value:.1f}" if _unit(measure) in ("dB", "frames") else f"{value:.3f}"


def _unit(measure: str) -> str:
    if measure.startswith("PSNR"):
        return "dB"
    if measure.startswith("faces not found"):
        return "frames"
    return "" if measure in ("SSIM", "ST-LPIPS", "CSIM") else "%"


def figures(scores: dict[str, Scores]) -> Iterator[report.Figure]:
    """Yields the figures for `results.jsonl`."""
    for name, measures in scores.items():
        for measure, values in measures.items():
            factor = 100.0 if _unit(measure) == "%" else 1.0
            if known := _known(values):
                unit, values = _unit(measure), [factor * value for value in known]
                yield f"photographs, {name}: {measure}", unit, values


def load_animators(weights: str, beside: str) -> dict[str, Animator]:
    """Loads the weights by name and, unless `beside` is "none", those to compare with."""
    found: dict[str, Animator] = {}
    for chosen in (weights, beside):
        if chosen != "none":
            preset = chosen in bundled.PRESETS
            path = bundled.find(chosen)["stage1"] if preset else chosen
            name = chosen if preset else pathlib.Path(path).stem
            found[f"{name}, beside" if name in found else name] = Animator.load(path)
    return found


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser("photographs", description=__doc__.splitlines()[0])
    parser.add_argument("weights", help="workdir, packed file or bundled preset of a stage 1")
    parser.add_argument("--data", required=True, help="dataset made from portraits")
    parser.add_argument("--portraits", required=True, help="folder of all portraits")
    parser.add_argument("--out", help="folder for contact sheets")
    parser.add_argument("--beside", default="none", help="weights to compare with, or none")
    parser.add_argument("--frames", type=int, default=12, help="number of driving frames per clip")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> None:
    """Measures, prints and saves."""
    given = _parse(arguments)
    if not jax.config.jax_compilation_cache_dir:  # A second run compiles nothing.
        jax.config.update("jax_compilation_cache_dir", str(cache_dir() / "xla"))
    animators = load_animators(given.weights, given.beside)
    with faces.open_finder() as find:
        clips, left_out = read_clips(given.data, find, num_frames=given.frames)
        portraits = read_portraits(given.portraits, find, size=len(clips[0].source))
        if strangers := sorted({clip.speaker for clip in clips} - {*portraits}):
            raise InputError(f"{given.portraits}: no portraits of {', '.join(strangers)}")
        scores = measure(animators, clips, Identity(find, portraits), given.out)
    print(report.format_table(tabulate(scores), first="measure", show=lambda _, text: text))
    frames = given.frames * len(clips)
    print(f"\n{len(clips)} clips, {frames} frames; {len(portraits)} portraits to distinguish")
    for note in itertools.chain.from_iterable(clip.notes() for clip in clips):
        print(note)
    if left_out:
        print(f"{left_out} further clips of the same people were not measured")
    report.report(figures(scores), quiet=True)


if __name__ == "__main__":
    logging.set_verbosity(logging.WARNING)
    cli.one_sentence(main)(sys.argv[1:])
