"""Speech of the procedural speaker: its phones are where its sound is, whatever synthesises it."""

import numpy as np
import pytest

from gesture_jax.errors import InputError
from gesture_jax.procedural import espeak, sentences, voice
from gesture_jax.procedural.identity import make_identity
from gesture_jax.procedural.visemes import BILABIALS

_NEEDS_ESPEAK = pytest.mark.skipif(
    not espeak.is_installed(), reason="needs eSpeak NG, from the extra [voices]"
)
_BOTH = [pytest.param("espeak", marks=_NEEDS_ESPEAK), "formants"]
_FRAMES = 400


def _speak(voices: str, seed: int = 0, identity: int = 0) -> voice.Speech:
    who = make_identity(identity).voice
    return voice.speak(who, seed=seed, num_frames=_FRAMES, voices=voices)


def _loudness(audio: np.ndarray) -> np.ndarray:
    return np.sqrt(np.square(audio.reshape(-1, 160)).mean(axis=1))  # 100 values a second.


@pytest.mark.parametrize("voices", _BOTH)
def test_phones_are_where_the_sound_is(voices):
    for seed in range(3):
        speech = _speak(voices, seed)
        loudness = _loudness(speech.audio)
        time = (np.arange(len(loudness)) + 0.5) / 100
        starts, ends = np.array([(p.start_sec, p.end_sec) for p in speech.phones]).T
        spoken = ((time[:, None] > starts) & (time[:, None] < ends)).any(axis=1)
        far = np.min([np.abs(time[:, None] - t).min(axis=1) for t in (starts, ends)], axis=0) > 0.15
        assert loudness[spoken].mean() > 10 * loudness[~spoken & far].mean()


@pytest.mark.parametrize("voices", _BOTH)
def test_phones_are_in_order_and_within_the_speech(voices):
    phones = _speak(voices).phones
    assert len(phones) > 40
    assert all(p.start_sec <= p.end_sec for p in phones)
    starts = [p.start_sec for p in phones]
    assert starts == sorted(starts) and starts[0] >= 0 and phones[-1].end_sec <= _FRAMES / 25


@pytest.mark.parametrize("voices", _BOTH)
def test_a_function_of_voice_and_seed(voices):
    first, again = _speak(voices), _speak(voices)
    np.testing.assert_array_equal(first.audio, again.audio)
    np.testing.assert_array_equal(first.other, again.other)
    assert first.phones == again.phones
    assert (first.audio != _speak(voices, seed=1).audio).any()
    assert (first.audio != _speak(voices, identity=1).audio).any()


@pytest.mark.parametrize("voices", _BOTH)
def test_stresses_are_loud(voices):
    ratios = []
    for seed in range(3):
        speech = _speak(voices, seed)
        loudness = _loudness(speech.audio)
        near = [
            loudness[int(100 * t) - 5 : int(100 * t) + 6].max() for t in speech.stress_times_sec
        ]
        ratios.append(np.mean(near) / loudness.mean())
    assert np.mean(ratios) > 1.8


@pytest.mark.parametrize("voices", _BOTH)
def test_the_other_person_speaks_only_in_pauses(voices):
    heard = 0
    for seed in range(8):
        speech = _speak(voices, seed)
        assert speech.other.shape == speech.audio.shape
        time = np.flatnonzero(np.abs(speech.other) > 0.01) / 16_000
        for phone in speech.phones:
            assert not ((time > phone.start_sec) & (time < phone.end_sec)).any()
        heard += len(time) > 0
        if speech.nod_times_sec:
            assert min(speech.nod_times_sec) > time.min()
    assert heard >= 2


@pytest.mark.parametrize("voices", _BOTH)
def test_lips_are_shut_in_pauses_and_closed_for_bilabials(voices):
    speech = _speak(voices)
    frames = (np.arange(_FRAMES) + 0.5) / 25
    for start, end in speech.pauses(0.5):
        inside = (frames > start + 0.15) & (frames < end - 0.15)
        assert (speech.lips[inside, 0] < 0.05).all()
    closures = [p for p in speech.phones if p.name[:1] in BILABIALS]
    assert len(closures) > 3
    for phone in closures:
        assert speech.lips[np.abs(frames - phone.middle_sec) < 0.08, 0].min() < 0.05


@_NEEDS_ESPEAK
def test_every_voice_speaks_its_language():
    for identity in range(40):
        who = make_identity(identity).voice
        talk = espeak.synthesise(who, rng=np.random.default_rng(identity), duration=3.0)
        assert len(talk.phones) > 8 and np.abs(talk.audio).max() > 0.3, who


@_NEEDS_ESPEAK
def test_an_unknown_language_is_an_error():
    who = make_identity(0).voice
    bad = type(who)(**{**vars(who), "language": "en-us-nowhere"})
    with pytest.raises(InputError, match="eSpeak NG has no voice 'en-us-nowhere"):
        espeak._speak(bad, ["Hello."], seed=0)


def test_unknown_voices_are_an_error():
    with pytest.raises(InputError, match="'opera' are not known; choose espeak or formants"):
        _speak("opera")


def test_without_the_extra_the_error_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(espeak.importlib.util, "find_spec", lambda name: None)
    assert voice.default_voices() == "formants"
    with pytest.raises(InputError, match=r"install gesture_jax\[voices\]"):
        _speak("espeak")


@pytest.mark.parametrize("language", sentences.LANGUAGES)
def test_sentences_are_many_and_begin_with_a_capital(language):
    rng = np.random.default_rng(0)
    texts = {sentences.write_sentence(language, rng) for _ in range(200)}
    assert len(texts) > 180
    assert all(text[0].isupper() and text[-1] in ".!?" and "|" not in text for text in texts)
