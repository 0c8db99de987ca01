"""The plots of a report, as SVG."""

import io
import math
from collections.abc import Iterator, Sequence

import numpy as np
from matplotlib.figure import Figure

from gesture_jax.evaluation.results import Results
from gesture_jax.media.rates import FPS

_COLORS = {"real": "#8a94a6", "generated": "#2463eb"}
_WIDTH_IN = 10.0
# A beat more than half a second away is unrelated to an onset.
_OFFSET_SEC = 0.5
_BINS = 41


def draw(results: Results, shown: Sequence[str]) -> Iterator[str]:
    """Draws SVG elements: beats around onsets, speeds of the clips `shown`, values of all clips."""
    for figure in (_beats(results), _speeds(results, shown), _clips(results)):
        if figure is not None:
            yield _to_svg(figure)


def _beats(results: Results) -> Figure | None:
    """A histogram of the distances from onsets to the nearest motion beats, over all clips."""
    figure, (axes,) = _figure(1)
    bins = np.linspace(-_OFFSET_SEC, _OFFSET_SEC, _BINS)
    drawn = False
    for side, color in _COLORS.items():
        offsets = [c[f"offsets_{side}"] for c in results.curves.values() if f"offsets_{side}" in c]
        offsets = np.concatenate(offsets) if offsets else np.zeros(0)
        if len(offsets):
            share = np.full(len(offsets), 1 / len(offsets))
            axes.hist(offsets, bins, weights=share, histtype="step", color=color, label=side, lw=2)
            drawn = True
    axes.axvline(0, color="#1c2330", lw=0.8)
    _label(axes, "nearest motion beat, in seconds after an onset of the speech", "share of onsets")
    return figure if drawn else None


def _speeds(results: Results, shown: Sequence[str]) -> Figure | None:
    """The speed of each of a few clips."""
    known = lambda name: "speed_generated" in results.curves.get(name, {})
    shown = [name for name in dict.fromkeys(shown) if known(name)]
    if not shown:
        return None
    figure, rows = _figure(len(shown))
    for axes, name in zip(rows, shown, strict=True):
        for side, color in _COLORS.items():
            curve = results.curves[name].get(f"speed_{side}")
            if curve is not None:
                axes.plot((np.arange(len(curve)) + 0.5) / FPS, curve, color=color, label=side)
        _label(axes, "seconds", "speed", title=name)
    return figure


def _clips(results: Results) -> Figure | None:
    """The values of all clips in ascending order, for each metric that clips have."""
    names = sorted({name for clip in results.clips.values() for name in clip})
    tables = {n: sorted(_finite(clip.get(n) for clip in results.clips.values())) for n in names}
    tables = {name: values for name, values in tables.items() if len(values) > 1}
    if not tables:
        return None
    figure, rows = _figure(len(tables), height_in=1.5)
    for axes, (name, values) in zip(rows, tables.items(), strict=True):
        axes.plot(values, "o-", color=_COLORS["generated"], ms=3)
        _label(axes, "clips, in order", name)
    return figure


def _finite(values) -> list[float]:
    return [value for value in values if value is not None and math.isfinite(value)]


def _figure(rows: int, *, height_in: float = 2.4):
    # pyplot would keep the figure in a global list.
    figure = Figure(figsize=(_WIDTH_IN, height_in * rows), layout="constrained")
    return figure, figure.subplots(rows, squeeze=False)[:, 0]


def _label(axes, x: str, y: str, *, title: str = "") -> None:
    axes.set(xlabel=x, ylabel=y, title=title)
    axes.spines[["top", "right"]].set_visible(False)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False)


def _to_svg(figure: Figure) -> str:
    file = io.StringIO()
    # Leaves out the date, so that the same results give the same page.
    figure.savefig(file, format="svg", metadata={"Date": None})
    text = file.getvalue()
    return text[text.index("<svg") :]
