"""`report.html`: one self-contained page with tables, plots and videos."""

import base64
import html
import itertools
import math
import os
import pathlib
import string
from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from gesture_jax.evaluation import plots, videos
from gesture_jax.evaluation.results import CONTROLS, Results
from gesture_jax.media.rates import FPS
from gesture_jax.media.sound import has_audio, read_sound
from gesture_jax.media.writer import Recording, write_video
from gesture_jax.metrics.scores import Score
from gesture_jax.storage.files import temporary_folder, write_beside

# Keeps the page small enough for a mail.
_SHOWN_SEC = 10
_CRF = 23
# Whether a higher value is better; for metrics not listed, the real videos' value is the best.
_HIGHER_IS_BETTER = {
    "fgd": False, "fgd_halves": False, "fvd": False, "fvd_halves": False,
    "psnr": True, "ssim": True, "st_lpips": False, "lpips": False,
    "lse_d": False, "lse_c": True,
}  # fmt: skip
# The metrics that rank clips from best to worst; the first one that clips have is used.
_RANKED_BY = "psnr", "bas"


def write(
    path: str | os.PathLike,
    results: Results,
    clips: Mapping[str, tuple[pathlib.Path | None, pathlib.Path]],
    *,
    size: int,
) -> None:
    """Writes the page.

    Args:
      path: the HTML file.
      results: the results of all parts.
      clips: by name, the pair of the real video, if there is one, and the generated one.
      size: side in pixels at which videos are shown.
    """
    known = {name: results.clips.get(name, {}) for name in clips}
    chosen = _choose(known)
    page = _PAGE.substitute(
        table=_table(results),
        notes=_list(results.notes),
        missing=_list(map(": ".join, _missing(results))),
        clips="".join(
            _figure(f"{rank}: {name}", _values(known[name]), *clips[name], size=size)
            for rank, name in chosen.items()
        ),
        plots=_section("Plots", "".join(plots.draw(results, list(chosen.values())))),
        controls=_list(map(": ".join, CONTROLS.items())),
        protocol=_definitions(results.protocol),
    )
    with write_beside(path) as beside:
        beside.write_text(page, encoding="utf-8")


def plain_table(results: Results) -> str:
    """The results for a terminal: one line for each metric, missing metric and note."""
    width = max(map(len, results.scores), default=0)
    lines = []
    for name, score in results.scores.items():
        controls = ", ".join(
            f"{row} {_number(scores[name].value)}"
            for row, scores in results.controls.items()
            if name in scores
        )
        interval = f"({_number(score.low)} to {_number(score.high)}, {score.count} clips)"
        lines.append(f"{name:{width}}  {_number(score.value):>9}  {interval}  {controls}".rstrip())
    lines += [f"not computed: {names}: {reason}" for names, reason in _missing(results)]
    lines += [f"note: {note}" for note in results.notes]
    return "\n".join(lines)


def _choose(clips: Mapping[str, Mapping[str, float]]) -> dict[str, str]:
    """The names of the best, the median and the worst clip, by their titles."""
    for metric in _RANKED_BY:
        scored = {n: v[metric] for n, v in clips.items() if math.isfinite(v.get(metric, math.nan))}
        if scored:
            order = sorted(scored, key=scored.get, reverse=True)
            ranks = {"best": order[0], "median": order[len(order) // 2], "worst": order[-1]}
            return {f"{rank} by {metric}": name for rank, name in ranks.items()}
    return {"first": next(iter(clips))} if clips else {}


def _missing(results: Results) -> Iterator[tuple[str, str]]:
    """Names of missing metrics, joined where they share a reason, and that reason."""
    by_reason = sorted(results.missing, key=results.missing.get)
    for reason, names in itertools.groupby(by_reason, results.missing.get):
        yield ", ".join(names), reason


def _table(results: Results) -> str:
    rows = list(results.controls)
    titles = "metric", "value", "95 % interval", "clips", *rows
    head = "".join(f"<th>{html.escape(title)}</th>" for title in titles)
    body = "".join(_row(name, score, results, rows) for name, score in results.scores.items())
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _row(name: str, score: Score, results: Results, rows: list[str]) -> str:
    metric = name.removesuffix("_hands").removesuffix("_background")
    arrow = {True: " ↑", False: " ↓", None: ""}[_HIGHER_IS_BETTER.get(metric)]
    controls = [results.controls[row].get(name) for row in rows]
    cells = [
        html.escape(name) + arrow,
        f"<b>{_number(score.value)}</b>",
        f"{_number(score.low)} to {_number(score.high)}",
        str(score.count),
        *("" if control is None else _number(control.value) for control in controls),
    ]
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def _number(value: float) -> str:
    return f"{value:.4g}" if math.isfinite(value) else "–"


def _values(clip: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {_number(value)}" for name, value in clip.items())


def _figure(
    title: str, values: str, real: pathlib.Path | None, generated: pathlib.Path, *, size: int
) -> str:
    content = base64.b64encode(_side_by_side(real, generated, size=size)).decode()
    sides = "real, generated" if real else "generated"
    return (
        f"<figure><video controls muted loop playsinline preload='auto' "
        f"src='data:video/mp4;base64,{content}'></video>"
        f"<figcaption><b>{html.escape(title)}</b> ({sides})<br>{html.escape(values)}</figcaption>"
        "</figure>"
    )


def _side_by_side(real: pathlib.Path | None, generated: pathlib.Path, *, size: int) -> bytes:
    """The bytes of an mp4 that shows both videos, with the generated one's sound."""
    sides = [videos.read_frames(path, size=size) for path in (real, generated) if path]
    frames = (np.hstack(both) for both in zip(*sides, strict=False))
    sound = read_sound(generated) if has_audio(generated) else None
    with temporary_folder() as folder:
        path = folder / "clip.mp4"
        write_video(
            path,
            itertools.islice(frames, _SHOWN_SEC * FPS),
            audio=sound and Recording(generated, sound.track, stop_sec=_SHOWN_SEC),
            crf=_CRF,
        )
        return path.read_bytes()


def _list(sentences: Iterable[str]) -> str:
    return "".join(f"<li>{html.escape(sentence)}</li>" for sentence in sentences) or "<li>none</li>"


def _section(title: str, content: str) -> str:
    return content and f"<h2>{title}</h2>{content}"


def _definitions(values: Mapping[str, object]) -> str:
    return "".join(
        f"<dt>{html.escape(name)}</dt><dd>{html.escape(str(value))}</dd>"
        for name, value in values.items()
    )


_PAGE = string.Template("""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Evaluation by gesture_jax</title>
<style>
  body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem;
         color: #1c2330; background: #fff; }
  h1, h2 { line-height: 1.2; font-weight: 600; }
  table { border-collapse: collapse; display: block; overflow-x: auto; }
  th, td { padding: .35rem .8rem; text-align: right; border-bottom: 1px solid #dfe3ea;
           font-variant-numeric: tabular-nums; white-space: nowrap; }
  th:first-child, td:first-child { text-align: left; }
  thead th { border-bottom: 2px solid #1c2330; }
  .clips { display: grid; grid-template-columns: repeat(auto-fit, minmax(20rem, 1fr));
           gap: 1.5rem; }
  figure { margin: 0; }
  figcaption { font-size: .85rem; overflow-wrap: anywhere; }
  video { width: 100%; border-radius: 6px; background: #000; }
  svg { max-width: 100%; height: auto; }
  dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1.5rem;
       font-size: .85rem; }
  dd { margin: 0; overflow-wrap: anywhere; }
</style>
<h1>Generated against real video</h1>
$table
<p>↑ higher is better, ↓ lower is better; without an arrow, the real videos' value is the best one.
Intervals are from a bootstrap over clips.</p>
<h2>Notes on these numbers</h2>
<ul>$notes</ul>
<h2>Clips</h2>
<div class="clips">$clips</div>
$plots
<h2>Controls</h2>
<ul>$controls</ul>
<h2>Not computed</h2>
<ul>$missing</ul>
<h2>Protocol</h2>
<dl>$protocol</dl>
</html>
""")
