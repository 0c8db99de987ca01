"""Measures how well the lips of generated videos fit unseen synthetic speech.

    python -m benchmarks.lips PORTRAITS [STAGE1 STAGE2]

PORTRAITS is a folder of photographs. Each says sentences of eSpeak NG (extra `[voices]`) that were
not in the training data, in a voice of its own; MediaPipe (extra `[pose]`) measures the mouths in
the frames, at 256 pixels. The phones are known. Rows: the speech itself; the controls, other speech
and the same 0.2 s later. Without STAGE1 and STAGE2, the bundled weights are measured.
"""

import pathlib
import sys
import time

import numpy as np

from gesture_jax.inference import bundled
from gesture_jax.inference.generator import GestureGenerator
from gesture_jax.inference.portraits import Style
from gesture_jax.media.rates import SAMPLE_RATE_HZ
from gesture_jax.metrics.lips import NAMES, lip_scores
from gesture_jax.people.faces import mouth_opening
from gesture_jax.procedural.identity import make_identity
from gesture_jax.procedural.voice import Speech, speak

SCHEDULES = {
    "whole speech": {},
    "stream, look-ahead 10": {"hop": 10, "look_ahead": 10, "blend": 5, "candidates": 1},
    "stream, look-ahead 0": {"hop": 5, "look_ahead": 0, "blend": 5, "candidates": 1},
}
_NUM_FRAMES, _SIZE, _LATE_SEC = 250, 256, 0.2
# Numbers of people and seeds that no training data have.
_FIRST_PERSON, _FIRST_SEED = 5000, 900


def speeches(count: int) -> list[Speech]:
    """Returns unseen speech, each in another voice."""
    return [
        speak(
            make_identity(_FIRST_PERSON + number).voice,
            seed=_FIRST_SEED + number,
            num_frames=_NUM_FRAMES,
            voices="espeak",
        )
        for number in range(count)
    ]


def measure(
    generator: GestureGenerator, portraits: list[pathlib.Path], schedule: dict
) -> dict[str, dict[str, float]]:
    """Returns the mean scores for the speech and the controls."""
    said = speeches(len(portraits))
    options = generator.options(schedule=schedule)
    openings = []
    for number, (portrait, speech) in enumerate(zip(portraits, said, strict=True)):
        rendering = generator.render(
            portrait, speech.audio, style=Style(size=_SIZE), seed=number, options=options
        )
        openings.append(mouth_opening(rendering.frames()))
    late = round(_LATE_SEC * SAMPLE_RATE_HZ)
    rows: dict[str, list[dict[str, float]]] = {"own": [], "other speech": [], "0.2 s late": []}
    for number, opening in enumerate(openings):
        own, other = said[number], said[(number + 1) % len(said)]
        moved = np.concatenate([np.zeros(late, np.float32), own.audio])[: len(own.audio)]
        phones = [phone.shift(_LATE_SEC) for phone in own.phones]
        rows["own"].append(lip_scores(opening, own.audio, own.phones))
        rows["other speech"].append(lip_scores(opening, other.audio, other.phones))
        rows["0.2 s late"].append(lip_scores(opening, moved, phones))
    return {
        row: {name: float(np.nanmean([each[name] for each in scores])) for name in NAMES}
        for row, scores in rows.items()
    }


def main(folder: str, stages: list[str]) -> None:
    """Prints a table."""
    found = (
        bundled.find("photo")
        if not stages
        else dict(zip(("stage1", "stage2"), stages, strict=True))
    )
    generator = GestureGenerator.load(**found)
    portraits = sorted(
        path for path in pathlib.Path(folder).iterdir() if path.suffix in {".jpg", ".png"}
    )
    print("| windows | speech |", " | ".join(NAMES), "| time a frame, ms |")
    print("|" + "---|" * (len(NAMES) + 3))
    for name, schedule in SCHEDULES.items():
        start = time.perf_counter()
        scores = measure(generator, portraits, schedule)
        spent = 1000 * (time.perf_counter() - start) / (len(portraits) * _NUM_FRAMES)
        for row, values in scores.items():
            cells = " | ".join(f"{values[key]:.3g}" for key in NAMES)
            print(f"| {name} | {row} | {cells} | {spent:.0f} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
