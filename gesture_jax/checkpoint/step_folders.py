"""The folders of a run's checkpoints, one a step, where the library that saves them reaches them.

That is where they belong, on a disk or in `gs://`. Of `s3://` that library knows nothing: what goes
there is made on this machine, put while the training goes on, and fetched when it resumes.
"""

import concurrent.futures
import pathlib
from typing import Any, Protocol

from gesture_jax.storage import files
from gesture_jax.storage.files import is_remote

# Put last into a folder of a bucket, by us as by the library.
_COMMIT_FILE = "commit_success.txt"


class Save(Protocol):
    """A save under way."""

    def result(self) -> Any:
        """Returns once it is done."""


def saved_steps(path: pathlib.Path) -> set[int]:
    """The steps whose folders in `path` are complete."""
    found = [folder for folder in path.glob("*") if folder.name.isdigit()]
    whole = [each for each in found if not is_remote(path) or (each / _COMMIT_FILE).exists()]
    return {int(folder.name) for folder in whole}


def readable(folder: pathlib.Path) -> pathlib.Path:
    """One step's folder, where the library can read it."""
    return files.local_folder(folder) if _is_unknown(folder) else folder


def _is_unknown(path: pathlib.Path) -> bool:
    return is_remote(path) and not str(path).startswith("gs://")


class StepFolders:
    """The folders of all steps.

    Attributes:
      path: where they belong.
      local: where the library writes them, which may be the same.
      is_mirrored: whether it is not.
    """

    def __init__(self, path: pathlib.Path, *, fetch: bool = True):
        """Fetches what is there, where it cannot be read in place."""
        self.path, self.local, self.is_mirrored = path, path, _is_unknown(path)
        self._held: set[int] = set()
        if not self.is_mirrored:
            return
        self.local = files.lasting_folder()
        self._thread = concurrent.futures.ThreadPoolExecutor(1)
        for step in saved_steps(path) if fetch else ():
            files.copy_folder(path / str(step), self.local / str(step))
            self._held.add(step)

    def after(self, save: Save) -> Save:
        """The whole of a save that the library has begun."""
        return (
            self._thread.submit(lambda: (save.result(), self.put())) if self.is_mirrored else save
        )

    def put(self) -> None:
        """Copies new steps of `local` to `path`, and removes there what `local` no longer has.

        Steps that never were in `local` stay.
        """
        if not self.is_mirrored:
            return
        here, there = saved_steps(self.local), saved_steps(self.path)
        for step in here - there:
            (self.local / str(step) / _COMMIT_FILE).touch()
            files.put_folder(self.local / str(step), self.path / str(step), last=_COMMIT_FILE)
        for step in self._held & there - here:
            self._remove(step)
        self._held = here

    def replace(self, step: int) -> None:
        """`put`, of a step of which `path` may hold another version."""
        if self.is_mirrored and step in saved_steps(self.path):
            self._remove(step)
        self.put()

    def _remove(self, step: int) -> None:
        (self.path / str(step) / _COMMIT_FILE).unlink()  # First: what is half removed is none.
        files.remove_folder(self.path / str(step))

    def set_aside(self, step: int, target: pathlib.Path) -> None:
        """Moves a step's folder."""
        files.move_folder(self.path / str(step), target)
        if self.is_mirrored:
            files.remove_folder(self.local / str(step))

    def close(self) -> None:
        """Removes what was on this machine for a while."""
        if self.is_mirrored:
            self._thread.shutdown()
            files.remove_folder(self.local)
