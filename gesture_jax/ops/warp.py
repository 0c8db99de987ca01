"""Warps: a volume is sampled at positions given by a field of 3x3 matrices and one translation.

`deviation_warp` is the reference's warp, in three dimensions. `exact_deviation_warp` is the same
without its misfit of half a cell. `flow_warp` takes the same field as a plain displacement of each
cell: it is the exact identity where the field is zero, and far easier to learn.

Each sample of the first two has eight neighbours in the volume. CPUs and GPUs read these one by
one. A TPU would read a whole tile of 4 kB for each, and the warp alone would take many times as
long as all convolutions (benchmarks/README.md). So samples that are neighbours in depth read one
slab of the volume together there.
"""

import functools
import itertools

import chex
import flax
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from gesture_jax.array_types import Array, FeatureMap, typechecked

Volume = Float[Array, "b h w d"]
Field = Float[Array, "b h w 3 3"]
Translation = Float[Array, "b 3"]


@typechecked
def deviation_warp(volume: Volume, field: Field, translation: Translation) -> Volume:
    """Samples V at (I + M) g + t, trilinearly, zero outside.

    The channels of V are the depth axis of the volume. g is the grid point, (x, y, z) along width,
    height and depth, each from -1 to 1 inclusive; yet a position p in [-1, 1] reads index
    ((p + 1) N - 1) / 2. So a zero field is not quite the identity. This is the reference's
    arithmetic (reference 2.6), which its weights need.

    Args:
      volume: [b, h, w, d].
      field: [b, h, w, 3, 3], the deviation M of each cell, the same at all depths; from -1 to 1.
      translation: [b, 3], t.

    Returns:
      [b, h, w, d], of the volume's dtype.
    """
    _check_arguments(volume, field, translation)
    return _warp(volume, field, translation, False)


@typechecked
def exact_deviation_warp(volume: Volume, field: Field, translation: Translation) -> Volume:
    """`deviation_warp`, but the identity where field and translation are zero.

    A position p reads index (p + 1) (N - 1) / 2, so that -1 and 1 are the first and last cells'
    centres.
    """
    _check_arguments(volume, field, translation)
    return _warp(volume, field, translation, True)


@typechecked
def flow_warp(volume: Volume, field: Field, translation: Translation) -> Volume:
    """Samples V, all channels alike, at (x, y) + M[:2, 2] + t[:2], bilinearly.

    Beyond the border it reads the border's values.

    Args:
      volume: [b, h, w, d].
      field: [b, h, w, 3, 3]; the last column of M is the displacement, in units where the frame
        reaches from -1 to 1.
      translation: [b, 3], t.

    Returns:
      [b, h, w, d], of the volume's dtype.
    """
    _check_arguments(volume, field, translation)
    return jax.vmap(_flow_one)(volume, field, translation)


def _check_arguments(volume: Volume, field: Field, translation: Translation) -> None:
    chex.assert_rank(volume, 4)
    chex.assert_shape(field, (*volume.shape[:3], 3, 3))
    chex.assert_shape(translation, (len(volume), 3))
    chex.assert_type([volume, field, translation], float)


@typechecked
def displace(x: Float[Array, "b h w c"], flow: Float[Array, "b h w 2"]) -> Float[Array, "b h w c"]:
    """Reads a map at displaced positions, bilinearly.

    Beyond the border it reads the border's values.
    The centre of row i of n lies at (2 i + 1) / n - 1, so that a flow means the same at every size:
    enlarged together with a picture, it moves the picture in the same way.

    Args:
      x: [b, h, w, c].
      flow: [b, h, w, 2], displacements (x, y) from each pixel to the position that is read, in
        units where the map reaches from -1 to 1.

    Returns:
      [b, h, w, c], of the dtype of `x`.
    """
    chex.assert_rank(x, 4)
    chex.assert_type(x, float)
    places = find_places(flow)
    chex.assert_shape(places.index, x.shape[:3])
    return jax.vmap(_read_bilinear)(x, places).astype(x.dtype)


@flax.struct.dataclass
class Places:
    """Positions at which a map is read, each between four pixels.

    Attributes:
      index: [*b, h, w] int32, which pixel, row by row, is the upper left one of the four.
      down: [*b, h, w, 1] in [0, 1], how far below that pixel the position lies.
      right: [*b, h, w, 1] in [0, 1], how far to its right the position lies.
    """

    index: jax.Array
    down: jax.Array
    right: jax.Array

    @classmethod
    def at(cls, rows: jax.Array, columns: jax.Array, height: int, width: int) -> "Places":
        """The positions with these rows and columns, moved into a map of this size."""
        return _places(rows, columns, height, width)

    def rows(self, width: int) -> jax.Array:
        """Returns the rows of the positions in a map of this width, [*b, h, w] float32."""
        return self.index // width + self.down[..., 0]

    def columns(self, width: int) -> jax.Array:
        """Returns the columns of the positions in a map of this width, [*b, h, w] float32."""
        return self.index % width + self.right[..., 0]


@typechecked
def find_places(flow: Float[Array, "b h w 2"]) -> Places:
    """The positions at which `displace` reads a map for a flow [b, h, w, 2]."""
    chex.assert_shape(flow, (None, None, None, 2))
    chex.assert_type(flow, float)
    height, width = flow.shape[1:3]
    flow = flow.astype(jnp.float32)
    columns = jnp.arange(width)[None, :] + flow[..., 0] * (width / 2)
    rows = jnp.arange(height)[:, None] + flow[..., 1] * (height / 2)
    return _places(rows, columns, height, width)


def move_places(places: Places, right: jax.Array, down: jax.Array, side: int) -> Places:
    """Moves positions [*b, h, w] in a square map by pixels, to the right and down."""
    return Places.at(places.rows(side) + down, places.columns(side) + right, side, side)


@typechecked
def with_differences(x: FeatureMap) -> Float[Array, "*b h w 4*c"]:
    """Appends to a map [*b, h, w, c] the differences that `read_bicubic` needs: [*b, h, w, 4 c].

    These are its second differences down, across, and down of those across. Beyond the border the
    map has the border's values.
    """
    chex.assert_shape(x, (..., None, None, None))
    chex.assert_type(x, float)
    down, across = _second_difference(x, -3), _second_difference(x, -2)
    return jnp.concatenate([x, down, across, _second_difference(down, -2)], axis=-1)


@typechecked
def read_bicubic(x: Float[Array, "h w c"], places: Places) -> Float[Array, "*b c//4"]:
    """Reads a map bicubically: bilinear reading blurs whatever moves.

    Along one axis, Catmull-Rom interpolation at a share t between two pixels is linear
    interpolation minus t (1 - t) / 2 times the second difference, interpolated linearly too.

    Args:
      x: [h, w, 4 c], of `with_differences`.
      places: the positions, [b, h, w].

    Returns:
      [b, h, w, c].
    """
    chex.assert_rank(x, 3)
    chex.assert_is_divisible(x.shape[2], 4)
    plain, down, across, both = jnp.split(read_bilinear(x, places), 4, axis=-1)
    y, x = (part * (1.0 - part) / 2.0 for part in (places.down, places.right))
    return plain - y * down - x * across + y * x * both


@typechecked
def read_bilinear(x: Float[Array, "h w c"], places: Places) -> Float[Array, "*b c"]:
    """Reads a map [h, w, c] bilinearly at positions [b, h, w], like `displace`: [b, h, w, c]."""
    chex.assert_rank(x, 3)
    chex.assert_type(x, float)
    return _read_bilinear(x, places)


def _read_bilinear(x: jax.Array, places: Places) -> jax.Array:
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


def _flow_one(volume: jax.Array, field: jax.Array, translation: jax.Array) -> jax.Array:
    height, width, _ = volume.shape
    shift = field[..., 2].astype(jnp.float32) + translation
    x, y = jnp.linspace(-1.0, 1.0, width), jnp.linspace(-1.0, 1.0, height)
    columns = (x[None, :] + shift[..., 0] + 1.0) / 2.0 * (width - 1)
    rows = (y[:, None] + shift[..., 1] + 1.0) / 2.0 * (height - 1)
    return _read_bilinear(volume, _places(rows, columns, height, width)).astype(volume.dtype)


def _places(rows: jax.Array, columns: jax.Array, height: int, width: int) -> Places:
    """Positions counted in cells from the first row and column, moved into the map."""
    row, down = _between_cells(rows, height)
    column, right = _between_cells(columns, width)
    return Places(row * width + column, down, right)


def _between_cells(index: jax.Array, size: int) -> tuple[jax.Array, jax.Array]:
    """The cell before a position among `size` cells, and how far beyond that cell it lies."""
    index = jnp.clip(index, 0.0, size - 1)
    low = jnp.minimum(jnp.floor(index), size - 2).astype(jnp.int32)
    return low, (index - low)[..., None]


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def _warp(volume, field, translation, exact: bool):
    """Picks the method that suits the device; the gradient keeps nothing but the inputs."""
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
    """Maps over a batch, so that an example reads from its own volume only.

    A gather over the whole batch would make a sharded program copy all volumes to every device.
    """
    return jax.vmap(functools.partial(way, exact=exact))


def _by_corners(volume, field, translation, *, exact: bool) -> jax.Array:
    """Reads eight single numbers for each sample."""
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
    """Reads a slab of 3 x 3 x (2 n + 2) for each block of n samples that are neighbours in depth.

    While the field is within [-1, 1], the samples of a block lie within one cell in the plane and
    within two cells for each sample in depth, so that the slab has all their neighbours.
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
    # The position of each sample in its slab; planes are weighted by a hat around it.
    pairs = zip(low, starts, fraction, strict=True)
    within = [index - start[:, None] + part for index, start, part in pairs]
    hats = lambda axis: [_hat(within[axis] - plane)[..., None] for plane in range(3)]
    columns = itertools.product(enumerate(hats(1)), enumerate(hats(0)))
    line = sum(by_y * by_x * slabs[:, :, y, x] for (y, by_y), (x, by_x) in columns)
    depths = _hat(within[2][..., None] - jnp.arange(reach[2]))
    return (line * depths).sum(axis=-1).reshape(height, width, depth).astype(volume.dtype)


def _block_size(shape: tuple[int, int, int]) -> int:
    """The largest divisor of the depth for which a block stays within one cell of the plane."""
    height, width, depth = shape
    cells_per_sample = max(height, width) / max(depth - 1, 1)  # The maximum.
    fits = lambda count: depth % count == 0 and (count - 1) * cells_per_sample < 1.0 - 1e-3
    return max(filter(fits, range(1, depth + 1)))


def _hat(distance: jax.Array) -> jax.Array:
    """The weight that linear interpolation gives a neighbour at a distance in cells."""
    return jnp.maximum(1.0 - jnp.abs(distance), 0.0)


def _with_outside(volume: jax.Array) -> jax.Array:
    """Pads by one cell of zeros on all sides, which stands for everything outside."""
    return jnp.pad(volume, 1)


def _neighbours(shape, field, translation, *, exact: bool) -> tuple[list[jax.Array], ...]:
    """The lower neighbour of each sample, and the distance to it; [h, w, d] for each of x, y, z."""
    height, width, depth = shape
    positions = _positions(shape, field, translation)
    sizes = width, height, depth
    cells = [_cell(p, n, exact=exact) for p, n in zip(positions, sizes, strict=True)]
    low, fraction = zip(*cells, strict=True)
    return list(low), list(fraction)


def _positions(shape, field: jax.Array, translation: jax.Array) -> list[jax.Array]:
    """x, y and z in [-1, 1] of every sample, each [h, w, d].

    Samples of one cell of the plane lie on a straight line, so a base and a step suffice.
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
    """The index of the lower neighbour in the padded axis, and the distance beyond it."""
    inclusive = (position + 1.0) * (size - 1.0) / 2.0
    index = inclusive if exact else ((position + 1.0) * size - 1.0) / 2.0
    index = jnp.clip(index, -1.0, size)
    low = jnp.minimum(jnp.floor(index), size - 1)
    return low.astype(jnp.int32) + 1, index - low
