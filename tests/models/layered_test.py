"""The layered network moves the portrait's own pixels by two flows, at any size."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from gesture_jax.errors import InputError
from gesture_jax.inference import explain
from gesture_jax.inference.animator import Adaptation, Animator
from gesture_jax.inference.portraits import Portrait, Style
from gesture_jax.inference.programs import find_changes
from gesture_jax.media import images
from gesture_jax.models.build import build_model
from gesture_jax.models.layered import Layers
from gesture_jax.ops import image as image_ops
from gesture_jax.ops.warp import displace
from gesture_jax.parallel.aot_cache import CachedJit
from gesture_jax.people.skeleton import Skeleton
from gesture_jax.procedural import speaker
from gesture_jax.storage import cache
from gesture_jax.training import losses

pytestmark = pytest.mark.usefixtures("quickly_compiled")

NARROW = {
    "width": 16, "fine_width": 8, "extractor_width": 8, "field_width": 8, "warp_feature_width": 8,
    "refine_width": 8, "num_bins": 8, "num_source_blocks": 1, "num_extractor_blocks": 1,
    "num_field_blocks": 1, "num_decoder_blocks": 1, "num_fine_blocks": 1,
}  # fmt: skip


@pytest.fixture(scope="module")
def model():
    return build_model(network="layered", resolution=32, num_downs=2, **NARROW)


@pytest.fixture(scope="module")
def frames():
    """Two frames of a drawn person, [2, 128, 128, 3] uint8."""
    return speaker.perform(identity=1, seed=3, duration_sec=3.0, size=128).frames[[0, 60]]


@pytest.fixture(scope="module")
def animator(model, frames):
    small = jnp.zeros((1, 32, 32, 3))
    variables = jax.jit(model.init)(jax.random.key(0), small, small)
    # The decoder is untrained and draws noise; the masks show the portrait's own pixels instead.
    masks = variables["params"]["decoder"]["masks_conv"]
    masks["bias"] = jnp.tile(jnp.array([0.0, 10.0]), len(masks["bias"]) // 2)
    return Animator(model, variables, batch_size=1)


def _small(frames):
    return np.stack([images.square(frame, size=32) for frame in frames]).astype(np.float32) / 255


@pytest.mark.parametrize("size", [32, 64])
def test_devices_that_share_a_batch_render_the_same_frames(
    model, animator, frames, size, tmp_path, monkeypatch
):
    """Adapting a motion depends on its neighbours in a batch; the second batch is not full."""
    monkeypatch.setenv(cache.TRACED_DIR, str(tmp_path))
    random = np.random.default_rng(0)
    shake = lambda leaf: leaf + 0.05 * random.standard_normal(leaf.shape, np.float32)
    variables = jax.tree.map(np.asarray, dict(animator._variables))
    variables["params"] = jax.tree.map(shake, variables["params"])
    alone = Animator(model, variables)
    together = Animator(model, variables, devices=jax.devices())
    ends = alone.extract_motion(frames)
    np.testing.assert_allclose(together.extract_motion(frames), ends, atol=1e-5)
    motion = np.linspace(*ends, 38).astype(np.float32)
    rendered = []
    for each in (alone, together):
        source = each.encode_source(frames[0], size=size)
        each.prepare(source).join()
        rendered.append(np.array([*each.render_frames(source, motion, adapt=True)], int))
    assert rendered[1].shape == (38, size, size, 3)
    assert np.abs(rendered[1] - rendered[0]).max() <= 1
    assert np.ptp(rendered[0], axis=0).max() > 10  # The portrait does move.


def test_the_programs_that_are_compiled_ahead_are_those_that_are_called(
    animator, frames, monkeypatch
):
    """Their cached programs are found by their text, which includes where arguments are placed."""
    called = []
    call = CachedJit.__call__

    def record(program, *args):
        called.append((program, args))
        return call(program, *args)

    monkeypatch.setattr(CachedJit, "__call__", record)
    animator = Animator(animator.model, animator._variables)
    source = animator.encode_source(frames[0], size=64)
    motion = np.zeros((3, animator.model.motion_dim), np.float32)
    list(animator.render_frames(source, motion, adapt=True))
    ahead = animator._programs.calls(animator._variables, batch_size=4, size=64)
    text = lambda program, args: program._find(args).lower(*args).as_text()
    for expected, actual in zip(ahead, called, strict=True):
        assert expected[0] is actual[0]
        assert text(*expected) == text(*actual)


def test_training_starts_with_the_unmoved_portrait(animator, model, frames):
    """Flows are zero, the warped picture is the source, and all shares are between 0 and 1."""
    source, driving = _small(frames)[:, None]
    apply = jax.jit(lambda v, a, b: model.apply(v, a, b))
    outputs = apply(animator._variables, source, driving)
    layers = outputs["layers"]
    np.testing.assert_allclose(layers.warped, source, atol=1e-5)
    np.testing.assert_array_equal(layers.flows, 0.0)
    mixed = layers.kept * layers.warped + (1 - layers.kept) * layers.drawn
    np.testing.assert_allclose(outputs["image"], mixed, atol=1e-5)
    for share in (layers.kept, layers.front):
        assert share.min() > 0.0 and share.max() < 1.0
    assert outputs["motion"].shape == (1, model.motion_dim)


def test_frames_have_the_portraits_resolution(animator, frames):
    """A frame of 128 pixels shows the portrait's own 128 pixels, and agrees with the small one."""
    motion = animator.extract_motion(frames[1:])
    small = animator.encode_source(frames[0], size=32)
    large = animator.encode_source(frames[0], size=128)
    assert (small.size, large.size) == (32, 128)
    np.testing.assert_array_equal(small.motion, large.motion)
    frame = animator.render(large, motion)
    assert frame.shape == (1, 128, 128, 3) and frame.min() >= 0 and frame.max() <= 1
    shrunk = images.square(images.to_uint8(frame[0]), size=32).astype(np.float32) / 255
    assert np.abs(shrunk - animator.render(small, motion)[0]).mean() < 0.02


def test_frames_stay_in_range_for_any_motion(animator, frames):
    wild = 50.0 * np.random.default_rng(0).normal(size=(2, animator.model.motion_dim))
    made = animator.render(animator.encode_source(frames[0], size=64), wild.astype(np.float32))
    assert np.isfinite(made).all() and made.min() >= 0.0 and made.max() <= 1.0


@pytest.mark.parametrize(
    ("side", "wanted", "size"), [(128, None, 32), (600, None, 512), (600, 600, 600), (20, 32, 32)]
)
def test_the_size_of_frames(animator, side, wanted, size):
    assert animator.choose_size(side, wanted) == size


@pytest.mark.parametrize("wanted", [16, 63, 202])
def test_unsupported_sizes_are_refused(animator, wanted):
    with pytest.raises(InputError, match="200 pixels; choose 32 or an even number up to 200"):
        animator.choose_size(200, wanted)


def test_displacements_read_where_scipy_reads(frames):
    random = np.random.default_rng(1)
    picture = frames[0].astype(np.float32)[:20, :30] / 255
    flow = random.normal(0, 0.3, (20, 30, 2)).astype(np.float32)
    rows, columns = np.mgrid[:20, :30] + np.stack([flow[..., 1] * 10, flow[..., 0] * 15])
    read = lambda c: ndimage.map_coordinates(
        picture[..., c], [rows, columns], order=1, mode="nearest"
    )
    expected = np.stack([read(c) for c in range(3)], axis=-1)
    np.testing.assert_allclose(displace(picture[None], flow[None])[0], expected, atol=1e-5)


def test_a_flow_means_the_same_at_every_size():
    """A shift of a quarter of the frame moves 8 of 32 and 16 of 64 pixels."""
    for size in (32, 64):
        picture = jnp.arange(size, dtype=jnp.float32)[None, None, :, None] * jnp.ones(
            (1, size, 1, 1)
        )
        moved = displace(picture, jnp.full((1, size, size, 2), jnp.array([0.5, 0.0])))
        np.testing.assert_allclose(moved[0, 0, : size // 2, 0], np.arange(size // 2) + size // 4)


def test_the_joint_error_is_the_error_of_the_flow():
    """Layer 1 is off by (0.3, 0.4); layer 0 does not matter."""
    flows = jnp.zeros((1, 8, 8, 2, 2)).at[..., 1, :].set(jnp.array([0.3, 0.4]))
    points = jnp.array([[[0.1, -0.2], [jnp.nan, 0.0], [1.5, 0.0]]])  # Known, unknown, outside.
    missed = losses.missed_points(flows, points, points, layer=np.array([1, 1, 1]))
    np.testing.assert_allclose(missed, 0.5, atol=1e-3)
    found = losses.missed_points(
        flows, points + jnp.array([0.3, 0.4]), points, layer=np.ones(3, int)
    )
    np.testing.assert_allclose(found, 0.0, atol=1e-3)
    nothing = jnp.full((1, 3, 2), jnp.nan)
    gradient = jax.grad(lambda f: losses.missed_points(f, nothing, nothing, layer=np.ones(3, int)))
    np.testing.assert_array_equal(gradient(flows), 0.0)


def test_bones_are_split_into_arms_and_body():
    skeleton = Skeleton.from_joint_names(("left_elbow", "left_wrist", "left_index", "head", "neck"))
    joints = jnp.array([[0.0, 0.0], [4.0, 0.0], [4.0, 8.0], [1.0, 1.0], [jnp.nan, 3.0]])
    points = np.asarray(skeleton.place(joints))
    body, arms = points[~skeleton.is_arm], points[skeleton.is_arm]
    assert len(body) == 5 and np.isnan(body).any(axis=1).all()  # The neck is unknown.
    np.testing.assert_allclose(arms[:5], [[0, 0], [1, 0], [2, 0], [3, 0], [4, 0]])
    np.testing.assert_allclose(arms[5:, 1], [0, 2, 4, 6, 8])
    assert len(Skeleton.from_joint_names(()).starts) == 0


def test_squares_stay_inside_the_picture():
    picture = jnp.arange(64.0).reshape(1, 8, 8, 1)
    centres = jnp.array([[[4.0, 4.0], [0.0, 0.0], [8.0, 2.0]]])
    squares = image_ops.cut_squares(picture, centres, size=4)
    np.testing.assert_array_equal(squares[0, ..., 0], picture[0, 2:6, 2:6, 0])
    np.testing.assert_array_equal(squares[1, ..., 0], picture[0, :4, :4, 0])
    np.testing.assert_array_equal(squares[2, ..., 0], picture[0, :4, 4:, 0])


def test_points_between_cells_are_interpolated():
    ramp = jnp.arange(4.0)[:, None] + 10.0 * jnp.arange(4.0)[None, :]
    points = jnp.array([[0.0, 0.0], [-0.75, 0.75], [-5.0, -0.75]])
    np.testing.assert_allclose(image_ops.read_points(ramp, points), [16.5, 3.0, 0.0], atol=1e-5)


def test_unevenness_of_a_checkerboard():
    board = jnp.asarray(np.indices((4, 4)).sum(axis=0) % 2, jnp.float32)[None, ..., None]
    np.testing.assert_allclose(losses.total_variation(board), 2.0)
    np.testing.assert_allclose(losses.total_variation(jnp.ones((1, 4, 4, 1))), 0.0)


def test_flows_are_coloured():
    flow = np.array([[0.3, 0.0], [0.0, 0.0], [-0.15, 0.0]])
    np.testing.assert_allclose(
        explain.colour_flow(flow), [[1, 0, 0], [0, 0, 0], [0, 0.5, 0.5]], atol=0.02
    )


@pytest.mark.parametrize("size", [16, 20, 37])
def test_maps_are_enlarged_as_jax_does(size):
    x = jax.random.normal(jax.random.key(0), (2, 8, 8, 3))
    expected = jax.image.resize(x, (2, size, size, 3), "linear")
    np.testing.assert_allclose(image_ops.enlarge(x, size), expected, atol=1e-5)


def test_frames_are_explained(animator, frames):
    """The first square is the frame itself, but that 2 % of it are drawn, as in training; white in
    the fourth is the portrait's own.
    """
    source = animator.encode_source(frames[0], size=64)
    motion = animator.extract_motion(frames[1:])
    (strip,) = animator.explain_frames(source, motion)
    assert strip.shape == (32, 6 * 32, 3) and strip.dtype == np.uint8
    assert Portrait.open(frames[0], animator, Style(explain=True)).frame_shape == strip.shape
    small = animator.encode_source(frames[0], size=32)
    np.testing.assert_allclose(
        strip[:, :32], next(animator.render_frames(small, motion, adapt=True)), atol=6
    )
    assert strip[:, 96:128].min() > 240


def test_only_small_drawn_regions_stay_when_motion_is_adapted():
    """A drawn square of a third of the frame is warped instead; a dot like a mouth stays drawn."""
    kept = np.ones((1, 40, 40, 1), np.float32)
    kept[:, 5:18, 5:18] = 0.0
    kept[:, 30, 30] = 0.0
    full = lambda value: jnp.full((1, 40, 40, 3), value)
    layers = Layers(jnp.zeros((1, 8, 8, 2, 2)), full(0.25), full(0.75), kept, jnp.asarray(kept))
    frame = layers.mostly_warped()
    np.testing.assert_allclose(frame[0, 10, 10], 0.25, atol=1e-6)
    np.testing.assert_allclose(frame[0, 30, 30], 0.75, atol=1e-6)
    np.testing.assert_allclose(frame[0, 25, 10], 0.25, atol=1e-6)


def test_adapted_motion_is_extracted_from_the_warped_portrait(animator, model, frames):
    """Almost nothing is drawn here, so that it equals the motion of the rendered frame."""
    source = animator.encode_source(frames[0], size=32)
    motion = animator.extract_motion(frames[1:])
    adapt = jax.jit(functools.partial(model.apply, method="adapt"))
    adapted = adapt(animator._variables, source.features, motion)
    read = animator.extract_motion(animator.render(source, motion))
    np.testing.assert_allclose(adapted, read, atol=0.02)
    once = animator.render(source, np.asarray(adapted))
    np.testing.assert_allclose(animator.render(source, motion, adapt=True), once, atol=1e-4)


def test_between_adapted_frames_the_change_is_interpolated(model, animator, frames):
    """The first batch of a clip has no frame before it: its change is that of its last frame."""
    source = animator.encode_source(frames[0], size=32)
    ends = animator.extract_motion(frames)
    share = np.linspace(0.0, 1.0, 6)[:, None] ** 2
    motion = ((1 - share) * ends[0] + share * ends[1]).astype(np.float32)
    changes = jax.jit(functools.partial(find_changes, model))(
        animator._variables, source.features, motion
    )
    assert np.abs(changes[5] - changes[2]).max() > 1e-4
    adaptation = Adaptation()
    first, second = (adaptation.follow(motion[i - 2 : i + 1], changes[i : i + 1]) for i in (2, 5))
    np.testing.assert_allclose(first.adapt(), motion[:3] + changes[2], atol=1e-6)
    found = second.adapt() - motion[3:]
    np.testing.assert_allclose(found[0], (2 * changes[2] + changes[5]) / 3, atol=1e-6)
    np.testing.assert_allclose(found[2], changes[5], atol=1e-6)


def test_hops_of_a_clip_are_adapted_like_the_whole_clip(animator, frames):
    source = animator.encode_source(frames[0], size=32)
    motion = np.linspace(*animator.extract_motion(frames), 4).astype(np.float32)
    whole = animator.render(source, motion, adapt=True)
    adaptation = Adaptation()
    hops = [animator.render(source, motion[i : i + 2], adapt=adaptation) for i in (0, 2)]
    np.testing.assert_allclose(np.concatenate(hops), whole, atol=1e-6)


@pytest.mark.parametrize("size", [1, 4, 5])
def test_a_box_blur_is_the_mean_of_a_square(size):
    x = np.random.default_rng(0).random((1, 9, 8, 2), np.float32)
    origin = -1 if size % 2 == 0 else 0  # An even square extends further down and to the right.
    expected = ndimage.uniform_filter(
        x.astype(np.float64), (1, size, size, 1), mode="constant", origin=(0, origin, origin, 0)
    )
    np.testing.assert_allclose(image_ops.box_blur(x, size), expected, atol=1e-6)
