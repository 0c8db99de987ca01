"""The deviation warp against scipy's interpolation, and sharded without communication."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from gesture_jax.ops import warp as warps
from gesture_jax.ops.warp import (
    deviation_warp,
    displace,
    exact_deviation_warp,
    find_places,
    flow_warp,
    read_bicubic,
    read_bilinear,
    with_differences,
)
from gesture_jax.parallel import sharding

pytestmark = pytest.mark.usefixtures("quickly_compiled")

_SHAPE = 2, 6, 5, 7  # Three different sides, so that no two axes can be mixed up.


@pytest.fixture
def volume():
    return np.random.default_rng(0).standard_normal(_SHAPE).astype(np.float32)


def _index(position, size):
    """The index of a position in [-1, 1] among the centres of `size` cells."""
    return ((position + 1) * size - 1) / 2


def test_equals_scipy(volume):
    random = np.random.default_rng(1)
    field = random.uniform(-0.5, 0.5, (*_SHAPE[:3], 3, 3)).astype(np.float32)
    translation = random.uniform(-0.3, 0.3, (2, 3)).astype(np.float32)
    warped = jax.jit(deviation_warp)(volume, field, translation)
    z, y, x = (np.linspace(-1, 1, n) for n in (_SHAPE[3], _SHAPE[1], _SHAPE[2]))
    rows, columns, depths = np.meshgrid(y, x, z, indexing="ij")
    grid = np.stack([columns, rows, depths], axis=-1)
    for example in range(2):
        matrix = field[example][:, :, None] + np.eye(3)
        position = (matrix @ grid[..., None])[..., 0] + translation[example]
        coordinates = [
            _index(position[..., axis], size)
            for axis, size in ((1, _SHAPE[1]), (0, _SHAPE[2]), (2, _SHAPE[3]))
        ]
        expected = map_coordinates(
            np.pad(volume[example], 1),
            [c.clip(-1, n) + 1 for c, n in zip(coordinates, _SHAPE[1:], strict=True)],
            order=1,
        )
        np.testing.assert_allclose(warped[example], expected, atol=2e-5)


def test_shift_by_one_cell_moves_columns():
    volume = np.zeros((1, 1, 4, 1), np.float32)
    volume[0, 0, :, 0] = [1, 2, 3, 4]
    # A matrix that collapses the grid onto its middle leaves the translation alone.
    field = np.broadcast_to(-np.eye(3, dtype=np.float32), (1, 1, 4, 3, 3))
    for x, expected in ((-0.75, 1), (-0.25, 2), (0.0, 2.5), (0.75, 4), (1.25, 0), (3.0, 0)):
        warped = deviation_warp(volume, field, np.array([[x, 0, 0]], np.float32))
        np.testing.assert_allclose(warped, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("warp", "is_identity"),
    [(deviation_warp, False), (exact_deviation_warp, True), (flow_warp, True)],
)
def test_a_field_of_zero_is_the_identity_or_nearly(volume, warp, is_identity):
    still = warp(volume, np.zeros((*_SHAPE[:3], 3, 3), np.float32), np.zeros((2, 3), np.float32))
    assert np.allclose(still, volume, atol=1e-5) == is_identity


def test_the_exact_warp_shifts_by_whole_cells(volume):
    """One cell of width is 2 / (N - 1); outside there are zeros."""
    shift = np.array([[2 / (_SHAPE[2] - 1), 0, 0]] * 2, np.float32)
    moved = exact_deviation_warp(volume, np.zeros((*_SHAPE[:3], 3, 3), np.float32), shift)
    np.testing.assert_allclose(moved[:, :, :-1], volume[:, :, 1:], atol=1e-5)
    np.testing.assert_allclose(moved[:, :, -1], 0, atol=1e-5)


def test_gradients_are_those_of_finite_differences(volume):
    random = np.random.default_rng(2)
    field = random.uniform(-0.2, 0.2, (*_SHAPE[:3], 3, 3)).astype(np.float32)
    translation = random.uniform(-0.1, 0.1, (2, 3)).astype(np.float32)
    direction = random.standard_normal(field.shape).astype(np.float32)
    target = random.standard_normal(_SHAPE).astype(np.float32)

    def loss(step):
        return (deviation_warp(volume, field + step * direction, translation) * target).sum()

    slope = jax.grad(loss)(0.0)
    step = 1e-4
    difference = float(loss(step) - loss(-step)) / (2 * step)
    assert float(slope) == pytest.approx(difference, rel=0.05)


@pytest.mark.parametrize(
    ("shape", "exact"), [(_SHAPE[1:], True), ((4, 4, 64), False), ((8, 6, 128), True)]
)
def test_the_method_of_tpus_gives_the_same_values_and_gradients(shape, exact):
    """For fields up to their bounds, and positions far outside of the volume."""
    random = np.random.default_rng(3)
    draw = lambda *sides: random.standard_normal(sides).astype(np.float32)
    target = draw(*shape)

    def with_gradients(method):
        warp = lambda *args: method(*args, exact=exact)
        slope = jax.grad(lambda *args: (warp(*args) * target).sum(), argnums=(0, 1, 2))
        return jax.jit(lambda *args: [warp(*args), *slope(*args)])

    by_blocks, by_corners = with_gradients(warps._by_blocks), with_gradients(warps._by_corners)
    for size in (0.1, 1.0):
        # Most of the field is -1 or 1, before it is scaled.
        field = np.tanh(5 * draw(*shape[:2], 3, 3)) * np.float32(size)
        inputs = draw(*shape), field, size * draw(3)
        for one, other in zip(by_blocks(*inputs), by_corners(*inputs), strict=True):
            scale = float(np.abs(other).max()) + 1e-3
            np.testing.assert_allclose(one / scale, other / scale, atol=1e-4)


def test_blocks_of_the_papers_volume():
    assert warps._block_size((32, 32, 512)) == 16
    assert warps._block_size((6, 5, 7)) == 1


def test_sharded_warp_reads_no_other_device(volume):
    mesh = sharding.make_mesh(batch_size=8)
    batch = sharding.batch_sharding(mesh)
    put = lambda *shape: jax.device_put(jnp.zeros(shape), batch)
    arguments = put(8, *_SHAPE[1:]), put(8, *_SHAPE[1:3], 3, 3), put(8, 3)
    compiled = jax.jit(jax.grad(lambda *a: deviation_warp(*a).sum(), argnums=(0, 1, 2)))
    text = compiled.lower(*arguments).compile().as_text()
    assert mesh.size == 8
    for collective in ("all-gather", "all-reduce", "all-to-all", "collective-permute"):
        assert collective not in text


def test_bicubic_reading_is_catmull_rom():
    """By the weights of its four neighbours along each axis (Keys 1981, a = -1/2)."""
    rng = np.random.default_rng(5)
    picture = rng.random((1, 12, 10, 2), np.float32)
    shift = rng.uniform(-2, 2, (1, 12, 10, 2)).astype(np.float32)
    flow = shift / np.array([10 / 2, 12 / 2], np.float32)
    places = find_places(flow)
    np.testing.assert_allclose(
        read_bilinear(jnp.asarray(picture[0]), places), displace(picture, flow), atol=1e-6
    )
    cubic = read_bicubic(with_differences(picture[0]), places)
    for row, column in ((5, 4), (4, 5), (7, 6)):
        (x, y), expected = shift[0, row, column] + (column, row), 0.0
        for i in range(int(np.floor(y)) - 1, int(np.floor(y)) + 3):
            for j in range(int(np.floor(x)) - 1, int(np.floor(x)) + 3):
                expected = expected + _keys(y - i) * _keys(x - j) * picture[0, i, j]
        np.testing.assert_allclose(cubic[0, row, column], expected, atol=1e-5)


def _keys(distance):
    x = abs(distance)
    if x <= 1:
        return 1.5 * x**3 - 2.5 * x**2 + 1
    return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x < 2 else 0.0


def test_bicubic_reading_without_motion_changes_nothing():
    picture = np.random.default_rng(6).random((8, 8, 3), np.float32)
    places = find_places(np.zeros((2, 8, 8, 2)))
    read = read_bicubic(with_differences(picture), places)
    np.testing.assert_allclose(read, np.stack([picture, picture]), atol=1e-6)
