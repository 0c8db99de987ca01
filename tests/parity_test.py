"""The networks compute what the reference implementations computed for golden arrays.

The arrays lie outside the project, in ../shared/parity or in the folder GESTURE_JAX_PARITY.
"""

import functools
import importlib.util
import os
import pathlib

import jax
import numpy as np
import pytest

from gesture_jax.diffusion.samplers import guided
from gesture_jax.inference.animator import Animator
from gesture_jax.models.denoiser import MotionDenoiser
from gesture_jax.models.wavlm import WavLM
from gesture_jax.ops import rotation
from gesture_jax.ops.precision import float32_matmuls
from gesture_jax.pretrained import torch_weights, wavlm_weights

_BESIDE = pathlib.Path(__file__).parents[2] / "shared" / "parity"
_FOLDER = pathlib.Path(os.environ.get("GESTURE_JAX_PARITY", _BESIDE))

pytestmark = pytest.mark.skipif(
    not (_FOLDER / "recipe.py").is_file(),
    reason=f"no golden arrays in {_FOLDER}; set GESTURE_JAX_PARITY",
)


@pytest.fixture(scope="module")
def recipe():
    spec = importlib.util.spec_from_file_location("recipe", _FOLDER / "recipe.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _golden(name: str):
    return np.load(_FOLDER / name, allow_pickle=False)


@pytest.fixture(scope="module")
def golden():
    return _golden("golden_deviation_model.npz")


@pytest.fixture(scope="module")
def state_dict(recipe, golden):
    return recipe.build_state_dict("deviation_model.json", int(golden["seed"]))


@pytest.fixture(scope="module")
def outputs(recipe, golden, state_dict):
    """Through the public API, from images to a frame."""
    seed = int(golden["seed"])
    animator = Animator.from_state_dict(state_dict)
    source = animator.encode_source(recipe.build_image(seed * 10 + 1))
    driving = recipe.build_image(seed * 10 + 2)
    motion = animator.extract_motion(driving[None])
    variables = torch_weights.deviation_variables(state_dict)
    read_field = jax.jit(float32_matmuls(lambda v, m: animator.model.apply(v, m, method="field")))
    field = read_field(variables, motion)
    return {
        "motion_feature": motion[0],
        "source_volume": np.asarray(source.features.volume)[0, ::4, ::4, ::16],
        "upsampled_deviation": np.asarray(field)[0],
        "frame": animator.render(source, motion)[0],
    }


def test_all_651_arrays_are_used(state_dict):
    variables = torch_weights.deviation_variables(state_dict)
    counters = sum(name.endswith("num_batches_tracked") for name in state_dict)
    assert len(state_dict) == 651
    assert len(jax.tree.leaves(variables)) == 651 - counters
    assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) == 210_645_333


@pytest.mark.slow
def test_motion_feature(outputs, golden):
    error = np.abs(outputs["motion_feature"] - golden["motion_feature"]).max()
    print(f"motion feature: largest error {error:.2e}")
    assert outputs["motion_feature"].shape == (2307,)
    assert error < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("name", ["source_volume", "upsampled_deviation"])
def test_latents(outputs, golden, name):
    theirs = golden[name]
    ours = outputs[name]
    if name == "source_volume":
        ours = ours.transpose(2, 0, 1)
    error = np.abs(ours - theirs).max() / theirs.std()
    print(f"{name}: largest error {error:.2e} standard deviations")
    assert error < 1e-3


@pytest.mark.slow
def test_frame(outputs, golden):
    error = np.abs(outputs["frame"] - golden["frame"])
    print(f"frame: error {error.mean():.2e} on average, {error.max():.2e} at most")
    assert error.mean() < 1e-4
    assert error.max() < 5e-3


def test_motion_feature_holds_rotations(golden):
    matrices, _ = rotation.split_feature(golden["motion_feature"])
    gram = np.einsum("hwij,hwik->hwjk", matrices, matrices)
    np.testing.assert_allclose(gram, np.broadcast_to(np.eye(3), gram.shape), atol=1e-5)


def test_denoiser_parity(recipe):
    golden = _golden("golden_gesture_denoiser.npz")
    seed = int(golden["seed"])
    model = MotionDenoiser(motion_dim=200, speech_dim=1059, num_prior=1)
    state_dict = recipe.build_state_dict("gesture_denoiser.json", seed)
    params = torch_weights.denoiser_params(model, state_dict)
    inputs = recipe.build_denoiser_inputs(seed)
    times, prior = inputs["times"].astype(np.int32), inputs["seed_frame"][:, None]

    @jax.jit
    @float32_matmuls
    def run(params, noisy, speech):
        apply = functools.partial(model.apply, {"params": params})
        encoded, null = apply(speech, method="encode_speech"), apply(2, method="null_speech")
        both = jax.tree.map(lambda a, b: jax.numpy.concatenate([a, b]), encoded, null)
        denoise_both = lambda x, t: apply(x, t, prior, both, num_conditions=2, method="denoise")
        return {
            "conditional": apply(noisy, times, prior, encoded, method="denoise"),
            "unconditional": apply(noisy, times, prior, null, method="denoise"),
            "guided": guided(denoise_both, 2.0)(noisy, times),
        }

    ours = run(params, inputs["noisy_motion"], inputs["audio"])
    assert len(state_dict) == 238
    for name, value in ours.items():
        error = np.abs(np.asarray(value) - golden[name]).max()
        print(f"denoiser, {name}: largest error {error:.2e}")
        assert error < 1e-3


def test_wavlm_parity(recipe):
    golden = _golden("golden_wavlm_narrow.npz")
    seed = int(golden["seed"])
    state_dict = recipe.build_state_dict("wavlm_narrow.json", seed)
    config, params = wavlm_weights.wavlm_params(state_dict)
    waveform = recipe.build_waveform(seed)
    waveform = (waveform - waveform.mean()) / np.sqrt(waveform.var() + 1e-7)
    hidden = jax.jit(float32_matmuls(WavLM(config).apply))({"params": params}, waveform[None])[0]
    error = np.abs(np.asarray(hidden) - golden["last_hidden_state"]).max()
    print(f"WavLM: largest error {error:.2e}")
    assert hidden.shape == (159, 64) and len(state_dict) == len(jax.tree.leaves(params)) == 88
    assert error < 1e-4
