"""Rotations of the motion feature: bins to angles, angles to matrices and back.

Angles are (pitch, yaw, roll) in radians; R = Rx(pitch) Ry(yaw) Rz(roll), as in the reference.
A motion feature is g*g rotations, row-major, then the translation (x, y, z).
"""

import jax
import jax.numpy as jnp

from gesture_jax.array_types import Motion

_DEGREES_PER_BIN = 3.0
# The reference's literal; one part in two thousand less than pi.
_PI = 3.14
_TRANSLATION = 3


def angles_from_logits(logits: jax.Array) -> jax.Array:
    """Expected angle of a distribution over bins of 3 degrees (Hopenet, Ruiz et al. 2018).

    Args:
      logits: [*b, bins].

    Returns:
      [*b] radians; for 66 bins within -99 to +96 degrees.
    """
    num_bins = logits.shape[-1]
    expected = jax.nn.softmax(logits, axis=-1) @ jnp.arange(num_bins, dtype=logits.dtype)
    degrees = _DEGREES_PER_BIN * (expected - num_bins / 2)
    return degrees / 180.0 * _PI


def matrix_from_angles(angles: jax.Array) -> jax.Array:
    """Rx(pitch) Ry(yaw) Rz(roll).

    Args:
      angles: [*b, 3], (pitch, yaw, roll) in radians.

    Returns:
      [*b, 3, 3] rotation matrices.
    """
    (sp, sy, sr), (cp, cy, cr) = (jnp.unstack(fn(angles), axis=-1) for fn in (jnp.sin, jnp.cos))
    rows = [
        [cy * cr, -cy * sr, sy],
        [cp * sr + sp * sy * cr, cp * cr - sp * sy * sr, -sp * cy],
        [sp * sr - cp * sy * cr, sp * cr + cp * sy * sr, cp * cy],
    ]
    return jnp.stack([jnp.stack(row, axis=-1) for row in rows], axis=-2)


def angles_from_matrix(matrix: jax.Array) -> jax.Array:
    """The inverse of `matrix_from_angles` where yaw lies within +-90 degrees.

    Args:
      matrix: [*b, 3, 3] rotation matrices.

    Returns:
      [*b, 3], (pitch, yaw, roll) in radians.
    """
    cos_yaw = jnp.hypot(matrix[..., 0, 0], matrix[..., 0, 1])
    pitch = jnp.arctan2(-matrix[..., 1, 2], matrix[..., 2, 2])
    yaw = jnp.arctan2(matrix[..., 0, 2], cos_yaw)
    roll = jnp.arctan2(-matrix[..., 0, 1], matrix[..., 0, 0])
    return jnp.stack([pitch, yaw, roll], axis=-1)


def join_feature(matrices: jax.Array, translation: jax.Array) -> Motion:
    """[*b, g, g, 3, 3] and [*b, 3] to the motion feature [*b, 9 g^2 + 3]."""
    flat = matrices.reshape(*translation.shape[:-1], -1)
    return jnp.concatenate([flat, translation], axis=-1)


def split_feature(motion: Motion) -> tuple[jax.Array, jax.Array]:
    """The inverse of `join_feature`."""
    cells, translation = motion[..., :-_TRANSLATION], motion[..., -_TRANSLATION:]
    grid = round((cells.shape[-1] / 9) ** 0.5)
    return cells.reshape(*motion.shape[:-1], grid, grid, 3, 3), translation


def retarget_feature(motion: Motion, first: Motion, own: Motion) -> Motion:
    """The change from `first` to `motion`, applied to `own`: R R0^T R_own, t - t0 + t_own.

    Args:
      motion: [*b, 9 g^2 + 3].
      first: the same, where the motion began.
      own: the same, where the result begins.

    Returns:
      [*b, 9 g^2 + 3], rotations where all three are; translations stay in [-1, 1].
    """
    (matrices, shift), (first_matrices, first_shift), (own_matrices, own_shift) = (
        split_feature(jnp.asarray(feature)) for feature in (motion, first, own)
    )
    turned = matrices @ jnp.swapaxes(first_matrices, -1, -2) @ own_matrices
    return join_feature(turned, jnp.clip(shift - first_shift + own_shift, -1.0, 1.0))


def matrix_to_angles_feature(motion: Motion) -> jax.Array:
    """[*b, 9 g^2 + 3] of rotations to [*b, 3 g^2 + 3] of their angles; translations stay."""
    matrices, translation = split_feature(jnp.asarray(motion))
    angles = angles_from_matrix(matrices)
    return jnp.concatenate([angles.reshape(*motion.shape[:-1], -1), translation], axis=-1)


def angles_to_matrix_feature(vector: jax.Array) -> Motion:
    """The inverse of `matrix_to_angles_feature`; whatever the angles, the result is a rotation."""
    angles, translation = vector[..., :-_TRANSLATION], vector[..., -_TRANSLATION:]
    matrices = matrix_from_angles(angles.reshape(*vector.shape[:-1], -1, 3))
    return join_feature(matrices, translation)


def scale_deviation(motion: Motion, own: Motion, scale: jax.Array) -> Motion:
    """Moves a motion feature towards another one, angle by angle.

    Args:
      motion: [*b, 9 g^2 + 3].
      own: [9 g^2 + 3], where a scale of 0 ends.
      scale: [*b, 3 g^2 + 3], of the angles and of the translation; 1 leaves them as they are.

    Returns:
      [*b, 9 g^2 + 3].
    """
    angles, own_angles = matrix_to_angles_feature(motion), matrix_to_angles_feature(own)
    return angles_to_matrix_feature(own_angles + scale * (angles - own_angles))
