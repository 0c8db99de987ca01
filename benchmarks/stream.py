"""Measures the delay of frames while the speech is still being spoken.

    python -m benchmarks.stream [--portrait=PICTURE] [--size=256] [--stage1=DIR --stage2=DIR]

Speech of the procedural speaker is pushed in chunks of 40 ms, as from a microphone, with the
default schedule of the weights and with one that waits for no later speech. The speech features are
those of the weights. Without stages, the bundled weights are measured; without a portrait, a drawn
person, whom the networks render.
"""

import argparse
import time
from collections.abc import Iterator

from benchmarks.report import Figure, report
from gesture_jax.inference import bundled
from gesture_jax.inference.generator import GestureGenerator, Options
from gesture_jax.inference.portraits import Style
from gesture_jax.media.rates import SAMPLE_RATE_HZ
from gesture_jax.procedural import speaker

_SPEECH_SEC = 20.0
_RUNS = 3
# Only "mel" features need no later speech either; the baseline's wait for 0.6 s of it.
_LOW_LATENCY = {"hop": 5, "look_ahead": 0, "blend": 5}


def bundled_figures() -> Iterator[Figure]:
    """Yields the figures for all bundled weights, with a drawn person."""
    for name in bundled.PRESETS:
        yield from figures(name, **bundled.find(name))


def figures(
    label: str, *, stage1: str, stage2: str, portrait: str | None = None, size: int | None = None
) -> Iterator[Figure]:
    """Yields the figures for one pair of stages and a portrait, under a label."""
    generator = GestureGenerator.load(stage1=stage1, stage2=stage2)
    if portrait is None:
        portrait = speaker.portrait(identity=0, size=generator.animator.resolution)
    style = Style(crop="center", size=size)
    audio = speaker.perform(identity=0, seed=9, duration_sec=_SPEECH_SEC, size=16).audio
    low_latency = generator.options(stream_schedule=_LOW_LATENCY)
    for options in dict.fromkeys([generator.defaults, low_latency]):
        _push_all(generator, portrait, audio[: 4 * 16_000], style, options)  # Compiles.
        runs = [_push_all(generator, portrait, audio, style, options) for _ in range(_RUNS)]
        pace = options.stream_schedule
        schedule = f"hop {pace.hop}, look-ahead {pace.look_ahead}, {pace.candidates} candidates"
        name = f"{label}: stream, {schedule}"
        yield f"{name}: first frame after the first sample", "s", [first for first, _, _ in runs]
        yield f"{name}: longest wait for a push", "s", [longest for _, longest, _ in runs]
        yield f"{name}: time of work over time of speech", "", [total for _, _, total in runs]


def _push_all(
    generator: GestureGenerator, portrait, audio, style: Style, options: Options
) -> tuple[float, float, float]:
    """Returns time of the first frame, longest push, and share of time spent computing."""
    stream = generator.stream(portrait, style=style, options=options)
    spent, first = [], None
    for end in range(640, len(audio) + 1, 640):
        start = time.perf_counter()
        frames = stream.push(audio[end - 640 : end])
        spent.append(time.perf_counter() - start)
        if first is None and len(frames):
            first = end / SAMPLE_RATE_HZ + spent[-1]
    return first, max(spent), sum(spent) / (len(audio) / SAMPLE_RATE_HZ)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("portrait", "stage1", "stage2"):
        parser.add_argument(f"--{name}")
    parser.add_argument("--size", type=int, default=256)
    given = parser.parse_args()
    shown = {"portrait": given.portrait, "size": given.portrait and given.size}
    if given.stage1:
        report(figures("given weights", stage1=given.stage1, stage2=given.stage2, **shown))
    elif given.portrait:
        report(figures(bundled.PRESETS[0], **bundled.find(), **shown))
    else:
        report(bundled_figures())


if __name__ == "__main__":
    main()
