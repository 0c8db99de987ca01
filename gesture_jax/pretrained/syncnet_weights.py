"""Loads SyncNet from a user's file of weights, without PyTorch."""

import os
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gesture_jax.errors import InputError
from gesture_jax.models.syncnet import NUM_COEFFICIENTS, NUM_FRAMES, NUM_STEPS, SIZE_PX, SyncNet
from gesture_jax.pretrained import torch_checkpoint, torch_names, torch_weights


def load(path: str | os.PathLike) -> dict[str, Any]:
    """Returns the variables of `SyncNet` from its authors' PyTorch file, `syncnet_v2.model`.

    Raises:
      InputError: where the file is missing, damaged or holds another network.
    """
    try:
        return syncnet_variables(torch_checkpoint.read_checkpoint(path))
    except InputError as error:
        if str(path) in str(error):
            raise
        raise InputError(f"{path}: {error}; give SyncNet's syncnet_v2.model") from error


def syncnet_variables(state_dict: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Returns the variables from a state dict.

    Raises:
      InputError: naming the arrays that are missing, left over or misshapen.
    """
    # Versions of PyTorch before 0.4.1 wrote no such counts.
    wanted = {n: a for n, a in state_dict.items() if not n.endswith(".num_batches_tracked")}
    faces = jax.ShapeDtypeStruct((1, NUM_FRAMES, SIZE_PX, SIZE_PX, 3), jnp.float32)
    mfcc = jax.ShapeDtypeStruct((1, NUM_STEPS, NUM_COEFFICIENTS), jnp.float32)
    abstract = jax.eval_shape(SyncNet().init, jax.random.key(0), faces, mfcc)
    return torch_weights.place(wanted, torch_names.syncnet_table(), abstract)
