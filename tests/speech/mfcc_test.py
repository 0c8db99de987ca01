"""MFCC against numbers that python_speech_features 0.6 gives for the same sound."""

import numpy as np
import pytest

from gesture_jax.speech import mfcc

# The first five coefficients of steps 0, 4 and 8.
_GOLDEN = [
    [18.2800, 36.6131, 17.6606, -1.1638, -15.2339],
    [20.8168, 13.0994, -30.5851, -38.6934, -3.7830],
    [21.6284, 0.7851, -41.0479, 3.9577, 36.3963],
]


def test_a_rising_tone_has_the_usual_coefficients():
    time = np.arange(1600)
    tone = np.rint(8000 * np.sin(time * time / 4000)) / 32_768
    found = mfcc.mfcc(tone.astype(np.float32))
    assert found.shape == (9, 13) and found.dtype == np.float32
    np.testing.assert_allclose(found[[0, 4, 8], :5], _GOLDEN, atol=2e-4)


@pytest.mark.parametrize(("samples", "steps"), [(1, 1), (400, 1), (401, 2), (16_000, 99)])
def test_the_last_step_is_padded_and_silence_is_finite(samples, steps):
    found = mfcc.mfcc(np.zeros(samples, np.float32))
    assert found.shape == (steps, 13) and np.isfinite(found).all()
