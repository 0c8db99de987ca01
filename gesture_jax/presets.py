"""Presets are named, smaller versions of one config. This module finds and loads them."""

import importlib.resources
import os
import runpy
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from gesture_jax.errors import InputError


def find(path: str) -> str:
    """Finds a config file, in the current folder or among `configs/NAME.py` of this installation.

    Raises:
      InputError: for a file that does not exist.
    """
    return path if os.path.exists(path) else find_installed(path)


def find_installed(path: str) -> str:
    """Finds `configs/NAME.py` of this installation; raises like `find`."""
    package = importlib.resources.files("gesture_jax")
    for folder in (str(package), os.path.dirname(str(package))):  # In a wheel, and in a checkout.
        found = os.path.join(folder, *path.split("/"))
        if path in ("configs/stage1.py", "configs/stage2.py") and os.path.exists(found):
            return found
    raise InputError(f"{path}: no such config; configs/stage1.py and configs/stage2.py exist")


def load(path: str) -> ConfigDict:
    """Loads "FILE.py:PRESET", or the default preset of "FILE.py".

    Your own config file can start from one of these: `presets.load("configs/stage1.py:demo")`. Like
    `--config`, this runs the file.

    Raises:
      InputError: for a file that does not exist, or an unknown preset.
    """
    name, *preset = path.split(":", 1)
    return runpy.run_path(find(name))["get_config"](*preset)


def choose(preset: str, *, paper: Mapping[str, Any], **smaller: Mapping[str, Any]) -> ConfigDict:
    """Makes the config of a preset.

    Args:
      preset: "paper", or a name among `smaller`.
      paper: the full config, with its `stage` and `preset`.
      **smaller: the values of each further preset that differ from `paper`; a `model` that names a
        `network` replaces the whole model section.

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
