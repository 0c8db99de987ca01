"""FGD on motion of known similarity, and its autoencoder."""

import chex
import jax
import numpy as np
import pytest

from gesture_jax.errors import InputError
from gesture_jax.metrics import fgd
from gesture_jax.models.motion_autoencoder import MotionAutoencoder

pytestmark = pytest.mark.usefixtures("quickly_compiled")

_FRAMES, _DIM = 24, 6
_RANDOM = np.random.default_rng(0)


def _swings(count):
    """Windows of oscillations, of many speeds and phases, in which all features take part."""
    hertz, phase = _RANDOM.uniform(0.5, 1.5, (count, 1)), _RANDOM.uniform(0, 2 * np.pi, (count, 1))
    angle = 2 * np.pi * hertz * np.arange(_FRAMES) / 25 + phase
    lags, sizes = np.linspace(0, 1, _DIM), np.geomspace(0.1, 10, _DIM)
    return (5 + sizes * np.sin(angle[..., None] - lags)).astype(np.float32)


@pytest.fixture(scope="module")
def real():
    return _swings(800)


@pytest.fixture(scope="module")
def variables(real):
    return fgd.fit_autoencoder(real, num_steps=150, batch_size=64)


def test_the_fit_reduces_the_loss(variables, real):
    before = fgd.fit_autoencoder(real, num_steps=0)
    unseen = _swings(200)
    ratio = fgd.reconstruction_loss(variables, unseen) / fgd.reconstruction_loss(before, unseen)
    assert ratio < 0.5


def test_halves_of_the_real_are_near_and_controls_are_far(variables, real):
    near = fgd.fgd(variables, real[:400], real[400:])
    shuffled = _RANDOM.permuted(np.arange(_FRAMES)[None].repeat(400, axis=0), axis=1)
    shuffled = np.take_along_axis(real[400:], shuffled[..., None], axis=1)
    still = real[400:, :1].repeat(_FRAMES, axis=1)
    mean = np.broadcast_to(real.mean(axis=(0, 1)), still.shape)
    for control in (shuffled, still, mean):
        assert fgd.fgd(variables, real[:400], control) > 10 * near
    assert fgd.fgd(variables, real, real) < 1e-5


def test_more_noise_is_farther(variables, real):
    noise = real.std(axis=(0, 1)) * _RANDOM.standard_normal(real[400:].shape).astype(np.float32)
    distances = [fgd.fgd(variables, real[:400], real[400:] + size * noise) for size in (0, 0.3, 1)]
    assert distances == sorted(distances)


def test_equal_seeds_give_equal_variables(real):
    fit = lambda seed: fgd.fit_autoencoder(real, seed=seed, num_steps=3, batch_size=64)
    chex.assert_trees_all_equal(fit(1), fit(1))
    one, other = (fgd.encode_windows(fit(seed), real[:5]) for seed in (1, 2))
    assert np.abs(one - other).max() > 1e-2


def test_latents_are_the_same_in_any_batch_and_inside_jit(variables, real):
    latents = fgd.encode_windows(variables, real[:300])  # More than one batch.
    assert latents.shape == (300, 32) and latents.dtype == np.float32
    np.testing.assert_allclose(fgd.encode_windows(variables, real[297:300]), latents[297:], 1e-4)
    inside = jax.jit(lambda variables, windows: 2 * fgd.latent(variables, windows))
    np.testing.assert_allclose(inside(variables, real[:7]), 2 * latents[:7], rtol=1e-4, atol=1e-4)
    assert fgd.encode_windows(variables, real[:0]).shape == (0, 32)


def test_any_number_of_windows_compiles_once(variables, real, monkeypatch):
    once = jax.jit(chex.assert_max_traces(fgd.latent, n=1))
    monkeypatch.setattr(fgd, "_encode", once)
    for count in (0, 3, 256, 300):
        assert len(fgd.encode_windows(variables, real[:count])) == count


def test_variables_are_arrays(variables):
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(variables))


def test_units_of_a_feature_do_not_matter(real):
    """Windows are standardised by the fitted ones; one unit for all features, each its zero."""
    fit = lambda windows: fgd.fit_autoencoder(windows, num_steps=2, batch_size=64)
    other = (3 * real + np.arange(_DIM)).astype(np.float32)
    plain, moved = (fgd.encode_windows(fit(each), each[:9]) for each in (real, other))
    np.testing.assert_allclose(moved, plain, atol=1e-2)


@pytest.mark.parametrize("shape", [(12, 1), (13, 5), (34, 27), (80, 195), (101, 2)])
def test_windows_of_any_length_and_width_come_back(shape):
    model, windows = MotionAutoencoder(), np.zeros((4, *shape), np.float32)
    run = lambda: model.init_with_output(jax.random.key(0), windows, train=True)[0]
    assert jax.eval_shape(run).shape == (4, *shape)


def test_few_windows_of_the_shortest_length_are_fitted():
    windows = _RANDOM.standard_normal((5, 12, 1))  # Float64 as well.
    variables = fgd.fit_autoencoder(windows, num_steps=1, batch_size=8)
    assert fgd.encode_windows(variables, windows).shape == (5, 32)
    assert np.isfinite(fgd.reconstruction_loss(variables, windows))


@pytest.mark.parametrize(("length", "flat"), [(34, 384), (64, 864), (80, 1120)])
def test_the_encoder_has_the_sizes_of_the_paper(length, flat):
    init = lambda: MotionAutoencoder().init(
        jax.random.key(0), np.zeros((2, length, 27), np.float32), train=True
    )
    encoder = jax.eval_shape(init)["params"]["encoder"]
    assert encoder["dense1"]["kernel"].shape == (flat, 256)
    assert encoder["mu"]["kernel"].shape == (32, 32)


def test_a_feature_that_is_flat_stays_finite_and_small(real):
    windows = real.copy()
    windows[..., 2] = 0.25
    variables = fgd.fit_autoencoder(windows, num_steps=2, batch_size=64)
    moved = windows[:9].copy()
    moved[..., 2] += 1e-4
    one, other = (fgd.encode_windows(variables, each) for each in (windows[:9], moved))
    assert np.isfinite(one).all()
    np.testing.assert_allclose(one, other, atol=1e-2)


def test_errors_are_one_sentence(variables, real):
    with pytest.raises(InputError, match="24 frames and 6 features, not of 24 and 5"):
        fgd.fgd(variables, real, real[..., :5])
    with pytest.raises(InputError, match="24 frames and 6 features, not of 20 and 6"):
        fgd.encode_windows(variables, real[:, :20])
    with pytest.raises(InputError, match="two motion windows or more, not 1"):
        fgd.fit_autoencoder(real[:1])
    with pytest.raises(InputError, match="12 frames or more, not 11"):
        fgd.fit_autoencoder(real[:, :11])
    with pytest.raises(InputError, match="NaN or infinity"):
        fgd.fit_autoencoder(np.where(real > 14, np.inf, real))
    with pytest.raises(InputError, match="finite"):
        fgd.fgd(variables, real[:9], np.full_like(real[:9], np.nan))


def test_windows_are_cut_every_stride():
    motion = np.arange(20, dtype=np.float32).reshape(10, 2)
    windows = fgd.cut_windows(motion, window=4, stride=3)
    assert windows.dtype == np.float32
    np.testing.assert_array_equal(windows, [motion[0:4], motion[3:7], motion[6:10]])
    assert fgd.cut_windows(motion, window=10, stride=3).shape == (1, 10, 2)
    assert fgd.cut_windows(motion, window=11, stride=3).shape == (0, 11, 2)
    assert fgd.cut_windows(motion[:0], window=4, stride=3).shape == (0, 4, 2)


def test_a_written_autoencoder_is_read_unchanged(variables, real, tmp_path):
    path = tmp_path / "fgd.npz"
    fgd.write_autoencoder(path, variables)
    again = fgd.read_autoencoder(path)
    assert fgd.hash_autoencoder(again) == fgd.hash_autoencoder(variables)
    found = fgd.encode_windows(again, real[:5])
    np.testing.assert_array_equal(found, fgd.encode_windows(variables, real[:5]))


def test_other_files_are_no_autoencoders(variables, tmp_path):
    path = tmp_path / "fgd.npz"
    path.write_bytes(b"no archive")
    with pytest.raises(InputError, match="is no fitted autoencoder"):
        fgd.read_autoencoder(path)
    np.savez(path, motion=np.zeros(3, object), allow_pickle=True)
    with pytest.raises(InputError, match="is no fitted autoencoder"):
        fgd.read_autoencoder(path)
    broken = jax.tree.map(lambda x: x, variables)
    broken["params"]["encoder"]["mu"]["kernel"] = np.zeros((32, 31), np.float32)
    fgd.write_autoencoder(path, broken)
    with pytest.raises(InputError, match="of another version"):
        fgd.read_autoencoder(path)
