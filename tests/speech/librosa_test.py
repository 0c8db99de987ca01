"""The speech features are those of librosa, whose values the bundled weights were trained on."""

import pathlib

import librosa
import numpy as np
import pytest

from gesture_jax.media.sound import read_audio
from gesture_jax.metrics.beats import audio_onsets
from gesture_jax.procedural import speaker
from gesture_jax.speech.extractor import speech_features

_SPEECH = pathlib.Path(__file__).parents[3] / "shared" / "data" / "speech"
_RATE = 16_000
_ABOUT = dict(sr=12_800, hop_length=512)


def _clicks(random):
    audio = np.zeros(6 * _RATE, np.float32)
    for start in random.integers(0, len(audio) - 200, 12):
        audio[start : start + 200] = np.hanning(200) * np.sin(np.arange(200))
    return audio


def _notes(random):
    hz = np.repeat(220 * 2 ** (random.integers(0, 24, 16) / 12), _RATE // 4)
    return 0.3 * np.sin(2 * np.pi * np.cumsum(hz) / _RATE)


def _made_up():
    random = np.random.default_rng(0)
    noise = 0.1 * random.standard_normal(4 * _RATE)
    time = np.arange(4 * _RATE) / _RATE
    chord = sum(np.sin(2 * np.pi * hz * time) for hz in (55.0, 220.0, 277.2, 329.6))
    voices = [
        speaker.perform(identity=index, seed=index, duration_sec=6, size=16).audio
        for index in range(2)
    ]
    sounds = {
        "voice": voices[0],
        "another voice": voices[1],
        "voice and silence": np.concatenate([voices[0][: 2 * _RATE], np.zeros(3 * _RATE)]),
        "quiet voice": 1e-4 * voices[1][: 3 * _RATE],
        "noise": noise,
        "bursts of noise": noise * np.repeat(random.random(20), _RATE // 5),
        "chords": 0.1 * chord * np.exp(-3 * (2 * time % 1)),
        "notes": _notes(random),
        "tone": 0.5 * np.sin(2 * np.pi * 440 * time),
        "clicks": _clicks(random),
        "pulse": np.isin(np.arange(4 * _RATE), np.arange(1, 8) * _RATE // 2) * 0.9,
        "constant": np.full(_RATE, 0.3),
        "silence": np.zeros(_RATE),
    }
    return {name: sound.astype(np.float32) for name, sound in sounds.items()}


def _librosa_block(piece):
    """[10, 35] of the frames 80 to 89 of a piece of 95."""
    sound = librosa.resample(piece, orig_sr=_RATE, target_sr=12_800)
    decibels = librosa.power_to_db(librosa.feature.melspectrogram(y=sound, **_ABOUT))
    strength = librosa.onset.onset_strength(S=decibels, **_ABOUT)
    features = np.zeros((len(strength), 35))
    features[:, 0] = strength
    features[:, 1:21] = librosa.feature.mfcc(S=decibels, n_mfcc=20).T
    if np.abs(sound).max() >= 3e-5:  # Below -90 dB the chroma is defined as zero.
        features[:, 21:33] = librosa.feature.chroma_cens(y=sound, tuning=0.0, **_ABOUT).T
    if strength.any():
        features[librosa.onset.onset_detect(onset_envelope=strength, **_ABOUT), 33] = 1
        faster = librosa.resample(sound, orig_sr=12_800, target_sr=22_050)
        (tempo,) = librosa.feature.tempo(y=faster, sr=22_050)
        _, beats = librosa.beat.beat_track(onset_envelope=strength, start_bpm=tempo, **_ABOUT)
        features[beats, 34] = 1
    return features[80:90]


def _compare(sounds):
    """Our features and librosa's of all the sounds, [t, 35] each."""
    found, expected = [], []
    for sound in sounds:
        sound = sound[: len(sound) // 6400 * 6400]
        found.append(speech_features(sound))
        around = np.pad(sound, (80 * 640, 5 * 640))
        starts = range(0, len(sound), 6400)
        expected += [_librosa_block(around[start : start + 95 * 640]) for start in starts]
    return np.concatenate(found), np.concatenate(expected)


def _assert_equal(found, expected):
    for name, columns in {"onset strength": slice(0, 1), "MFCC": slice(1, 21)}.items():
        error = np.abs(found - expected)[:, columns].max() / expected[:, columns].std()
        assert error < 3e-5, f"{name}: differs by {error:.1e} of its standard deviation"
    # Chroma is quantised: where a value lies next to a level, rounding may decide.
    chroma = np.abs(found - expected)[:, 21:33].max(axis=1)
    assert np.mean(chroma > 1e-6) < 5e-3 and chroma.max() < 0.05
    for name, column in {"onsets": 33, "beats": 34}.items():
        assert np.mean(found[:, column] != expected[:, column]) < 1e-3, name
        assert expected[:, column].sum() > 0.02 * len(expected), f"there are few {name}"


def test_features_of_made_up_sounds_are_librosas():
    _assert_equal(*_compare(_made_up().values()))


@pytest.mark.skipif(not _SPEECH.exists(), reason="../shared/data/speech is absent")
def test_features_of_recorded_speech_are_librosas():
    _assert_equal(
        *_compare([read_audio(path, stop_sec=6) for path in sorted(_SPEECH.glob("*.wav"))])
    )


def _librosa_onsets(audio, *, hop, backtracked):
    sound = librosa.util.fix_length(audio, size=max(len(audio), 2048))
    onsets = librosa.onset.onset_detect(y=sound, sr=_RATE, hop_length=hop)
    if backtracked and len(onsets):
        loudness = librosa.feature.rms(S=np.abs(librosa.stft(sound, hop_length=hop)))[0]
        onsets = np.unique(librosa.onset.onset_backtrack(onsets, loudness))
    return librosa.frames_to_time(onsets, sr=_RATE, hop_length=hop)


@pytest.mark.parametrize("backtracked", [False, True])
@pytest.mark.parametrize("hop", [256, 512])
def test_onsets_of_the_beat_metric_are_librosas(hop, backtracked):
    sounds = _made_up()
    shorts = [sounds["noise"][:samples] for samples in (0, 1, 300, 2047, 2049)]
    for sound in [*sounds.values(), *shorts]:
        options = dict(hop=hop, backtracked=backtracked)
        expected = _librosa_onsets(sound, **options)
        np.testing.assert_allclose(audio_onsets(sound, **options), expected, atol=1e-9)
