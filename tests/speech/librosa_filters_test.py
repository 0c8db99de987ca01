"""librosa's filters are made once, and are the same."""

import librosa
import numpy as np
import pytest

import gesture_jax.speech.extractor  # noqa: F401  Which has them remembered.
from gesture_jax.speech.librosa_filters import _remembered


@pytest.fixture
def counted():
    calls = []

    @_remembered
    def make(*args, **options):
        calls.append((args, options))
        return np.zeros(3), args

    return make, calls


def test_what_was_given_may_be_changed(counted):
    make, calls = counted
    make(1, taps=[2, 3])[0][:] = 9.0
    assert (make(1, taps=[2, 3])[0] == 0.0).all() and len(calls) == 1


@pytest.mark.parametrize(
    "other",
    [(1.0, "a", np.arange(3)), (1, "b", np.arange(3)), (1, "a", np.arange(3.0)), (1, "a", [0, 1])],
)
def test_other_arguments_are_other_filters(counted, other):
    make, calls = counted
    make(1, "a", np.arange(3))
    make(*other)
    assert len(calls) == 2


def test_librosas_own_are_remembered():
    options = dict(sr=12_800, n_fft=2048, n_mels=40)
    expected = librosa.filters.mel.__wrapped__(**options)
    found = [librosa.filters.mel(**options) for _ in range(2)]
    assert found[0] is not found[1]
    for one in found:
        np.testing.assert_array_equal(one, expected)
