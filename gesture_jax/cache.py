"""Where this machine keeps what is made or fetched once."""

import contextlib
import os
import pathlib


def cache_dir() -> pathlib.Path:
    """The user's cache folder of this package; may not exist yet."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return pathlib.Path(home) / "gesture_jax"


def keep_librosa_filters() -> None:
    """Lets librosa compute its filters once a machine, not once a call: half of what features cost.

    Comes before librosa is imported; the user's own settings of it win.
    """
    folder = cache_dir() / "librosa"
    with contextlib.suppress(OSError):  # Where nothing can be kept, all is computed each time.
        folder.mkdir(parents=True, exist_ok=True)
        os.environ.setdefault("LIBROSA_CACHE_DIR", str(folder))
        os.environ.setdefault("LIBROSA_CACHE_LEVEL", "10")  # Filters; above are sounds.
