"""The Frechet distance, against the square root of the product and by hand; moments that merge."""

import functools

import numpy as np
import pytest
import scipy.linalg

from gesture_jax.errors import InputError
from gesture_jax.metrics.frechet import Moments, frechet_distance, small_sample_note

_RANDOM = np.random.default_rng(0)


def _features(count, dim):
    mixing = _RANDOM.standard_normal((dim, dim))
    return _RANDOM.standard_normal((count, dim)) @ mixing + _RANDOM.standard_normal(dim)


@pytest.mark.parametrize("dim", [1, 2, 8, 32])
def test_it_is_the_form_with_the_root_of_the_product(dim):
    ours, theirs = _features(200, dim), _features(150, dim)
    one, other = (np.atleast_2d(np.cov(each, rowvar=False)) for each in (ours, theirs))
    root = scipy.linalg.sqrtm(one @ other).real
    shift = ours.mean(axis=0) - theirs.mean(axis=0)
    expected = shift @ shift + np.trace(one + other - 2 * root)
    found = frechet_distance(Moments.of(ours), Moments.of(theirs))
    assert found == pytest.approx(expected, rel=1e-6)
    assert frechet_distance(Moments.of(theirs), Moments.of(ours)) == pytest.approx(found, rel=1e-9)


def test_gaussians_of_one_feature_by_hand():
    """Mean 0 and 3, standard deviation sqrt(2) and 4 sqrt(2): 9 + (3 sqrt(2))^2."""
    ours, theirs = np.array([[-1.0], [1.0]]), np.array([[-1.0], [7.0]])
    assert frechet_distance(Moments.of(ours), Moments.of(theirs)) == pytest.approx(27.0)


@pytest.mark.parametrize("count", [400, 10])
def test_equal_sets_are_no_distance_apart(count):
    """Fewer examples than features, and a feature that is always the same, included."""
    features = _features(count, 32)
    features[:, 3] = 7.0
    moments = Moments.of(features)
    assert 0 <= frechet_distance(moments, moments) < 1e-5


def test_a_shift_of_the_mean_alone_gives_its_square():
    features, shift = _features(300, 8), _RANDOM.standard_normal(8)
    distance = frechet_distance(Moments.of(features), Moments.of(features + shift))
    assert distance == pytest.approx(shift @ shift, rel=1e-9)


def test_parts_merge_to_the_whole():
    features = _features(500, 6) + 1e4  # Far from zero, where sums of squares lose digits.
    parts = [Moments.of(part) for part in np.split(features, [0, 1, 7, 250])]
    merged, whole = functools.reduce(Moments.merge, parts), Moments.of(features)
    assert merged.count == whole.count == 500
    np.testing.assert_allclose(merged.mean, whole.mean, rtol=1e-12)
    np.testing.assert_allclose(merged.covariance, whole.covariance, rtol=1e-8)
    np.testing.assert_allclose(whole.covariance, np.cov(features, rowvar=False), rtol=1e-8)


def test_float32_features_are_summed_in_float64():
    moments = Moments.of(_features(50, 4).astype(np.float32))
    assert moments.mean.dtype == moments.scatter.dtype == np.float64


def test_errors_are_one_sentence():
    many, other = Moments.of(_features(50, 4)), Moments.of(_features(50, 5))
    with pytest.raises(InputError, match="two examples or more, not 1"):
        frechet_distance(many, Moments.of(_features(1, 4)))
    with pytest.raises(InputError, match="of 4 and of 5 numbers"):
        frechet_distance(many, other)
    with pytest.raises(InputError, match="of 4 and of 5 numbers"):
        many.merge(other)
    with pytest.raises(InputError, match="finite"):
        frechet_distance(many, Moments.of(np.full((5, 4), np.nan)))


def test_few_examples_are_noted():
    assert small_sample_note(Moments.of(_features(40, 4))) is None
    assert small_sample_note(Moments.of(_features(39, 4))).startswith("39 examples of 4 features")
