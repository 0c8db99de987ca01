"""The folder on this machine for results that are computed or downloaded once."""

import os
import pathlib

# This environment variable names the folder of traced programs (`parallel/aot_cache.py`). Commands
# set it; without it, traced programs are not kept.
TRACED_DIR = "GESTURE_JAX_TRACED_DIR"


def cache_dir() -> pathlib.Path:
    """Returns the user's cache folder for this package, which may not exist yet."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return pathlib.Path(home) / "gesture_jax"
