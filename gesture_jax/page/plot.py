"""Plots the motion of a clip against its sound."""

import io

import numpy as np
from matplotlib.figure import Figure

from gesture_jax.media.rates import FPS, SAMPLE_RATE_HZ
from gesture_jax.metrics.motion import speed

_SOUND, _MOTION = "#b9c3d6", "#4f46e5"
# Number of points of the waveform's outline.
_COLUMNS = 800


def draw(motion: np.ndarray, audio: np.ndarray | None) -> str:
    """Draws the speed of the motion over the waveform, as an SVG element.

    Args:
      motion: [t, d] motion features.
      audio: [n] at 16 kHz, or None without sound.
    """
    figure = Figure(figsize=(8.0, 2.3), layout="constrained")
    figure.patch.set_alpha(0.0)
    axes = figure.subplots()
    axes.patch.set_alpha(0.0)
    if audio is not None and len(audio):
        times, low, high = _outline(audio)
        peak = max(np.abs(audio).max(), 1e-3)
        axes.fill_between(times, low / peak, high / peak, color=_SOUND, lw=0, label="speech")
    curve = np.asarray(speed(motion)) if len(motion) > 1 else np.zeros(1)
    times = (np.arange(len(curve)) + 0.5) / FPS
    scaled = curve / max(curve.max(), 1e-9)
    axes.plot(times, scaled, color=_MOTION, lw=1.8, label="speed of the motion")
    axes.set(xlabel="seconds", yticks=[], xlim=(0, len(motion) / FPS), ylim=(-1.1, 1.1))
    axes.spines[["top", "right", "left"]].set_visible(False)
    above = {"loc": "lower left", "bbox_to_anchor": (0.0, 0.98), "borderaxespad": 0.0}
    axes.legend(frameon=False, ncols=2, fontsize=9, **above)
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata={"Date": None})
    text = file.getvalue()
    return text[text.index("<svg") :]


def _outline(audio: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Times, and the lowest and highest sample near each of them."""
    width = max(-(-len(audio) // _COLUMNS), 1)
    padded = np.pad(audio, (0, -len(audio) % width)).reshape(-1, width)
    times = (np.arange(len(padded)) + 0.5) * width / SAMPLE_RATE_HZ
    return times, padded.min(axis=1), padded.max(axis=1)
