"""The portrait's own mouth talks, and nothing else in the frame changes."""

import jax.numpy as jnp
import numpy as np
import pytest

from gesture_jax.inference.talking_mouth import TalkingMouth, move_mouth
from gesture_jax.models.layered import Enlarged, compose, locate
from gesture_jax.ops.warp import with_differences
from tests.people.mouth_test import make_mesh

_SIZE = 192


@pytest.fixture(scope="module")
def square() -> np.ndarray:
    """A picture with a dark mouth line on light skin."""
    noise = np.random.default_rng(0).integers(0, 20, (_SIZE, _SIZE, 3))
    picture = 180 + noise
    picture[95:98, 87:105] = 60
    return picture.astype(np.uint8)


@pytest.fixture(scope="module")
def mouth(square) -> TalkingMouth:
    found = TalkingMouth.from_mesh(square, make_mesh(width=18.0, middle=(96.0, 96.0)))
    assert found is not None
    return found


def _render(square, mouth, lips, *, shift=0.0) -> tuple[np.ndarray, np.ndarray]:
    """Returns frames before and after the mouth moved; the head moves right by `shift` pixels."""
    count = len(lips)
    flows = np.zeros((count, _SIZE, _SIZE, 4), np.float32)
    flows[..., 0] = -2 * shift / _SIZE
    maps = np.zeros((count, _SIZE, _SIZE, 5), np.float32)
    maps[..., 3], maps[..., 4] = -9.0, 9.0  # No arms, and only the portrait's own pixels.
    located = locate(Enlarged(jnp.asarray(flows), jnp.asarray(maps)))
    picture = with_differences(jnp.asarray(square[None] / np.float32(255)))
    image = compose(picture, located)
    moved = move_mouth(picture, jnp.asarray(mouth.box), (image, located, mouth.draw(lips)))
    return np.asarray(image), np.asarray(moved)


def test_lips_at_rest_change_nothing(square, mouth):
    image, moved = _render(square, mouth, np.zeros((1, 2), np.float32))
    np.testing.assert_allclose(moved, image, atol=2e-3)


def test_an_open_mouth_is_dark_inside(square, mouth):
    image, moved = _render(square, mouth, np.array([[0.0, 0.0], [0.42, 0.0]], np.float32))
    shut, opened = moved[:, 95:101, 92:100].mean(axis=(1, 2, 3))
    assert opened < shut - 0.1
    np.testing.assert_array_equal(moved[:, :50], image[:, :50])
    np.testing.assert_allclose(moved[:, 100, :30], image[:, 100, :30], atol=2e-3)


def test_the_mouth_moves_with_the_head(square, mouth):
    lips = np.array([[0.42, 0.0]], np.float32)
    still, turned = (_render(square, mouth, lips, shift=s)[1][0] for s in (0.0, 8.0))
    np.testing.assert_allclose(turned[70:130, 78:130], still[70:130, 70:122], atol=0.02)


@pytest.mark.parametrize("middle", [(10.0, 96.0), (96.0, 188.0)])
def test_a_mouth_at_the_edge_is_left_to_stage_1(square, middle):
    assert TalkingMouth.from_mesh(square, make_mesh(width=18.0, middle=middle)) is None


def test_a_tiny_mouth_is_left_to_stage_1(square):
    assert TalkingMouth.from_mesh(square, make_mesh(width=4.0, middle=(96.0, 96.0))) is None
