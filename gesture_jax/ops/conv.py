"""The convolutions of the networks: XLA's own, except for those that are faster on CPUs.

Both functions can replace `lax.conv_general_dilated` in `nn.Conv`, by its attribute of that name.
`gesture_jax.ops.cpu.conv` decides which convolutions are not XLA's, and says why.
"""

import math

import chex
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Float

from gesture_jax.array_types import Array, typechecked
from gesture_jax.ops import image, remat
from gesture_jax.ops.cpu import conv as cpu_conv
from gesture_jax.ops.cpu import winograd

# Maps of fewer pixels are enlarged before they are convolved: for them, building four kernels moves
# more bytes than it saves products.
_MIN_PIXELS = 256
# How a 3x3 kernel on a map of twice the size reads the rows of the small map: at even rows it reads
# the row before and its own row, at odd rows its own row and the next one.
_PHASES = np.array([[1, 0, 0], [0, 1, 1], [1, 1, 0], [0, 0, 1]], np.float32)


@typechecked
def conv_general_dilated(
    x: Float[Array, "..."], kernel: Float[Array, "..."], window_strides, padding, **options
) -> Float[Array, "..."]:
    """`lax.conv_general_dilated`, by the fastest method on the device."""
    chex.assert_equal_rank([x, kernel])
    chex.assert_type([x, kernel], float)
    zeros = cpu_conv.find_uniform_padding(x, kernel, window_strides, padding, **options)
    if zeros is None:
        result = lax.conv_general_dilated(x, kernel, window_strides, padding, **options)
    else:
        result = cpu_conv.convolve(x, kernel, zeros)
    return remat.product(result)


@typechecked
def conv_upsampled(
    x: Float[Array, "b h w c"], kernel: Float[Array, "3 3 c o"], window_strides, padding, **options
) -> Float[Array, "b 2*h 2*w o"]:
    """Convolves a map that is first enlarged to twice its size by the nearest neighbour.

    A 3x3 kernel sees two rows and two columns of the small map at each position. So four kernels of
    2x2, one each for even and odd rows and columns, need 16 products instead of 36, and the large
    map is never built. The smallest maps are an exception: their kernels are larger than they are.

    Args:
      x: [b, h, w, c].
      kernel: [3, 3, c, o].
      window_strides: all 1, and so are dilations.
      padding: one zero on all sides of the enlarged map.
      **options: those of `lax.conv_general_dilated`, without groups.

    Returns:
      [b, 2h, 2w, o].
    """
    chex.assert_rank([x, kernel], 4)
    chex.assert_axis_dimension(kernel, 2, x.shape[3])
    chex.assert_type([x, kernel], float)
    if kernel.shape[:2] != (3, 3) or cpu_conv.find_equal_sides(kernel, padding) != 1:
        raise ValueError(f"a 3x3 kernel padded by one is needed, not {kernel.shape}, {padding}")
    if math.prod(x.shape[:3]) < _MIN_PIXELS:
        wide = image.upsample_nearest(x)
        return conv_general_dilated(wide, kernel, window_strides, padding, **options)
    taps = winograd.both_ways(_PHASES, kernel)
    phases = [(row, column) for row in (0, 1) for column in (0, 1)]
    join = lambda p, q: jnp.concatenate([taps[2 * i + p][2 * j + q] for i, j in phases], axis=-1)
    kernels = jnp.stack([jnp.stack([join(p, q) for q in (0, 1)]) for p in (0, 1)])
    all_four = conv_general_dilated(x, kernels, window_strides, [(1, 1), (1, 1)], **options)
    batch, height, width, _ = x.shape
    # Even rows look back and odd rows ahead, so row i of an odd phase starts one row later.
    parts = [
        part[:, row : row + height, column : column + width]
        for part, (row, column) in zip(jnp.split(all_four, 4, axis=-1), phases, strict=True)
    ]
    rows = [jnp.stack(parts[:2], axis=3), jnp.stack(parts[2:], axis=3)]
    return jnp.stack(rows, axis=2).reshape(batch, 2 * height, 2 * width, -1)
