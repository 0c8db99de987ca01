"""The warps: a volume sampled where a field of 3x3 matrices and one translation say.

`deviation_warp` is the reference's, in three dimensions; `exact_deviation_warp` the same without
its half cell of misfit. `flow_warp` reads the same field as a plain displacement of each cell: the
exact identity where it is zero, and easier to learn by far.

A sample of the first two has eight neighbours in the volume. CPUs and GPUs read these one by one.
A TPU reads a whole tile of 4 kB for each, so that the warp alone would take many times as long as
all convolutions (benchmarks/README.md); there, neighbours in depth read a slab of it together.
"""

import functools
import itertools

import flax
import jax
import jax.numpy as jnp
import numpy as np

from gesture_jax.array_types import FeatureMap


def deviation_warp(volume: FeatureMap, field: jax.Array, translation: jax.Array) -> FeatureMap:
    """Samples V at (I + M) g + t, trilinearly, zero outside.

    The channels of V are the depth axis of the volume. g is the grid point, (x, y, z) along width,
    height and depth, each from -1 to 1 inclusive; yet a position p in [-1, 1] reads index
    ((p + 1) N - 1) / 2. So a zero field is not quite the identity: that is the reference's
    arithmetic (reference 2.6), kept for its weights.

    Args:
      volume: [b, h, w, d].
      field: [b, h, w, 3, 3], the deviation M of each cell, the same at all depths; from -1 to 1.
      translation: [b, 3], t.

    Returns:
      [b, h, w, d], of the volume's dtype.
    """
    return _warp(volume, field, translation, False)


def exact_deviation_warp(
    volume: FeatureMap, field: jax.Array, translation: jax.Array
) -> FeatureMap:
    """`deviation_warp`, but the identity where field and translation are zero.

    A position p reads index (p + 1) (N - 1) / 2, so that -1 and 1 are the first and last cells'
    centres.
    """
    return _warp(volume, field, translation, True)


def flow_warp(volume: FeatureMap, field: jax.Array, translation: jax.Array) -> FeatureMap:
    """Samples V, all channels alike, at (x, y) + M[:2, 2] + t[:2], bilinearly; the border goes on.

    Args:
      volume: [b, h, w, d].
      field: [b, h, w, 3, 3]; the last column of M is the displacement, in units where the frame
        reaches from -1 to 1.
      translation: [b, 3], t.

    Returns:
      [b, h, w, d], of the volume's dtype.
    """
    return jax.vmap(_flow_one)(volume, field, translation)


def displace(x: FeatureMap, flow: jax.Array) -> FeatureMap:
    """Reads a map at displaced places, bilinearly; the border goes on.

    The centre of row i of n lies at (2 i + 1) / n - 1, so that a flow means the same at every size:
    enlarged with a picture, it moves the picture alike.

    Args:
      x: [b, h, w, c].
      flow: [b, h, w, 2], the displacements (x, y) of where to read, in units where the map reaches
        from -1 to 1.

    Returns:
      [b, h, w, c], of the dtype of `x`.
    """
    return jax.vmap(_displace_one)(x, flow.astype(jnp.float32))


@flax.struct.dataclass
class Places:
    """Where a flow reads a map: between which pixels, and how far between.

    Attributes:
      index: [b, h, w] int32, of the upper left one of four pixels, row by row.
      down: [b, h, w, 1] in [0, 1], how far below that pixel the place lies.
      right: [b, h, w, 1], likewise to its right.
    """

    index: jax.Array
    down: jax.Array
    right: jax.Array


def find_places(flow: jax.Array) -> Places:
    """The places that `displace` reads by a flow [b, h, w, 2]."""

    def find(flow: jax.Array) -> Places:
        (row, _, down), (column, _, right) = _displaced_cells(flow.shape, flow)
        return Places(row * flow.shape[1] + column, down, right)

    return jax.vmap(find)(flow.astype(jnp.float32))


def with_differences(x: FeatureMap) -> FeatureMap:
    """A map [*b, h, w, c] with what `read_bicubic` needs of it: [*b, h, w, 4 c].

    Its second differences down, across, and down of those across; the border goes on.
    """
    down, across = _second_difference(x, -3), _second_difference(x, -2)
    return jnp.concatenate([x, down, across, _second_difference(down, -2)], axis=-1)


def read_bicubic(x: FeatureMap, places: Places) -> FeatureMap:
    """Reads a map at places, bicubically: bilinear reading blurs what moves.

    Along one axis, Catmull-Rom interpolation at a share t between two pixels is the linear one less
    t (1 - t) / 2 times the second difference, read linearly too.

    Args:
      x: [h, w, 4 c], of `with_differences`.
      places: where, [b, h, w].

    Returns:
      [b, h, w, c].
    """
    plain, down, across, both = jnp.split(read_bilinear(x, places), 4, axis=-1)
    y, x = (part * (1.0 - part) / 2.0 for part in (places.down, places.right))
    return plain - y * down - x * across + y * x * both


def read_bilinear(x: FeatureMap, places: Places) -> FeatureMap:
    """Reads a map [h, w, c] at places [b, h, w]: [b, h, w, c], as `displace` does."""
    width, channels = x.shape[1:]
    pixels = jnp.reshape(x, (-1, channels))
    read = lambda further: pixels.at[places.index + further].get(mode="promise_in_bounds")
    upper = read(0) * (1.0 - places.right) + read(1) * places.right
    lower = read(width) * (1.0 - places.right) + read(width + 1) * places.right
    return upper * (1.0 - places.down) + lower * places.down


def _second_difference(x: jax.Array, axis: int) -> jax.Array:
    index, last = np.arange(x.shape[axis]), x.shape[axis] - 1
    take = lambda index: jnp.take(x, np.clip(index, 0, last), axis=axis)
    return take(index - 1) + take(index + 1) - 2.0 * x


def _displace_one(x: jax.Array, flow: jax.Array) -> jax.Array:
    return _bilinear(x, *_displaced_cells(x.shape, flow))


def _displaced_cells(shape: tuple[int, ...], flow: jax.Array) -> tuple[tuple, tuple]:
    """Rows and columns of where a flow reads, each of `_between_cells`."""
    height, width = shape[:2]
    columns = jnp.arange(width)[None, :] + flow[..., 0] * (width / 2)
    rows = jnp.arange(height)[:, None] + flow[..., 1] * (height / 2)
    return _between_cells(rows, height), _between_cells(columns, width)


def _flow_one(volume: jax.Array, field: jax.Array, translation: jax.Array) -> jax.Array:
    height, width, _ = volume.shape
    shift = field[..., 2].astype(jnp.float32) + translation
    x, y = jnp.linspace(-1.0, 1.0, width), jnp.linspace(-1.0, 1.0, height)
    columns = (x[None, :] + shift[..., 0] + 1.0) / 2.0 * (width - 1)
    rows = (y[:, None] + shift[..., 1] + 1.0) / 2.0 * (height - 1)
    return _bilinear(volume, _between_cells(rows, height), _between_cells(columns, width))


def _bilinear(x: jax.Array, rows: tuple, columns: tuple) -> jax.Array:
    """[h, w, c] read between rows and columns, each of `_between_cells`."""
    (y_low, y_high, y_part), (x_low, x_high, x_part) = rows, columns
    read = lambda row, column: x.at[row, column].get(mode="promise_in_bounds")
    upper = read(y_low, x_low) * (1.0 - x_part) + read(y_low, x_high) * x_part
    lower = read(y_high, x_low) * (1.0 - x_part) + read(y_high, x_high) * x_part
    return (upper * (1.0 - y_part) + lower * y_part).astype(x.dtype)


def _between_cells(index: jax.Array, size: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Neighbours of a place among `size` cells, counted in cells, and how far between it lies."""
    index = jnp.clip(index, 0.0, size - 1)
    low = jnp.minimum(jnp.floor(index), size - 2).astype(jnp.int32)
    return low, low + 1, (index - low)[..., None]


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def _warp(volume, field, translation, exact: bool):
    """By whichever way suits the device; nothing but the inputs is kept for the gradient."""
    by_blocks, by_corners = (_each_example(way, exact) for way in (_by_blocks, _by_corners))
    return jax.lax.platform_dependent(volume, field, translation, tpu=by_blocks, default=by_corners)


def _forward(volume, field, translation, exact):
    return _warp(volume, field, translation, exact), (volume, field, translation)


def _backward(exact, inputs, cotangent):
    by_blocks, by_corners = (
        lambda *args, way=way: jax.vjp(_each_example(way, exact), *args[:-1])[1](args[-1])
        for way in (_by_blocks, _by_corners)
    )
    return jax.lax.platform_dependent(*inputs, cotangent, tpu=by_blocks, default=by_corners)


_warp.defvjp(_forward, _backward)


def _each_example(way, exact: bool):
    """Over a batch: an example's samples are read from its own volume only.

    A gather over the whole batch would make a sharded program fetch all volumes to every device.
    """
    return jax.vmap(functools.partial(way, exact=exact))


def _by_corners(volume, field, translation, *, exact: bool) -> jax.Array:
    """Eight reads a sample, of one number each."""
    _, width, depth = volume.shape
    low, fraction = _neighbours(volume.shape, field, translation, exact=exact)
    flat = _with_outside(volume).ravel()
    warped = 0.0
    for corner in itertools.product((0, 1), repeat=3):
        x, y, z = (index + c for index, c in zip(low, corner, strict=True))
        weight = 1.0
        for part, c in zip(fraction, corner, strict=True):
            weight = weight * (part if c else 1.0 - part)
        value = flat.at[(y * (width + 2) + x) * (depth + 2) + z].get(mode="promise_in_bounds")
        warped = warped + weight * value
    return warped.astype(volume.dtype)


def _by_blocks(volume, field, translation, *, exact: bool) -> jax.Array:
    """One read for a block of samples that follow each other in depth: a slab of 3 x 3 x (2 n + 2).

    With a field from -1 to 1 the n samples of a block move by less than a cell in the plane, and by
    less than two in depth each, so that all their neighbours are in the slab.
    """
    height, width, depth = volume.shape
    count = _block_size(volume.shape)
    low, fraction = (
        [each.reshape(-1, count) for each in part]
        for part in _neighbours(volume.shape, field, translation, exact=exact)
    )
    reach = 3, 3, min(2 * count + 2, depth + 2)
    last = (side + 2 - size for side, size in zip((width, height, depth), reach, strict=True))
    starts = [jnp.minimum(i.min(axis=1), end) for i, end in zip(low, last, strict=True)]
    padded = _with_outside(volume)
    read = lambda x, y, z: jax.lax.dynamic_slice(padded, (y, x, z), (3, 3, reach[2]))
    slabs = jax.vmap(read)(*starts)[:, None]  # [blocks, 1, y, x, z]
    # Where each sample lies in its slab, and the weight of each plane of it: a hat around there.
    pairs = zip(low, starts, fraction, strict=True)
    within = [index - start[:, None] + part for index, start, part in pairs]
    hats = lambda axis: [_hat(within[axis] - plane)[..., None] for plane in range(3)]
    columns = itertools.product(enumerate(hats(1)), enumerate(hats(0)))
    line = sum(by_y * by_x * slabs[:, :, y, x] for (y, by_y), (x, by_x) in columns)
    depths = _hat(within[2][..., None] - jnp.arange(reach[2]))
    return (line * depths).sum(axis=-1).reshape(height, width, depth).astype(volume.dtype)


def _block_size(shape: tuple[int, int, int]) -> int:
    """The largest divisor of the depth whose samples move by less than a cell of the plane."""
    height, width, depth = shape
    a_sample = max(height, width) / max(depth - 1, 1)  # Cells, at most.
    fits = lambda count: depth % count == 0 and (count - 1) * a_sample < 1.0 - 1e-3
    return max(filter(fits, range(1, depth + 1)))


def _hat(distance: jax.Array) -> jax.Array:
    """The weight of linear interpolation, of a neighbour at a distance in cells."""
    return jnp.maximum(1.0 - jnp.abs(distance), 0.0)


def _with_outside(volume: jax.Array) -> jax.Array:
    """One cell of zeros all around stands for everything outside."""
    return jnp.pad(volume, 1)


def _neighbours(shape, field, translation, *, exact: bool) -> tuple[list[jax.Array], ...]:
    """Along x, y and z: of every sample the lower neighbour, and how far beyond it; [h, w, d]."""
    height, width, depth = shape
    positions = _positions(shape, field, translation)
    sizes = width, height, depth
    cells = [_cell(p, n, exact=exact) for p, n in zip(positions, sizes, strict=True)]
    low, fraction = zip(*cells, strict=True)
    return list(low), list(fraction)


def _positions(shape, field: jax.Array, translation: jax.Array) -> list[jax.Array]:
    """x, y and z in [-1, 1] of every sample, each [h, w, d].

    Along the depth of a cell they lie on a straight line, so a base and a step a cell are enough.
    """
    height, width, depth = shape
    x = jnp.linspace(-1.0, 1.0, width)[None, :]
    y = jnp.linspace(-1.0, 1.0, height)[:, None]
    z = jnp.linspace(-1.0, 1.0, depth)
    matrix = field.astype(jnp.float32) + jnp.eye(3)
    base = matrix[..., 0] * x[..., None] + matrix[..., 1] * y[..., None] + translation
    step = matrix[..., 2]
    return [base[..., axis, None] + step[..., axis, None] * z for axis in range(3)]


def _cell(position: jax.Array, size: int, *, exact: bool) -> tuple[jax.Array, jax.Array]:
    """Index of the lower neighbour in the padded axis, and how far beyond it the position lies."""
    inclusive = (position + 1.0) * (size - 1.0) / 2.0
    index = inclusive if exact else ((position + 1.0) * size - 1.0) / 2.0
    index = jnp.clip(index, -1.0, size)
    low = jnp.minimum(jnp.floor(index), size - 1)
    return low.astype(jnp.int32) + 1, index - low
