"""Places the arrays of PyTorch checkpoints in Flax variables; all must be there and must fit."""

from collections.abc import Mapping
from typing import Any

import flax
import jax
import jax.numpy as jnp
import numpy as np

from gesture_jax.errors import InputError
from gesture_jax.models.denoiser import MotionDenoiser
from gesture_jax.models.deviation import DeviationModel
from gesture_jax.pretrained import torch_names

_MAX_NAMED = 5


def deviation_variables(state_dict: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Returns the variables of the default `DeviationModel` from the reference's 651 arrays.

    Raises:
      InputError: naming the arrays that are missing, left over or misshapen.
    """
    model = DeviationModel()
    image = jax.ShapeDtypeStruct((1, model.resolution, model.resolution, 3), jnp.float32)
    abstract = jax.eval_shape(model.init, jax.random.key(0), image, image)
    return place(state_dict, torch_names.deviation_table(), abstract)


def denoiser_params(model: MotionDenoiser, state_dict: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Returns the parameters of a `MotionDenoiser` from S2G-MDDiffusion's 238 arrays.

    Raises:
      InputError: naming the arrays that are missing, left over or misshapen.
    """
    table = torch_names.denoiser_table(model.num_layers, model.num_speech_layers)
    abstract = jax.eval_shape(model.init_variables, jax.random.key(0))
    return place(state_dict, table, abstract)["params"]


def place(state_dict: Mapping[str, np.ndarray], table: torch_names.Table, abstract: Any) -> Any:
    """Returns the tree of `abstract` filled with the arrays, all of which must be there and fit.

    Raises:
      InputError: naming the arrays that are missing, left over or misshapen.
    """
    wanted = flax.traverse_util.flatten_dict(abstract)
    placed: dict[tuple[str, ...], np.ndarray] = {}
    misshapen = []
    for name, targets in table.items():
        for target in targets if name in state_dict else ():
            key = (target.collection, *target.path)
            array = np.asarray(state_dict[name])
            try:
                placed[key] = np.asarray(target.layout(array), wanted[key].dtype)
            except ValueError:  # The number of axes is wrong.
                placed[key] = array
            if placed[key].shape != wanted[key].shape:
                misshapen.append(f"{name} {array.shape}")
    complaints = {
        "missing": [name for name in table if name not in state_dict],
        "left over": [name for name in state_dict if name not in table],
        "misshapen": misshapen,
    }
    sentences = [_complain(kind, names) for kind, names in complaints.items() if names]
    if sentences:
        raise InputError(
            f"not the weights of this network ({len(table)} arrays wanted): " + "; ".join(sentences)
        )
    return flax.traverse_util.unflatten_dict(placed)


def _complain(kind: str, names: list[str]) -> str:
    more = f" and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else ""
    return f"{len(names)} {kind}: {', '.join(names[:_MAX_NAMED])}{more}"
