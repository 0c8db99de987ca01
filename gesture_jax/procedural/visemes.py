"""Positions of the lips for phones: visemes, with co-articulation.

Each phone has a target for the lips. Neighbouring targets are mixed by their dominance (Cohen and
Massaro 1993, "Modeling coarticulation in synthetic visual speech"): lips anticipate a rounded vowel
during the consonant before it, for example. Lips nevertheless close fully for p, b and m.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter1d

from gesture_jax.media.rates import FPS
from gesture_jax.speech.phones import Phone

BILABIALS = frozenset("pbm")
LABIODENTALS = frozenset("fvɱʋ")
REST = (0.0, 0.45, 0.0)
"""Opening, width and visible teeth of lips at rest."""

# Times are sampled at this rate before they are reduced to video frames.
_RATE_HZ = 200
# Standard deviation of the mixing of targets.
_MIXING_SEC = 0.032
# Seconds by which lips move before the sound of a phone.
_LEAD_SEC = 0.02
# Lips are closed, or on the teeth, from this long before a phone starts, for at least this long.
_CLOSURE_LEAD_SEC = {"p": 0.065, "b": 0.03, "m": 0.02}
_LEAST_CLOSURE_SEC = 0.085
_RAMP_SEC = 0.04
# Opening, width, teeth, and dominance of each phone (IPA), by its first letters.
_TARGETS: dict[str, tuple[float, float, float, float]] = {
    # Vowels.
    "a": (1.0, 0.60, 0.0, 1.0), "ɑ": (0.95, 0.45, 0.0, 1.0), "ɐ": (0.75, 0.50, 0.0, 0.9),
    "æ": (0.90, 0.75, 0.0, 1.0), "ʌ": (0.70, 0.50, 0.0, 0.9), "ɒ": (0.80, 0.20, 0.0, 1.0),
    "ɔ": (0.75, 0.15, 0.0, 1.0), "o": (0.60, 0.05, 0.0, 1.0), "ɤ": (0.55, 0.35, 0.0, 0.9),
    "ə": (0.42, 0.48, 0.0, 0.7), "ɚ": (0.42, 0.35, 0.0, 0.8), "ɜ": (0.50, 0.35, 0.0, 0.9),
    "ɛ": (0.68, 0.75, 0.0, 1.0), "e": (0.55, 0.85, 0.0, 1.0), "œ": (0.55, 0.10, 0.0, 1.0),
    "ø": (0.45, 0.05, 0.0, 1.0), "ɪ": (0.38, 0.78, 0.1, 0.9), "i": (0.30, 1.00, 0.2, 1.0),
    "y": (0.25, 0.00, 0.0, 1.0), "ʏ": (0.30, 0.05, 0.0, 1.0), "ɨ": (0.32, 0.60, 0.1, 0.9),
    "ʊ": (0.35, 0.10, 0.0, 0.9), "u": (0.25, 0.00, 0.0, 1.0), "ɯ": (0.30, 0.45, 0.0, 0.9),
    # Lips.
    "p": (0.0, 0.45, 0.0, 1.5), "b": (0.0, 0.45, 0.0, 1.5), "m": (0.0, 0.45, 0.0, 1.5),
    "f": (0.16, 0.55, 1.0, 1.5), "v": (0.16, 0.55, 1.0, 1.5), "ɱ": (0.12, 0.55, 1.0, 1.2),
    "ʋ": (0.15, 0.50, 0.7, 1.0), "w": (0.18, 0.00, 0.0, 1.3), "ɥ": (0.18, 0.00, 0.0, 1.2),
    # Teeth and tongue.
    "θ": (0.22, 0.55, 0.6, 0.9), "ð": (0.22, 0.55, 0.6, 0.8), "s": (0.16, 0.70, 0.8, 0.9),
    "z": (0.16, 0.70, 0.8, 0.9), "ʃ": (0.25, 0.10, 0.6, 1.2), "ʒ": (0.25, 0.10, 0.6, 1.2),
    "tʃ": (0.25, 0.10, 0.6, 1.2), "dʒ": (0.25, 0.10, 0.6, 1.2), "ts": (0.16, 0.65, 0.8, 0.9),
    "ɕ": (0.20, 0.50, 0.6, 1.0), "ʑ": (0.20, 0.50, 0.6, 1.0), "t": (0.24, 0.55, 0.4, 0.6),
    "d": (0.24, 0.55, 0.4, 0.6), "n": (0.26, 0.50, 0.2, 0.5), "l": (0.34, 0.50, 0.1, 0.5),
    "ɾ": (0.30, 0.50, 0.1, 0.4), "ɹ": (0.28, 0.25, 0.1, 0.9), "r": (0.32, 0.45, 0.1, 0.5),
    "j": (0.24, 0.85, 0.2, 0.7), "ɲ": (0.26, 0.60, 0.2, 0.6), "ʎ": (0.28, 0.70, 0.2, 0.6),
    "β": (0.08, 0.45, 0.0, 1.3), "ᵻ": (0.34, 0.65, 0.1, 0.8),
    # Throat.
    "k": (0.32, 0.50, 0.0, 0.4), "g": (0.32, 0.50, 0.0, 0.4), "ɡ": (0.32, 0.50, 0.0, 0.4),
    "ŋ": (0.34, 0.50, 0.0, 0.4), "x": (0.35, 0.50, 0.0, 0.4), "ç": (0.28, 0.75, 0.2, 0.6),
    "h": (0.40, 0.50, 0.0, 0.3), "ʁ": (0.36, 0.48, 0.0, 0.4), "ɣ": (0.34, 0.50, 0.0, 0.4),
}  # fmt: skip
_UNKNOWN = (0.35, 0.50, 0.0, 0.3)


def tabulate(phones: Sequence[Phone]) -> dict[str, Any]:
    """Returns phones as the fields `phones` and `phone_times_sec` of `clips.Clip`."""
    times = np.array([(phone.start_sec, phone.end_sec) for phone in phones], np.float32)
    symbols = tuple(phone.name for phone in phones)
    return {"phones": symbols, "phone_times_sec": times.reshape(-1, 2)}


def lip_positions(phones: Sequence[Phone], num_frames: int) -> np.ndarray:
    """Computes the positions of the lips in each video frame, at the middle of its time.

    Args:
      phones: phones in the order of time; between them the lips are at rest.
      num_frames: t.

    Returns:
      [t, 3]: the opening, 0 (closed) to 1; the width, 0 (rounded) to 1 (spread); and how far the
      upper teeth show on the lower lip, 0 to 1.
    """
    time = np.arange(int(num_frames * _RATE_HZ / FPS) + 1) / _RATE_HZ
    targets = np.tile(np.array(REST), (len(time), 1))
    dominance = np.full(len(time), 0.6)
    closed, bitten = np.zeros(len(time)), np.zeros(len(time))
    for phone in phones:
        parts = _split(phone.name)
        edges = np.linspace(phone.start_sec, phone.end_sec, len(parts) + 1) - _LEAD_SEC
        for part, start, end in zip(parts, edges[:-1], edges[1:], strict=True):
            span = slice(*np.searchsorted(time, [start, end]))
            *target, weight = _TARGETS.get(part, _UNKNOWN)
            targets[span], dominance[span] = target, weight
        if phone.name[:1] in BILABIALS:
            closed = np.maximum(closed, _closure(phone, time))
        elif phone.name[:1] in LABIODENTALS:
            bitten = np.maximum(bitten, _closure(phone, time))
    sd = _MIXING_SEC * _RATE_HZ
    mixed = gaussian_filter1d(targets * dominance[:, None], sd, axis=0, mode="nearest")
    mixed = mixed / gaussian_filter1d(dominance, sd, mode="nearest")[:, None]
    opening = np.minimum(mixed[:, 0], 1.0 - bitten * (1.0 - _TARGETS["f"][0])) * (1.0 - closed)
    teeth = np.maximum(mixed[:, 2], bitten) * (1.0 - closed)
    tracks = np.clip(np.stack([opening, mixed[:, 1], teeth], axis=1), 0.0, 1.0)
    middles = (np.arange(num_frames) + 0.5) / FPS
    return np.stack([np.interp(middles, time, track) for track in tracks.T], axis=1)


def _closure(phone: Phone, time: np.ndarray) -> np.ndarray:
    """Returns how far lips are closed for a phone, 0 to 1, with ramps at both ends."""
    start = phone.start_sec - _CLOSURE_LEAD_SEC.get(phone.name[:1], _LEAD_SEC)
    end = max(start + _LEAST_CLOSURE_SEC, phone.end_sec - 0.03)
    outside = np.maximum(np.maximum(start - time, time - end), 0.0)
    return np.clip(1.0 - outside / _RAMP_SEC, 0.0, 1.0)


def _split(symbol: str) -> list[str]:
    """Splits a diphthong, such as aɪ, into symbols with targets; unknown signs are left out."""
    parts, place = [], 0
    while place < len(symbol):
        length = 2 if symbol[place : place + 2] in _TARGETS else 1
        part = symbol[place : place + length]
        if part in _TARGETS:
            parts.append(part)
        place += length
    return parts or [symbol]
