"""Files on a disk or in a bucket; no package but this one opens a path by itself.

A user's path is a string. `as_path` turns it into an object with the methods of `pathlib.Path`, for
a disk and for a bucket. Code that needs a file on this machine calls `local_copy` or
`local_folder`. Outputs are written completely or not at all.
"""

import atexit
import contextlib
import errno
import functools
import hashlib
import os
import pathlib
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from gesture_jax.errors import InputError
from gesture_jax.storage import buckets
from gesture_jax.storage.buckets import is_remote
from gesture_jax.storage.cache import cache_dir

if TYPE_CHECKING:
    from filelock import FileLock

# A file that was changed a moment ago may change again within one tick of its file system's clock.
_SETTLED_NS = 2 * 10**9
# The first part of the names of lasting folders, and the ending of their locks.
_LASTING, _LOCK = "gesture_jax-", ".lock"
FULL_DISK = errno.ENOSPC, errno.EDQUOT


def as_path(path: str | os.PathLike) -> pathlib.Path:
    """Returns a path on this machine, or one in a bucket with the same methods.

    Raises:
      InputError: for a bucket that cannot be reached.
    """
    return buckets.as_path(path) if is_remote(path) else pathlib.Path(path)


def expand_home(path: str) -> str:
    """Replaces `~` or `~NAME` at the start of a path by that user's home folder."""
    return os.path.expanduser(path)


def absolute(path: str | os.PathLike) -> pathlib.Path:
    """Returns a path that does not depend on the current folder."""
    return as_path(path) if is_remote(path) else pathlib.Path(path).absolute()


def find_files(folder: str | os.PathLike) -> list[pathlib.Path]:
    """Returns all files and folders below a folder by name; of a bucket, the files only."""
    found = buckets.find_files(folder) if is_remote(folder) else pathlib.Path(folder).rglob("*")
    return sorted(found)


def is_inside(path: pathlib.Path, folder: pathlib.Path) -> bool:
    """Whether a path below a folder is not a link to a place outside; a bucket has no links."""
    return is_remote(path) or path.resolve().is_relative_to(folder.resolve())


def is_file(path: str | os.PathLike) -> bool:
    """Whether there is such a file; False for impossible names, for which `pathlib` raises."""
    return as_path(path).is_file() if is_remote(path) else os.path.isfile(path)


def is_folder(path: str | os.PathLike) -> bool:
    """Whether there is such a folder; False for impossible names."""
    return as_path(path).is_dir() if is_remote(path) else os.path.isdir(path)


def size_of(path: pathlib.Path) -> int:
    """Returns the size of a file in bytes."""
    return path.stat().length if is_remote(path) else path.stat().st_size


def read_text(path: str | os.PathLike) -> str:
    """Reads a user's text file: UTF-8, with or without the byte-order mark that Excel writes.

    Raises:
      OSError: where the file cannot be read.
      UnicodeDecodeError: where the file is not UTF-8.
    """
    return as_path(path).read_bytes().decode("utf-8-sig")


def local_copy(path: str | os.PathLike) -> pathlib.Path:
    """Returns the path of a file for libraries that open local files only.

    A file in a bucket is downloaded; the copy may be removed after a number of further downloads.

    Raises:
      OSError: where a bucket has no such file.
    """
    return _copies().get(path) if is_remote(path) else pathlib.Path(path)


def local_folder(path: str | os.PathLike) -> pathlib.Path:
    """Returns the path of a folder for libraries that open local files only.

    A folder in a bucket is downloaded to the user's cache.

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
    """Makes an empty folder on this machine, which is removed when the process ends.

    A killed process leaves its folder behind; the next call on this machine removes it.
    """
    place = pathlib.Path(tempfile.gettempdir())
    _remove_abandoned(place)
    folder = place / f"{_LASTING}{secrets.token_hex(8)}"
    held = contextlib.ExitStack()
    # The lock comes first; otherwise another process could take the folder for abandoned.
    held.enter_context(locked(folder.with_name(folder.name + _LOCK)))
    folder.mkdir(mode=0o700)
    held.callback(shutil.rmtree, folder, ignore_errors=True)
    atexit.register(held.close)
    return folder


def _remove_abandoned(place: pathlib.Path) -> None:
    """Removes this user's lasting folders whose processes have ended."""
    for path in place.glob(f"{_LASTING}*{_LOCK}"):
        with contextlib.suppress(OSError):  # It is gone by now, or its process is running.
            if path.lstat().st_uid == os.getuid():
                with _lock(path, timeout=0):
                    shutil.rmtree(path.with_name(path.name.removesuffix(_LOCK)), ignore_errors=True)
                    path.unlink()


def unguessable_folder(parent: pathlib.Path) -> pathlib.Path:
    """Makes an empty folder, below one on this machine, with a name that cannot be guessed."""
    folder = parent / secrets.token_hex(16)
    folder.mkdir(parents=True, mode=0o700)
    return folder


def remove_file(path: str | os.PathLike) -> None:
    """Removes a file on this machine, if it exists."""
    pathlib.Path(path).unlink(missing_ok=True)


@contextlib.contextmanager
def temporary_folder(**options) -> Iterator[pathlib.Path]:
    """Makes an empty folder on this machine, which is removed after the block."""
    with tempfile.TemporaryDirectory(**options) as folder:
        yield pathlib.Path(folder)


@contextlib.contextmanager
def locked(path: pathlib.Path, *, busy: str | None = None) -> Iterator[None]:
    """Lets one process at a time enter; others wait or get an error.

    Nothing is locked where `path` cannot be written, or on a disk without locks.

    Args:
      path: of the lock's file, which is made together with its folder and removed afterwards.
      busy: the message of the error; None lets other processes wait.

    Raises:
      InputError: where another process holds the lock and `busy` is given.
    """
    missing = [folder for folder in path.parents if not folder.exists()]
    lock = _lock(path, timeout=-1 if busy is None else 0)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except TimeoutError:
        raise InputError(str(busy)) from None
    except OSError:
        pass
    try:
        yield
    finally:
        if lock.is_locked:
            path.unlink(missing_ok=True)  # This comes before another process can lock it.
            lock.release()
        with contextlib.suppress(OSError):  # Another file may be in them by now.
            for folder in missing:
                folder.rmdir()


@contextlib.contextmanager
def alone_in(folder: pathlib.Path, *, busy: str) -> Iterator[None]:
    """Lets one process on this machine, or on a shared disk, work in a folder; see `locked`.

    A folder in a bucket is locked for this machine only.
    """
    with locked(scratch_for(folder) / _LOCK, busy=busy):
        yield


def _lock(path: pathlib.Path, *, timeout: float) -> "FileLock":
    from filelock import FileLock  # This import takes 50 ms.

    # The package's substitute for disks without locks would outlive a killed process.
    return FileLock(path, timeout=timeout, thread_local=False, fallback_to_soft=False)


@contextlib.contextmanager
def write_beside(path: str | os.PathLike) -> Iterator[pathlib.Path]:
    """Yields a path to write to, and renames it to `path` unless the block raises an error.

    A file for a bucket is written on this machine, and uploaded as a whole.

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
    with folder as name, naming_full_disk(path, instead_of=name):
        # The name has the same ending, as writers choose the format by it.
        beside = pathlib.Path(name) / path.name
        yield beside
        put_file(beside, path)


@contextlib.contextmanager
def naming_full_disk(
    path: str | os.PathLike, *, instead_of: str | os.PathLike | None = None
) -> Iterator[None]:
    """Turns a library's error about a full disk into an OSError that names `path`.

    Args:
      path: the output, as the user calls it.
      instead_of: the folder of the unfinished output. Errors that name another path are not
        changed.

    Raises:
      OSError: where the disk is full or the user's quota is exceeded.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        named = os.fspath(getattr(error, "filename", None) or "")
        is_elsewhere = named and not (instead_of and named.startswith(os.fspath(instead_of)))
        full = [number for number in FULL_DISK if os.strerror(number) in str(error)]
        if is_elsewhere or not full:
            raise
        raise OSError(full[0], os.strerror(full[0]), str(path)) from error


def put_file(beside: pathlib.Path, path: pathlib.Path) -> None:
    """Moves a file to `path` on the same disk, or uploads it to a bucket.

    Raises:
      InputError: where it cannot be uploaded.
    """
    if not is_remote(path):
        os.replace(beside, path)
        return
    try:
        buckets.put_file(beside, path)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error})") from error


def scratch_for(folder: pathlib.Path) -> pathlib.Path:
    """Returns the local folder for unfinished outputs of a folder: itself, or one in the cache."""
    if not is_remote(folder):
        return folder
    return cache_dir() / "scratch" / hashlib.sha256(str(folder).encode()).hexdigest()[:16]


@contextlib.contextmanager
def folder_beside(
    path: pathlib.Path, *, prefix: str, last: str, scratch: pathlib.Path | None = None
) -> Iterator[pathlib.Path]:
    """Yields an empty folder, and renames it to `path` unless the block raises an error.

    Args:
      path: of the folder; it must not exist, or be empty.
      prefix: the first part of the unfinished folder's name.
      last: the name of the file that is uploaded last, which marks a folder in a bucket as
        complete.
      scratch: the parent of the unfinished folder, on the disk of `path`; by default
        `scratch_for(path.parent)`.

    Raises:
      InputError: where the folder cannot be made.
    """
    try:
        scratch = scratch or scratch_for(path.parent)
        scratch.mkdir(parents=True, exist_ok=True)
        beside = pathlib.Path(tempfile.mkdtemp(prefix=prefix, dir=scratch))
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror})") from error
    try:
        with naming_full_disk(path, instead_of=beside):
            yield beside
            _put_folder(beside, path, last=last)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _put_folder(folder: pathlib.Path, path: pathlib.Path, *, last: str) -> None:
    if is_remote(path):
        buckets.put_folder(folder, path, last=last)
        return
    os.chmod(folder, 0o755)  # `mkdtemp` makes private folders.
    _rename_folder(folder, path)


def _rename_folder(folder: pathlib.Path, path: pathlib.Path) -> None:
    try:
        os.replace(folder, path)
    except OSError:
        # Otherwise another process has made the same folder meanwhile.
        if not path.is_dir() or not any(path.iterdir()):
            raise


def is_free(folder: pathlib.Path) -> bool:
    """Whether `folder_beside` may make a folder: it is missing, empty or partly uploaded."""
    if not folder.exists() or (is_remote(folder) and buckets.is_incomplete(folder)):
        return True
    return folder.is_dir() and not any(folder.iterdir())


def remove_folder(folder: pathlib.Path) -> None:
    """Removes a folder and its `scratch_for`, if they exist."""
    if is_remote(folder):
        buckets.remove_folder(folder)
    shutil.rmtree(scratch_for(folder), ignore_errors=True)


def move_folder(folder: pathlib.Path, target: pathlib.Path) -> None:
    """Moves a folder within its disk or its bucket."""
    if is_remote(folder):
        buckets.move_folder(folder, target)
        return
    target.parent.mkdir(exist_ok=True)
    folder.rename(target)


def hash_file(path: str | os.PathLike) -> str:
    """Returns the SHA-256 of a file in hexadecimal, computed once for each version of the file.

    Raises:
      InputError: where the file cannot be read.
    """
    try:
        local = local_copy(path)
        facts = local.stat()
        version = facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns
        is_settled = time.time_ns() - facts.st_ctime_ns > _SETTLED_NS
        return _hash_version(local, version) if is_settled else _hash_now(local)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); give a file") from error


@functools.lru_cache(maxsize=2**16)
def _hash_version(path: pathlib.Path, version: tuple[int, ...]) -> str:
    del version
    return _hash_now(path)


def _hash_now(path: pathlib.Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
