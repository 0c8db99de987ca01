"""Config keys and flags that were renamed. The old names keep working for one version.

On a command line and in a user's config file an old name works and prints a notice on stderr. In
the configs of saved runs and packed weights it is replaced silently.
"""

import re
import sys
from collections.abc import Sequence
from typing import Any

from absl import flags
from ml_collections import ConfigDict

KEYS = {
    "pace": "schedule",
    "stream_pace": "stream_schedule",
    "speaker_manners": "speaker_conditioning",
    "model.seen_width": "model.warp_feature_width",
    "loss.masks": "loss.mask_smoothness",
    "loss.time_power": "loss.timestep_power",
}
"""Old config keys and their new names. Only the last part of a key may change."""
FLAGS = {
    "clips": "clips_per_portrait",
    "crop_px": "border_px",
    "split_ends": "split_within_clips",
}
"""Old flags and their new names."""


def upgrade(tree: Any, prefix: str = "") -> Any:
    """Renames the old keys in a config that is a nested dict, such as the content of config.json.

    Where a key is there by both names, the values of the old one win.

    Args:
      tree: the config, or a part of it; anything but a dict is returned as it is.
      prefix: the dotted key of the part, with a dot at its end.
    """
    if not isinstance(tree, dict):
        return tree
    upgraded: dict[str, Any] = {}
    for key in sorted(tree, key=lambda key: prefix + key in KEYS):  # Old names come last.
        new = KEYS.get(prefix + key, prefix + key)[len(prefix) :]
        value = upgrade(tree[key], f"{prefix}{key}.")
        if isinstance(value, dict) and isinstance(upgraded.get(new), dict):
            value = upgraded[new] | value
        upgraded[new] = value
    return upgraded


def upgrade_config(config: ConfigDict) -> ConfigDict:
    """Renames the old keys of a user's config, with a notice for each."""
    found = [key for key in KEYS if _contains(config, key)]
    for key in found:
        _notify(f"config.{key}", f"config.{KEYS[key]}")
    return ConfigDict(upgrade(config.to_dict())) if found else config


def upgrade_arguments(arguments: Sequence[str]) -> list[str]:
    """Renames old flags, and old keys in overrides such as `--config.pace.hop=5`, with notices.

    A flag is renamed only where the running command defines the new one and not the old one.
    """
    return [_upgrade_argument(argument) for argument in arguments]


def _upgrade_argument(argument: str) -> str:
    match = re.fullmatch(r"(--?)([^=]+)(=.*)?", argument, re.DOTALL)
    if not match:
        return argument
    dashes, name, value = match[1], match[2], match[3] or ""
    new = _new_override(name) if name.startswith("config.") else _new_flag(name)
    if new != name:
        _notify(name, new)
    return dashes + new + value


def _new_override(name: str) -> str:
    key = name.removeprefix("config.")
    for old, new in KEYS.items():
        if key == old or key.startswith(f"{old}."):
            return f"config.{new}{key.removeprefix(old)}"
    return name


def _new_flag(name: str) -> str:
    for negation in ("", "no"):
        old = name.removeprefix(negation)
        new = FLAGS.get(old)
        if name == negation + old and new in flags.FLAGS and old not in flags.FLAGS:
            return negation + new
    return name


def _contains(config: ConfigDict, key: str) -> bool:
    *sections, name = key.split(".")
    for section in sections:
        config = config.get(section, {})
    return name in config


def _notify(old: str, new: str) -> None:
    print(f"--{old} is now --{new}; the old name still works in this version", file=sys.stderr)
