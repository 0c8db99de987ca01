"""Phones of speech and their times: recognised by PocketSphinx (extra `[lips]`), or from a file.

PocketSphinx's wheel contains an acoustic model, a dictionary and a language model of US English. It
recognises words first and aligns their phones to the sound afterwards, which constrains the phones
more than a search for single phones does: on synthetic English with known phones, nearly all of the
/p/, /b/ and /m/ that it reports are right, but it misses four in ten. Other languages need a file.
"""

import csv
import functools
import importlib.util
import json
import math
import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from gesture_jax.errors import InputError
from gesture_jax.media.rates import SAMPLE_RATE_HZ
from gesture_jax.storage.files import as_path

if TYPE_CHECKING:  # It loads JAX, which phones do not need.
    from gesture_jax.array_types import Audio

REMEDY = '`pip install "gesture_jax[lips]"` brings PocketSphinx, which finds the phones'
ENDINGS = (".json", ".csv")
"""Endings of files with phones."""
_BILABIALS = frozenset("pbm")
# The names of silence and noise in PocketSphinx, in espeak-ng and in the Montreal Forced Aligner.
_SILENCES = frozenset({"", "sil", "sp", "spn", "_", "_:", "+spn+", "+nsn+"})
# Marks of stress and length, in ARPAbet, IPA and espeak-ng.
_MARKS = str.maketrans("", "", "012ˈˌːʰ':,")
# Sound is recognised in pieces that are cut at a quiet moment.
_MIN_PIECE_SEC, _MAX_PIECE_SEC = 10, 20
_QUIET_SEC = 0.1
_PHONES_PER_SEC = 100


class Phone(NamedTuple):
    """A phone, with its times in seconds, and whether it carries the primary stress of a word."""

    name: str
    start_sec: float
    end_sec: float
    stressed: bool = False

    def shift(self, seconds: float) -> "Phone":
        """Returns the phone at a later time."""
        return self._replace(start_sec=self.start_sec + seconds, end_sec=self.end_sec + seconds)

    @property
    def middle_sec(self) -> float:
        """The time halfway between start and end."""
        return (self.start_sec + self.end_sec) / 2

    @property
    def is_bilabial(self) -> bool:
        """Whether the lips close for it: /p/, /b/ or /m/, in ARPAbet, IPA or espeak-ng's names."""
        return self.name.translate(_MARKS).lower() in _BILABIALS

    @property
    def is_silence(self) -> bool:
        """Whether it is silence or noise."""
        return self.name.lower() in _SILENCES


def is_installed() -> bool:
    """Returns whether the extra `[lips]` is installed."""
    return importlib.util.find_spec("pocketsphinx") is not None


def find_phones(audio: "Audio") -> list[Phone]:
    """Recognises English speech and returns its phones.

    Args:
      audio: [n] float32, mono, 16 kHz.

    Returns:
      The phones in the order of time, with ARPAbet's names; "SIL" and names such as "+NSN+" are
      silence and noise. Empty where no word is recognised.

    Raises:
      InputError: where the extra `[lips]` is not installed.
    """
    if not is_installed():
        raise InputError(f"phones cannot be found in speech; {REMEDY}")
    return [phone for start, piece in _cut(audio) for phone in _recognise(piece, start)]


def read_phones(path: str | os.PathLike) -> list[Phone]:
    """Reads phones from a file.

    Args:
      path: a `.csv` file with the columns `phone`, `start` and `end`, or a `.json` file with a list
        of objects that have these keys. Times are in seconds. Names are those of ARPAbet, IPA or
        espeak-ng; silence is "SIL", "sp", "_" or "".

    Raises:
      InputError: where the file is missing, or is not of this form.
    """
    path = as_path(path)
    try:
        text = path.read_text(encoding="utf-8")
        rows = (
            json.loads(text) if path.suffix == ".json" else list(csv.DictReader(text.splitlines()))
        )
        return sorted(map(_parse, rows), key=lambda phone: phone.start_sec)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; give one with phones") from None
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path}: holds no phones ({type(error).__name__}: {error}); each needs `phone`, "
            "`start` and `end`, in seconds"
        ) from error


def _parse(row: Any) -> Phone:
    start_sec, end_sec = float(row["start"]), float(row["end"])
    if not 0 <= start_sec <= end_sec < math.inf:
        raise ValueError(f"a phone from {start_sec} to {end_sec} s")
    return Phone(str(row["phone"]), start_sec, end_sec)


def _cut(audio: "Audio") -> Iterator[tuple[float, "Audio"]]:
    """Cuts sound into pieces and yields the start of each, in seconds, and its samples."""
    start, shortest = 0, _MIN_PIECE_SEC * SAMPLE_RATE_HZ
    window = round(_QUIET_SEC * SAMPLE_RATE_HZ)
    while len(audio) - start > _MAX_PIECE_SEC * SAMPLE_RATE_HZ:
        end = start + _MAX_PIECE_SEC * SAMPLE_RATE_HZ
        candidates = np.square(audio[start + shortest : end]).reshape(-1, window).mean(axis=1)
        stop = start + shortest + round((int(candidates.argmin()) + 0.5) * window)
        yield start / SAMPLE_RATE_HZ, audio[start:stop]
        start = stop
    yield start / SAMPLE_RATE_HZ, audio[start:]


def _recognise(audio: "Audio", start_sec: float) -> Sequence[Phone]:
    """Returns the phones of a short piece of speech that begins at a given time."""
    if not len(audio):
        return []
    decoder = _open_decoder()
    samples = (np.clip(audio, -1, 1) * 32767).astype("<i2").tobytes()
    decoder.activate_search()
    _decode(decoder, samples)
    if decoder.hyp() is None or not decoder.hyp().hypstr:
        return []
    try:
        decoder.set_alignment()
        _decode(decoder, samples)
    except RuntimeError:  # No path through the phones of these words fits the sound.
        return []
    at = lambda frame: round(start_sec + frame / _PHONES_PER_SEC, 3)
    return [
        Phone(phone.name, at(phone.start), at(phone.start + phone.duration))
        for word in decoder.get_alignment()
        for phone in word
    ]


def _decode(decoder: Any, samples: bytes) -> None:
    decoder.start_utt()
    decoder.process_raw(samples, full_utt=True)
    decoder.end_utt()


@functools.cache
def _open_decoder() -> Any:
    import pocketsphinx

    return pocketsphinx.Decoder(loglevel="FATAL")
