"""The 35 speech features on sounds whose features are known."""

import subprocess
import sys

import numpy as np
import pytest

from gesture_jax.errors import InputError
from gesture_jax.speech.extractor import NUM_FEATURES, StreamingFeatures, speech_features

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


@pytest.mark.parametrize("chunk", [16, 999, 80_000])
def test_chunks_do_not_show(chunk):
    audio = _noisy(55)
    stream = StreamingFeatures()
    rows = [stream.push(audio[i : i + chunk]) for i in range(0, len(audio), chunk)]
    np.testing.assert_array_equal(np.concatenate(rows), speech_features(audio)[:50])


def test_no_row_depends_on_sound_after_the_look_ahead():
    """Sound later than 5 frames after a block changes nothing in it."""
    audio = _noisy(60)
    changed = audio.copy()
    changed[35 * 640 :] *= -2.0
    before, after = speech_features(audio), speech_features(changed)
    np.testing.assert_array_equal(before[:30], after[:30])
    assert np.abs(before[30:40] - after[30:40]).max() > 0.1


def test_samples_that_are_not_finite_are_refused():
    audio = _noisy(20)
    audio[5_000] = np.nan
    with pytest.raises(InputError, match="not finite"):
        speech_features(audio)


def test_no_other_library_is_loaded():
    """librosa, numba and SciPy take longer to load than a minute of features takes."""
    program = "import sys, numpy; from gesture_jax.speech import extractor; "
    program += "extractor.speech_features(numpy.ones(6400, 'f4')); "
    program += "print({'librosa', 'numba', 'scipy', 'jax'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "set()\n"
