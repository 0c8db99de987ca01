"""A number for each array of a checkpoint, by which damage is known; computed where arrays lie."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

_KEY = "fingerprints"


class ChangedError(ValueError):
    """Arrays are not those that were saved."""


def describe(arrays: Mapping[str, Any]) -> dict[str, dict[str, int]]:
    """What to keep beside arrays, JSON-ready: any change of one of their numbers changes it."""
    return {_KEY: _fingerprints(arrays)}


def check(arrays: Mapping[str, Any], saved: Mapping[str, Any] | None) -> None:
    """Compares with what `describe` gave when they were saved; it gave nothing in older times.

    Raises:
      ChangedError: where arrays have changed.
    """
    if not saved:
        return
    found = _fingerprints(arrays)
    wrong = [name for name, number in found.items() if saved[_KEY].get(name) != number]
    if wrong:
        raise ChangedError(f"{len(wrong)} of {len(found)} arrays have changed, first {wrong[0]}")


def _fingerprints(arrays: Mapping[str, Any]) -> dict[str, int]:
    # A device would see 32 of the 64 bits of a position in the data.
    halve = lambda x: np.ravel(x).view(np.uint32) if x.dtype == np.int64 else x
    return {name: int(_fingerprint(halve(array))) for name, array in arrays.items()}


@jax.jit
def _fingerprint(array: jax.Array) -> jax.Array:
    """Sum of the hashes of all places and what is there, modulo 2^32: the same however it lies."""
    array = array.astype(jnp.uint8) if array.dtype == bool else array
    bits = jax.lax.bitcast_convert_type(array, f"uint{8 * array.dtype.itemsize}").astype(jnp.uint32)
    place = jnp.zeros(array.shape, jnp.uint32)
    for axis, length in enumerate(array.shape):
        place = place * np.uint32(length) + jax.lax.broadcasted_iota(jnp.uint32, array.shape, axis)
    mixed = bits ^ (place * np.uint32(0x9E3779B1))
    # Steps of MurmurHash3, each of which loses nothing: no two values at a place look alike.
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35), (16, 1)):
        mixed = (mixed ^ (mixed >> shift)) * np.uint32(factor)
    return mixed.sum(dtype=jnp.uint32)
