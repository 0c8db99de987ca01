"""Synthesised speech, and the lengths of the pauses between its phrases."""

import dataclasses

import numpy as np

from gesture_jax.speech.phones import Phone

# A pause is long, and lets the hands come to rest and the other person speak, with this chance.
_LONG_SHARE = 0.22
_SHORT_SEC, _LONG_SEC = (0.35, 0.9), (1.2, 2.8)


@dataclasses.dataclass(frozen=True)
class Talk:
    """Synthesised speech.

    Attributes:
      audio: [n] float, 16 kHz, peak about 1.
      phones: its phones, in the order of time.
      stresses: times of stressed vowels in seconds, and their strengths, about 1.
    """

    audio: np.ndarray
    phones: list[Phone]
    stresses: list[tuple[float, float]]


def draw_pause(rng: np.random.Generator) -> float:
    """Returns the length of a pause between two phrases, in seconds."""
    return float(rng.uniform(*(_LONG_SEC if rng.random() < _LONG_SHARE else _SHORT_SEC)))
