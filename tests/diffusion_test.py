"""The process, its loss and the sampler, on cases whose answer is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gesture_jax.diffusion.process import GaussianProcess, motion_loss
from gesture_jax.diffusion.samplers import DDIM, guided
from gesture_jax.errors import InputError

_MEAN = np.array([0.5, -1.0], np.float32)
_STD = np.array([0.7, 0.2], np.float32)


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
def test_signal_falls_from_all_to_nothing(schedule):
    signal = GaussianProcess(schedule=schedule).signal_variance
    assert len(signal) == 1000
    assert signal[0] > 0.99
    assert signal[-1] < 1e-3
    assert (np.diff(signal) < 0).all()


def test_cosine_schedule_is_that_of_the_paper():
    # f(t) / f(0), f(t) = cos^2((t + s) / (1 + s) pi / 2), Nichol & Dhariwal 2021, equation 17.
    f = lambda t: np.cos((t + 0.008) / 1.008 * np.pi / 2) ** 2
    assert GaussianProcess().signal_variance[499] == pytest.approx(f(0.5) / f(0.0), rel=1e-6)


def test_noise_comes_back():
    process = GaussianProcess()
    random = np.random.default_rng(0)
    x0, noise = random.standard_normal((2, 3, 4, 5)).astype(np.float32)
    time = np.array([10, 400, 900])
    noisy = process.add_noise(x0, noise, time)
    np.testing.assert_allclose(process.noise_from(noisy, x0, time), noise, atol=1e-4)


def test_times_are_drawn_as_asked():
    process = GaussianProcess()
    for power in (1.0, 3.0):
        times = np.asarray(process.draw_times(jax.random.key(0), 50_000, power=power))
        assert times.min() >= 0 and times.max() == 999
        # P(t < T x) = 1 - (1 - x)^(1 / power).
        for x in (0.1, 0.5, 0.9):
            expected = 1 - (1 - x) ** (1 / power)
            assert np.mean(times < 1000 * x) == pytest.approx(expected, abs=0.01)


def test_unknown_schedule_is_refused():
    with pytest.raises(InputError, match="cosine or linear"):
        GaussianProcess(schedule="sigmoid")


def test_motion_loss_of_a_constant_and_of_a_slope():
    target = np.zeros((1, 5, 2), np.float32)
    weights = {"position": 1.0, "velocity": 10.0, "acceleration": 100.0}
    loss, terms = motion_loss(target + 3.0, target, **weights)
    assert loss == pytest.approx(9.0)
    assert terms["velocity"] == 0
    slope = target + 2.0 * np.arange(5, dtype=np.float32)[:, None]
    loss, terms = motion_loss(slope, target, **weights)
    assert terms["position"] == pytest.approx(4 * (0 + 1 + 4 + 9 + 16) / 5)
    assert terms["velocity"] == pytest.approx(4.0)
    assert terms["acceleration"] == pytest.approx(0.0)
    assert loss == pytest.approx(24.0 + 40.0)


def _exact_denoiser(process):
    """The posterior mean of x0 where the data are independent Gaussians."""

    def denoise(noisy, time):
        signal = jnp.asarray(process.signal_variance, jnp.float32)[time][:, None]
        gain = jnp.sqrt(signal) * _STD**2 / (signal * _STD**2 + 1 - signal)
        return _MEAN + gain * (noisy - jnp.sqrt(signal) * _MEAN)

    return denoise


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_ddim_draws_gaussian_data_from_its_exact_denoiser(eta):
    process = GaussianProcess()
    sampler = DDIM(num_steps=200, eta=eta)
    draw = jax.jit(lambda key: sampler.sample(key, _exact_denoiser(process), (20_000, 2), process))
    samples = np.asarray(draw(jax.random.key(0)))
    np.testing.assert_allclose(samples.mean(axis=0), _MEAN, atol=0.02)
    np.testing.assert_allclose(samples.std(axis=0), _STD, rtol=0.05)
    assert abs(np.corrcoef(samples.T)[0, 1]) < 0.03


def test_more_steps_are_more_exact():
    process = GaussianProcess()

    def error(num_steps):
        sampler = DDIM(num_steps=num_steps)
        samples = sampler.sample(jax.random.key(0), _exact_denoiser(process), (20_000, 2), process)
        return np.abs(samples.std(axis=0) / _STD - 1).max()

    assert error(5) > error(20) > error(100)


def test_times_start_at_the_last_and_fall():
    for num_steps in (1, 7, 50, 1000):
        times = DDIM(num_steps=num_steps).times(GaussianProcess())
        assert times[0] == 999
        assert len(times) == num_steps
        assert (np.diff(times) < 0).all()
        assert times[-1] >= 0


def test_clipped_samples_stay_within():
    process = GaussianProcess()
    sampler = DDIM(num_steps=10, clip=0.5)
    samples = sampler.sample(jax.random.key(0), lambda x, t: 9.0 * x, (100, 2), process)
    assert np.abs(samples).max() <= 0.5


@pytest.mark.parametrize("guidance", [0.0, 1.0, 2.5])
def test_guidance_extrapolates_from_null(guidance):
    calls = []

    def denoise_both(noisy, time):
        calls.append(noisy.shape)
        with_condition = jnp.array([1.0, 1.0, 0.0, 0.0])[:, None]
        return noisy * 0 + jnp.where(with_condition, 3.0, 1.0)

    result = guided(denoise_both, guidance)(jnp.zeros((2, 1)), jnp.zeros(2, int))
    np.testing.assert_allclose(result, 1.0 + guidance * 2.0)
    assert calls == [(4, 1)]  # One doubled batch.
