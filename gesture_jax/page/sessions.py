"""The sessions of visitors: their files, and their work, which stops when they leave."""

import collections
import pathlib
import threading
from collections.abc import Callable, Container

from gesture_jax.storage import files


class Session:
    """One open page.

    Attributes:
      uploads: paths of the files that the visitor has uploaded.
      live: the stream from the microphone, if one runs.
    """

    def __init__(self, root: pathlib.Path):
        """Files are kept below `root`, in a folder whose name nobody can guess."""
        self._root = root
        self._folder: pathlib.Path | None = None
        self._stop = threading.Event()
        self.uploads: set[str] = set()
        self.live = None

    def begin(self) -> tuple[pathlib.Path, threading.Event]:
        """Starts new work: returns a new folder and a stop event, and removes the last folder."""
        self.stop()
        self._remove()
        self._stop = threading.Event()
        self._folder = files.unguessable_folder(self._root)
        return self._folder, self._stop

    def new_file(self, name: str) -> str:
        """A path in the folder of the current work."""
        return str(self._folder / name)

    def stop(self) -> None:
        """Stops the current work."""
        self._stop.set()
        if self.live is not None:
            self.live.stop()
            self.live = None

    def end(self, kept: Container[str]) -> None:
        """Stops the work, and removes all files except those in `kept`."""
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
    """All open pages, by the session hash that each browser sends."""

    def __init__(self, root: pathlib.Path, lasting: Callable[[], Container[str]]):
        """Takes the folder of all files, and a function that lists those of the page itself."""
        self._lasting = lasting
        self._sessions: dict[str, Session] = collections.defaultdict(lambda: Session(root))

    def of(self, request) -> Session:
        """The session that a request of Gradio belongs to."""
        return self._sessions[request.session_hash]

    def stop(self) -> None:
        """Stops the work of all sessions."""
        for session in list(self._sessions.values()):
            session.stop()

    def end(self, request) -> None:
        """Ends the session of a page that was closed."""
        session = self._sessions.pop(request.session_hash, None)
        if session is None:
            return
        # Gradio keeps equal files of different visitors as one.
        others = set().union(*(other.uploads for other in self._sessions.values()))
        lasting = self._lasting()
        session.end({path for path in session.uploads if path in others or path in lasting})
