"""The process, its loss and the samplers, on cases with known results."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gesture_jax.diffusion.process import GaussianProcess, motion_loss
from gesture_jax.diffusion.samplers import (
    DDIM,
    DDPM,
    SAMPLERS,
    DPMSolver,
    guided,
    make_sampler,
    within_interval,
)
from gesture_jax.errors import InputError

_MEAN = np.array([0.5, -1.0], np.float32)
# Standard deviations 0.7 and 0.2, correlation 0.5.
_COVARIANCE = np.array([[0.49, 0.07], [0.07, 0.04]])


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
def test_the_signal_share_falls_from_one_to_zero(schedule):
    signal = GaussianProcess(schedule=schedule).signal_variance
    assert len(signal) == 1000
    assert signal[0] > 0.99
    assert signal[-1] < 1e-3
    assert (np.diff(signal) < 0).all()


def test_cosine_schedule_is_that_of_the_paper():
    # f(t) / f(0), f(t) = cos^2((t + s) / (1 + s) pi / 2), Nichol & Dhariwal 2021, equation 17.
    f = lambda t: np.cos((t + 0.008) / 1.008 * np.pi / 2) ** 2
    assert GaussianProcess().signal_variance[499] == pytest.approx(f(0.5) / f(0.0), rel=1e-6)


def test_noise_is_recovered():
    process = GaussianProcess()
    random = np.random.default_rng(0)
    x0, noise = random.standard_normal((2, 3, 4, 5)).astype(np.float32)
    time = np.array([10, 400, 900])
    noisy = process.add_noise(x0, noise, time)
    np.testing.assert_allclose(process.noise_from(noisy, x0, time), noise, atol=1e-4)


def test_times_follow_the_power_distribution():
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
    """Returns the posterior mean of x0 for data distributed as N(_MEAN, _COVARIANCE)."""
    signal = process.signal_variance[:, None, None]
    noisy_covariance = signal * _COVARIANCE + (1 - signal) * np.eye(2)
    gains = np.sqrt(signal) * _COVARIANCE @ np.linalg.inv(noisy_covariance)
    gains, scales = jnp.asarray(gains, jnp.float32), jnp.asarray(np.sqrt(signal[..., 0]), "float32")

    def denoise(noisy, time):
        centred = noisy - scales[time] * _MEAN
        return _MEAN + jnp.einsum("bij,bj->bi", gains[time], centred)

    return denoise


def _draw(sampler, denoise, process, *, count=20_000, dim=2):
    return np.asarray(sampler.sample(jax.random.key(0), denoise, (count, dim), process))


@pytest.mark.parametrize(
    "sampler",
    [DDPM(1000), DDIM(1000), DDIM(1000, eta=0.5), DDIM(1000, eta=1.0), DPMSolver(50)],
    ids=repr,
)
def test_gaussian_data_are_drawn_from_their_exact_denoiser(sampler):
    process = GaussianProcess()
    samples = _draw(sampler, _exact_denoiser(process), process)
    # Whitening by the covariance of the data gives both directions the same weight.
    white = np.linalg.solve(np.linalg.cholesky(_COVARIANCE), (samples - _MEAN).T)
    # The standard error of n samples is 1 / sqrt(n) for a mean and sqrt(2 / n) for a variance. The
    # tolerance is four standard errors plus 2 % for the discretisation of the narrow direction.
    count = len(samples)
    np.testing.assert_allclose(white.mean(axis=1), 0, atol=4 / count**0.5)
    np.testing.assert_allclose(np.cov(white), np.eye(2), atol=4 * (2 / count) ** 0.5 + 0.02)


def test_order_of_the_deterministic_samplers():
    # The process has so many times that rounding them does not matter.
    process = GaussianProcess(num_steps=100_000)
    denoise = _exact_denoiser(process)
    # A network that returns its input reveals the first noise, which all samplers share.
    first = _draw(DDIM(1), lambda noisy, time: noisy, process, count=100)
    # The exact result: the probability-flow ODE keeps the distance from the mean, in standard
    # deviations of x_t, along each eigenvector.
    signal = process.signal_variance[-1]
    eigenvalues, directions = np.linalg.eigh(_COVARIANCE)
    ratio = np.sqrt(eigenvalues / (signal * eigenvalues + 1 - signal))
    exact = _MEAN + (first - np.sqrt(signal) * _MEAN) @ directions * ratio @ directions.T

    # The test starts at 32 steps, as with 16 the error of DPM-Solver++ happens to change sign.
    steps = [32, 64, 128, 256]
    errors, order = {}, {}
    for kind in (DDIM, DPMSolver):
        samples = [_draw(kind(n), denoise, process, count=100) for n in steps]
        errors[kind] = np.sqrt(np.mean((np.array(samples) - exact) ** 2, axis=(1, 2)))
        order[kind] = -np.polyfit(np.log(steps), np.log(errors[kind]), 1)[0]
        print(f"{kind.__name__}: order {order[kind]:.2f}, errors {errors[kind]}")
    assert 0.9 < order[DDIM] < 1.1
    # The order is two up to a logarithm, which comes from the first steps, long in log-SNR.
    assert 1.6 < order[DPMSolver] < 2.2
    assert (errors[DPMSolver] < errors[DDIM] / 5).all()


def _path_to(point, sampler, process):
    """Returns x_t at all times, [n, b], for a network that always estimates the same point."""
    path = {}

    def denoise(noisy, time):
        jax.debug.callback(lambda x, t: path.update({int(t[0]): x[:, 0]}), noisy, time)
        return jnp.full_like(noisy, point)

    np.testing.assert_array_equal(_draw(sampler, denoise, process, dim=1), point)
    jax.effects_barrier()
    return np.array([path[time] for time in sampler.times(process)])


@pytest.mark.parametrize(
    ("sampler", "fresh"),
    [(DDPM(5), 1), (DDIM(5, 1.0), 1), (DDIM(5, 0.5), 0.5), (DDIM(5), 0), (DPMSolver(5), 0)],
    ids=repr,
)
def test_steps_keep_the_distribution_of_the_process(sampler, fresh):
    process = GaussianProcess()
    path = _path_to(0.75, sampler, process)
    signal = process.signal_variance[sampler.times(process)]
    tolerance = 4 * (2 / path.shape[1]) ** 0.5
    np.testing.assert_allclose(path.mean(axis=1), np.sqrt(signal) * 0.75, atol=tolerance)
    covariance = np.cov(path)
    np.testing.assert_allclose(np.diag(covariance), 1 - signal, atol=tolerance)
    if fresh == 1:
        # The ancestral path is the process itself in reverse: x_t is x_s, for s < t, scaled by
        # sqrt(abar_t / abar_s), plus independent noise.
        scale = np.sqrt(np.minimum.outer(signal, signal) / np.maximum.outer(signal, signal))
        expected = scale * (1 - np.maximum.outer(signal, signal))
        np.testing.assert_allclose(covariance, expected, atol=tolerance)
    elif fresh == 0:
        # Without fresh noise the first point determines the whole path.
        np.testing.assert_allclose(np.corrcoef(path), 1, atol=1e-3)


@pytest.mark.parametrize("sampler_class", SAMPLERS.values())
@pytest.mark.parametrize("num_steps", [1, 7, 50, 999, 1000])
def test_times_start_at_the_last_and_fall(sampler_class, num_steps):
    times = sampler_class(num_steps).times(GaussianProcess())
    assert times[0] == 999
    assert len(times) == num_steps
    assert (np.diff(times) < 0).all()
    assert times[-1] >= 0


@pytest.mark.parametrize("name", SAMPLERS)
def test_clipped_samples_stay_within_the_bound(name):
    sampler = make_sampler(name, num_steps=10, clip=0.5)
    samples = _draw(sampler, lambda x, t: 9.0 * x, GaussianProcess(), count=100)
    assert np.abs(samples).max() == 0.5


@pytest.mark.parametrize("name", SAMPLERS)
def test_samples_are_a_function_of_the_key(name):
    process = GaussianProcess()
    sampler, denoise = make_sampler(name, num_steps=4), _exact_denoiser(process)
    draw = jax.jit(lambda key: sampler.sample(key, denoise, (8, 2), process))
    first, again, other = (draw(jax.random.key(seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.01


@pytest.mark.parametrize("name", SAMPLERS)
def test_one_step_is_one_estimate(name):
    samples = _draw(make_sampler(name, num_steps=1), lambda x, t: 0 * x + 3.0, GaussianProcess())
    np.testing.assert_array_equal(samples, 3.0)


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("num_steps", [1, 5, 8, 11])
def test_padded_steps_draw_the_same(name, num_steps):
    process, sampler = GaussianProcess(), make_sampler(name, num_steps=num_steps, clip=2.5)
    denoise = _exact_denoiser(process)
    draw = jax.jit(lambda steps: steps.sample(jax.random.key(0), denoise, (100, 2), process))
    steps = sampler.steps(process, padded=True)
    assert len(steps.time) == (16 if num_steps == 11 else 8)
    expected = _draw(sampler, denoise, process, count=100)
    np.testing.assert_allclose(draw(steps), expected, atol=1e-5)


@chex.assert_max_traces(n=1)
def _sample_traced(steps):
    return steps.sample(jax.random.key(0), lambda x, t: 0.5 * x, (2, 2), GaussianProcess())


def test_padded_steps_share_a_program():
    sample, process = jax.jit(_sample_traced), GaussianProcess()
    samplers = [DDIM(2), DDIM(7), DPMSolver(8), DPMSolver(5)]
    results = [sample(sampler.steps(process, padded=True)) for sampler in samplers]
    assert all(np.abs(result - results[0]).max() > 1e-4 for result in results[1:])


def test_samplers_come_by_name():
    assert make_sampler("ddim", num_steps=8, eta=0.5) == DDIM(8, eta=0.5)
    assert make_sampler("ddpm", num_steps=8, clip=1.0) == DDPM(8, clip=1.0)
    assert make_sampler("dpm", num_steps=8) == DPMSolver(8)


def test_unsupported_samplers_are_refused():
    with pytest.raises(InputError, match="'euler'; choose ddpm, ddim, dpm"):
        make_sampler("euler", num_steps=8)
    with pytest.raises(InputError, match="only the sampler ddim"):
        make_sampler("dpm", num_steps=8, eta=1.0)
    for name in SAMPLERS:
        with pytest.raises(InputError, match="at least 1"):
            make_sampler(name, num_steps=0)
        with pytest.raises(InputError, match="is 11; the process has 10"):
            make_sampler(name, num_steps=11).times(GaussianProcess(num_steps=10))


@pytest.mark.parametrize("name", SAMPLERS)
def test_samples_keep_to_a_bound(name):
    """The bound holds for a network that amplifies its input, and a wide bound changes nothing."""
    process, sampler = GaussianProcess(), make_sampler(name, num_steps=8)
    limit = np.array([0.5, 2.0], np.float32)
    draw = lambda denoise, bound: sampler.sample(
        jax.random.key(0), denoise, (100, 2), process, bound=bound
    )
    samples = np.abs(draw(lambda noisy, _: 1e3 * noisy, lambda x0: jnp.clip(x0, -limit, limit)))
    assert (samples <= limit).all() and (samples.max(axis=0) == limit).all()
    wide = draw(_exact_denoiser(process), lambda x0: jnp.clip(x0, -100.0, 100.0))
    np.testing.assert_array_equal(wide, draw(_exact_denoiser(process), None))


@pytest.mark.parametrize("name", ["ddpm", "ddim", "dpm"])
def test_each_step_gets_its_precomputed_part(name):
    process, sampler = GaussianProcess(), make_sampler(name, num_steps=5)
    precomputed = {"time": jnp.asarray(sampler.times(process))}
    denoise = lambda noisy, time, extra=None: 0.5 * noisy + (extra["time"] if extra else time[0])
    draw = lambda **options: sampler.sample(jax.random.key(0), denoise, (2, 3), process, **options)
    np.testing.assert_array_equal(draw(precomputed=precomputed), draw())


@pytest.mark.parametrize("guidance", [0.0, 1.0, 2.5])
def test_guidance_extrapolates_from_null(guidance):
    calls = []

    def denoise_both(noisy, time):
        calls.append(noisy.shape)
        return jnp.array([3.0, 3.0, 1.0, 1.0])[:, None]

    result = guided(denoise_both, guidance)(jnp.zeros((2, 1)), jnp.zeros(2, int))
    np.testing.assert_allclose(result, 1.0 + guidance * 2.0)
    assert calls == [(2, 1)]  # One call for both.


@pytest.mark.parametrize(
    ("interval", "time", "is_guided"),
    [
        ((0.2, 0.6), 199, False), ((0.2, 0.6), 200, True), ((0.2, 0.6), 599, True),
        ((0.2, 0.6), 600, False), ((0.0, 0.6), 0, True), ((0.2, 1.0), 999, True),
        ((0.4, 0.4), 400, False),
    ],
)  # fmt: skip
def test_guidance_acts_within_its_interval_only(interval, time, is_guided):
    conditional = lambda noisy, time: 0.5 * noisy + 1.0
    # The result without the condition is NaN, so that guidance shows in the result.
    spoilt = lambda noisy, time: jnp.concatenate([conditional(noisy, time), noisy * jnp.nan])
    denoise = within_interval(
        guided(spoilt, 2.0), conditional, interval=interval, process=GaussianProcess()
    )
    estimate = denoise(jnp.ones((2, 1)), jnp.full(2, time))
    assert np.isnan(estimate).all() if is_guided else (estimate == 1.5).all()


def test_each_network_runs_at_its_own_times_only():
    process = GaussianProcess()
    visited = {"inside": [], "outside": []}

    def network(name):
        def denoise(noisy, time):
            jax.debug.callback(lambda t: visited[name].append(int(t[0])), time)
            return 0.5 * noisy

        return denoise

    denoise = within_interval(
        network("inside"), network("outside"), interval=(0.2, 0.6), process=process
    )
    _draw(DDIM(10), denoise, process, count=4)
    jax.effects_barrier()
    assert sorted(visited["inside"]) == [299, 399, 499, 599]
    assert sorted(visited["outside"]) == [99, 199, 699, 799, 899, 999]


def test_full_interval_needs_no_branch():
    inside, outside = lambda noisy, time: noisy, lambda noisy, time: -noisy
    process = GaussianProcess()
    assert within_interval(inside, outside, interval=(0.0, 1.0), process=process) is inside


def test_traced_guidance_of_one_is_conditional():
    process = GaussianProcess()
    conditional = lambda noisy, time: 0.5 * noisy + 1.0

    @jax.jit
    def draw(key, guidance):
        both = lambda noisy, time: jnp.concatenate([0.5 * noisy + 1.0, 0.5 * noisy - 1.0])
        denoise = within_interval(
            guided(both, guidance), conditional, interval=(0.3, 0.7), process=process
        )
        return DPMSolver(8).sample(key, denoise, (4, 2), process)

    plain = _draw(DPMSolver(8), conditional, process, count=4)
    np.testing.assert_allclose(draw(jax.random.key(0), 1.0), plain, atol=1e-5)
    assert np.abs(draw(jax.random.key(0), 3.0) - plain).max() > 0.1


@pytest.mark.parametrize("interval", [(0.6, 0.2), (-0.1, 0.5), (0.5, 1.1)])
def test_impossible_interval_is_refused(interval):
    same = lambda noisy, time: noisy
    with pytest.raises(InputError, match="two rising shares"):
        within_interval(same, same, interval=interval, process=GaussianProcess())
