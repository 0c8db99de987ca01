"""SpeechFeatureExtractor beside: the same rows, in time, and no process that stays."""

import itertools
import signal
import threading

import numpy as np
import pytest

from gesture_jax.speech.extractor import SpeechFeatureExtractor
from gesture_jax.speech.worker import FeatureWorker


@pytest.fixture(scope="module")
def ears():
    with FeatureWorker() as ears:
        yield ears


def _noise(seed, seconds):
    return 0.1 * np.random.default_rng(seed).standard_normal(int(16_000 * seconds), np.float32)


def _join(blocks):
    return np.concatenate([np.zeros((0, 35), np.float32), *blocks])


@pytest.mark.parametrize("num_frames", [0, 3, 10, 61])
def test_rows_are_those_of_this_process(ears, num_frames):
    """Of one recording after the other, as long as wanted, shorter and longer."""
    for seed, seconds in enumerate((0.1, 2.0)):
        audio = _noise(seed, seconds)
        ours = _join(SpeechFeatureExtractor().iterate(audio, num_frames=num_frames))
        theirs = _join(ears.iterate(audio, num_frames=num_frames))
        assert len(theirs) == num_frames
        np.testing.assert_array_equal(theirs, ours)


@pytest.mark.parametrize("is_dropped", [True, False])
def test_a_recording_that_is_left_does_not_show_in_the_next(ears, is_dropped):
    audio, other = _noise(0, 60.0), _noise(1, 1.0)
    left = ears.iterate(audio, num_frames=1500)
    assert len(list(itertools.islice(left, 2))) == 2
    if is_dropped:
        del left
    found, expected = (
        _join(one.iterate(other, num_frames=25)) for one in (ears, SpeechFeatureExtractor())
    )
    np.testing.assert_array_equal(found, expected)


def test_it_dies_with_who_started_it():
    with FeatureWorker() as ears:
        rows = ears.iterate(_noise(0, 60.0), num_frames=1500)
        next(rows)
        ears._child.stdout.close()
        assert ears._child.wait(timeout=60) == -signal.SIGPIPE


def test_its_end_is_told():
    with FeatureWorker() as ears:
        rows = ears.iterate(_noise(0, 4.0), num_frames=100)
        next(rows)
        ears._child.kill()
        with pytest.raises(RuntimeError, match="the process that hears has ended, -9"):
            list(rows)


def test_nothing_stays():
    threads = threading.active_count()
    with FeatureWorker() as ears:
        rows = ears.iterate(_noise(0, 60.0), num_frames=1500)
        next(rows)
        child = ears._child
    assert child.poll() is not None
    assert child.stdin.closed and child.stdout.closed
    for thread in threading.enumerate():
        if thread.daemon and thread.name.endswith("(_feed)"):
            thread.join(timeout=5)
    assert threading.active_count() == threads
