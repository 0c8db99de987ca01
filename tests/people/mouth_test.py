"""A mouth moves as it should: lips close, part, round and show what is painted between them."""

import numpy as np
import pytest

from gesture_jax.people.mouth import LipShape, Mouth, measure_light

_CHAINS = (
    (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308),
    (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308),
)


def make_mesh(*, gap: float = 0.0, width: float = 40.0, middle=(100.0, 100.0)) -> np.ndarray:
    """Returns a face mesh [478, 2] with lips that are straight, or `gap` apart in the middle."""
    mesh = np.full((478, 2), middle, np.float32)
    across = np.linspace(-0.5, 0.5, 11)
    for sign, chain in zip((-1, 1), _CHAINS, strict=True):
        mesh[list(chain), 0] = middle[0] + width * across
        mesh[list(chain), 1] = middle[1] + sign * 0.5 * gap * (1 - (2 * across) ** 2)
    mesh[152] = middle[0], middle[1] + width  # The chin.
    mesh[1] = middle[0], middle[1] - 0.8 * width  # The tip of the nose.
    return mesh


def _mouth(**options) -> Mouth:
    x = np.arange(200, dtype=np.float32)
    return Mouth(make_mesh(**options), x, x[:, None], unit=1.0, light=1.0)


def test_closed_lips_at_rest_do_not_move():
    mouth = _mouth()
    x, y = mouth.displace(LipShape(0.0, 0.0))
    np.testing.assert_allclose(x, np.broadcast_to(np.arange(200), (200, 200)), atol=1e-4)
    np.testing.assert_allclose(y, np.broadcast_to(np.arange(200)[:, None], (200, 200)), atol=1e-4)
    assert mouth.paint(LipShape(0.0, 0.0)) is None


def test_an_open_mouth_shows_its_inside_between_the_lips():
    mouth = _mouth()
    shape = LipShape(0.4, 0.0)
    left, right, upper, lower = mouth.joints(shape)
    assert lower[1] - upper[1] == pytest.approx(0.4 * 40, rel=0.02)
    assert right[0] - left[0] == pytest.approx(40)
    inside = mouth.paint(shape)[..., 3] > 128
    rows = np.flatnonzero(inside[:, 100]) + mouth.rows.start
    assert abs(rows[0] - upper[1]) < 2 and abs(rows[-1] - lower[1]) < 2
    # Skin below the lower lip, which was higher up, went down with it.
    assert mouth.displace(shape)[1][int(lower[1]) + 3, 100] < lower[1] - 5


def test_lips_that_are_apart_in_the_photograph_close():
    mouth = _mouth(gap=4.0)
    shape = LipShape(0.0, 0.0)
    _, _, upper, lower = mouth.joints(shape)
    assert lower[1] - upper[1] == pytest.approx(0.0, abs=0.05)
    assert mouth.paint(shape) is None
    # Nothing is read from the gap, where the photograph shows the teeth.
    read = mouth.displace(shape)[1][90:110, 100]
    assert not ((read > 98.5) & (read < 101.5)).any()


def test_rounded_lips_are_narrower_and_fuller():
    mouth = _mouth()
    round_lips = LipShape(0.1, -0.3)
    left, right, _, _ = mouth.joints(round_lips)
    assert right[0] - left[0] == pytest.approx(0.7 * 40)
    x, _ = mouth.displace(round_lips)
    assert x[100, 110] > 111  # A corner of the mouth moved inwards.
    spread = mouth.joints(LipShape(0.1, 0.15))
    assert spread[1, 0] - spread[0, 0] > 45


def test_nothing_moves_far_from_the_mouth():
    mouth = _mouth()
    x, y = mouth.displace(LipShape(0.4, -0.3))
    np.testing.assert_allclose(y[:50], np.broadcast_to(np.arange(50)[:, None], (50, 200)), atol=0.1)
    np.testing.assert_allclose(x[:, :20], np.broadcast_to(np.arange(20), (200, 20)), atol=0.5)


def test_teeth_show_in_a_small_opening_if_lips_are_not_rounded():
    spread, rounded = (LipShape.from_values(np.array([0.06, w])) for w in (0.1, -0.3))
    assert spread.teeth > 0.2 and rounded.teeth == 0.0
    assert LipShape.from_values(np.array([0.4, 0.0])).teeth == 0.0


def test_values_out_of_range_are_limited():
    shape = LipShape.from_values(np.array([-0.3, -9.0]))
    assert shape.opening == 0.0 and shape.widening > -0.5


def test_light_is_that_of_the_skin():
    nose = np.array([8.0, 8.0])
    assert measure_light(np.full((16, 16, 3), 190), nose, radius=2) == pytest.approx(1.0)
    assert measure_light(np.full((16, 16, 3), 95), nose, radius=2) == pytest.approx(0.5)
    assert measure_light(np.zeros((16, 16, 3)), nose + 50, radius=2) == 1.0
