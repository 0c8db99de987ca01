"""Where files lie, on a disk or in a bucket; the only room that opens a path by itself.

Paths of users are strings, and go through `as_path`: what comes of it has the methods of
`pathlib.Path` wherever it lies. What wants a file of this machine gets `local_copy`, or
`local_folder`. What is written is complete or not there.
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
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from gesture_jax.errors import InputError
from gesture_jax.storage import buckets
from gesture_jax.storage.buckets import is_remote
from gesture_jax.storage.cache import cache_dir

# A file that was changed a moment ago may change again within one tick of its file system's clock.
_SETTLED_NS = 2 * 10**9
if TYPE_CHECKING:
    from filelock import FileLock

# How names of lasting folders begin, and those of their locks end.
_LASTING, _LOCK = "gesture_jax-", ".lock"
FULL_DISK = errno.ENOSPC, errno.EDQUOT


def as_path(path: str | os.PathLike) -> pathlib.Path:
    """A path of this machine, or one in a bucket with the same methods.

    Raises:
      InputError: for a bucket that cannot be reached.
    """
    return buckets.as_path(path) if is_remote(path) else pathlib.Path(path)


def expand_home(path: str) -> str:
    """A path with `~` or `~NAME` at its start replaced by that user's home folder."""
    return os.path.expanduser(path)


def absolute(path: str | os.PathLike) -> pathlib.Path:
    """The same wherever it is asked for."""
    return as_path(path) if is_remote(path) else pathlib.Path(path).absolute()


def _identity(path: str | os.PathLike) -> object:
    """Equal for two paths of one file or folder, through links and other spellings."""
    if is_remote(path):
        scheme, _, name = os.fspath(path).partition("://")
        return scheme, pathlib.PurePosixPath(name)
    try:
        found = os.stat(path)
    except OSError:
        return os.path.realpath(path)
    except ValueError:  # No file has such a name.
        return path
    return found.st_dev, found.st_ino


class UsedPlaces:
    """Places that no further output may have: those of inputs and of other outputs."""

    def __init__(self) -> None:
        self._names: dict[object, str] = {}

    def add_input(self, name: str, path: str | os.PathLike | None) -> None:
        """Adds the place of an input; `name` is what users call it, None is no input."""
        if path:
            self._names.setdefault(_identity(path), name)

    def add_output(self, name: str, path: str | os.PathLike | None) -> None:
        """Adds the place of an output.

        Raises:
          InputError: where an input or another output has it.
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
      written: the outputs by what users call them; None where there is none.
      read: likewise, the inputs.

    Raises:
      InputError: where an output is an input or another output.
    """
    places = UsedPlaces()
    for name, path in read.items():
        places.add_input(name, path)
    for name, path in written.items():
        places.add_output(name, path)


def check_ending(path: str | os.PathLike | None, ending: str) -> None:
    """Raises InputError for an output of another ending, so that no slip overwrites a picture."""
    if path is not None and not os.fspath(path).lower().endswith(ending):
        raise InputError(f"{path}: the name of this file has to end in {ending}")


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
    """An empty folder of this machine, gone when the process ends.

    A process that is killed leaves its folder behind. The next call on this machine removes it.
    """
    place = pathlib.Path(tempfile.gettempdir())
    _remove_abandoned(place)
    folder = place / f"{_LASTING}{secrets.token_hex(8)}"
    held = contextlib.ExitStack()
    # Locked before it is there, so that nobody takes it for abandoned.
    held.enter_context(locked(folder.with_name(folder.name + _LOCK)))
    folder.mkdir(mode=0o700)
    held.callback(shutil.rmtree, folder, ignore_errors=True)
    atexit.register(held.close)
    return folder


def _remove_abandoned(place: pathlib.Path) -> None:
    """Removes this user's lasting folders whose locks nobody holds."""
    for path in place.glob(f"{_LASTING}*{_LOCK}"):
        with contextlib.suppress(OSError):  # Gone by now, or its process lives.
            if path.lstat().st_uid == os.getuid():
                with _lock(path, timeout=0):
                    shutil.rmtree(path.with_name(path.name.removesuffix(_LOCK)), ignore_errors=True)
                    path.unlink()


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
def locked(path: pathlib.Path, *, busy: str | None = None) -> Iterator[None]:
    """Lets one process at a time through; others wait, or are refused.

    Nothing is locked where `path` cannot be written, or on a disk that knows no locks.

    Args:
      path: of the lock's file, made here with its folder, and removed afterwards.
      busy: what processes are told that are refused; None lets them wait.

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
            path.unlink(missing_ok=True)  # Before others may lock it.
            lock.release()
        with contextlib.suppress(OSError):  # Unless something else is in them by now.
            for folder in missing:
                folder.rmdir()


@contextlib.contextmanager
def alone_in(folder: pathlib.Path, *, busy: str) -> Iterator[None]:
    """Lets one process of this machine, or of a shared disk, work in a folder; see `locked`.

    What lies in a bucket is locked for this machine alone.
    """
    with locked(scratch_for(folder) / _LOCK, busy=busy):
        yield


def _lock(path: pathlib.Path, *, timeout: float) -> "FileLock":
    from filelock import FileLock  # Takes a twentieth of a second.

    # Without its substitute for disks that know no locks, which would outlive a killed process.
    return FileLock(path, timeout=timeout, thread_local=False, fallback_to_soft=False)


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
    with folder as name, naming_full_disk(path, instead_of=name):
        # The same ending, which tells writers the format.
        beside = pathlib.Path(name) / path.name
        yield beside
        _put_file(beside, path)


@contextlib.contextmanager
def naming_full_disk(
    path: str | os.PathLike, *, instead_of: str | os.PathLike | None = None
) -> Iterator[None]:
    """Makes what libraries raise on a full disk an OSError of that kind, which names `path`.

    Args:
      path: what is being written, as the user calls it.
      instead_of: a folder that the user does not know. Errors that name another place stay.

    Raises:
      OSError: where the disk is full, or the user's share of it.
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
        with naming_full_disk(path, instead_of=beside):
            yield beside
            _put_folder(beside, path, last=last)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _put_folder(folder: pathlib.Path, path: pathlib.Path, *, last: str) -> None:
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


def hash_file(path: str | os.PathLike) -> str:
    """The SHA-256 of a file's content, in hexadecimal; computed once for each version of a file.

    Raises:
      InputError: where it cannot be read.
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
