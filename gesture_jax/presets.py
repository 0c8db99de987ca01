"""Presets: one config, shrunk in named ways."""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from gesture_jax.errors import InputError


def choose(preset: str, *, paper: Mapping[str, Any], **smaller: Mapping[str, Any]) -> ConfigDict:
    """The config of a preset.

    Args:
      preset: "paper", or a name among `smaller`.
      paper: the full config, with its `stage` and `preset`.
      **smaller: for each further preset what differs from it; a `model` with a `network` is another
        network's, and stands for itself.

    Raises:
      InputError: for an unknown preset.
    """
    config = ConfigDict(paper)
    if preset in smaller:
        if "network" in smaller[preset].get("model", {}):
            del config.model
        config.update(smaller[preset])
    elif preset != "paper":
        names = ", ".join(["paper", *smaller])
        raise InputError(f"unknown preset {preset!r} of {config.stage}; choose one of {names}")
    config.preset = preset
    return config
