"""Checks that nothing diverges on pictures that are no portraits, animated with synthetic speech.

python -m benchmarks.strangers [STAGE1 STAGE2] [COUNT]

By default this uses the bundled weights and 200 pictures: noise, stripes, gradients, text, flat
colours, and the photographs in scikit-image, cut and mirrored. Each picture is animated for two
seconds. The Markdown table has a row for each kind of picture. The command exits with code 1 if a
picture exceeds one of the limits below.

| column | meaning |
|---|---|
| pictures | number of pictures |
| pose | distance of the picture's own motion feature from the training data: root mean square of its values, in standard deviations; about 1 for drawn portraits |
| motion | largest distance of a frame's pose from the picture's own pose, in the same unit |
| distance | mean absolute difference between a frame and the picture, in [0, 1]; largest over the frames, mean over the pictures |
| distance, most | the same, largest over the pictures |
| step, most | largest mean absolute difference between consecutive frames |
| beyond | number of pictures that exceed a limit |
"""  # noqa: E501  (each row of the table is one line)

import sys
from collections.abc import Callable, Iterator

import numpy as np
import skimage.data
from PIL import Image, ImageDraw

from benchmarks.report import format_table
from gesture_jax.inference import bundled
from gesture_jax.inference.generator import GestureGenerator, load_stage2
from gesture_jax.media.rates import FPS
from gesture_jax.models import motion_model
from gesture_jax.procedural import speaker

_SECONDS = 2.0
_SIDE = 256
_COUNT = 200
# Beyond these, a frame hardly resembles its picture or the frame before, or no person takes the
# pose. Diverged motion of old weights reached 0.3, 0.1 and 100.
_MOST_DISTANCE, _MOST_STEP, _MOST_MOTION = 0.25, 0.06, 4.0
_PHOTOGRAPHS = (
    "astronaut", "brick", "camera", "cell", "chelsea", "coffee", "coins", "grass", "gravel",
    "horse", "hubble_deep_field", "moon", "page", "retina", "rocket", "text",
)  # fmt: skip
_SENTENCE = "The quick brown fox jumps over the lazy dog. 0123456789 "


def pictures(count: int) -> Iterator[tuple[str, np.ndarray]]:
    """Yields pairs of kind and picture [h, w, 3] uint8; the kinds alternate."""
    makers = {
        "noise": _noise, "stripes": _stripes, "gradient": _gradient, "text": _text, "flat": _flat,
        "photograph": _photograph, "photograph, cut": _photograph_cut, "drawn person": _person,
    }  # fmt: skip
    for number in range(count):
        kind = list(makers)[number % len(makers)]
        random = np.random.default_rng(number)
        yield kind, makers[kind](random, number // len(makers))


def _noise(random: np.random.Generator, number: int) -> np.ndarray:
    """Returns noise of pixels or blocks, sharp or smooth."""
    blocks = 2 ** (number % 7 + 2)
    small = random.integers(0, 256, (blocks, blocks, 3), dtype=np.uint8)
    resample = (Image.Resampling.NEAREST, Image.Resampling.BICUBIC)[number % 2]
    return np.asarray(Image.fromarray(small).resize((_SIDE, _SIDE), resample))


def _stripes(random: np.random.Generator, number: int) -> np.ndarray:
    """Returns vertical, horizontal or diagonal stripes, or a checkerboard."""
    y, x = np.mgrid[:_SIDE, :_SIDE]
    width = 2 ** (number % 6 + 1)
    place = (x, y, x + y, (x // width + y // width) * width)[number % 4]
    colours = random.integers(0, 256, (2, 3), dtype=np.uint8)
    return colours[place // width % 2]


def _gradient(random: np.random.Generator, number: int) -> np.ndarray:
    del number
    corners = random.integers(0, 256, (2, 2, 3), dtype=np.uint8)
    large = Image.fromarray(corners).resize((_SIDE, _SIDE), Image.Resampling.BILINEAR)
    return np.asarray(large)


def _text(random: np.random.Generator, number: int) -> np.ndarray:
    paper, ink = (tuple(random.integers(0, 256, 3).tolist()) for _ in range(2))
    image = Image.new("RGB", (_SIDE, _SIDE), paper)
    draw, size = ImageDraw.Draw(image), 12 * (number % 4 + 1)
    for row, top in enumerate(range(0, _SIDE, size)):
        draw.text((0, top), _SENTENCE[row:] + _SENTENCE, fill=ink, font_size=size)
    return np.asarray(image)


def _flat(random: np.random.Generator, number: int) -> np.ndarray:
    colour = [0, 255][number] if number < 2 else random.integers(0, 256, 3)
    return np.full((_SIDE, _SIDE, 3), colour, np.uint8)


def _photograph(random: np.random.Generator, number: int) -> np.ndarray:
    del random
    picture = getattr(skimage.data, _PHOTOGRAPHS[number % len(_PHOTOGRAPHS)])()
    if picture.dtype == bool:
        picture = picture.astype(np.uint8) * np.uint8(255)
    picture = np.stack([picture] * 3, axis=-1) if picture.ndim == 2 else picture[..., :3]
    return picture[:, ::-1] if number >= len(_PHOTOGRAPHS) else picture


def _photograph_cut(random: np.random.Generator, number: int) -> np.ndarray:
    picture = _photograph(random, number)
    side = int(min(picture.shape[:2]) * random.uniform(0.3, 0.8))
    top, left = (random.integers(0, length - side + 1) for length in picture.shape[:2])
    return np.rot90(picture[top : top + side, left : left + side], number % 4)


def _person(random: np.random.Generator, number: int) -> np.ndarray:
    """Returns a drawn person, as a reference for the other kinds."""
    del random
    return speaker.portrait(identity=number, size=_SIDE)


def measure(stage1: str, stage2: str, *, count: int = _COUNT) -> dict[str, dict[str, float]]:
    """Returns a row for each kind of picture, and one for all."""
    generator = GestureGenerator.load(stage1=stage1, stage2=stage2)
    config, variables = load_stage2(stage2, generator.animator)
    space, statistics = motion_model.build(config)[0], variables["statistics"]

    def distances(own: np.ndarray, motion: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        own, motion = (np.asarray(space.from_feature(feature)) for feature in (own, motion))
        pose = (own - statistics["motion_mean"]) / statistics["motion_std"]
        # Angles that differ by a full turn are the same.
        turned = (motion - own + np.pi) % (2.0 * np.pi) - np.pi
        return _rms(pose), _rms(turned / statistics["pose_std"])

    audio = speaker.perform(identity=0, seed=70_000, duration_sec=_SECONDS, size=16).audio
    features = np.concatenate(list(generator.extract_features(audio)))
    rows: dict[str, list[dict[str, float]]] = {}
    for number, (kind, picture) in enumerate(pictures(count)):
        rows.setdefault(kind, []).append(_animate(generator, distances, picture, features, number))
    rows["all"] = [row for each in rows.values() for row in each]
    return {kind: _summarise(each) for kind, each in rows.items()}


def _animate(
    generator: GestureGenerator,
    distances: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]],
    picture: np.ndarray,
    features: np.ndarray,
    seed: int,
) -> dict[str, float]:
    source = generator.animator.encode_source(picture)
    num_frames = round(_SECONDS * FPS)
    pieces = generator.motion_from_features(source.motion, [features], num_frames, seed=seed)
    motion = np.concatenate(list(pieces))
    frames = generator.animator.render(source, motion, adapt=True)
    shown = np.asarray(source.image, np.float32) / 255.0
    pose, moved = distances(source.motion, motion)
    values = {
        "pose": pose,
        "motion": moved.max(),
        "distance": np.abs(frames - shown).mean(axis=(1, 2, 3)).max(),
        "step": np.abs(np.diff(frames, axis=0)).mean(axis=(1, 2, 3)).max(),
    }
    valid = np.isfinite(frames).all() and frames.min() >= 0.0 and frames.max() <= 1.0
    within = (
        values["distance"] <= _MOST_DISTANCE
        and values["step"] <= _MOST_STEP
        and values["motion"] <= _MOST_MOTION
    )
    return {**values, "beyond": float(not (valid and within))}


def _rms(values: np.ndarray) -> np.ndarray:
    return np.sqrt(np.square(values).mean(axis=-1))


def _summarise(rows: list[dict[str, float]]) -> dict[str, float]:
    column = lambda name: np.array([row[name] for row in rows])
    return {
        "pictures": len(rows),
        "pose": np.median(column("pose")),
        "motion": column("motion").max(),
        "distance": column("distance").mean(),
        "distance, most": column("distance").max(),
        "step, most": column("step").max(),
        "beyond": int(column("beyond").sum()),
    }


def main(arguments: list[str]) -> int:
    """Prints the table and returns the exit code."""
    count = int(arguments.pop()) if arguments and arguments[-1].isdecimal() else _COUNT
    chosen = bundled.find()
    stage1, stage2 = arguments or (chosen["stage1"], chosen["stage2"])
    table = measure(stage1, stage2, count=count)
    print(format_table(table, first="picture"))
    return int(table["all"]["beyond"] > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
