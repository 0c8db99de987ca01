"""Example portraits, speech and a driving video, drawn by the procedural speaker."""

import dataclasses
import pathlib

from gesture_jax.media import images
from gesture_jax.media.rates import SAMPLE_RATE_HZ
from gesture_jax.media.writer import write_audio, write_video
from gesture_jax.procedural import speaker

_PEOPLE = 0, 1, 2, 3, 4, 5
_SIZE = 256
_SPEECH_SEC = 5.0
_DRIVING_SEC = 2.0


@dataclasses.dataclass(frozen=True)
class Examples:
    """Paths of files.

    Attributes:
      portraits: of people at rest.
      speeches: of two voices.
      driving: a video of another person who gestures.
    """

    portraits: list[str]
    speeches: list[str]
    driving: str


def draw_examples(folder: pathlib.Path) -> Examples:
    """Writes all examples into a folder."""
    portraits = [str(folder / f"drawn_{identity}.png") for identity in _PEOPLE]
    for identity, path in zip(_PEOPLE, portraits, strict=True):
        images.write_image(path, speaker.portrait(identity=identity, size=_SIZE))
    speeches = []
    for identity in _PEOPLE[:2]:
        done = speaker.perform(identity=identity, seed=1, duration_sec=_SPEECH_SEC, size=16)
        speeches.append(str(folder / f"voice_{identity}.wav"))
        write_audio(speeches[-1], done.audio, SAMPLE_RATE_HZ)
    done = speaker.perform(identity=3, seed=2, duration_sec=_DRIVING_SEC, size=_SIZE)
    driving = str(folder / "driving.mp4")
    write_video(driving, done.frames, audio=done.audio)
    return Examples(portraits, speeches, driving)
