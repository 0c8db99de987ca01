"""Convolutions by Winograd's algorithm, for CPUs: a fraction of the products, the same result.

A tile of 4x4 outputs is computed from a tile of 6x6 inputs for a 3x3 kernel, of 5x5 inputs for a
2x2 one. Small constant matrices transform tiles and kernel; between these transforms a convolution
is 36 (or 25) matrix products over channels instead of 144 (or 64). See Lavin and Gray 2016,
https://arxiv.org/abs/1509.09308. Errors grow to about 1e-5 of the largest output.

Each product is an array of its own: joining them to one array would take longer than all else.
"""

import functools
from collections.abc import Callable, Sequence

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental.xla_metadata import set_xla_metadata
from jaxtyping import Float
from numpy.polynomial import polynomial

from gesture_jax.array_types import Array, FeatureMap, typechecked

_TILE = 4
# The points at which polynomials are evaluated, besides infinity; 2x2 kernels need all but one.
_POINTS = np.array([0.0, 1.0, -1.0, 2.0, -2.0])

# A matrix of arrays, row by row.
_Grid = Sequence[Sequence[jax.Array]]
# XLA would fuse the operations that write a map with those that read it, into loops that choose
# among all positions of a tile for each number and take ten times as long. It leaves separate
# programs alone. They also spare JAX from tracing the same shape again.
_compiled_alone = set_xla_metadata(inlineable="false")


@typechecked
def convolve(
    x: Float[Array, "b h w c"], kernel: Float[Array, "r r c o"], *, padding: int
) -> Float[Array, "b _ _ o"]:
    """A convolution of stride 1.

    Args:
      x: [b, h, w, c].
      kernel: [r, r, c, o]; r is 2 or 3.
      padding: zeros on each side, p.

    Returns:
      [b, h + 2p - r + 1, w + 2p - r + 1, o].
    """
    chex.assert_rank([x, kernel], 4)
    chex.assert_axis_dimension(kernel, 2, x.shape[3])
    chex.assert_type([x, kernel], float)
    height, width = _output_size(x, kernel.shape[0], padding)
    return _whole_tiles(x, kernel, padding=padding)[:, :height, :width]


@_compiled_alone
@functools.partial(jax.jit, static_argnames="padding")
def _whole_tiles(x: FeatureMap, kernel: jax.Array, *, padding: int) -> FeatureMap:
    """See `convolve`; the result extends to the end of the last tiles."""
    size = kernel.shape[0]
    inputs, kernels, outputs = _matrices(size)
    reach = _output_size(x, size, padding)
    products = _pairwise(
        jnp.matmul,
        _transform_tiles(inputs, x, padding=padding, reach=reach),
        both_ways(kernels, kernel),
    )
    tiles = [jnp.stack(row, axis=3) for row in both_ways(outputs, products)]
    tiles = jnp.stack(tiles, axis=2)
    batch, down, _, right, _, channels = tiles.shape
    return tiles.reshape(batch, down * _TILE, right * _TILE, channels)


@_compiled_alone
@functools.partial(jax.jit, static_argnames=("size", "padding"))
@typechecked
def kernel_gradient(
    x: Float[Array, "b h w c"], cotangent: Float[Array, "b _ _ o"], *, size: int, padding: int
) -> Float[Array, "{size} {size} c o"]:
    """The gradient of `convolve` by its kernel.

    Args:
      x: [b, h, w, c], its input.
      cotangent: [b, h', w', o], the gradient by its result.
      size: rows and columns of the kernel, r.
      padding: zeros on each side.

    Returns:
      [r, r, c, o].
    """
    chex.assert_rank([x, cotangent], 4)
    chex.assert_shape(cotangent, (len(x), *_output_size(x, size, padding), None))
    chex.assert_type([x, cotangent], float)
    # Products of plain matrices: with more axes they are several times slower.
    flat = lambda tile: tile.reshape(-1, tile.shape[-1])
    product = lambda one, other: flat(one).T @ flat(other)
    inputs, kernels, outputs = _matrices(size)
    reach = cotangent.shape[1:3]
    products = _pairwise(
        product,
        _transform_tiles(inputs, x, padding=padding, reach=reach),
        _transform_tiles(outputs.T, cotangent, padding=0, reach=reach),
    )
    return jnp.stack([jnp.stack(row) for row in both_ways(kernels.T, products)])


def both_ways(matrix: np.ndarray, grid: _Grid) -> _Grid:
    """M g M^T of a grid g of arrays, which may be one array [rows, columns, ...].

    It adds arrays: a product with such a small matrix takes ten times as long.
    """
    chex.assert_rank(matrix, 2)
    columns = [_combine(matrix, column) for column in zip(*grid, strict=True)]
    return [_combine(matrix, row) for row in zip(*columns, strict=True)]


@functools.cache
def _matrices(size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The matrices B^T [n, n] for inputs, G [n, size] for kernels and A^T [4, n] for outputs.

    The names are the paper's. They multiply polynomials by means of their values at n - 1 points
    and at infinity (Toom and Cook).
    """
    points = _POINTS[: _TILE + size - 2]
    others = [np.delete(points, i) for i in range(len(points))]
    inputs = [np.append(polynomial.polyfromroots(roots), 0.0) for roots in others]
    inputs.append(polynomial.polyfromroots(points))
    scale = [np.prod(point - roots) for point, roots in zip(points, others, strict=True)]
    kernels = np.vander(points, size, increasing=True) / np.array(scale)[:, None]
    outputs = np.vander(points, _TILE, increasing=True)
    last = lambda length: np.eye(length)[-1:]
    matrices = (
        np.array(inputs),
        np.concatenate([kernels, last(size)]),
        np.concatenate([outputs, last(_TILE)]).T,
    )
    return tuple(matrix.astype(np.float32) for matrix in matrices)


def _output_size(x: FeatureMap, size: int, padding: int) -> tuple[int, int]:
    return tuple(length + 2 * padding - size + 1 for length in x.shape[1:3])


def _transform_tiles(
    matrix: np.ndarray, x: FeatureMap, *, padding: int, reach: Sequence[int]
) -> _Grid:
    """M t M^T of every tile t: for each position in a tile, [b, rows of tiles, columns, c].

    Tiles start four pixels apart and are as wide as the matrix; there are enough of them for
    `reach` outputs. Rows are transformed before columns are cut, because tiles overlap.
    """
    span = matrix.shape[1]
    counts = [-(-length // _TILE) for length in reach]
    after = [
        max(0, _TILE * (count - 1) + span - length - padding)
        for count, length in zip(counts, x.shape[1:3], strict=True)
    ]
    x = jnp.pad(x, ((0, 0), (padding, after[0]), (padding, after[1]), (0, 0)))

    def cut(x: jax.Array, axis: int) -> list[jax.Array]:
        end = _TILE * (counts[axis - 1] - 1) + 1
        return [lax.slice_in_dim(x, i, i + end, _TILE, axis) for i in range(span)]

    return [_combine(matrix, cut(row, 2)) for row in _combine(matrix, cut(x, 1))]


def _pairwise(function: Callable, ones: _Grid, others: _Grid) -> _Grid:
    return [
        [function(one, other) for one, other in zip(*rows, strict=True)]
        for rows in zip(ones, others, strict=True)
    ]


def _combine(matrix: np.ndarray, parts: Sequence[jax.Array]) -> list[jax.Array]:
    """M x; zeros and ones cost nothing.

    It uses `lax`, because there are thousands of operations and those of `jnp` take longer to
    trace.
    """

    def scaled(factor: float, part: jax.Array) -> jax.Array:
        return part if factor == 1 else lax.mul(part.dtype.type(factor), part)

    terms = lambda row: [
        scaled(factor, part) for factor, part in zip(row, parts, strict=True) if factor
    ]
    return [functools.reduce(lax.add, terms(row)) for row in matrix]
