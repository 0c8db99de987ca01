"""Builds the networks of stage 1 from the names that configs use."""

from typing import Any

from gesture_jax.errors import InputError
from gesture_jax.models.base import BaseModel
from gesture_jax.models.compact import CompactModel
from gesture_jax.models.deviation import DeviationModel
from gesture_jax.models.layered import LayeredModel

NETWORKS = {"reference": DeviationModel, "compact": CompactModel, "layered": LayeredModel}


def build_model(*, network: str = "reference", **options: Any) -> BaseModel:
    """Builds the network that the section `model` of a config describes.

    Args:
      network: "reference", "compact" or "layered".
      **options: attributes of `DeviationModel`, `CompactModel` or `LayeredModel`.

    Raises:
      InputError: for an unknown network, an option that it does not have, or sizes that do not fit.
    """
    if network not in NETWORKS:
        raise InputError(f"unknown network {network!r}; choose {' or '.join(NETWORKS)}")
    network_class = NETWORKS[network]
    unknown = sorted(options.keys() - network_class.__dataclass_fields__.keys())
    if unknown:
        raise InputError(f"the {network} network has no {unknown[0]}")
    return network_class(**options)
