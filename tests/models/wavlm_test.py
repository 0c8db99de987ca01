"""WavLM: its parts on hand-computed examples, files of weights, and features in chunks."""

import dataclasses
import hashlib

import chex
import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gesture_jax.errors import InputError
from gesture_jax.models import wavlm
from gesture_jax.models.wavlm import WavLM, WavLMConfig
from gesture_jax.pretrained import torch_names, wavlm_weights
from gesture_jax.speech.wavlm import WavLMFeatures
from tests import safetensors_file, torch_file, wavlm_file
from tests.wavlm_file import TINY

pytestmark = pytest.mark.usefixtures("quickly_compiled")

_RATE = 16_000


def _sound(samples: int, seed: int = 0) -> np.ndarray:
    """Tones with syllables and pauses."""
    rng = np.random.default_rng(seed)
    held = lambda step: np.repeat(rng.random(samples // step + 1), step)[:samples]
    phase = 2 * np.pi * np.cumsum(100 + 80 * held(8000)) / _RATE
    voice = sum(np.sin(k * phase) / k for k in range(1, 8)) * held(3200) * (held(_RATE) > 0.3)
    return (0.2 * voice + 0.003 * rng.standard_normal(samples)).astype(np.float32)


@pytest.fixture(scope="module")
def params():
    return wavlm_weights.wavlm_params(wavlm_file.state_dict())[1]


def test_sizes_of_large():
    config = WavLMConfig()
    assert (config.hop, config.receptive_field) == (320, 400)
    assert [config.num_frames(n) for n in (399, 400, 719, 720, 51_200)] == [0, 1, 1, 2, 159]
    waveform = jax.ShapeDtypeStruct((2, 51_200), jnp.float32)
    hidden, variables = jax.eval_shape(WavLM().init_with_output, jax.random.key(0), waveform)
    assert hidden.shape == (2, 159, 1024)
    assert sum(leaf.size for leaf in jax.tree.leaves(variables)) == 315_452_096


def test_a_frame_reads_400_samples_from_320_times_its_number():
    config = dataclasses.replace(TINY, num_layers=0, position_kernel=1)
    model, waveform = WavLM(config), _sound(3200)[None]
    variables = jax.jit(model.init)(jax.random.key(0), waveform)
    run = jax.jit(model.apply)
    before = run(variables, waveform)
    for sample in (0, 319, 320, 399, 400, 1500):
        changed = waveform.copy()
        changed[0, sample] += 1.0
        frames = np.flatnonzero((np.asarray(run(variables, changed)) != before)[0].any(axis=-1))
        assert set(frames) == {i for i in range(9) if 320 * i <= sample < 320 * i + 400}


def test_buckets_of_distances():
    # Four buckets per side: 0, 1, up to 2 sqrt(8) = 5.7, and the rest.
    buckets = wavlm.distance_buckets(8, num_buckets=8, max_distance=16)
    behind = [3, 3, 2, 2, 2, 2, 1]
    ahead = [4 + bucket for bucket in behind[::-1]]
    np.testing.assert_array_equal(buckets, [*behind, 0, *ahead])
    large = wavlm.distance_buckets(2000, num_buckets=320, max_distance=800)[1999:]
    np.testing.assert_array_equal(large[1:81], 160 + np.arange(1, 81))
    assert large[800] == large[1999] == 319
    assert set(np.diff(large[1:])) == {0, 1}


def test_attention_follows_the_gated_bias():
    config = dataclasses.replace(TINY, num_heads=1, latent=4)
    attention = wavlm.GatedAttention(config, jnp.float32)
    x = np.random.default_rng(0).standard_normal((1, 3, 4)).astype(np.float32)
    valid = np.ones((1, 3), bool)
    # The gates are one half, so that (1) gives 1/2 (1/2 * 2 - 1) + 2 = 2.
    bias = np.log(3.0) / 2 * np.eye(3, k=1, dtype=np.float32)[None]
    variables = jax.jit(attention.init)(jax.random.key(0), x, bias, valid)
    params = jax.tree.map(jnp.zeros_like, variables["params"])
    params["gate_weight"] += 2.0
    params["value"]["kernel"] = params["out"]["kernel"] = jnp.eye(4)
    attended = attention.apply({"params": params}, x, bias, valid)[0]
    weights = np.array([[1, 3, 1], [1, 1, 3], [1, 1, 1]])
    np.testing.assert_allclose(attended, weights / weights.sum(1)[:, None] @ x[0], atol=1e-6)


def test_convolution_of_positions():
    config = dataclasses.replace(TINY, position_kernel=4, position_groups=2)
    scale = np.array([1.0, 2.0, 3.0, 4.0], np.float32)
    # The direction of each offset is normalised over its channels, here to 1 / sqrt(2).
    variables = dict(direction=5.0 * np.ones((4, 1, 2)), scale=scale, bias=np.array([0.0, 1.0]))
    impulse = np.zeros((1, 8, 2), np.float32)
    impulse[0, 3, 0] = np.sqrt(2.0)
    conv = wavlm.PositionalConv(config, jnp.float32)
    out = conv.apply({"params": variables}, impulse)[0]
    np.testing.assert_allclose(out[:, 0], [0, 0, 4, 3, 2, 1, 0, 0], atol=1e-6)
    np.testing.assert_array_equal(out[:, 1], 1.0)


def test_padding_changes_no_valid_frame(params):
    lengths = np.array([9000, 16_000, 399])
    waveform = np.stack([_sound(16_000, seed) for seed in range(3)])
    run = jax.jit(WavLM(TINY).apply)
    hidden = []
    for filler in (0.0, 1e3, np.nan):
        padded = np.where(np.arange(16_000) < lengths[:, None], waveform, np.float32(filler))
        hidden.append(np.asarray(run({"params": params}, padded, lengths)))
    np.testing.assert_array_equal(hidden[0], hidden[1])
    np.testing.assert_array_equal(hidden[0], hidden[2])
    frames = [27, 49, 0]
    for index, (length, count) in enumerate(zip(lengths[:2], frames[:2], strict=True)):
        alone = run({"params": params}, waveform[index : index + 1, :length])[0]
        np.testing.assert_allclose(hidden[0][index, :count], alone, atol=2e-5)
    for row, count in zip(hidden[0], frames, strict=True):
        assert (row[count:] == 0).all()


def test_bfloat16_stays_close(params):
    waveform = _sound(16_000)[None] * 5
    full, half = (
        jax.jit(WavLM(TINY, dtype=dtype).apply)({"params": params}, waveform)
        for dtype in (jnp.float32, jnp.bfloat16)
    )
    assert half.dtype == jnp.float32
    assert np.abs(full - half).mean() < 0.03


def _parametrized(arrays):
    for old, new in (("weight_g", "original0"), ("weight_v", "original1")):
        name = "encoder.pos_conv_embed.conv."
        arrays[f"{name}parametrizations.weight.{new}"] = arrays.pop(name + old)
    return arrays


def _under_a_head(arrays):
    head = {"lm_head.weight": np.ones((3, 32), np.float32)}
    return {f"wavlm.{name}": array for name, array in arrays.items()} | head


def _microsoft_release(arrays):
    tensors = {name: torch_file.Tensor(array) for name, array in arrays.items()}
    return {"cfg": {"encoder_layers": 2, "dropout": 0.0}, "model": tensors}


@pytest.mark.parametrize("kind", ["safetensors", "under_a_head", "torch", "microsoft"])
def test_files_of_every_kind_give_the_same_parameters(tmp_path, params, kind):
    arrays, path = wavlm_file.state_dict(), tmp_path / "wavlm.safetensors"
    match kind:
        case "safetensors":
            safetensors_file.save(_parametrized(arrays), path)
        case "under_a_head":
            safetensors_file.save(_under_a_head(arrays), path)
        case "torch":
            tensors = {name: torch_file.Tensor(array) for name, array in arrays.items()}
            path = torch_file.save(tensors, tmp_path / "pytorch_model.bin")
        case "microsoft":
            release = _microsoft_release(wavlm_file.microsoft(arrays))
            path = torch_file.save(release, tmp_path / "WavLM.pt")
    model, loaded = wavlm_weights.load(path)
    assert model.config == TINY
    chex.assert_trees_all_equal(loaded, params)


def test_half_precision_is_read_as_float32(tmp_path, params):
    halves = {n: a.astype(jnp.bfloat16) for n, a in wavlm_file.state_dict().items()}
    path = safetensors_file.save(halves, tmp_path / "a.safetensors")
    loaded = wavlm_weights.load(path)[1]
    assert {leaf.dtype for leaf in jax.tree.leaves(loaded)} == {np.dtype(np.float32)}
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=5e-3), loaded, params)


def test_the_table_reaches_every_parameter():
    config = dataclasses.replace(WavLMConfig(), conv_bias=True)
    waveform = jax.ShapeDtypeStruct((1, 400), jnp.float32)
    abstract = jax.eval_shape(WavLM(config).init, jax.random.key(0), waveform)
    table = torch_names.wavlm_table(config.num_layers, conv_bias=True)
    reached = {(t.collection, *t.path) for targets in table.values() for t in targets}
    assert reached == set(flax.traverse_util.flatten_dict(abstract))
    assert len(torch_names.wavlm_table()) == 487


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"encoder.layers.1.attention.q_proj.bias": None}, r"1 missing: \S+1\.\S+q_proj\.bias"),
        ({"encoder.layers.0.attention.k_proj.weight": (32, 31)}, r"misshapen: \S+k_proj\.weight"),
        ({"encoder.pos_conv_embed.conv.weight_g": (64, 1, 1)}, r"misshapen: \S+weight_g"),
        ({"stranger": (2,)}, "1 left over: stranger"),
        ({"encoder.layers.0.attention.gru_rel_pos_const": (1, 5, 1, 1)}, "5 heads"),
        ({"feature_extractor.conv_layers.3.layer_norm.weight": None}, r"3\.layer_norm.*Large"),
    ],
)
def test_other_weights_are_refused_by_name(tmp_path, change, sentence):
    arrays = wavlm_file.state_dict()
    for name, shape in change.items():
        arrays.pop(name, None)
        if shape:
            arrays[name] = np.zeros(shape, np.float32)
    path = safetensors_file.save(arrays, tmp_path / "a.safetensors")
    with pytest.raises(InputError, match=rf"a\.safetensors: not the weights.*{sentence}"):
        wavlm_weights.load(path)


def test_other_files_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"weights\.npz: .*\.safetensors"):
        wavlm_weights.load(tmp_path / "weights.npz")
    empty = safetensors_file.save({}, tmp_path / "a.safetensors")
    with pytest.raises(InputError, match="487 missing"):
        wavlm_weights.load(empty)


class _Echo:
    """A substitute for the network: frame i is sample 320 i."""

    config = dataclasses.replace(TINY, latent=1)

    def apply(self, variables, waveform, lengths):
        return waveform[:, : waveform.shape[1] - 80 : 320, None]


@pytest.mark.parametrize("duration_sec", [0.03, 3.2, 3.21, 20.0, 47.3])
def test_rows_are_the_whole_recordings_frames_interpolated(duration_sec):
    # The sound is loud, so that the lower limit of the variance does not matter.
    audio = 300.0 + 200.0 * _sound(round(duration_sec * _RATE))
    options = dict(chunk_sec=8.0, overlap_sec=2.5, fade_sec=0.7)
    rows = WavLMFeatures(_Echo(), {}, **options)(audio, num_frames=2000)
    frames = ((audio - audio.mean()) / audio.std())[: len(audio) - 80 : 320]
    count = (len(audio) - 400) // 320 + 1
    frames = [*frames[:count], frames[count - 1]]
    places = np.linspace(0, count, -(-(count + 1) // 2))
    expected = np.interp(places, np.arange(count + 1), frames)
    np.testing.assert_allclose(rows[: len(expected), 0], expected, atol=1e-4)
    assert (rows[len(expected) :] == rows[len(expected) - 1]).all()


def _features(arrays, **options):
    config, params = wavlm_weights.wavlm_params(arrays)
    return WavLMFeatures(WavLM(config), params, **options)


@pytest.fixture(scope="module")
def short():
    return _features(wavlm_file.state_dict(), chunk_sec=4.0, overlap_sec=1.0, fade_sec=0.5)


@pytest.mark.parametrize("samples", [0, 1, 399, 400, 16_000, 100_000])
@pytest.mark.parametrize("loudness", [0.0, 1e-6, 1.0])
def test_features_are_finite_for_any_sound(short, samples, loudness):
    rows = short(loudness * _sound(samples), num_frames=30)
    assert rows.shape == (30, short.dim) and rows.dtype == np.float32
    assert np.isfinite(rows).all()


def test_loudness_and_offset_change_nothing(short):
    audio = _sound(32_000)
    rows = short(audio, num_frames=50)
    np.testing.assert_allclose(short(0.5 * audio + 0.1, num_frames=50), rows, atol=2e-3)


def test_one_compilation_serves_all_lengths(short):
    before = short._run._cache_size()
    for samples in (1, 50_000, 200_000):
        short(_sound(samples), num_frames=3)
    assert before <= short._run._cache_size() == 1


def test_load_keeps_the_hash_of_the_file(tmp_path):
    path = safetensors_file.save(wavlm_file.state_dict(), tmp_path / "a.safetensors")
    features = WavLMFeatures.load(path, chunk_sec=4.0, overlap_sec=2.0)
    assert features.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert features.dim == 32


@pytest.mark.parametrize("change", [dict(overlap_sec=0.5), dict(chunk_sec=7.0), dict(fade_sec=0)])
def test_impossible_chunks_are_refused(params, change):
    with pytest.raises(ValueError, match="chunks must"):
        WavLMFeatures(WavLM(TINY), params, **change)


# The bounds are two to three times the measured values, for features of unit standard deviation.
# Flat attention covers the whole recording, of which a chunk is a part.
@pytest.mark.parametrize(("sight", "largest", "mean"), [("flat", 0.1, 0.02), ("near", 0.01, 3e-4)])
def test_chunks_are_close_to_the_whole(sight, largest, mean):
    arrays = wavlm_file.state_dict()
    arrays = wavlm_file.near_sighted(arrays) if sight == "near" else arrays
    audio, count = _sound(60 * _RATE), 1500
    whole = _features(arrays, chunk_sec=60.0)(audio, num_frames=count)
    rows = _features(arrays)(audio, num_frames=count)
    # Chunks of 20 s begin at 0, 14 and 28 s, the last one at 40 s.
    seams_sec = np.array([17.0, 31.0, 44.0])
    distance_sec = np.abs(np.arange(count)[:, None] / 25 - seams_sec).min(axis=1)
    error, away = np.abs(rows - whole), distance_sec > 0.5
    print(f"{sight}: {error[away].max():.4f} at most, {error[away].mean():.5f} on average")
    print(f"{sight}, seams: {error[~away].max():.4f}, {error[~away].mean():.5f}")
    assert error[away].max() < largest and error[away].mean() < mean
    assert error[~away].max() < largest
    # Seams are not visible: differences of consecutive rows are not larger there.
    steps, steps_whole = (np.abs(np.diff(x, axis=0)).mean(axis=1) for x in (rows, whole))
    print(f"{sight}, steps: {np.abs(steps - steps_whole).max():.4f} of {steps_whole.mean():.4f}")
    np.testing.assert_allclose(steps, steps_whole, atol=0.02)
