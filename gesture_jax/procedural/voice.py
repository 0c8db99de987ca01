"""Speech of the procedural speaker, in a conversation, with the positions of its lips."""

import dataclasses

import numpy as np

from gesture_jax.errors import InputError
from gesture_jax.media.rates import FPS, SAMPLE_RATE_HZ, SAMPLES_PER_FRAME
from gesture_jax.procedural import espeak, formants
from gesture_jax.procedural.identity import Voice, make_identity
from gesture_jax.procedural.talk import Talk
from gesture_jax.procedural.visemes import lip_positions
from gesture_jax.speech.phones import Phone

SYNTHESISERS = {"espeak": espeak.synthesise, "formants": formants.synthesise}
"""Functions that synthesise speech, by the names of `--voices`."""

_PEAK = 0.7
# Range of the volume of clips in dB, and of their background noise as a share of the peak.
_VOLUME_DB = (-10.0, 0.0)
_NOISE = (2e-4, 4e-3)
# In longer pauses the other person speaks, with this chance, up to this long before they end.
_LISTENING_SEC, _LISTENING_SHARE, _GAP_SEC = 1.1, 0.6, 0.25


@dataclasses.dataclass(frozen=True)
class Speech:
    """Speech of one person in a conversation.

    Attributes:
      audio: [640 t] float32, 16 kHz.
      other: [640 t] float32, the sound of the other person, who speaks in long pauses.
      phones: phones of the speech, in the order of time.
      stress_times_sec: [s] float32, times of the stresses.
      stress_gains: [s] float32, strengths of the stresses, about 1 on average.
      nod_times_sec: times at which a listener nods.
      lips: [t, 3], see `visemes.lip_positions`.
    """

    audio: np.ndarray
    other: np.ndarray
    phones: tuple[Phone, ...]
    stress_times_sec: np.ndarray
    stress_gains: np.ndarray
    nod_times_sec: tuple[float, ...]
    lips: np.ndarray

    def pauses(self, least_sec: float) -> list[tuple[float, float]]:
        """Returns start and end in seconds of all pauses that are at least so long."""
        starts = [0.0, *(phone.end_sec for phone in self.phones)]
        ends = [*(phone.start_sec for phone in self.phones), len(self.audio) / SAMPLE_RATE_HZ]
        pairs = zip(starts, ends, strict=True)
        return [(start, end) for start, end in pairs if end - start >= least_sec]


def default_voices() -> str:
    """Returns "espeak" where its extra is installed, else "formants"."""
    return "espeak" if espeak.is_installed() else "formants"


def speak(voice: Voice, *, seed: int, num_frames: int, voices: str = "formants") -> Speech:
    """Synthesises one side of a conversation that lasts `num_frames` video frames.

    Args:
      voice: the voice.
      seed: seed of the sentences, the pauses and the other person.
      num_frames: t.
      voices: one of `SYNTHESISERS`.

    Raises:
      InputError: where the synthesiser is not known or not installed.
    """
    if voices not in SYNTHESISERS:
        raise InputError(f"voices {voices!r} are not known; choose {' or '.join(SYNTHESISERS)}")
    rng = np.random.default_rng([31337, seed])
    talk = SYNTHESISERS[voices](voice, rng=rng, duration=num_frames / FPS)
    num_samples = num_frames * SAMPLES_PER_FRAME
    volume = _PEAK * 10 ** (rng.uniform(*_VOLUME_DB) / 20)
    noise = np.exp(rng.uniform(*np.log(_NOISE))) * rng.standard_normal(num_samples)
    speech = Speech(
        audio=(volume * (talk.audio + noise)).astype(np.float32),
        other=np.zeros(num_samples, np.float32),
        phones=tuple(talk.phones),
        stress_times_sec=np.array([moment for moment, _ in talk.stresses], np.float32),
        stress_gains=np.array([gain for _, gain in talk.stresses], np.float32),
        nod_times_sec=(),
        lips=lip_positions(talk.phones, num_frames),
    )
    return _listen(speech, rng, voices)


def _listen(speech: Speech, rng: np.random.Generator, voices: str) -> Speech:
    """Lets another person speak in some of the long pauses."""
    other, nods = speech.other.copy(), []
    voice = make_identity(int(rng.integers(1_000_000))).voice
    for start, end in speech.pauses(_LISTENING_SEC):
        if rng.random() > _LISTENING_SHARE:
            continue
        talk = SYNTHESISERS[voices](voice, rng=rng, duration=end - start - _GAP_SEC)
        span = slice(first := round(start * SAMPLE_RATE_HZ), first + len(talk.audio))
        other[span] = _PEAK * talk.audio[: len(other[span])]
        nods += [start + moment for moment in _choose_nods(talk, rng)]
    return dataclasses.replace(speech, other=other, nod_times_sec=tuple(nods))


def _choose_nods(talk: Talk, rng: np.random.Generator) -> list[float]:
    """Chooses the times at which a listener nods: after some stresses, and after each phrase."""
    after_stresses = [moment + 0.35 for moment, _ in talk.stresses if rng.random() < 0.4]
    ends = [
        phone.end_sec
        for phone, following in zip(talk.phones, [*talk.phones[1:], None], strict=True)
        if following is None or following.start_sec - phone.end_sec > 0.3
    ]
    after_phrases = [end + delay for end in ends for delay in (0.25, 0.65)]
    return sorted(after_stresses + after_phrases)
