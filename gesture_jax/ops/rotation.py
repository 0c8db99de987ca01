"""Rotations in the motion feature: bins to angles, angles to matrices and back.

Angles are (pitch, yaw, roll) in radians; R = Rx(pitch) Ry(yaw) Rz(roll), as in the reference.
A motion feature is g*g rotations, row-major, then the translation (x, y, z).
"""

import math

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Float

from gesture_jax.array_types import Array, Motion, typechecked

_DEGREES_PER_BIN = 3.0
# The reference's literal; one part in two thousand less than pi.
_PI = 3.14
_TRANSLATION = 3


@typechecked
def angles_from_logits(logits: Float[Array, "*b bins"]) -> Float[Array, "*b"]:
    """Expected angle of a distribution over bins of 3 degrees (Hopenet, Ruiz et al. 2018).

    Args:
      logits: [*b, bins].

    Returns:
      [*b] radians; for 66 bins within -99 to +96 degrees.
    """
    chex.assert_shape(logits, (..., None))
    chex.assert_type(logits, float)
    num_bins = logits.shape[-1]
    expected = jax.nn.softmax(logits, axis=-1) @ jnp.arange(num_bins, dtype=logits.dtype)
    degrees = _DEGREES_PER_BIN * (expected - num_bins / 2)
    return degrees / 180.0 * _PI


@typechecked
def matrix_from_angles(angles: Float[Array, "*b 3"]) -> Float[Array, "*b 3 3"]:
    """Rx(pitch) Ry(yaw) Rz(roll).

    Args:
      angles: [*b, 3], (pitch, yaw, roll) in radians.

    Returns:
      [*b, 3, 3] rotation matrices.
    """
    chex.assert_shape(angles, (..., 3))
    chex.assert_type(angles, float)
    (sp, sy, sr), (cp, cy, cr) = (jnp.unstack(fn(angles), axis=-1) for fn in (jnp.sin, jnp.cos))
    rows = [
        [cy * cr, -cy * sr, sy],
        [cp * sr + sp * sy * cr, cp * cr - sp * sy * sr, -sp * cy],
        [sp * sr - cp * sy * cr, sp * cr + cp * sy * sr, cp * cy],
    ]
    return jnp.stack([jnp.stack(row, axis=-1) for row in rows], axis=-2)


@typechecked
def angles_from_matrix(matrix: Float[Array, "*b 3 3"]) -> Float[Array, "*b 3"]:
    """The inverse of `matrix_from_angles` where yaw lies within +-90 degrees.

    Args:
      matrix: [*b, 3, 3] rotation matrices.

    Returns:
      [*b, 3], (pitch, yaw, roll) in radians.
    """
    chex.assert_shape(matrix, (..., 3, 3))
    chex.assert_type(matrix, float)
    cos_yaw = jnp.hypot(matrix[..., 0, 0], matrix[..., 0, 1])
    pitch = jnp.arctan2(-matrix[..., 1, 2], matrix[..., 2, 2])
    yaw = jnp.arctan2(matrix[..., 0, 2], cos_yaw)
    roll = jnp.arctan2(-matrix[..., 0, 1], matrix[..., 0, 0])
    return jnp.stack([pitch, yaw, roll], axis=-1)


@typechecked
def join_feature(matrices: Float[Array, "*b _ _ 3 3"], translation: Float[Array, "*b 3"]) -> Motion:
    """Joins [*b, g, g, 3, 3] and [*b, 3] to the motion feature [*b, 9 g^2 + 3]."""
    chex.assert_shape(translation, (..., 3))
    chex.assert_shape(matrices, (*translation.shape[:-1], None, None, 3, 3))
    chex.assert_type([matrices, translation], float)
    flat = matrices.reshape(*translation.shape[:-1], -1)
    return jnp.concatenate([flat, translation], axis=-1)


@typechecked
def split_feature(motion: Motion) -> tuple[Float[Array, "*b g g 3 3"], Float[Array, "*b 3"]]:
    """The inverse of `join_feature`."""
    chex.assert_shape(motion, (..., None))
    chex.assert_type(motion, float)
    cells, translation = motion[..., :-_TRANSLATION], motion[..., -_TRANSLATION:]
    grid = math.isqrt(cells.shape[-1] // 9)
    chex.assert_axis_dimension(cells, -1, 9 * grid**2)
    return cells.reshape(*motion.shape[:-1], grid, grid, 3, 3), translation


@typechecked
def retarget_feature(
    motion: Float[Array, "*#b d"], first: Float[Array, "*#b d"], own: Float[Array, "*#b d"]
) -> Float[Array, "... d"]:
    """The change from `first` to `motion`, applied to `own`: R R0^T R_own, t - t0 + t_own.

    Args:
      motion: [*b, 9 g^2 + 3].
      first: the same, where the motion began; leading axes broadcast.
      own: the same, where the result begins.

    Returns:
      [*b, 9 g^2 + 3], rotations where all three are; translations stay in [-1, 1].
    """
    (matrices, shift), (first_matrices, first_shift), (own_matrices, own_shift) = (
        split_feature(jnp.asarray(feature)) for feature in (motion, first, own)
    )
    turned = matrices @ jnp.swapaxes(first_matrices, -1, -2) @ own_matrices
    return join_feature(turned, jnp.clip(shift - first_shift + own_shift, -1.0, 1.0))


@typechecked
def matrix_to_angles_feature(motion: Motion) -> Float[Array, "*b _"]:
    """Converts rotations [*b, 9 g^2 + 3] to their angles [*b, 3 g^2 + 3]; translations stay."""
    matrices, translation = split_feature(jnp.asarray(motion))
    angles = angles_from_matrix(matrices)
    return jnp.concatenate([angles.reshape(*motion.shape[:-1], -1), translation], axis=-1)


@typechecked
def angles_to_matrix_feature(vector: Motion) -> Float[Array, "*b _"]:
    """The inverse of `matrix_to_angles_feature`; any angles give valid rotations."""
    chex.assert_shape(vector, (..., None))
    chex.assert_type(vector, float)
    angles, translation = vector[..., :-_TRANSLATION], vector[..., -_TRANSLATION:]
    grid = math.isqrt(angles.shape[-1] // 3)
    chex.assert_axis_dimension(angles, -1, 3 * grid**2)
    matrices = matrix_from_angles(angles.reshape(*vector.shape[:-1], grid, grid, 3))
    return join_feature(matrices, translation)


@typechecked
def scale_deviation(
    motion: Float[Array, "*#b d"], own: Float[Array, "*#b d"], scale: Float[Array, "*#b s"]
) -> Float[Array, "... d"]:
    """Moves a motion feature towards another one, angle by angle.

    Args:
      motion: [*b, 9 g^2 + 3].
      own: [9 g^2 + 3], the result for a scale of 0.
      scale: [*b, 3 g^2 + 3], factors of the angles and of the translation; 1 changes nothing.

    Returns:
      [*b, 9 g^2 + 3].
    """
    angles, own_angles = matrix_to_angles_feature(motion), matrix_to_angles_feature(own)
    chex.assert_axis_dimension(scale, -1, angles.shape[-1])
    chex.assert_type(scale, float)
    return angles_to_matrix_feature(own_angles + scale * (angles - own_angles))
