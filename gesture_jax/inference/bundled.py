"""The weights that come with the package: both stages of a preset.

They were trained on people who do not exist: photographs that move, and drawn people.
`weights/README.md` says how they are made and how good they are.
"""

import importlib.resources
import sys

from gesture_jax.errors import InputError
from gesture_jax.storage.files import is_file

PRESETS = ("photo", "demo")
"""For photographs, at any size from 256x256 pixels on: taken where nothing is asked for;
and for drawn people, at 64x64."""


def find(preset: str = PRESETS[0]) -> dict[str, str]:
    """The files of `stage1` and `stage2`, as `GestureGenerator.load(**find())` takes them.

    Raises:
      InputError: where this installation has none.
    """
    folder = importlib.resources.files("gesture_jax") / "weights"
    found = {stage: str(folder / f"{preset}_{stage}.safetensors") for stage in ("stage1", "stage2")}
    missing = [path for path in found.values() if not is_file(path)]
    if missing:
        raise InputError(
            f"{missing[0]}: no such file, so weights of your own are needed; train both stages "
            "and give --stage1=WORKDIR and --stage2=WORKDIR, or make the file by `make weights`"
        )
    return found


def choose(preset: str | None, *, stage1: str | None) -> dict[str, str]:
    """What a command takes whose user gave no stage 1, told on stderr; {} where there is one.

    Args:
      preset: which weights, the first by default.
      stage1: the one that was given, if any.

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
    """What has to be said to whoever gave no weights, in a line."""
    told = f"no weights were given: these are the bundled ones ({preset})"
    if preset == "demo":
        told += (
            ", which know drawn speakers only, so that a photograph will not look right; leave "
            "--preset out for photographs"
        )
    return told
