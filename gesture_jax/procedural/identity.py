"""The identity of a procedural speaker: appearance, voice and style, all drawn from one number."""

import dataclasses

import numpy as np

Colour = tuple[int, int, int]

_SKINS = [
    (255, 219, 190),
    (241, 194, 155),
    (224, 172, 128),
    (190, 132, 92),
    (141, 92, 62),
    (96, 62, 44),
]
_HAIRS = [(38, 30, 28), (72, 46, 32), (120, 74, 40), (186, 138, 76), (150, 66, 40), (168, 166, 164)]
_CLOTHES = [
    (52, 92, 148), (168, 62, 66), (58, 124, 104), (226, 166, 62), (104, 82, 148), (62, 68, 82),
    (214, 122, 94), (88, 148, 178),
]  # fmt: skip
_ENGLISH = "en-us", "en-us", "en-us", "en", "en-gb-scotland"
_OTHER_LANGUAGES = "de", "fr", "es", "it", "pt-br", "nl", "pl"
_ENGLISH_SHARE = 0.6
_LOW_TIMBRES = "m1", "m2", "m3", "m4", "m6", "m7"
_HIGH_TIMBRES = "f1", "f2", "f3", "f4", "f5"
_WALLS = [
    (222, 230, 236), (236, 226, 212), (206, 222, 212), (228, 214, 226), (92, 110, 132),
    (124, 104, 96),
]  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Voice:
    """The sound of a voice.

    Attributes:
      pitch_hz: mean fundamental frequency.
      tract: length of the vocal tract relative to an average man's; formants are divided by it.
      syllable_sec: mean length of an unstressed syllable.
      stress_every: syllables from one stress to the next, on average.
      language: language in eSpeak NG's names.
      timbre: eSpeak NG's variant of the voice.
      words_per_minute: rate of its speech.
      espeak_pitch: pitch in its units, 0 to 100.
      espeak_range: range of its pitch, 0 to 100.
    """

    pitch_hz: float
    tract: float
    syllable_sec: float
    stress_every: float
    language: str = "en-us"
    timbre: str = "m3"
    words_per_minute: float = 165.0
    espeak_pitch: float = 50.0
    espeak_range: float = 60.0


@dataclasses.dataclass(frozen=True)
class Style:
    """A style of gesturing; lengths are in units of the frame's side.

    Attributes:
      dominant: 0 for the viewer's left hand, 1 for the right.
      reach: size of the strokes, 1 is average.
      two_handed: probability that the other hand joins a stroke.
      eagerness: probability that a stress gets a stroke.
      rest_x: distance of the hands from the middle, at rest.
      rest_y: distance of the hands from the top, at rest.
      nod: depth of the nod on a stress.
      sway: size of the body's sway.
    """

    dominant: int
    reach: float
    two_handed: float
    eagerness: float
    rest_x: float
    rest_y: float
    nod: float
    sway: float


@dataclasses.dataclass(frozen=True)
class Identity:
    """Appearance, voice and style of a person; lengths are in units of the frame's side."""

    skin: Colour
    hair: Colour
    hair_style: str
    clothes: Colour
    accent: Colour
    garment: str
    wall: Colour
    scene: str
    glasses: bool
    beard: bool
    head: float
    hand: float
    shoulder: float
    upper_arm: float
    forearm: float
    voice: Voice
    style: Style


def make_identity(number: int) -> Identity:
    """Returns the person with this number; people with adjacent numbers look clearly different."""
    rng = np.random.default_rng([20177, number])
    pick = lambda options: options[int(rng.integers(len(options)))]
    shift = int(np.random.default_rng(20177).integers(1000))
    turn = lambda options, step: options[(number * step + shift) % len(options)]
    high = bool(rng.integers(2))
    style = Style(
        dominant=int(rng.random() < 0.75),
        reach=float(rng.uniform(0.85, 1.2)),
        two_handed=float(rng.uniform(0.35, 0.85)),
        eagerness=float(rng.uniform(0.85, 1.0)),
        rest_x=float(rng.uniform(0.05, 0.12)),
        rest_y=float(rng.uniform(0.84, 0.90)),
        nod=float(rng.uniform(0.010, 0.022)),
        sway=float(rng.uniform(0.004, 0.010)),
    )
    voice = Voice(
        pitch_hz=float(rng.uniform(175, 235) if high else rng.uniform(95, 140)),
        tract=float(rng.uniform(0.84, 0.90) if high else rng.uniform(0.96, 1.04)),
        syllable_sec=float(rng.uniform(0.15, 0.19)),
        stress_every=float(rng.uniform(3.0, 4.2)),
        **_draw_espeak_voice(number, high=high),
    )
    clothes = turn(_CLOTHES, 3)
    return Identity(
        skin=turn(_SKINS, 5),
        hair=pick(_HAIRS),
        hair_style=turn(["short", "bob", "curly", "bun", "side", "long"], 1),
        clothes=clothes,
        accent=pick([c for c in _CLOTHES if c != clothes]),
        garment=turn(["sweater", "collar", "blazer", "tee"], 1),
        wall=turn(_WALLS, 5),
        scene=turn(["window", "shelf", "picture", "plant"], 1),
        glasses=bool(rng.random() < 0.35),
        beard=not high and bool(rng.random() < 0.5),
        head=float(rng.uniform(0.100, 0.112)),
        hand=float(rng.uniform(1.10, 1.25)),
        shoulder=float(rng.uniform(0.150, 0.176)),
        upper_arm=float(rng.uniform(0.215, 0.235)),
        forearm=float(rng.uniform(0.195, 0.215)),
        voice=voice,
        style=style,
    )


def _draw_espeak_voice(number: int, *, high: bool) -> dict:
    """Draws from random numbers of its own, so that people stay as they were without it."""
    rng = np.random.default_rng([20178, number])
    english = rng.random() < _ENGLISH_SHARE
    return {
        "language": str(rng.choice(_ENGLISH if english else _OTHER_LANGUAGES)),
        "timbre": str(rng.choice(_HIGH_TIMBRES if high else _LOW_TIMBRES)),
        "words_per_minute": float(rng.uniform(130, 190)),
        "espeak_pitch": float(rng.uniform(35, 65)),
        "espeak_range": float(rng.uniform(45, 85)),
    }
