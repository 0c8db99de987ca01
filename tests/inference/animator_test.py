"""Rendering and motion extraction do not depend on batches and on the input format."""

import jax
import numpy as np
import pytest

from gesture_jax.errors import InputError
from gesture_jax.inference.animator import Animator
from gesture_jax.models.deviation import DeviationModel
from gesture_jax.parallel import hardware
from tests import compilations

pytestmark = pytest.mark.usefixtures("quickly_compiled")

_SMALL = dict(
    resolution=32, width=8, max_width=16, num_downs=2, extractor_width=8, extractor_blocks=(1, 1),
    field_width=8, num_source_blocks=1, num_decoder_blocks=1,
)  # fmt: skip


@pytest.fixture(scope="module")
def animator():
    model = DeviationModel(**_SMALL)
    image = np.zeros((1, 32, 32, 3), np.float32)
    return Animator(model, jax.jit(model.init)(jax.random.key(0), image, image), batch_size=4)


@pytest.fixture(scope="module")
def frames():
    return np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)


def test_shapes_and_ranges(animator, frames):
    source = animator.encode_source(frames[0])
    motion = animator.extract_motion(frames)
    rendered = animator.render(source, motion)
    assert motion.shape == (6, 9 * 4**2 + 3) and motion.dtype == np.float32
    assert rendered.shape == (6, 32, 32, 3) and rendered.dtype == np.float32
    assert rendered.min() >= 0.0 and rendered.max() <= 1.0
    assert animator.render(source, motion[:0]).shape == (0, 32, 32, 3)
    assert animator.extract_motion(frames[:0]).shape == (0, 147)


def test_results_do_not_depend_on_batches(animator, frames):
    motion = animator.extract_motion(frames)
    one_by_one = [animator.extract_motion(frame[None])[0] for frame in frames]
    np.testing.assert_allclose(motion, one_by_one, atol=1e-5)
    source = animator.encode_source(frames[0])
    streamed = np.stack(list(animator.render_frames(source, iter(motion))))
    expected = np.rint(255 * animator.render(source, motion))
    assert np.abs(streamed - expected).max() <= 1


def test_a_prepared_program_is_the_one_that_renders(animator, frames):
    """Rendering another portrait compiles nothing again and gives the same frames."""
    prepared = Animator(animator.model, animator._variables, batch_size=3)
    first, source = (prepared.encode_source(frame) for frame in frames[:2])
    motion = animator.extract_motion(frames)
    with compilations.recorded() as compiled:
        prepared.prepare(first, batch_size=2).join()
    assert len(compiled) == 2  # It renders, and rounds to uint8.
    with compilations.recorded() as compiled:
        found = list(prepared.render_frames(source, motion, batch_size=2))
    assert not compiled
    expected = list(animator.render_frames(source, motion))
    assert np.abs(np.stack(found).astype(int) - np.stack(expected)).max() <= 1


@pytest.mark.parametrize(
    ("num_frames", "batch_size"), [(1, 1), (5, 5), (6, 3), (8, 4), (10, 5), (72, 5)]
)
def test_batches_of_a_known_number_of_frames_are_nearly_full(animator, num_frames, batch_size):
    assert animator.choose_batch_size(num_frames) == batch_size


def test_uint8_and_float_pictures_are_the_same(animator, frames):
    one = animator.encode_source(frames[0])
    other = animator.encode_source(frames[0].astype(np.float32) / 255)
    np.testing.assert_allclose(one.features.volume, other.features.volume, atol=1e-5)


def test_any_size_and_mode(animator):
    for shape in ((50, 90), (90, 50, 1), (40, 40, 4), (33, 32, 3)):
        source = animator.encode_source(np.full(shape, 128, np.uint8))
        assert source.image.shape == (32, 32, 3)


def test_an_untrained_field_does_not_deviate(animator, frames):
    """An untrained network predicts zero deviation, so that nothing moves."""
    variables = animator._variables
    motion = animator.extract_motion(frames)
    apply = jax.jit(animator.model.apply, static_argnames="method")
    field = apply(variables, motion, method="field")
    assert np.abs(field).max() == 0


def test_retargeted_motion_begins_with_the_portraits_own_pose(animator, frames):
    source = animator.encode_source(frames[0])
    motions = animator.extract_motion(frames)
    moved = np.stack(list(animator.retarget(source, iter(motions[2:]))))
    own = animator.extract_motion(source.image[None])[0]
    np.testing.assert_allclose(moved[0], own, atol=1e-5)
    assert len(moved) == 4 and np.abs(moved[1] - moved[0]).max() > 1e-3
    # Its own motion is reproduced.
    again = np.stack(list(animator.retarget(source, iter(motions))))
    np.testing.assert_allclose(again, motions, atol=1e-5)


def test_a_flow_of_zero_is_the_identity(frames):
    model = DeviationModel(**_SMALL, warp_kind="flow")
    image = frames[:1].astype(np.float32) / 255
    variables = jax.jit(model.init)(jax.random.key(0), image, image)
    outputs = jax.jit(model.apply)(variables, image, image)
    np.testing.assert_allclose(outputs["warped"], outputs["source"].volume, atol=1e-5)


def test_a_relative_field_depends_on_the_source(frames):
    """The same motion moves two portraits differently, each by the difference to its own pose."""
    model = DeviationModel(**_SMALL, warp_kind="flow", relative=True)
    image = frames[:1].astype(np.float32) / 255
    variables = jax.jit(model.init)(jax.random.key(0), image, image)
    head = variables["params"]["warping"]["out_conv"]
    head["kernel"] = 0.3 * jax.random.normal(jax.random.key(1), head["kernel"].shape)
    animator = Animator(model, variables, batch_size=4)
    one, other = (animator.encode_source(frame) for frame in frames[:2])
    motion = animator.extract_motion(frames[2:3])
    own = {"one": one.features.motion, "other": other.features.motion}
    apply = jax.jit(model.apply, static_argnames="method")
    fields = {
        name: apply(variables, motion, source, method="field") for name, source in own.items()
    }
    assert np.abs(fields["one"] - fields["other"]).max() > 1e-3
    np.testing.assert_allclose(one.features.motion, animator.extract_motion(frames[:1]), atol=1e-5)
    whole = apply(variables, image, frames[2:3].astype(np.float32) / 255)["image"]
    np.testing.assert_allclose(animator.render(one, motion), whole, atol=1e-4)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"resolution": 40}, "multiple of"),
        ({"max_width": 64}, "choose at most 32"),
        ({"warp_kind": "spline"}, "choose volume or exact or flow"),
    ],
)
def test_sizes_that_do_not_fit_together(change, sentence):
    with pytest.raises(InputError, match=sentence):
        DeviationModel(**(_SMALL | change))


def test_the_public_names_load_lazily():
    import gesture_jax

    assert gesture_jax.Animator is Animator
    with pytest.raises(AttributeError, match="Painter"):
        _ = gesture_jax.Painter


def test_unknown_compiler_options_are_detected():
    assert hardware.knows(hardware.compiler_options())
    assert not hardware.knows({"xla_cpu_no_such_option": ""})
