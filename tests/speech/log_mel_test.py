"""Log-mel features: librosa's bands, no look into the future, and the same at any loudness."""

import pathlib
import time

import librosa
import numpy as np
import pytest

from gesture_jax.errors import InputError
from gesture_jax.media.sound import read_audio
from gesture_jax.procedural import speaker
from gesture_jax.speech.extractor import SpeechFeatureExtractor
from gesture_jax.speech.log_mel import NUM_FEATURES, StreamingLogMel

_SPEECH = pathlib.Path(__file__).parents[3] / "shared" / "data" / "speech"
_MEL = SpeechFeatureExtractor("mel")


def _extract(audio, other=None):
    return _MEL.extract(audio, num_frames=len(audio) // 640, other=other)


@pytest.fixture(scope="module")
def voice():
    return speaker.perform(identity=0, seed=1, duration_sec=4, size=16).audio


def _librosa_bands(audio):
    """[4 t, 32] in dB, before they are related to the level."""
    # The window is in the middle of librosa's 512 samples, and the first one starts at -240.
    padded = np.pad(audio.astype(np.float64), (240 + 56, 56))
    options = dict(n_fft=512, hop_length=160, win_length=400, center=False)
    power = np.abs(librosa.stft(padded, **options)) ** 2
    filters = librosa.filters.mel(sr=16_000, n_fft=512, n_mels=32, fmin=60, fmax=7600, norm=None)
    scale = 2 / (512 * np.square(librosa.filters.get_window("hann", 400)).sum())
    return 10 * np.log10(np.maximum(scale * (filters @ power).T, 1e-10))


def test_the_bands_are_those_of_librosa(voice):
    """All bands of a frame, unless they are clipped, differ by one level from librosa's."""
    noise = 0.003 * np.random.default_rng(0).standard_normal(len(voice))
    voice = (voice + noise).astype(np.float32)
    ours = _extract(voice)[:, :128].reshape(-1, 4, 32) * 20
    theirs = _librosa_bands(voice)[: 4 * len(ours)].reshape(ours.shape)
    inside = (ours > -60) & (ours < 10)
    assert inside.mean() > 0.5
    level = theirs - ours
    medians = [np.median(row[kept]) for row, kept in zip(level, inside, strict=True)]
    np.testing.assert_allclose((level - np.reshape(medians, (-1, 1, 1)))[inside], 0, atol=1e-3)
    # A louder frame raises the level at once; otherwise it falls by 1.5 dB per second.
    assert np.diff(medians).min() == pytest.approx(-0.06, abs=1e-4)
    assert medians[0] == pytest.approx(-25.06, abs=1e-3)


def test_a_tone_as_loud_as_the_level_is_around_zero_decibels():
    tone = (0.5 * np.sin(2 * np.pi * 1000 * np.arange(32_000) / 16_000)).astype(np.float32)
    rows = _extract(tone)
    bands = rows[5:, :128].reshape(-1, 4, 32)
    assert np.all(bands.max(axis=2) > -3.1 / 20) and np.all(bands.max(axis=2) <= 0.01)
    assert np.all(bands[..., 25:] == -3.0)


@pytest.mark.parametrize("chunk", [1, 399, 640, 999, 80_000])
def test_chunks_do_not_show(voice, chunk):
    voice, other = voice[:16_000], voice[16_000:32_000]
    stream = StreamingLogMel()
    rows = [
        stream.push(voice[i : i + chunk], other[i : i + chunk]) for i in range(0, 16_000, chunk)
    ]
    np.testing.assert_array_equal(np.concatenate(rows), _extract(voice, other))


def test_a_row_is_ready_with_the_last_sample_of_its_frame(voice):
    stream = StreamingLogMel()
    assert len(stream.push(voice[:639])) == 0
    assert stream.push(voice[639:640]).shape == (1, NUM_FEATURES)
    assert stream.delay == 0


def test_no_row_depends_on_later_sound(voice):
    changed = voice.copy()
    changed[20 * 640 :] = -3 * voice[20 * 640 :] + 0.01
    before, after = _extract(voice, voice), _extract(changed, changed)
    np.testing.assert_array_equal(before[:20], after[:20])
    assert np.abs(before[20] - after[20]).max() > 0.1


@pytest.mark.parametrize("gain", [0.2, 3.0])
def test_loudness_does_not_show_once_the_level_has_adapted(voice, gain):
    voice = voice * np.float32(0.3 / np.abs(voice).max())
    start = np.flatnonzero(np.abs(voice) > 0.05)[0] // 640
    plain, other = _extract(np.tile(voice, 4)), _extract(gain * np.tile(voice, 4))
    # A quiet voice has to wait until the level of the start, -25 dB, has fallen to its own.
    settled = slice(start + 1 if gain > 1 else 300, None)
    np.testing.assert_allclose(other[settled], plain[settled], atol=0.02)


def test_silence_is_the_floor():
    rows = _extract(np.zeros(6400, np.float32))
    np.testing.assert_array_equal(rows[:, :128], -3.0)
    np.testing.assert_array_equal(rows[:, 128], 0.0)


def test_the_other_person_has_a_column_alone(voice):
    quiet = np.concatenate([np.zeros(16_000), voice[:32_000]]).astype(np.float32)
    rows = _extract(np.zeros_like(quiet), quiet)
    np.testing.assert_array_equal(rows[:, :128], -3.0)
    np.testing.assert_array_equal(rows[:25, 128], 0.0)
    assert rows[25:, 128].max() == 1.0 and rows[25:, 128].mean() > 0.3
    spoken = _extract(quiet, quiet)
    np.testing.assert_array_equal(spoken[:, 128], rows[:, 128])
    np.testing.assert_array_equal(spoken[:, :128], _extract(quiet)[:, :128])


def test_sound_of_another_length_is_padded_or_cut(voice):
    short = _MEL.extract(voice[:5000], num_frames=20, other=voice[:100])
    padded = np.pad(voice[:5000], (0, 7800)), np.pad(voice[:100], (0, 12_700))
    np.testing.assert_array_equal(short, _extract(*padded))
    np.testing.assert_array_equal(_MEL.extract(voice, num_frames=20), _extract(voice)[:20])


def test_wrong_sound_is_refused(voice):
    with pytest.raises(InputError, match="not finite"):
        StreamingLogMel().push(voice, np.full_like(voice, np.inf))
    with pytest.raises(InputError, match="99 samples, the speech 100"):
        StreamingLogMel().push(voice[:100], voice[:99])


@pytest.mark.skipif(not _SPEECH.exists(), reason="needs recordings that are not in the repository")
@pytest.mark.parametrize("path", sorted(_SPEECH.glob("*.wav")), ids=lambda path: path.name)
def test_speech_has_values_of_order_one(path):
    rows = _extract(read_audio(path))
    assert 0.4 < rows[:, :128].std(axis=0).mean() < 1.2
    assert -2.5 < rows[:, :128].mean() < -0.5


def test_a_minute_takes_a_fifth_of_a_second(voice):
    minute = np.tile(voice, 15)
    seconds = []
    for _ in range(5):
        start = time.process_time()
        _extract(minute)
        seconds.append(time.process_time() - start)
    assert min(seconds) < 0.2
