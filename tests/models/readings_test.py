"""Linear readings by hand, and against least squares."""

import numpy as np
import pytest

from gesture_jax.models.readings import fit_reading


def _clips(random, *, count=3, scales=(1.0, 30.0, 1e-3, 2.0)):
    """Clips of vectors with values of very different scale, and of two values each."""
    for length in range(20, 20 + count):
        vectors = (random.standard_normal((length, len(scales))) * scales).astype(np.float32)
        yield vectors, random.standard_normal((length, 2)).astype(np.float32)


def test_without_a_ridge_it_is_least_squares():
    clips = [*_clips(np.random.default_rng(0))]
    vectors, values = (np.concatenate(each) for each in zip(*clips, strict=True))
    wanted, *_ = np.linalg.lstsq(vectors.astype(float), values.astype(float), rcond=None)
    np.testing.assert_allclose(fit_reading(clips, ridge=0.0), wanted, rtol=1e-5)


def test_the_cut_into_clips_does_not_matter():
    ((vectors, values),) = _clips(np.random.default_rng(1), count=1)
    parts = [(vectors[:7], values[:7]), (vectors[7:], values[7:])]
    np.testing.assert_allclose(fit_reading(parts), fit_reading([(vectors, values)]), rtol=1e-5)


@pytest.mark.parametrize(("ridge", "wanted"), [(0.0, 3.0), (0.5, 2.0), (1.0, 1.5), (2.0, 1.0)])
def test_one_value_by_hand(ridge, wanted):
    """A standardised value of slope 3 has the slope 3 / (1 + ridge), in any unit."""
    vectors = np.array([[1.0], [-2.0], [0.5]], np.float32)
    for unit in (1.0, 1000.0):
        reading = fit_reading([(unit * vectors, 3 * vectors)], ridge=ridge)
        assert reading.dtype == np.float32
        assert reading.item() * unit == pytest.approx(wanted, rel=1e-6)


def test_equal_vector_values_share_the_work():
    """Ridge regression gives equal weights to copies, and more copies are shrunk less."""
    vectors = np.random.default_rng(2).standard_normal((50, 1)).astype(np.float32)
    twice = fit_reading([(np.repeat(vectors, 2, axis=1), vectors)], ridge=1.0)
    np.testing.assert_allclose(twice, 1 / 3, rtol=1e-5)  # Together 2/3; alone it would be 1/2.


def test_what_never_moves_reads_nothing():
    vectors = np.random.default_rng(3).standard_normal((50, 3)).astype(np.float32)
    vectors[:, 1] = 0.0
    reading = fit_reading([(vectors, vectors[:, :1])])
    assert reading[1] == 0.0 and reading[0] == pytest.approx(1 / 1.5, rel=0.05)
    still = fit_reading([(0 * vectors, vectors)])
    np.testing.assert_array_equal(still, np.zeros((3, 3)))


def test_there_must_be_clips():
    with pytest.raises(ValueError, match="no clips"):
        fit_reading([])
