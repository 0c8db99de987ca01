"""Consecutive windows: the choice of a candidate, blending, bounds and compilations."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gesture_jax.diffusion.process import GaussianProcess
from gesture_jax.diffusion.samplers import make_sampler
from gesture_jax.errors import InputError
from gesture_jax.inference import seams
from gesture_jax.inference.windows import WindowSampler, WindowSchedule, WindowState
from gesture_jax.models.denoiser import MotionDenoiser, Sampling, sample_motion
from gesture_jax.models.motion_space import BOUNDS, MotionSpace, unit_statistics
from gesture_jax.parallel import sharding
from tests import compilations
from tests.inference.generator_test import make_generator

pytestmark = pytest.mark.usefixtures("quickly_compiled")

_FEATURE = 9 * 2**2 + 3
_SPACE = MotionSpace("matrix", _FEATURE, relative=False)
_MODEL = MotionDenoiser(
    motion_dim=_FEATURE, speech_dim=4, num_prior=3, window=20, latent=16, feedforward=16,
    num_layers=1, num_heads=2, num_speech_layers=1,
)  # fmt: skip
_PROCESS = GaussianProcess()
_SAMPLING = Sampling(make_sampler("ddim", num_steps=3))


@pytest.fixture(scope="module")
def variables():
    params = _MODEL.init_variables(jax.random.key(0))["params"]
    sizes = {"motion": _FEATURE, "pose": _FEATURE, "speech": 4}
    statistics = {f"{name}_mean": jnp.zeros(dim) for name, dim in sizes.items()}
    statistics |= {f"{name}_std": jnp.ones(dim) for name, dim in sizes.items()}
    return {"params": params, "statistics": statistics}


def _make_sampler(variables, *, sampling=_SAMPLING, mesh=None, **changes):
    schedule = WindowSchedule(**{"hop": 12, "look_ahead": 4, "blend": 4, "candidates": 3} | changes)
    return WindowSampler(
        _MODEL, _SPACE, _PROCESS, variables, schedule=schedule, sampling=sampling, mesh=mesh
    )


def _speech(length, seed=0):
    return np.random.default_rng(seed).standard_normal((length, 4)).astype(np.float32)


def test_the_candidate_that_continues_the_motion_costs_least():
    line = np.arange(8, dtype=np.float32)[:, None]  # One feature that rises by one per frame.
    state = WindowState(portrait=line[0], prior=line[:3], ahead=line[3:6], drift=line[0])
    candidates = np.stack([line[3:7], line[3:7] + 2, line[3:7] * 0 + 3, line[3:7][::-1]])
    cost = np.asarray(seams.cost(candidates, state.prior, state.ahead))
    # Position errors: 0; 2, 2, 2; 0, 1, 2; 3, 1, 1. Velocity errors: 0; 2, 0, 0; 0, 1, 1; 3, 2, 2.
    np.testing.assert_allclose(cost, [0, 2 + 2 / 3, 1 + 2 / 3, 5 / 3 + 7 / 3], rtol=1e-6)


def test_the_best_candidate_is_taken_and_faded_in(variables):
    sampler, key, own = _make_sampler(variables), jax.random.key(1), _speech(1, 5)[0, 0]
    state = sampler.start(np.full(_FEATURE, own))
    speech = _speech(16)
    motion, _, following = sampler.step(key, state, speech)
    padded = np.concatenate([speech, np.zeros((4, 4), np.float32)])
    candidates = sample_motion(
        _MODEL, variables["params"], key, state.prior[None], padded[None],
        process=_PROCESS, sampling=_SAMPLING, num_candidates=3,
        bound=functools.partial(_SPACE.bound, statistics=variables["statistics"]),
    )  # fmt: skip
    best = candidates[np.argmin(seams.cost(candidates, state.prior, state.ahead))]
    np.testing.assert_allclose(motion[4:], best[4:12], atol=1e-4)
    share = (motion[:4] - state.ahead) / (best[:4] - state.ahead)
    # 3 x^2 - 2 x^3 at 0.2, 0.4, 0.6, 0.8.
    np.testing.assert_allclose(np.median(share, axis=1), [0.104, 0.352, 0.648, 0.896], atol=1e-3)
    np.testing.assert_allclose(following.prior, motion[9:], atol=1e-5)
    np.testing.assert_allclose(following.ahead, best[12:16], atol=1e-4)


def test_a_clip_begins_at_the_portraits_own_pose(variables):
    own = _speech(_FEATURE // 4 + 1).ravel()[:_FEATURE]
    motion, *_ = _make_sampler(variables).step(
        jax.random.key(0), _make_sampler(variables).start(own), _speech(16)
    )
    far = np.abs(motion[6:] - own).mean()
    assert np.abs(motion[0] - own).mean() < 0.2 * far


def test_windows_are_a_function_of_the_key(variables):
    sampler = _make_sampler(variables)
    state = sampler.start(np.zeros(_FEATURE))
    step = lambda number: sampler.step(jax.random.key(number), state, _speech(16))[0]
    np.testing.assert_array_equal(step(0), step(0))
    assert np.abs(step(0) - step(1)).max() > 1e-3


@pytest.mark.parametrize("num_devices", [2, 8])
def test_devices_that_share_the_candidates_draw_the_same(variables, num_devices):
    """Three candidates do not divide over 2 or 8 devices, so that some are sampled repeatedly."""
    mesh = sharding.inference_mesh(jax.devices()[:num_devices])
    sampling = Sampling(make_sampler("ddpm", num_steps=3))
    alone = _make_sampler(variables, sampling=sampling)
    together = _make_sampler(
        jax.device_put(variables, sharding.replicated(mesh)), sampling=sampling, mesh=mesh
    )
    states = [alone.start(np.zeros(_FEATURE)), together.start(np.zeros(_FEATURE))]
    for number in range(3):
        key, speech = jax.random.key(number), _speech(16, number)
        (expected, _, first), (found, _, second) = (
            sampler.step(key, state, speech)
            for sampler, state in zip((alone, together), states, strict=True)
        )
        states = [first, second]
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_requests_that_differ_compile_nothing_new():
    """The whole generator runs with another guidance, number of steps, eta, scale and length."""
    generator = make_generator()
    random = np.random.default_rng(0)
    portrait = random.random((32, 32, 3), np.float32)
    speech = 0.1 * random.standard_normal(80_000).astype(np.float32)

    def generate(num_samples=80_000, scale=0.5, **sampler):
        options = generator.options(
            sampler={"name": "ddim", **sampler}, control={"motion_scale": scale}
        )
        return generator.generate(portrait, speech[:num_samples], 16_000, options=options).motion

    first = generate(guidance=2.0, num_steps=2, eta=1.0)
    with compilations.recorded() as compiled:
        others = [
            generate(guidance=1.0, num_steps=2, eta=1.0),
            generate(guidance=3.5, num_steps=2, eta=1.0),
            generate(guidance=2.0, num_steps=8, eta=1.0),
            generate(guidance=2.0, num_steps=2, eta=0.5),
            generate(guidance=2.0, num_steps=2, eta=1.0, scale=0.6),
        ]
        shorter = generate(70_000, guidance=2.0, num_steps=2, eta=1.0)
    assert not compiled
    assert all(np.abs(other - first).max() > 1e-6 for other in others)
    assert len(shorter) < len(first)


def test_speech_beyond_the_look_ahead_has_no_effect(variables):
    """Features beyond hop and look-ahead change nothing; those within do."""
    short, long = _make_sampler(variables, look_ahead=0), _make_sampler(variables, look_ahead=8)
    step = lambda sampler, speech: sampler.step(
        jax.random.key(0), sampler.start(np.zeros(_FEATURE)), speech
    )[0]
    before, after = _speech(20), _speech(20)
    after[12:] += 1.0
    np.testing.assert_array_equal(step(short, before), step(short, after))
    assert np.abs(step(long, before) - step(long, after)).max() > 1e-4


@pytest.fixture(scope="module")
def runaway(variables):
    """A network whose estimates are several times as large as the past frames."""
    space = MotionSpace("angles", _FEATURE)
    model = _MODEL.clone(motion_dim=space.dim, portrait=True)
    params = model.init_variables(jax.random.key(0))["params"]
    params = jax.tree.map(lambda leaf: 20.0 * leaf if leaf.ndim > 1 else leaf, params)
    sizes = {"motion": space.dim, "pose": space.dim, "speech": 4}
    shapes = {f"{name}_{kind}": (dim,) for name, dim in sizes.items() for kind in ("mean", "std")}
    shapes |= {name: (1,) if "radius" in name else (space.dim,) for name in BOUNDS}
    abstract = {k: jax.ShapeDtypeStruct(shape, jnp.float32) for k, shape in shapes.items()}
    statistics = unit_statistics(abstract)
    statistics["pose_reach"] = np.linspace(0.01, 0.5, space.dim, dtype=np.float32)
    statistics["pose_std"] = statistics["pose_reach"] / 3
    statistics["motion_std"] *= 0.05
    schedule = WindowSchedule(hop=12, look_ahead=4, blend=4, candidates=2)
    variables = {"params": params, "statistics": statistics}
    sampler = WindowSampler(
        model, space, _PROCESS, variables, schedule=schedule, sampling=_SAMPLING
    )
    return sampler, space, statistics


@pytest.mark.parametrize("size", [0.0, 0.3, 3.0, 1e6])
def test_motion_never_leaves_its_bounds_however_long_the_speech(runaway, size):
    """The bounds hold from any pose of the portrait and for an untrained network."""
    sampler, space, statistics = runaway
    own = size * np.random.default_rng(0).standard_normal(space.dim)
    own[-3:] = np.clip(own[-3:], -0.4, 0.4)
    state = sampler.start(np.asarray(space.to_feature(jnp.asarray(own, jnp.float32))))
    for number in range(20):
        key = jax.random.fold_in(jax.random.key(0), number)
        features, _, state = sampler.step(key, state, 1e3 * _speech(16, number))
        assert np.isfinite(features).all() and np.abs(features).max() <= 1.0 + 1e-5
        for vectors in (state.prior, state.ahead):
            far = np.abs(vectors - state.portrait)
            assert (far <= statistics["pose_reach"] * 1.001 + 1e-5).all()
    assert far.max() > 0.1  # The motion does come near its bounds.


@pytest.fixture(scope="module")
def drifting():
    """A network that continues from the last frame it is given, with a small drift."""
    space = MotionSpace("angles", _FEATURE)
    model = _MODEL.clone(motion_dim=space.dim, portrait=True, num_prior=1)
    params = jax.tree.map(jnp.zeros_like, model.init_variables(jax.random.key(0))["params"])
    told = np.random.default_rng(0).standard_normal((space.dim, model.latent))
    kernel = np.zeros(params["motion_in"]["kernel"].shape, np.float32)
    kernel[-space.dim :] = told
    params["motion_in"]["kernel"] = jnp.asarray(kernel)
    further = 0.02
    params["motion_out"] = {
        "kernel": jnp.asarray(np.linalg.pinv(told), jnp.float32),
        "bias": jnp.full(space.dim, further),
    }
    shapes = {f"speech_{kind}": (4,) for kind in ("mean", "std")}
    shapes |= {
        f"{name}_{kind}": (space.dim,) for name in ("motion", "pose") for kind in ("mean", "std")
    }
    abstract = {k: jax.ShapeDtypeStruct(shape, jnp.float32) for k, shape in shapes.items()}
    variables = {"params": params, "statistics": unit_statistics(abstract)}
    schedule = WindowSchedule(hop=12, look_ahead=4, blend=4, candidates=1)
    sampler = WindowSampler(
        model, space, _PROCESS, variables, schedule=schedule, sampling=_SAMPLING
    )
    return sampler, space


def test_windows_begin_where_the_past_was_heading(drifting):
    """Otherwise the drift of each window would add up."""
    sampler, space = drifting
    state = sampler.start(np.asarray(space.to_feature(jnp.zeros(space.dim))))
    for number in range(20):
        *_, state = sampler.step(jax.random.key(number), state, _speech(16))
        np.testing.assert_allclose(state.prior, 0.0, atol=1e-5)


def test_motion_returns_to_the_portraits_pose(drifting):
    """It starts at a distant pose, where the network alone would stay."""
    sampler, space = drifting
    state = sampler.start(np.asarray(space.to_feature(jnp.zeros(space.dim))))
    state = state.replace(prior=jnp.full_like(state.prior, 0.5))
    levels = []
    for number in range(40):
        *_, state = sampler.step(jax.random.key(number), state, _speech(16))
        levels.append(float(np.abs(state.prior).max()))
    assert (np.diff(levels) < 1e-6).all() and levels[-1] < 0.05


def test_strangers_move_alike(runaway):
    """Motion relative to a portrait's own pose does not depend on that pose."""
    sampler, space, _ = runaway
    moves = []
    for seed in (0, 1):
        own = 10.0 * np.random.default_rng(seed).standard_normal(space.dim)
        own[-3:] = 0.0
        state = sampler.start(np.asarray(space.to_feature(jnp.asarray(own, jnp.float32))))
        *_, state = sampler.step(jax.random.key(0), state, _speech(16))
        moves.append(state.ahead - state.portrait)
    np.testing.assert_allclose(*moves, atol=1e-4)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"hop": 17}, "at most 16"),
        ({"hop": 2}, "at least 4"),
        ({"look_ahead": 9}, "at most 11"),
        ({"candidates": 0}, "at least one is needed"),
        ({"blend": 0}, "blend has to be at least 1"),
    ],
)
def test_schedules_that_do_not_fit(variables, changes, sentence):
    with pytest.raises(InputError, match=sentence):
        _make_sampler(variables, **changes)
