"""Files that a run appends to, such as its metrics, in a folder that may be in a bucket."""

import pathlib
import time

from gesture_jax.storage.buckets import is_remote
from gesture_jax.storage.files import find_files, lasting_folder, put_file, size_of


class GrowingFiles:
    """A folder of growing files; those for a bucket are uploaded again as a whole now and then.

    Attributes:
      local: the folder on this machine to write to.
    """

    def __init__(self, path: pathlib.Path):
        """Takes the folder's path; `local` is empty at first where that is in a bucket."""
        self._path = path
        self.local = lasting_folder() if is_remote(path) else path
        self._uploaded_sizes: dict[pathlib.Path, int] = {}
        self._last_upload = time.monotonic()

    def put(self, *, every_sec: float = 0.0) -> None:
        """Uploads the files that have grown, unless the last upload was under `every_sec` ago."""
        now = time.monotonic()
        if not is_remote(self._path) or now - self._last_upload < every_sec:
            return
        self._last_upload = now
        for file in find_files(self.local):
            size = size_of(file)
            if file.is_file() and self._uploaded_sizes.get(file) != size:
                put_file(file, self._path / file.relative_to(self.local).as_posix())
                self._uploaded_sizes[file] = size
