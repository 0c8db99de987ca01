"""Where this machine keeps what is made or fetched once."""

import os
import pathlib

# This environment variable names the folder of traced programs (`parallel/aot_cache.py`). Commands
# set it; where it is not set, none are kept.
TRACED_DIR = "GESTURE_JAX_TRACED_DIR"


def cache_dir() -> pathlib.Path:
    """The user's cache folder of this package; may not exist yet."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return pathlib.Path(home) / "gesture_jax"
