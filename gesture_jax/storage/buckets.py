"""What lies in buckets, `gs://` and `s3://`, by fsspec: fetched, put, moved and removed as wholes.

A bucket has no folders and renames nothing, but an object is there as a whole or not at all. So
what goes there is made on this machine's disk, and a folder is complete once the file that is put
last is there. Other processes write too: no listing is remembered.
"""

import collections
import contextlib
import functools
import hashlib
import os
import pathlib
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

from gesture_jax.errors import InputError

if TYPE_CHECKING:  # What most have no need of takes a tenth of a second.
    import fsspec
    from etils import epath

# The extra that brings the package for a scheme.
_EXTRAS = {"gs": "gcs", "s3": "s3"}
# Of copies of single files, which go when this process ends.
_MOST_BYTES = 8 << 30
# There while the files of a folder are being put.
_INCOMPLETE = ".incomplete"


def is_remote(path: str | os.PathLike) -> bool:
    """Whether a path lies in a bucket."""
    return "://" in os.fspath(path)


def as_path(path: str | os.PathLike) -> "epath.Path":
    """A path in a bucket, with the methods of `pathlib.Path`.

    Raises:
      InputError: for other schemes, without the package for this one, and for a bucket that cannot
        be reached.
    """
    from etils import epath

    _locate(path)
    return epath.Path(path)


def _locate(path: str | os.PathLike) -> "tuple[fsspec.AbstractFileSystem, str]":
    """The file system, and the name in it."""
    scheme, _, name = os.fspath(path).partition("://")
    return _connect(scheme, name.split("/")[0]), name


@functools.cache
def _connect(scheme: str, bucket: str) -> "fsspec.AbstractFileSystem":
    import fsspec

    where = f"{scheme}://{bucket}"
    if scheme not in _EXTRAS or not bucket:
        raise InputError(f"{where}: no such place; give a path, gs://BUCKET/... or s3://BUCKET/...")
    fsspec.config.conf.setdefault(scheme, {}).setdefault("use_listings_cache", False)
    try:
        system = fsspec.filesystem(scheme)
    except ImportError:
        raise InputError(
            f"{where}: what reads {scheme}:// is not installed; "
            f'`pip install "gesture_jax[{_EXTRAS[scheme]}]"` brings it'
        ) from None
    try:
        system.exists(f"{bucket}/{_INCOMPLETE}")
    except Exception as error:  # Each library has its own for wrong keys and a lost network.
        reason = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        raise InputError(f"{where}: cannot be reached ({reason}); log in first") from error
    return system


class Copies:
    """Files on this machine's disk: the newest `_MOST_BYTES`, and always the last two."""

    def __init__(self, folder: pathlib.Path):
        """Keeps them in an empty folder."""
        self._folder = folder
        self._kept: collections.OrderedDict[str, pathlib.Path] = collections.OrderedDict()

    def get(self, path: str | os.PathLike) -> pathlib.Path:
        """The copy of a file, fetched if it is not kept or has changed."""
        system, name = _locate(path)
        key = system.ukey(name)  # Another for each content.
        if key not in self._kept:
            where = self._folder / key / pathlib.PurePosixPath(name).name
            where.parent.mkdir(exist_ok=True)
            system.get_file(name, str(where))
            self._kept[key] = where
        self._kept.move_to_end(key)
        self._forget()
        return self._kept[key]

    def _forget(self) -> None:
        sizes = {key: path.stat().st_size for key, path in self._kept.items()}
        while sum(sizes.values()) > _MOST_BYTES and len(self._kept) > 2:
            key, path = self._kept.popitem(last=False)
            shutil.rmtree(path.parent)  # Whoever has it open reads on.
            del sizes[key]


def content_key(path: str | os.PathLike) -> str:
    """What changes with the names and contents of the files in a folder.

    Raises:
      FileNotFoundError: where there are none.
    """
    system, name = _locate(path)
    found = system.find(name, detail=True)
    if not found:
        raise FileNotFoundError(f"{path}: no such folder")
    told = str([(file, str(info)) for file, info in sorted(found.items())])
    return hashlib.sha256(told.encode()).hexdigest()[:32]


def get_folder(path: str | os.PathLike, local: pathlib.Path) -> None:
    """Fetches all files of a folder."""
    system, name = _locate(path)
    for file in system.find(name):
        target = local / pathlib.PurePosixPath(file).relative_to(name)
        target.parent.mkdir(parents=True, exist_ok=True)
        system.get_file(file, str(target))


def put_file(local: pathlib.Path, path: str | os.PathLike) -> None:
    """Makes a file of this machine the object at `path`, at once."""
    system, name = _locate(path)
    system.put_file(str(local), name)


def put_folder(local: pathlib.Path, path: str | os.PathLike, *, last: str) -> None:
    """Puts all files of a folder, the one by the name of `last` after all others."""
    system, name = _locate(path)
    system.pipe_file(f"{name}/{_INCOMPLETE}", b"")
    files = [file for file in sorted(local.rglob("*")) if file.is_file()]
    for file in sorted(files, key=lambda file: file == local / last):
        system.put_file(str(file), f"{name}/{file.relative_to(local).as_posix()}")
    system.rm_file(f"{name}/{_INCOMPLETE}")


def is_incomplete(path: str | os.PathLike) -> bool:
    """Whether `put_folder` was interrupted here."""
    system, name = _locate(path)
    return system.exists(f"{name}/{_INCOMPLETE}")


def find_files(path: str | os.PathLike) -> "Iterator[epath.Path]":
    """All files below a folder."""
    from etils import epath

    system, name = _locate(path)
    scheme = os.fspath(path).partition("://")[0]
    return (epath.Path(f"{scheme}://{file}") for file in system.find(name))


def remove_folder(path: str | os.PathLike) -> None:
    """Removes a folder, if it is there."""
    system, name = _locate(path)
    with contextlib.suppress(FileNotFoundError):
        system.rm(name, recursive=True)


def move_folder(path: str | os.PathLike, target: str | os.PathLike) -> None:
    """Moves a folder within its bucket, file by file."""
    system, name = _locate(path)
    for file in system.find(name):
        system.cp_file(file, _locate(target)[1] + file.removeprefix(name))
    system.rm(name, recursive=True)
