"""Presets: one config, shrunk in named ways; and where the files of presets are."""

import importlib.resources
import os
import runpy
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from gesture_jax.errors import InputError


def find(path: str) -> str:
    """Finds a config file: from this folder, or `configs/NAME.py` of this installation.

    Raises:
      InputError: for a file that does not exist.
    """
    return path if os.path.exists(path) else find_installed(path)


def find_installed(path: str) -> str:
    """Finds `configs/NAME.py` of this installation; raises like `find`."""
    package = importlib.resources.files("gesture_jax")
    for folder in (str(package), os.path.dirname(str(package))):  # Of a wheel, and of a checkout.
        found = os.path.join(folder, *path.split("/"))
        if path in ("configs/stage1.py", "configs/stage2.py") and os.path.exists(found):
            return found
    raise InputError(f"{path}: no such config; configs/stage1.py and configs/stage2.py exist")


def load(path: str) -> ConfigDict:
    """The config of "FILE.py:PRESET", or of "FILE.py" by its own default.

    A config of your own can begin with one of ours: `presets.load("configs/stage1.py:demo")`. Like
    `--config`, this runs the file.

    Raises:
      InputError: for a file that does not exist, or an unknown preset.
    """
    name, *preset = path.split(":", 1)
    return runpy.run_path(find(name))["get_config"](*preset)


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
