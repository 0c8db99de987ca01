"""Drawing meshes and layers."""

import numpy as np
import pytest

pytest.importorskip("cv2")

from gesture_jax.puppets import rendering


def test_a_triangle_by_hand():
    """A right triangle, twice as large in the frame as in the layer."""
    corners = np.array([[0.0, 0], [8, 0], [0, 8]])
    drawn = np.full((10, 10, 2), rendering.NOWHERE, np.float32)
    rendering.rasterise(corners, corners / 2, np.array([[0, 1, 2]], np.int32), drawn)
    np.testing.assert_allclose(drawn[2, 4], (2, 1), atol=1e-5)
    np.testing.assert_allclose(drawn[8, 0], (0, 4), atol=1e-5)
    assert drawn[5, 5, 0] == rendering.NOWHERE and drawn[0, 9, 0] == rendering.NOWHERE


def test_layers_mix_by_hand():
    picture = np.full((1, 2, 3), 100, np.float32)
    layer = np.array([[[200, 0, 100, 51], [7, 7, 7, 0]]], np.uint8)
    rendering.composite(picture, layer)
    np.testing.assert_allclose(picture[0], [[120, 80, 100], [100, 100, 100]], rtol=1e-5)
