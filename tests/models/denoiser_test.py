"""The denoiser's conditions, and sampling with them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gesture_jax.diffusion.process import GaussianProcess
from gesture_jax.diffusion.samplers import DDIM, guided, within_interval
from gesture_jax.models import denoiser
from gesture_jax.models.attention import rotate
from gesture_jax.models.denoiser import MotionDenoiser, Sampling, sample_motion

pytestmark = pytest.mark.usefixtures("quickly_compiled")

_MODEL = MotionDenoiser(
    motion_dim=6, speech_dim=4, num_prior=3, window=10, latent=16, feedforward=16, num_layers=2,
    num_heads=2, num_speech_layers=1,
)  # fmt: skip


@pytest.fixture(scope="module")
def params():
    return jax.jit(_MODEL.init_variables)(jax.random.key(0))["params"]


@pytest.fixture(scope="module")
def inputs():
    random = np.random.default_rng(0)
    draw = lambda *shape: random.standard_normal(shape).astype(np.float32)
    return {"noisy": draw(2, 10, 6), "prior": draw(2, 3, 6), "speech": draw(2, 10, 4)}


_apply = jax.jit(_MODEL.apply, static_argnames=("num_conditions", "train", "method"))


def _denoise(params, inputs, **options):
    time = jnp.array([5, 900])
    arguments = inputs["noisy"], time, inputs["prior"], inputs["speech"]
    return _apply({"params": params}, *arguments, **options)


@pytest.mark.parametrize("name", ["noisy", "prior", "speech"])
def test_every_input_matters(params, inputs, name):
    changed = {**inputs, name: inputs[name] + 1.0}
    assert np.abs(_denoise(params, changed) - _denoise(params, inputs)).max() > 1e-3


def test_dropped_speech_does_not_matter_but_the_prior_still_does(params, inputs):
    drop = jnp.array([True, False])
    before = _denoise(params, inputs, drop=drop)
    other_speech = {**inputs, "speech": inputs["speech"] + 1.0}
    after = _denoise(params, other_speech, drop=drop)
    np.testing.assert_array_equal(before[0], after[0])
    assert np.abs(before[1] - after[1]).max() > 1e-3
    other_prior = {**inputs, "prior": inputs["prior"] + 1.0}
    assert np.abs(_denoise(params, other_prior, drop=drop)[0] - before[0]).max() > 1e-3


def test_neighbours_share_one_encoding_of_their_speech(params, inputs):
    def denoise(speech, rows):
        apply = functools.partial(_apply, {"params": params})
        time, prior = jnp.array([5, 5, 900, 900])[rows], inputs["prior"].repeat(2, axis=0)[rows]
        encoding = apply(speech, method="encode_speech")
        return apply(noisy[rows], time, prior, encoding, method="denoise")

    noisy = np.random.default_rng(1).standard_normal((4, 10, 6)).astype(np.float32)
    shared = denoise(inputs["speech"], np.arange(4))
    for row in range(4):
        alone = denoise(inputs["speech"][row // 2][None], np.array([row]))
        np.testing.assert_allclose(shared[row], alone[0], atol=1e-5)


def test_two_conditions_at_once_equal_one_after_the_other(params, inputs):
    """There are three windows for each speech, with and without it."""
    apply = functools.partial(_apply, {"params": params})
    heard = apply(inputs["speech"], method="encode_speech")
    null = _MODEL.apply({"params": params}, 2, method="null_speech")
    both = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), heard, null)
    noisy = np.random.default_rng(1).standard_normal((6, 10, 6)).astype(np.float32)
    given = noisy, jnp.array([5, 5, 5, 900, 900, 900]), inputs["prior"].repeat(3, axis=0)
    together = apply(*given, both, num_conditions=2, method="denoise")
    for found, hearing in zip(jnp.split(together, 2), (heard, null), strict=True):
        np.testing.assert_allclose(found, apply(*given, hearing, method="denoise"), atol=1e-5)


def test_dropout_acts_in_training_only(params, inputs):
    run = lambda key: _denoise(params, inputs, train=True, rngs={"dropout": jax.random.key(key)})
    assert np.abs(run(0) - run(1)).max() > 1e-3
    np.testing.assert_array_equal(run(0), run(0))


def test_rotated_queries_and_keys_depend_on_distances_only():
    random = np.random.default_rng(0)
    query, key = random.standard_normal((2, 8)).astype(np.float32)
    repeat = lambda x: jnp.repeat(x[None], 12, axis=0)
    scores = rotate(repeat(query)) @ rotate(repeat(key)).T
    for distance in range(-11, 12):
        diagonal = np.diagonal(scores, distance)
        np.testing.assert_allclose(diagonal, diagonal[0], atol=1e-4)


def test_sampling_is_a_function_of_the_key(params, inputs):
    @jax.jit
    def draw(key, guidance):
        return sample_motion(
            _MODEL, params, key, inputs["prior"], inputs["speech"],
            process=GaussianProcess(), sampling=Sampling(DDIM(4), guidance),
        )  # fmt: skip

    first = draw(jax.random.key(0), 2.0)
    assert first.shape == (2, 10, 6)
    assert np.isfinite(first).all()
    np.testing.assert_array_equal(first, draw(jax.random.key(0), 2.0))
    assert np.abs(first - draw(jax.random.key(1), 2.0)).max() > 1e-3
    assert np.abs(first - draw(jax.random.key(0), 1.0)).max() > 1e-4


@pytest.mark.parametrize("interval", [(0.0, 1.0), (0.2, 0.7)])
@pytest.mark.parametrize("most", [0, 8])
def test_precomputed_times_equal_those_encoded_step_by_step(
    params, inputs, interval, most, monkeypatch
):
    """The reference is the plain network; with a limit of 0 nothing is precomputed."""
    monkeypatch.setattr(denoiser, "_MAX_PRECOMPUTED", most)
    process, sampler, noise = GaussianProcess(), DDIM(4, 1.0), jax.random.key(0)
    prior = inputs["prior"].repeat(2, axis=0)

    @jax.jit
    def ahead():
        return sample_motion(
            _MODEL, params, noise, inputs["prior"], inputs["speech"], process=process,
            sampling=Sampling(sampler, 2.0, interval), num_candidates=2,
        )  # fmt: skip

    @jax.jit
    def step_by_step():
        apply = lambda drop, noisy, time: _MODEL.apply(
            {"params": params}, noisy, time, prior, inputs["speech"].repeat(2, axis=0),
            drop=jnp.full(4, drop),
        )  # fmt: skip
        heard, null = (functools.partial(apply, drop) for drop in (False, True))
        both = lambda noisy, time: jnp.concatenate([heard(noisy, time), null(noisy, time)])
        denoise = within_interval(guided(both, 2.0), heard, interval=interval, process=process)
        return sampler.sample(noise, denoise, (4, 10, 6), process)

    np.testing.assert_allclose(ahead(), step_by_step(), atol=1e-4)


def test_guidance_of_zero_ignores_the_speech(params, inputs):
    @jax.jit
    def draw(speech):
        return sample_motion(
            _MODEL, params, jax.random.key(0), inputs["prior"], speech,
            process=GaussianProcess(), sampling=Sampling(DDIM(4), guidance=0.0),
        )  # fmt: skip

    np.testing.assert_allclose(draw(inputs["speech"]), draw(inputs["speech"] + 1), atol=1e-5)
