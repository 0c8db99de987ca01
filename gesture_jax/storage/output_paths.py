"""Checks of the paths of outputs, before any work is done."""

import os
import pathlib
from collections.abc import Mapping

from gesture_jax.errors import InputError
from gesture_jax.storage.buckets import is_remote


class UsedPlaces:
    """The paths of inputs and outputs so far, which no further output may have."""

    def __init__(self) -> None:
        self._names: dict[object, str] = {}

    def add_input(self, name: str, path: str | os.PathLike | None) -> None:
        """Adds the path of an input, or nothing for None; `name` is the user's name for it."""
        if path:
            self._names.setdefault(_identity(path), name)

    def add_output(self, name: str, path: str | os.PathLike | None) -> None:
        """Adds the path of an output.

        Raises:
          InputError: where an input or another output has the same path.
        """
        if not path:
            return
        other = self._names.setdefault(_identity(path), name)
        if other != name:
            raise InputError(
                f"{path}: {name} is the same place as {other}, which would be overwritten; "
                f"give another {name}"
            )


def check_outputs(
    written: Mapping[str, str | os.PathLike | None], read: Mapping[str, str | os.PathLike | None]
) -> None:
    """Checks that no output would overwrite an input or another output.

    Args:
      written: the paths of outputs by the user's names for them; None where there is none.
      read: the paths of inputs, likewise.

    Raises:
      InputError: where an output has the path of an input or of another output.
    """
    places = UsedPlaces()
    for name, path in read.items():
        places.add_input(name, path)
    for name, path in written.items():
        places.add_output(name, path)


def check_ending(path: str | os.PathLike | None, ending: str) -> None:
    """Raises InputError for an output with another ending: a typing error could name an input."""
    if path is not None and not os.fspath(path).lower().endswith(ending):
        raise InputError(f"{path}: the name of this file has to end in {ending}")


def _identity(path: str | os.PathLike) -> object:
    """Returns equal values for two paths of one file or folder, even through links."""
    if is_remote(path):
        scheme, _, name = os.fspath(path).partition("://")
        return scheme, pathlib.PurePosixPath(name)
    try:
        found = os.stat(path)
    except OSError:
        return os.path.realpath(path)
    except ValueError:  # No file can have this name.
        return path
    return found.st_dev, found.st_ino
