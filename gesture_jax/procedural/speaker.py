"""The procedural speaker: clips of drawn people who speak and gesture, with known joints.

They are for demos, tests and benchmarks: they show no real person, and there is any number of them
at any resolution, with exact joints and stresses. Everything is a function of (identity, seed).
"""

import dataclasses

import numpy as np

from gesture_jax.media.rates import FPS
from gesture_jax.procedural.drawing import draw
from gesture_jax.procedural.identity import make_identity
from gesture_jax.procedural.motion import JOINT_NAMES, gesture, joint_positions, rest_pose
from gesture_jax.procedural.voice import speak
from gesture_jax.speech.phones import Phone

__all__ = ["JOINT_NAMES", "Performance", "perform", "portrait"]


@dataclasses.dataclass(frozen=True)
class Performance:
    """A clip of the procedural speaker.

    Attributes:
      frames: [t, size, size, 3] uint8, 25 a second.
      audio: [640 t] float32 in [-1, 1], 16 kHz.
      joints: [t, j, 2] float32, (x, y) in pixels; `JOINT_NAMES` names them.
      stress_times_sec: [s] float32, times of the peaks of stressed syllables.
      other: [640 t] float32, 16 kHz, the sound of the other person, who speaks in long pauses.
      phones: the phones of the speech.
    """

    frames: np.ndarray
    audio: np.ndarray
    joints: np.ndarray
    stress_times_sec: np.ndarray
    other: np.ndarray
    phones: tuple[Phone, ...]


def perform(
    *, identity: int, seed: int, duration_sec: float, size: int = 256, voices: str = "formants"
) -> Performance:
    """Makes a clip of a person who speaks and gestures.

    Args:
      identity: number of the person, which determines appearance, voice and style.
      seed: seed of the speech and the gestures.
      duration_sec: length, rounded to whole frames, at least one.
      size: side of the frames in pixels.
      voices: "espeak" for real sentences (extra `[voices]`), or "formants".

    Raises:
      InputError: where the voices are not installed.
    """
    person = make_identity(identity)
    num_frames = max(1, round(duration_sec * FPS))
    speech = speak(person.voice, seed=seed, num_frames=num_frames, voices=voices)
    poses = gesture(person, speech, seed=seed)
    return Performance(
        frames=np.stack([draw(person, pose, size=size) for pose in poses]),
        audio=speech.audio,
        joints=np.stack([joint_positions(person, pose) for pose in poses]) * np.float32(size),
        stress_times_sec=speech.stress_times_sec,
        other=speech.other,
        phones=speech.phones,
    )


def portrait(*, identity: int, size: int = 256) -> np.ndarray:
    """Draws the silent person at rest, [size, size, 3] uint8."""
    person = make_identity(identity)
    return draw(person, rest_pose(person), size=size)
