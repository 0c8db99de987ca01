"""The 35 speech features on sounds whose features are known."""

import os
import subprocess
import sys

import librosa
import numpy as np
import pytest

from gesture_jax.speech.extractor import NUM_FEATURES, StreamingFeatures, speech_features
from gesture_jax.storage import files

_RATE = 16_000


def _clicks(times_sec, duration_sec):
    audio = np.zeros(round(duration_sec * _RATE), np.float32)
    for time in times_sec:
        start = round(time * _RATE)
        audio[start : start + 200] = np.hanning(200) * np.sin(np.arange(200))
    return audio


@pytest.mark.parametrize("samples", [1, 640, 16_000, 16_001, 40_000])
def test_one_row_a_video_frame(samples):
    audio = np.random.default_rng(0).standard_normal(samples).astype(np.float32) * 0.1
    features = speech_features(audio)
    assert features.shape == (round(samples / 640), NUM_FEATURES)
    assert features.dtype == np.float32
    assert speech_features(audio, num_frames=7).shape == (7, NUM_FEATURES)


def test_silence_is_finite_and_has_no_onsets():
    features = speech_features(np.zeros(32_000, np.float32))
    assert np.isfinite(features).all()
    assert (features[:, 33:] == 0).all()


def test_onsets_are_where_clicks_are():
    times = [0.4, 0.8, 1.2, 1.6, 2.0, 2.4]
    features = speech_features(_clicks(times, 3.0))
    onsets = np.flatnonzero(features[:, 33])
    distance = np.abs(onsets[:, None] / 25 - times)
    assert distance.min(axis=0).max() < 0.081  # Every click has an onset,
    assert distance.min(axis=1).max() < 0.081  # every onset a click.
    assert features[onsets, 0].min() > 3 * features[:, 0].mean()


def test_beats_follow_a_steady_pulse():
    beats = np.flatnonzero(speech_features(_clicks(np.arange(0.5, 9.5, 0.5), 10.0))[:, 34])
    assert np.median(np.diff(beats)) == pytest.approx(12.5, abs=1.0)


def test_chroma_names_the_tone():
    time = np.arange(3 * _RATE) / _RATE
    chroma = speech_features((0.5 * np.sin(2 * np.pi * 440 * time)).astype(np.float32))[:, 21:33]
    assert np.argmax(chroma.mean(axis=0)) == 9  # A, counted from C.


def test_padding_adds_silence_only():
    audio = _clicks([0.5, 1.0], 2.0)
    long = speech_features(audio, num_frames=100)
    assert (long[60:, 33] == 0).all()


def _noisy(num_frames):
    """Bursts of noise, [640 num_frames]."""
    random = np.random.default_rng(0)
    envelope = np.repeat(random.random(num_frames // 5 + 1), 3_200)[: 640 * num_frames]
    return (0.1 * envelope * random.standard_normal(640 * num_frames)).astype(np.float32)


def test_columns_are_librosas_own_at_its_hop():
    """Of what is heard for the block of frames 100 to 109: 80 frames before it to 5 after it."""
    audio = _noisy(125)
    features = speech_features(audio)[100:110]
    heard = audio[20 * 640 : 115 * 640]
    sound = librosa.resample(heard, orig_sr=16_000, target_sr=12_800)
    about = dict(y=sound, sr=12_800, hop_length=512)
    rows = slice(80, 90)
    strength = librosa.onset.onset_strength(**about)
    np.testing.assert_allclose(features[:, 0], strength[rows], atol=1e-4)
    mfcc = librosa.feature.mfcc(**about, n_mfcc=20).T[rows]
    np.testing.assert_allclose(features[:, 1:21], mfcc, atol=1e-3)
    chroma = librosa.feature.chroma_cens(**about, tuning=0.0).T[rows]
    np.testing.assert_allclose(features[:, 21:33], chroma, atol=1e-4)
    onsets = librosa.onset.onset_detect(onset_envelope=strength, sr=12_800, hop_length=512)
    expected = [onset - 80 for onset in onsets if 80 <= onset < 90]
    np.testing.assert_array_equal(np.flatnonzero(features[:, 33]), expected)


@pytest.mark.parametrize("chunk", [16, 999, 80_000])
def test_chunks_do_not_show(chunk):
    audio = _noisy(55)
    listener = StreamingFeatures()
    rows = [listener.push(audio[i : i + chunk]) for i in range(0, len(audio), chunk)]
    np.testing.assert_array_equal(np.concatenate(rows), speech_features(audio)[:50])


def test_no_row_hears_further_than_the_look_ahead():
    """What is said later than 5 frames after a block changes nothing in it."""
    audio = _noisy(60)
    changed = audio.copy()
    changed[35 * 640 :] *= -2.0
    before, after = speech_features(audio), speech_features(changed)
    np.testing.assert_array_equal(before[:30], after[:30])
    assert np.abs(before[30:40] - after[30:40]).max() > 0.1


def test_librosa_is_compiled_by_one_process_at_a_time(tmp_path):
    program = "import numpy; from gesture_jax.data import speech; print(1, flush=True); "
    program += "print(len(speech.speech_features(numpy.ones(640, 'f4'))), flush=True)"
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    with files.locked(tmp_path / "gesture_jax" / "librosa.lock"):
        process = subprocess.Popen(
            [sys.executable, "-c", program], env=environment, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout.readline() == "1\n"
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=2)
    said, _ = process.communicate(timeout=120)
    assert (process.returncode, said) == (0, "1\n")


def test_before_that_no_module_of_librosa_is_touched():
    """Some compile as they are imported."""
    program = "import sys, numpy; from gesture_jax.data import speech; "
    program += "inner = lambda: [name for name in sys.modules if name.startswith('librosa.util')]; "
    program += "speech.locked = lambda path: sys.exit(' '.join(['locked', *inner()])); "
    program += "speech.speech_features(numpy.ones(640, 'f4'))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stderr == "locked\n"
