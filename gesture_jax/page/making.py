"""Makes an avatar for a visitor, in a process of its own, which can be ended at any time."""

import json
import pathlib
import subprocess
import sys
import threading
from collections.abc import Iterator

from gesture_jax.checkpoint import packed
from gesture_jax.errors import InputError
from gesture_jax.inference.pipeline import Watch
from gesture_jax.page.jobs import Cancelled

_POLL_SEC = 0.5
# Seconds until a process that was asked to end is killed.
_PATIENCE_SEC = 20.0


def make_avatar(
    kind: str, path: str, workdir: pathlib.Path, stop: threading.Event, watch: Watch
) -> str:
    """Runs `gesture_jax.personalize`.

    Args:
      kind: "image" or "video".
      path: the portrait or the video.
      workdir: of the training; the avatar is made beside it.
      stop: ends the work when it is set.
      watch: sees the steps of the training.

    Returns:
      The path of the avatar.

    Raises:
      Cancelled: where the work was stopped.
      InputError: the error of the command.
    """
    command = [
        sys.executable, "-m", "gesture_jax.personalize", f"--{kind}={path}", f"--out={workdir}",
        "--i_have_consent",
    ]  # fmt: skip
    log = workdir.with_name("log.txt")
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        try:
            for _ in watch(_steps(process, workdir / "heartbeat.json", stop), None):
                pass
        finally:
            _end(process)
    if process.returncode:
        raise InputError(_last_line(log))
    return str(workdir.with_name(workdir.name + packed.AVATAR_ENDING))


def _steps(
    process: subprocess.Popen, heartbeat: pathlib.Path, stop: threading.Event
) -> Iterator[int]:
    """Yields the numbers of the steps as they are done."""
    shown = 0
    while process.poll() is None:
        if stop.wait(_POLL_SEC):
            raise Cancelled
        done = _read_step(heartbeat)
        yield from range(shown + 1, done + 1)
        shown = max(shown, done)


def _read_step(heartbeat: pathlib.Path) -> int:
    try:
        return int(json.loads(heartbeat.read_text())["step"])
    except (OSError, ValueError, KeyError):  # It is not written yet.
        return 0


def _end(process: subprocess.Popen) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(_PATIENCE_SEC)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _last_line(log: pathlib.Path) -> str:
    lines = log.read_text(errors="replace").replace("\r", "\n").strip().split("\n")
    return lines[-1].strip() or "the avatar could not be made"
