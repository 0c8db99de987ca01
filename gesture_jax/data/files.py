"""Files that are complete or not there, and known by what is in them."""

import contextlib
import functools
import hashlib
import os
import pathlib
import tempfile
from collections.abc import Iterator

from gesture_jax.errors import InputError


@contextlib.contextmanager
def write_beside(path: str | os.PathLike) -> Iterator[pathlib.Path]:
    """Gives a name beside `path` to write to, and renames it to `path` if all went well.

    Raises:
      InputError: where the folder cannot be made or written.
    """
    path = pathlib.Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if os.path.isdir(path):
            raise InputError(f"{path}: is a folder; give the name of a file")
        folder = tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror})") from error
    with folder as name:
        # The same ending, which tells writers the format.
        beside = pathlib.Path(name) / path.name
        yield beside
        os.replace(beside, path)


@functools.cache
def hash_file(path: str | os.PathLike) -> str:
    """The SHA-256 of a file's content, in hexadecimal; computed once a process.

    Raises:
      InputError: where it cannot be read.
    """
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); give a file") from error
