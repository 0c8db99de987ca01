"""What a user's folder holds: which of its files are videos, and what is not used."""

import collections
import os
import pathlib
from collections.abc import Iterable, Mapping

VIDEO_ENDINGS = (
    ".mp4", ".m4v", ".mov", ".3gp", ".3g2", ".mkv", ".webm", ".avi", ".flv", ".f4v", ".mpg",
    ".mpeg", ".vob", ".ts", ".mts", ".m2ts", ".wmv", ".asf", ".ogv",
)  # fmt: skip
"""In lower case; of what `media` decodes."""
_NAMED = 3


def is_video(path: pathlib.Path) -> bool:
    """Whether a path has the name of a video, and is no folder."""
    return path.suffix.lower() in VIDEO_ENDINGS and not path.is_dir()


def group_unused(
    paths: Iterable[pathlib.Path], used: Iterable[pathlib.Path], folder: str | os.PathLike
) -> Mapping[str, str]:
    """Files that are not used, but for hidden ones.

    Args:
      paths: all that is below the folder.
      used: those that are used.
      folder: where they are.

    Returns:
      By ending: how many they are, and the names of the first.
    """
    used, unused = set(used), collections.defaultdict(list)
    for path in paths:
        name = path.relative_to(folder)
        if path not in used and not path.is_dir() and not any(p[0] == "." for p in name.parts):
            unused[path.suffix or "no ending"].append(str(name))
    return {ending: _count(names) for ending, names in sorted(unused.items())}


def _count(names: list[str]) -> str:
    shown = ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")
    return f"{len(names)} file{'s' * (len(names) > 1)}: {shown}"
