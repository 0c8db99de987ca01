"""Fingerprints of the arrays of a checkpoint, which reveal damage; computed on the device."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

_KEY = "fingerprints"


class ChangedError(ValueError):
    """The arrays are not those that were saved."""


def describe(arrays: Mapping[str, Any]) -> dict[str, dict[str, int]]:
    """Returns the fingerprints by array, as JSON values for a checkpoint's metadata.

    A change of a single value of an array always changes its fingerprint.
    """
    return {_KEY: _fingerprints(arrays)}


def check(arrays: Mapping[str, Any], saved: Mapping[str, Any] | None) -> None:
    """Compares arrays with the result of `describe` when they were saved.

    Args:
      arrays: by name.
      saved: that result; None for older checkpoints, which have none.

    Raises:
      ChangedError: where an array has changed.
    """
    if not saved:
        return
    found = _fingerprints(arrays)
    wrong = [name for name, number in found.items() if saved[_KEY].get(name) != number]
    if wrong:
        raise ChangedError(f"{len(wrong)} of {len(found)} arrays have changed, first {wrong[0]}")


def _fingerprints(arrays: Mapping[str, Any]) -> dict[str, int]:
    # JAX would drop 32 of the 64 bits of a position in the data.
    halve = lambda x: np.ravel(x).view(np.uint32) if x.dtype == np.int64 else x
    return {name: int(_fingerprint(halve(array))) for name, array in arrays.items()}


@jax.jit
def _fingerprint(array: jax.Array) -> jax.Array:
    """Returns the sum modulo 2^32 of a hash of each value and its index, for any sharding."""
    array = array.astype(jnp.uint8) if array.dtype == bool else array
    bits = jax.lax.bitcast_convert_type(array, f"uint{8 * array.dtype.itemsize}").astype(jnp.uint32)
    index = jnp.zeros(array.shape, jnp.uint32)
    for axis, length in enumerate(array.shape):
        index = index * np.uint32(length) + jax.lax.broadcasted_iota(jnp.uint32, array.shape, axis)
    mixed = bits ^ (index * np.uint32(0x9E3779B1))
    # These steps of MurmurHash3 are invertible: two values at the same index never share a hash.
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35), (16, 1)):
        mixed = (mixed ^ (mixed >> shift)) * np.uint32(factor)
    return mixed.sum(dtype=jnp.uint32)
