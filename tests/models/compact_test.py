"""The compact network: shapes, identity before training, and learning."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import stage1 as stage1_config
from gesture_jax.errors import InputError
from gesture_jax.inference.animator import Animator
from gesture_jax.metrics.image import psnr
from gesture_jax.models.base import WARPS
from gesture_jax.models.build import build_model
from gesture_jax.ops import image as image_ops
from gesture_jax.parallel import sharding
from gesture_jax.procedural import speaker
from gesture_jax.training import loop, optim, stage1

pytestmark = pytest.mark.usefixtures("quickly_compiled")

_SMOKE = stage1_config.get_config("smoke").model.to_dict()


@pytest.fixture(scope="module")
def frames():
    """Two frames of a drawn person with different hand positions: [2, 32, 32, 3] in [0, 1]."""
    done = speaker.perform(identity=1, seed=3, duration_sec=3.0, size=32)
    return done.frames[[0, 60]].astype(np.float32) / 255


def _variables(model, image):
    return jax.jit(model.init)(jax.random.key(0), image, image)


def _apply(model, variables, *inputs, method=None):
    return jax.jit(lambda v, *x: model.apply(v, *x, method=method))(variables, *inputs)


def test_the_motion_feature_has_the_papers_layout(frames):
    model = build_model(**stage1_config.get_config("photo").model)
    assert model.motion_grid == 16 and model.motion_dim == 2307
    small = build_model(**_SMOKE)
    variables = _variables(small, frames[:1])
    assert set(variables) == {"params"}  # There are no batch statistics.
    motion = _apply(small, variables, frames, method="extract")
    assert motion.shape == (2, 9 * 4**2 + 3)
    rotations = np.asarray(motion[:, :-3]).reshape(-1, 3, 3)
    unit = rotations @ rotations.transpose(0, 2, 1)
    np.testing.assert_allclose(unit, np.broadcast_to(np.eye(3), unit.shape), atol=1e-5)


@pytest.mark.parametrize("warp_kind", ["exact", "flow"])
def test_training_starts_with_the_identity(frames, warp_kind):
    model = build_model(**(_SMOKE | {"warp_kind": warp_kind}))
    outputs = _apply(model, _variables(model, frames[:1]), frames[:1], frames[1:])
    np.testing.assert_allclose(outputs["warped"], outputs["source"].volume, atol=1e-4)
    assert outputs["image"].shape == (1, 32, 32, 3)
    assert outputs["image"].min() >= 0 and outputs["image"].max() <= 1


@pytest.mark.parametrize("warp_kind", sorted(WARPS))
@pytest.mark.parametrize("relative", [False, True])
def test_the_parts_compose_to_the_whole(frames, warp_kind, relative):
    model = build_model(**(_SMOKE | {"warp_kind": warp_kind, "relative": relative}))
    variables = _variables(model, frames[:1])
    animator = Animator(model, variables, batch_size=1)
    motion = animator.extract_motion(frames[1:])
    parts = animator.render(animator.encode_source(frames[0]), motion)
    whole = _apply(model, variables, frames[:1], frames[1:])["image"]
    np.testing.assert_allclose(parts, whole, atol=1e-5)


def test_a_relative_warp_by_its_own_motion_has_no_translation(frames):
    """This holds for any weights."""
    model = build_model(**_SMOKE)
    variables = _variables(model, frames[:1])
    head = variables["params"]["extractor"]["translation_head"]
    head["bias"] = jnp.array([0.3, -0.2, 0.1])
    source = _apply(model, variables, frames[:1], method="encode_source")
    warped = _apply(model, variables, source, source.motion, method="warp")
    np.testing.assert_allclose(warped, source.volume, atol=1e-5)


def test_fold_and_unfold():
    x = np.arange(2 * 4 * 6 * 3, dtype=np.float32).reshape(2, 4, 6, 3)
    folded = image_ops.fold(x, 2)
    assert folded.shape == (2, 2, 3, 12)
    # Row 1, column 0 of a block is the third of four.
    np.testing.assert_array_equal(folded[1, 1, 2, 6:9], x[1, 3, 4])
    np.testing.assert_array_equal(image_ops.unfold(folded, 2), x)


def test_photo_costs_at_most_two_and_a_half_gmac_a_frame():
    model = build_model(**stage1_config.get_config("photo").model)
    image = jax.ShapeDtypeStruct((1, 256, 256, 3), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), image, image)
    encode = lambda v, x: model.apply(v, x, method="encode_source")
    source = jax.eval_shape(encode, variables, image)
    motion = jax.ShapeDtypeStruct((1, 2307), jnp.float32)
    render = jax.jit(lambda v, s, m: model.apply(v, s, m, method="render"))
    flops = render.lower(variables, source, motion).cost_analysis()["flops"]
    assert flops / 2 < 2.5e9


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"resolution": 36}, "multiple of"),
        ({"warp_kind": "spline"}, "choose volume or exact or flow"),
        ({"network": "huge"}, "choose reference or compact or layered"),
        ({"max_width": 3}, "the compact network has no max_width"),
    ],
)
def test_invalid_configs_are_refused(change, sentence):
    with pytest.raises(InputError, match=sentence):
        build_model(**(_SMOKE | change))


@pytest.mark.parametrize("preset", ["paper", "photo", "demo", "smoke"])
def test_every_preset_computes_in_bfloat16(preset):
    config = stage1_config.get_config(preset)
    config.dtype = "bfloat16"
    params, _ = jax.eval_shape(stage1.Objective(config).init, jax.random.key(0))
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype(jnp.float32)}


@pytest.mark.parametrize("dtype", ["float32", pytest.param("bfloat16", marks=pytest.mark.slow)])
def test_two_frames_are_overfitted(frames, dtype):
    """It reaches 35 dB within 300 steps at the size of `smoke`, so that all gradients flow."""
    config = stage1_config.get_config("smoke")
    config.dtype = dtype
    config.loss.adversarial = 0.0
    config.loss.warp = 0.0
    config.optim.warmup_steps = 20
    objective = stage1.Objective(config)
    optimizer = optim.make_optimizer(config.optim, num_steps=300)
    mesh = sharding.make_mesh(batch_size=2, devices=jax.devices()[:1])
    create = lambda: loop.create_state(objective, optimizer, seed=0)
    state = jax.jit(create, out_shardings=sharding.replicated(mesh))()
    step = loop.make_step(objective, optimizer, ema_decay=0.9, mesh=mesh)
    driving = frames[::-1]
    batch = {"source": frames, "driving": driving, "boxes": np.zeros((2, 3, 4), np.float32)}
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(state.params))
    for _ in range(300):
        state, _ = step(state, {}, batch, jax.random.key(0))
    redrawn = _apply(objective.model, {"params": state.params}, frames, driving)["image"]
    assert float(psnr(redrawn, driving).min()) > 35
    assert (
        float(optax.tree.norm(state.params["warping"]["out_conv"])) > 0
    )  # The field was trained, too.
