"""Files and folders in the buckets of `gs://` and `s3://`, by fsspec.

A bucket has no folders and cannot rename, but an object exists completely or not at all. Outputs
are therefore made on this machine's disk and uploaded, and a folder is complete once a certain file
has been uploaded last. Listings are not cached, as other processes may write to the bucket.
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

if TYPE_CHECKING:  # These imports take 100 ms, and most programs use no buckets.
    import fsspec
    from etils import epath

# The extra of this package that installs the library for a scheme.
_EXTRAS = {"gs": "gcs", "s3": "s3"}
# The size of all copies of single files, which are removed when this process ends.
_MAX_COPIED_BYTES = 8 << 30
# This file exists in a folder while its other files are being uploaded.
_INCOMPLETE = ".incomplete"


def is_remote(path: str | os.PathLike) -> bool:
    """Whether a path is in a bucket."""
    return "://" in os.fspath(path)


def as_path(path: str | os.PathLike) -> "epath.Path":
    """Returns a path in a bucket, with the methods of `pathlib.Path`.

    Raises:
      InputError: for another scheme, a scheme without its library, or a bucket that cannot be
        reached.
    """
    from etils import epath

    _locate(path)
    return epath.Path(path)


def _locate(path: str | os.PathLike) -> "tuple[fsspec.AbstractFileSystem, str]":
    """Returns the file system, and the path's name in it."""
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
            f"{where}: the library for {scheme}:// is not installed; "
            f'run `pip install "gesture_jax[{_EXTRAS[scheme]}]"`'
        ) from None
    try:
        system.exists(f"{bucket}/{_INCOMPLETE}")
    except Exception as error:  # Each library has its own types for wrong keys and lost networks.
        reason = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        raise InputError(f"{where}: cannot be reached ({reason}); log in first") from error
    return system


class Copies:
    """Copies of single files on this machine's disk.

    The most recently used are kept, of `_MAX_COPIED_BYTES` in all, and the last two of any size.
    """

    def __init__(self, folder: pathlib.Path):
        """Takes an empty folder for the copies."""
        self._folder = folder
        self._kept: collections.OrderedDict[str, pathlib.Path] = collections.OrderedDict()

    def get(self, path: str | os.PathLike) -> pathlib.Path:
        """Returns the copy of a file, downloaded if there is none or the file has changed."""
        system, name = _locate(path)
        key = system.ukey(name)  # The key changes with the content.
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
        while sum(sizes.values()) > _MAX_COPIED_BYTES and len(self._kept) > 2:
            key, path = self._kept.popitem(last=False)
            shutil.rmtree(path.parent)  # A process that has the file open can still read it.
            del sizes[key]


def content_key(path: str | os.PathLike) -> str:
    """Returns a key that changes with the names and the content of the files in a folder.

    Raises:
      FileNotFoundError: where there are no files.
    """
    system, name = _locate(path)
    found = system.find(name, detail=True)
    if not found:
        raise FileNotFoundError(f"{path}: no such folder")
    listing = str([(file, str(info)) for file, info in sorted(found.items())])
    return hashlib.sha256(listing.encode()).hexdigest()[:32]


def get_folder(path: str | os.PathLike, local: pathlib.Path) -> None:
    """Downloads all files of a folder."""
    system, name = _locate(path)
    for file in system.find(name):
        target = local / pathlib.PurePosixPath(file).relative_to(name)
        target.parent.mkdir(parents=True, exist_ok=True)
        system.get_file(file, str(target))


def put_file(local: pathlib.Path, path: str | os.PathLike) -> None:
    """Uploads a file."""
    system, name = _locate(path)
    system.put_file(str(local), name)


def put_folder(local: pathlib.Path, path: str | os.PathLike, *, last: str) -> None:
    """Uploads all files of a folder, the one with the name `last` after all others."""
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
    """Returns all files below a folder."""
    from etils import epath

    system, name = _locate(path)
    scheme = os.fspath(path).partition("://")[0]
    return (epath.Path(f"{scheme}://{file}") for file in system.find(name))


def remove_folder(path: str | os.PathLike) -> None:
    """Removes a folder, if it exists."""
    system, name = _locate(path)
    with contextlib.suppress(FileNotFoundError):
        system.rm(name, recursive=True)


def move_folder(path: str | os.PathLike, target: str | os.PathLike) -> None:
    """Moves a folder within its bucket, file by file."""
    system, name = _locate(path)
    for file in system.find(name):
        system.cp_file(file, _locate(target)[1] + file.removeprefix(name))
    system.rm(name, recursive=True)
