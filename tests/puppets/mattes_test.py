"""Mattes."""

import numpy as np
import pytest

pytest.importorskip("cv2")

from gesture_jax.puppets import mattes


def test_the_guided_filter_keeps_the_edges_of_the_picture():
    guide = np.zeros((40, 40, 3), np.float32)
    guide[:, 20:] = 1
    mask = np.zeros((40, 40), np.float32)
    mask[:, 22:] = 1  # Two pixels off.
    smooth = mattes.guided_filter(guide, mask, 5)
    assert smooth[20, 19] < 0.2 and smooth[20, 20] > 0.5
    flat = mattes.guided_filter(np.zeros_like(guide), mask, 2)
    mean = lambda x: np.mean([mask[20, k - 2 : k + 3].mean() for k in range(x - 2, x + 3)])
    assert flat[20, 21] == pytest.approx(mean(21), abs=1e-3)
