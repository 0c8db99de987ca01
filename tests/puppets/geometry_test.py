"""Shapes of limbs."""

import numpy as np
import pytest

pytest.importorskip("cv2")

from gesture_jax.puppets import geometry


def test_a_limb_by_hand():
    distance, along = geometry.limb(np.array([10.0, 10]), np.array([30.0, 10]), (4, 2), 40)
    assert distance[10, 20] == pytest.approx(-3)  # On the axis, halfway: a radius of 3.
    assert distance[15, 20] == pytest.approx(2)
    assert distance[10, 5] == pytest.approx(1)  # Five before the start, whose radius is 4.
    assert along[10, 20] == pytest.approx(0.5) and along[0, 30] == pytest.approx(1)
