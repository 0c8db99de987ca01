"""Convolutions by Winograd's algorithm, for CPUs: a fraction of the products, the same result.

A tile of 4x4 outputs is made of a tile of 6x6 inputs by a 3x3 kernel, of 5x5 by a 2x2 one. Tiles
and kernel are transformed by small constant matrices, between which a convolution is 36, or 25,
matrix products over channels instead of 144, or 64 (Lavin and Gray 2016,
https://arxiv.org/abs/1509.09308). Errors grow to about 1e-5 of the largest output.

The products are arrays of their own: to put maps together in one costs more than all else.
"""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental.xla_metadata import set_xla_metadata
from numpy.polynomial import polynomial

from gesture_jax.array_types import FeatureMap

_TILE = 4
# Where polynomials are evaluated, beside at infinity: as many as wanted, from the first one on.
_POINTS = np.array([0.0, 1.0, -1.0, 2.0, -2.0])

# Arrays, row by row.
_Grid = Sequence[Sequence[jax.Array]]
# XLA merges what makes a map with what reads it, in loops that choose among all places of a tile
# for each number and take ten times as long; programs of their own are let alone. JAX, for its
# part, does not trace again a shape that comes again.
_compiled_alone = set_xla_metadata(inlineable="false")


def convolve(x: FeatureMap, kernel: jax.Array, *, padding: int) -> FeatureMap:
    """A convolution of stride 1.

    Args:
      x: [b, h, w, c].
      kernel: [r, r, c, o], r being 2 or 3.
      padding: zeros on each side, p.

    Returns:
      [b, h + 2p - r + 1, w + 2p - r + 1, o].
    """
    height, width = _output_size(x, kernel.shape[0], padding)
    return _whole_tiles(x, kernel, padding=padding)[:, :height, :width]


@_compiled_alone
@functools.partial(jax.jit, static_argnames="padding")
def _whole_tiles(x: FeatureMap, kernel: jax.Array, *, padding: int) -> FeatureMap:
    """See `convolve`; as far as its last tiles reach."""
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
    batch, down, _, right, _, made = tiles.shape
    return tiles.reshape(batch, down * _TILE, right * _TILE, made)


@_compiled_alone
@functools.partial(jax.jit, static_argnames=("size", "padding"))
def kernel_gradient(x: FeatureMap, cotangent: FeatureMap, *, size: int, padding: int) -> jax.Array:
    """The gradient of `convolve` by its kernel.

    Args:
      x: [b, h, w, c], what it was given.
      cotangent: [b, h', w', o], the gradient of what it made.
      size: of the kernel, r.
      padding: as there.

    Returns:
      [r, r, c, o].
    """
    # As plain matrices: with more axes the product is several times slower.
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
    """M g M^T of a grid g of arrays, an array [rows, columns, ...] among them.

    By sums: a product with a matrix as small takes ten times as long.
    """
    columns = [_combine(matrix, column) for column in zip(*grid, strict=True)]
    return [_combine(matrix, row) for row in zip(*columns, strict=True)]


@functools.cache
def _matrices(size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For inputs [n, n], kernels [n, size] and outputs [4, n]: B^T, G and A^T of the paper.

    They multiply polynomials by their values at n - 1 points and at infinity (Toom and Cook).
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
    """M t M^T of every tile t: place by place in a tile, [b, rows of tiles, columns, c] each.

    Tiles start four pixels apart and are as wide as the matrix; there are as many as it takes to
    make `reach` outputs. Rows are done with before columns are cut, as tiles overlap.
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

    By operations of `lax`, of which there are thousands: those of `jnp` take longer to trace.
    """

    def scaled(factor: float, part: jax.Array) -> jax.Array:
        return part if factor == 1 else lax.mul(part.dtype.type(factor), part)

    terms = lambda row: [
        scaled(factor, part) for factor, part in zip(row, parts, strict=True) if factor
    ]
    return [functools.reduce(lax.add, terms(row)) for row in matrix]
