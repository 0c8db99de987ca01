"""Speech that is synthesised by eSpeak NG, with the times of its phones (extra `[voices]`)."""

import base64
import functools
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Sequence

import numpy as np
import soxr

from gesture_jax.errors import InputError
from gesture_jax.media.rates import SAMPLE_RATE_HZ
from gesture_jax.procedural import sentences
from gesture_jax.procedural.identity import Voice
from gesture_jax.procedural.talk import Talk, draw_pause
from gesture_jax.speech.phones import Phone

_PROCESS = os.path.join(os.path.dirname(__file__), "espeak_process.py")
_STRESS, _OTHER_MARKS = "ˈ", "ˌ"
_TIMEOUT_SEC = 120
# No sentence is shorter, so that there are always enough of them.
_SHORTEST_SENTENCE_SEC = 0.9
_LEAST_STRESS_GAP_SEC = 0.35
# Volume outside of stressed vowels, whose peak is about 0.9.
_USUAL_GAIN = 0.5
# Sound below this share of the peak, at both ends of an utterance, is cut off.
_SILENCE = 0.01


def is_installed() -> bool:
    """Returns whether the extra `[voices]` is installed."""
    return importlib.util.find_spec("espeakng_loader") is not None


def synthesise(voice: Voice, *, rng: np.random.Generator, duration: float) -> Talk:
    """Synthesises sentences, with pauses between them.

    Args:
      voice: the voice.
      rng: source of randomness.
      duration: length in seconds.

    Raises:
      InputError: where the extra is missing.
    """
    count = int(duration / _SHORTEST_SENTENCE_SEC) + 1
    texts = [sentences.write_sentence(voice.language, rng) for _ in range(count)]
    spoken = _speak(voice, texts, seed=int(rng.integers(2**31)))
    audio = np.zeros(round(duration * SAMPLE_RATE_HZ), np.float32)
    talk = Talk(audio, phones=[], stresses=[])
    now = rng.uniform(0.1, 0.45)
    for sound, phones in spoken:
        room = len(audio) - round(now * SAMPLE_RATE_HZ)
        if room < 0.1 * SAMPLE_RATE_HZ:
            break
        stresses = _choose_stresses(phones, rng)
        sound = _emphasise(sound, phones, stresses)[:room]
        audio[-room:][: len(sound)] = sound
        shifted = [phone.shift(now) for phone in phones]
        whole = [phone for phone in shifted if phone.end_sec < duration]
        talk.phones.extend(whole)
        talk.stresses.extend(
            (whole[place].middle_sec, gain) for place, gain in stresses if place < len(whole)
        )
        now += len(sound) / SAMPLE_RATE_HZ + draw_pause(rng)
    return talk


def _choose_stresses(phones: Sequence[Phone], rng: np.random.Generator) -> list[tuple[int, float]]:
    """Chooses the stressed vowels that are emphasised: their places, and their strengths."""
    chosen: list[tuple[int, float]] = []
    last = -np.inf
    for place, phone in enumerate(phones):
        if phone.stressed and phone.start_sec - last > _LEAST_STRESS_GAP_SEC and rng.random() < 0.7:
            chosen.append((place, float(rng.uniform(0.8, 1.25))))
            last = phone.start_sec
    return chosen


def _emphasise(
    sound: np.ndarray, phones: Sequence[Phone], stresses: Sequence[tuple[int, float]]
) -> np.ndarray:
    """Raises the volume of stressed vowels, smoothly."""
    time = np.arange(len(sound)) / SAMPLE_RATE_HZ
    gain = np.full(len(sound), _USUAL_GAIN)
    for place, strength in stresses:
        phone = phones[place]
        offset = np.abs(time - phone.middle_sec) / (0.5 * (phone.end_sec - phone.start_sec) + 0.06)
        bump = 0.5 + 0.5 * np.cos(np.pi * np.minimum(offset, 1.0))
        gain = np.maximum(gain, _USUAL_GAIN + (0.9 * strength - _USUAL_GAIN) * bump)
    return (sound * gain).astype(np.float32)


def _speak(
    voice: Voice, texts: Sequence[str], *, seed: int
) -> list[tuple[np.ndarray, list[Phone]]]:
    """Synthesises texts; returns sound [n] at 16 kHz with peak 1, and phones, of each."""
    if not is_installed():
        raise InputError(
            "voices that speak real sentences need eSpeak NG; install gesture_jax[voices], or use "
            "--voices=formants"
        )
    request = {
        "seed": seed % 2**31,
        "voice": f"{voice.language}+{voice.timbre}",
        "rate": round(voice.words_per_minute),
        "pitch": round(voice.espeak_pitch),
        "range": round(voice.espeak_range),
        "texts": list(texts),
    }
    done = subprocess.run(
        [sys.executable, _PROCESS],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=_TIMEOUT_SEC,
    )
    if done.returncode:
        raise InputError(f"eSpeak NG failed: {done.stderr.strip()[-500:] or done.returncode}")
    return [_decode(answer) for answer in json.loads(done.stdout)]


def _decode(answer: dict) -> tuple[np.ndarray, list[Phone]]:
    rate_hz = answer["rate_hz"]
    samples = np.frombuffer(base64.b64decode(answer["audio"]), np.int16)
    audio = soxr.resample(samples.astype(np.float32) / 32768, rate_hz, SAMPLE_RATE_HZ)
    loud = np.flatnonzero(np.abs(audio) > _SILENCE * max(np.abs(audio).max(initial=0.0), 1e-6))
    start, stop = (loud[0], loud[-1] + 1) if len(loud) else (0, 0)
    audio = audio[start:stop]
    shift, end = start / SAMPLE_RATE_HZ, len(audio) / SAMPLE_RATE_HZ
    times = [sample / rate_hz - shift for sample, _ in answer["phones"]]
    # The end of a phone is the start of the next one.
    limits = zip(times, [*times[1:], end], strict=True) if times else ()
    phones = [
        _to_phone(name, begin, stop)
        for (begin, stop), (_, name) in zip(limits, answer["phones"], strict=True)
        if name and begin < end
    ]
    return audio / max(np.abs(audio).max(initial=0.0), 1e-6), phones


@functools.lru_cache(maxsize=1024)
def _strip_marks(name: str) -> tuple[str, bool]:
    return name.strip(_STRESS + _OTHER_MARKS), _STRESS in name


def _to_phone(name: str, start: float, end: float) -> Phone:
    symbol, stressed = _strip_marks(name)
    return Phone(symbol, max(start, 0.0), max(end, start, 0.0), stressed)
