"""The results of an evaluation, and the file `metrics.json`."""

import dataclasses
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from gesture_jax.metrics.frechet import Moments, small_sample_note
from gesture_jax.metrics.scores import Score
from gesture_jax.storage.files import write_beside

CONTROLS = {
    "real": "one half of the real videos against the other half: the best value that generated "
    "videos can reach in the rows of halves",
    "still": "the first frame of each real video, repeated",
    "shuffled": "the frames of each real video in random order",
    "other speech": "the generated motion, against the sound of other clips",
    "late sound": "the generated lips, against their own sound 0.2 s later",
}
"""The controls that a report shows beside the metrics, and their meanings."""


def make_controls(seed: int) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """The controls that are computed from real frames: functions from [t, *] to [t, *]."""
    return {
        "still": lambda frames: np.repeat(frames[:1], len(frames), axis=0),
        "shuffled": np.random.default_rng(seed).permutation,
    }


def small_sample_notes(metric: str, sides: Mapping[str, Sequence[np.ndarray]]) -> list[str]:
    """Warns of each side that has too few features for a Frechet distance.

    Args:
      metric: its name.
      sides: the features [k, d] of each clip, by "real" and "generated".
    """
    notes = {side: small_sample_note(Moments.of(np.concatenate(c))) for side, c in sides.items()}
    return [f"{metric}, {side}: {note}" for side, note in notes.items() if note]


@dataclasses.dataclass
class Results:
    """The results of one part of an evaluation, or of all parts.

    Attributes:
      scores: by metric.
      controls: by the key of `CONTROLS`, then by metric.
      clips: by the name of a clip, then by metric.
      missing: why a metric was not computed and how to get it, by metric.
      notes: warnings about the numbers, each a sentence.
      protocol: all settings that the numbers depend on, ready for JSON.
      seconds: time taken, by part.
      curves: arrays [n] for the plots, by the name of a clip, then by that of the curve.
    """

    scores: dict[str, Score] = dataclasses.field(default_factory=dict)
    controls: dict[str, dict[str, Score]] = dataclasses.field(default_factory=dict)
    clips: dict[str, dict[str, float]] = dataclasses.field(default_factory=dict)
    missing: dict[str, str] = dataclasses.field(default_factory=dict)
    notes: list[str] = dataclasses.field(default_factory=list)
    protocol: dict[str, Any] = dataclasses.field(default_factory=dict)
    seconds: dict[str, float] = dataclasses.field(default_factory=dict)
    curves: dict[str, dict[str, np.ndarray]] = dataclasses.field(default_factory=dict)

    def add(self, other: "Results") -> None:
        """Adds the results of another part."""
        self.scores |= other.scores
        for name in ("controls", "clips", "curves"):
            table = getattr(self, name)
            for row, values in getattr(other, name).items():
                table.setdefault(row, {}).update(values)
        self.missing |= other.missing
        self.notes += other.notes
        self.protocol |= other.protocol
        self.seconds |= other.seconds

    def write(self, path: str | os.PathLike) -> None:
        """Writes `metrics.json`: the metrics by name, then `controls`, `clips`, `protocol`, ...

        NaN and infinity become null.
        """
        content = {
            **{name: dataclasses.asdict(score) for name, score in self.scores.items()},
            **{name: {"missing": reason} for name, reason in self.missing.items()},
            "controls": {
                row: {name: dataclasses.asdict(score) for name, score in scores.items()}
                for row, scores in self.controls.items()
            },
            "clips": self.clips,
            "notes": self.notes,
            "protocol": self.protocol,
            "seconds": {name: round(value, 1) for name, value in self.seconds.items()},
        }
        with write_beside(path) as beside:
            beside.write_text(json.dumps(_finite(content), indent=2, allow_nan=False) + "\n")


def _finite(value: Any) -> Any:
    """Replaces NaN and infinity, which JSON lacks, by None."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    return value.item() if isinstance(value, np.integer) else value
