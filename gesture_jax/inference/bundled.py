"""The weights that come with the package: both stages of each preset.

They were trained on people who do not exist: photographs made to move, and drawn people.
`weights/README.md` says how they were made and how good they are.
"""

import importlib.resources
import sys

from gesture_jax.errors import InputError
from gesture_jax.storage.files import is_file

PRESETS = ("photo", "demo")
"""`photo`, the default, is for photographs, at any size from 256x256 pixels on; `demo` is for drawn
people, at 64x64."""


def find(preset: str = PRESETS[0]) -> dict[str, str]:
    """Finds the files `stage1` and `stage2`, as `GestureGenerator.load(**find())` takes them.

    Raises:
      InputError: where this installation has no such weights.
    """
    folder = importlib.resources.files("gesture_jax") / "weights"
    found = {stage: str(folder / f"{preset}_{stage}.safetensors") for stage in ("stage1", "stage2")}
    missing = [path for path in found.values() if not is_file(path)]
    if missing:
        raise InputError(
            f"{missing[0]}: no such file, so you need weights of your own; train both stages "
            "and give --stage1=WORKDIR and --stage2=WORKDIR, or make the file with `make weights`"
        )
    return found


def choose(preset: str | None, *, stage1: str | None) -> dict[str, str]:
    """Finds the weights of a command without --stage1, and says so on stderr; {} with --stage1.

    Args:
      preset: which weights, the first by default.
      stage1: the value of --stage1, if there is one.

    Raises:
      InputError: where both are given, or this installation has no weights.
    """
    if stage1 is not None:
        if preset is not None:
            raise InputError("--preset chooses among bundled weights; drop it, or --stage1")
        return {}
    preset = preset or PRESETS[0]
    found = find(preset)
    print(warning(preset), file=sys.stderr)
    return found


def warning(preset: str) -> str:
    """The message for a user who gave no weights, one line."""
    message = f"no weights were given; using the bundled ones ({preset})"
    if preset == "demo":
        message += (
            ", which know drawn people only, so that a photograph will not look right; leave "
            "--preset out for photographs"
        )
    return message
