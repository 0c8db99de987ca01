"""Lists the files of a user's folder: which are videos, and which are not used."""

import collections
import os
import pathlib
from collections.abc import Iterable, Mapping

VIDEO_ENDINGS = (
    ".mp4", ".m4v", ".mov", ".3gp", ".3g2", ".mkv", ".webm", ".avi", ".flv", ".f4v", ".mpg",
    ".mpeg", ".vob", ".ts", ".mts", ".m2ts", ".wmv", ".asf", ".ogv",
)  # fmt: skip
"""Endings of the formats that `media` decodes, in lower case."""
_NAMED = 3


def is_video(path: pathlib.Path) -> bool:
    """Returns whether a path has the ending of a video and is not a folder."""
    return path.suffix.lower() in VIDEO_ENDINGS and not path.is_dir()


def group_unused(
    paths: Iterable[pathlib.Path], used: Iterable[pathlib.Path], folder: str | os.PathLike
) -> Mapping[str, str]:
    """Groups the files that are not used, except hidden ones, by their endings.

    Args:
      paths: all paths below the folder.
      used: the paths that are used.
      folder: the folder.

    Returns:
      For each ending, the number of files and the first names.
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
