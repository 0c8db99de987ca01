"""Where files lie, on a disk or in a bucket; the only room that opens a path by itself.

Paths of users are strings, and go through `as_path`: what comes of it has the methods of
`pathlib.Path` wherever it lies. What wants a file of this machine gets `local_copy`, or
`local_folder`. What is written is complete or not there.
"""

import atexit
import contextlib
import fcntl
import functools
import hashlib
import os
import pathlib
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator

from gesture_jax import buckets
from gesture_jax.buckets import is_remote
from gesture_jax.cache import cache_dir
from gesture_jax.errors import InputError


def as_path(path: str | os.PathLike) -> pathlib.Path:
    """A path of this machine, or one in a bucket with the same methods.

    Raises:
      InputError: for a bucket that cannot be reached.
    """
    return buckets.as_path(path) if is_remote(path) else pathlib.Path(path)


def absolute(path: str | os.PathLike) -> pathlib.Path:
    """The same wherever it is asked for."""
    return as_path(path) if is_remote(path) else pathlib.Path(path).absolute()


def find_files(folder: str | os.PathLike) -> list[pathlib.Path]:
    """All that is below a folder, in the order of the names; in a bucket there are files only."""
    found = buckets.find_files(folder) if is_remote(folder) else pathlib.Path(folder).rglob("*")
    return sorted(found)


def is_inside(path: pathlib.Path, folder: pathlib.Path) -> bool:
    """Whether a path below a folder is no link to somewhere else; a bucket has no links."""
    return is_remote(path) or path.resolve().is_relative_to(folder.resolve())


def is_file(path: str | os.PathLike) -> bool:
    """Whether there is such a file; none has a name that is no name, which `pathlib` raises for."""
    return as_path(path).is_file() if is_remote(path) else os.path.isfile(path)


def is_folder(path: str | os.PathLike) -> bool:
    """Like `is_file`, of a folder."""
    return as_path(path).is_dir() if is_remote(path) else os.path.isdir(path)


def size_of(path: pathlib.Path) -> int:
    """Length of a file in bytes."""
    return path.stat().length if is_remote(path) else path.stat().st_size


def read_text(path: str | os.PathLike) -> str:
    """What a user's text file says: UTF-8, with or without the byte-order mark that Excel writes.

    Raises:
      OSError: where it cannot be read.
      UnicodeDecodeError: where it is something else.
    """
    return as_path(path).read_bytes().decode("utf-8-sig")


def local_copy(path: str | os.PathLike) -> pathlib.Path:
    """The file, where libraries of C can open it; one of a bucket is fetched for a while.

    Raises:
      OSError: where a bucket has no such file.
    """
    return _copies().get(path) if is_remote(path) else pathlib.Path(path)


def local_folder(path: str | os.PathLike) -> pathlib.Path:
    """The folder, where libraries of C can open its files; one of a bucket is fetched to the cache.

    Raises:
      OSError: where a bucket has no such folder.
    """
    if not is_remote(path):
        return pathlib.Path(path)
    where = cache_dir() / "buckets" / buckets.content_key(path)
    if not where.exists():
        where.parent.mkdir(parents=True, exist_ok=True)
        with temporary_folder(prefix=f".{where.name}.", dir=where.parent) as folder:
            buckets.get_folder(path, folder / "files")
            _rename_folder(folder / "files", where)
    return where


@functools.cache
def _copies() -> buckets.Copies:
    return buckets.Copies(lasting_folder())


def lasting_folder() -> pathlib.Path:
    """An empty folder of this machine, gone when the process ends."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="gesture_jax-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def unguessable_folder(parent: pathlib.Path) -> pathlib.Path:
    """A new, empty folder below one of this machine, which whoever does not know it cannot name."""
    folder = parent / secrets.token_hex(16)
    folder.mkdir(parents=True, mode=0o700)
    return folder


def remove_file(path: str | os.PathLike) -> None:
    """Removes a file of this machine, if it is there."""
    pathlib.Path(path).unlink(missing_ok=True)


@contextlib.contextmanager
def temporary_folder(**options) -> Iterator[pathlib.Path]:
    """An empty folder of this machine, gone after the block."""
    with tempfile.TemporaryDirectory(**options) as folder:
        yield pathlib.Path(folder)


@contextlib.contextmanager
def locked(path: pathlib.Path) -> Iterator[None]:
    """One process at a time; others wait. `path`, made here, may lie where nothing can be kept."""
    with contextlib.ExitStack() as held:
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            fcntl.flock(held.enter_context(path.open("ab")), fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def write_beside(path: str | os.PathLike) -> Iterator[pathlib.Path]:
    """Gives a name beside `path` to write to, and renames it to `path` if all went well.

    What goes to a bucket is written on this machine, and put there as a whole.

    Raises:
      InputError: where the folder cannot be made or written.
    """
    path = as_path(path)
    try:
        if not is_remote(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        if is_folder(path):
            raise InputError(f"{path}: is a folder; give the name of a file")
        place = None if is_remote(path) else path.parent
        folder = tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=place)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror})") from error
    with folder as name:
        # The same ending, which tells writers the format.
        beside = pathlib.Path(name) / path.name
        yield beside
        _put_file(beside, path)


def _put_file(beside: pathlib.Path, path: pathlib.Path) -> None:
    if not is_remote(path):
        os.replace(beside, path)
        return
    try:
        buckets.put_file(beside, path)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error})") from error


def scratch_for(folder: pathlib.Path) -> pathlib.Path:
    """Where on this machine is made what goes into a folder: there, or in the cache."""
    if not is_remote(folder):
        return folder
    return cache_dir() / "scratch" / hashlib.sha256(str(folder).encode()).hexdigest()[:16]


@contextlib.contextmanager
def folder_beside(
    path: pathlib.Path, *, prefix: str, last: str, scratch: pathlib.Path | None = None
) -> Iterator[pathlib.Path]:
    """Gives a folder to fill, that becomes `path` if all went well; what is there already stays.

    Args:
      path: of the folder; must not exist but as an empty one.
      prefix: how the name of the unfinished one begins.
      last: name of the file in it that is put last, by which a bucket's folder is known as whole.
      scratch: folder in which it is made, on the disk of `path`; by default `scratch_for` it.

    Raises:
      InputError: where it cannot be made.
    """
    try:
        scratch = scratch or scratch_for(path.parent)
        scratch.mkdir(parents=True, exist_ok=True)
        beside = pathlib.Path(tempfile.mkdtemp(prefix=prefix, dir=scratch))
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror})") from error
    try:
        yield beside
        put_folder(beside, path, last=last)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def put_folder(folder: pathlib.Path, path: pathlib.Path, *, last: str) -> None:
    """Makes a folder of this machine the one at `path`; see `folder_beside`."""
    if is_remote(path):
        buckets.put_folder(folder, path, last=last)
        return
    os.chmod(folder, 0o755)  # mkdtemp's are private.
    _rename_folder(folder, path)


def _rename_folder(folder: pathlib.Path, path: pathlib.Path) -> None:
    try:
        os.replace(folder, path)
    except OSError:
        # Else another process was faster, with the same.
        if not path.is_dir() or not any(path.iterdir()):
            raise


def copy_folder(path: pathlib.Path, local: pathlib.Path) -> None:
    """Fetches a folder of a bucket."""
    buckets.get_folder(path, local)


def is_free(folder: pathlib.Path) -> bool:
    """Whether `folder_beside` may make this folder: it is not there, empty or half put."""
    if not folder.exists() or (is_remote(folder) and buckets.is_incomplete(folder)):
        return True
    return folder.is_dir() and not any(folder.iterdir())


def remove_folder(folder: pathlib.Path) -> None:
    """Removes a folder and what `scratch_for` gave for it, if they are there."""
    if is_remote(folder):
        buckets.remove_folder(folder)
    shutil.rmtree(scratch_for(folder), ignore_errors=True)


def move_folder(folder: pathlib.Path, target: pathlib.Path) -> None:
    """Moves a folder on its disk or in its bucket."""
    if is_remote(folder):
        buckets.move_folder(folder, target)
        return
    target.parent.mkdir(exist_ok=True)
    folder.rename(target)


class GrowingFiles:
    """A folder in which files grow; in a bucket they are put again, whole, now and then.

    Attributes:
      local: where they are written.
    """

    def __init__(self, path: pathlib.Path):
        """The folder; where it is in a bucket, `local` is empty at first."""
        self._path = path
        self.local = lasting_folder() if is_remote(path) else path
        self._put: dict[pathlib.Path, int] = {}
        self._last_put = time.monotonic()

    def put(self, *, every_sec: float = 0.0) -> None:
        """Puts what has grown, unless that was done a moment ago."""
        now = time.monotonic()
        if not is_remote(self._path) or now - self._last_put < every_sec:
            return
        self._last_put = now
        for file in find_files(self.local):
            size = size_of(file)
            if file.is_file() and self._put.get(file) != size:
                _put_file(file, self._path / file.relative_to(self.local).as_posix())
                self._put[file] = size


@functools.cache
def hash_file(path: str | os.PathLike) -> str:
    """The SHA-256 of a file's content, in hexadecimal; computed once a process.

    Raises:
      InputError: where it cannot be read.
    """
    try:
        with local_copy(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); give a file") from error
