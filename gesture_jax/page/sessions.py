"""Who looks at the page: what each visitor's files are, and what is to stop when they leave."""

import collections
import pathlib
import threading
from collections.abc import Callable, Container

from gesture_jax.storage import files


class Session:
    """One open page.

    Attributes:
      live: the stream from its microphone, where one runs.
    """

    def __init__(self, root: pathlib.Path):
        """Files are kept below `root`, under names that nobody can guess."""
        self._root = root
        self._folder: pathlib.Path | None = None
        self._stop = threading.Event()
        self.uploads: set[str] = set()
        self.live = None

    def begin(self) -> tuple[pathlib.Path, threading.Event]:
        """A new folder for what comes next, and what tells it to stop; the last one goes."""
        self.stop()
        self._remove()
        self._stop = threading.Event()
        self._folder = files.unguessable_folder(self._root)
        return self._folder, self._stop

    def new_file(self, name: str) -> str:
        """The path of a file to be made in the folder of what is under way."""
        return str(self._folder / name)

    def stop(self) -> None:
        """Stops what is under way."""
        self._stop.set()
        if self.live is not None:
            self.live.stop()
            self.live = None

    def end(self, kept: Container[str]) -> None:
        """Stops, and removes all files but those that others look at too."""
        self.stop()
        self._remove()
        for path in self.uploads:
            if path not in kept:
                files.remove_file(path)

    def _remove(self) -> None:
        if self._folder is not None:
            files.remove_folder(self._folder)
            self._folder = None


class Sessions:
    """All open pages, by the name that each one gives itself."""

    def __init__(self, root: pathlib.Path, lasting: Callable[[], Container[str]]):
        """Where files are kept, and which of them belong to the page itself."""
        self._lasting = lasting
        self._visits: dict[str, Session] = collections.defaultdict(lambda: Session(root))

    def of(self, request) -> Session:
        """The visit that a request of Gradio belongs to."""
        return self._visits[request.session_hash]

    def stop(self) -> None:
        """Stops what is under way for anybody."""
        for visit in list(self._visits.values()):
            visit.stop()

    def end(self, request) -> None:
        """Forgets a visit: the page was closed."""
        visit = self._visits.pop(request.session_hash, None)
        if visit is None:
            return
        # Gradio keeps equal files of different visitors as one.
        others = set().union(*(other.uploads for other in self._visits.values()))
        lasting = self._lasting()
        visit.end({path for path in visit.uploads if path in others or path in lasting})
