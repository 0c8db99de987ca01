"""Writes a run's metrics: `metrics.jsonl`, one JSON object per logged step, and TensorBoard."""

import json
import os
import warnings

import numpy as np

from gesture_jax.storage.files import as_path, write_beside
from gesture_jax.storage.growing_files import GrowingFiles

with warnings.catch_warnings():
    # It imports Google Cloud's client where there is one, which warns about the age of Python.
    warnings.simplefilter("ignore", FutureWarning)
    from tensorboardX import SummaryWriter

_METRICS_FILE = "metrics.jsonl"
# Files in a bucket are uploaded as a whole, so less often than lines are added.
_UPLOAD_SEC = 30.0


class MetricsWriter:
    """Writes the metrics of a run that starts, or resumes, at `step`.

    Records of later steps, written by a run that was killed after its last checkpoint, are dropped,
    as the resumed run writes them again.
    """

    def __init__(self, workdir: str | os.PathLike, *, step: int = 0, active: bool = True):
        """Opens the files.

        Args:
          workdir: of the run.
          step: the last step that was already done.
          active: whether this process writes anything; one of several processes does.
        """
        self._active = active
        if not active:
            return
        self._files = GrowingFiles(as_path(workdir))
        kept = [record for record in read_metrics(workdir) if record["step"] <= step]
        path = self._files.local / _METRICS_FILE
        with write_beside(path) as beside:
            beside.write_text("".join(json.dumps(record) + "\n" for record in kept))
        self._file = path.open("a", buffering=1)
        self._board = SummaryWriter(
            str(self._files.local / "tensorboard"), purge_step=step + 1 if step else None
        )

    def write_scalars(self, step: int, scalars: dict[str, float]) -> None:
        """Appends `{"step": step, name: value, ...}`."""
        if not self._active:
            return
        self._file.write(json.dumps({"step": step, **scalars}) + "\n")
        for name, value in scalars.items():
            self._board.add_scalar(name, value, step)
        self._files.put(every_sec=_UPLOAD_SEC)

    def write_image(self, step: int, name: str, image: np.ndarray) -> None:
        """Adds a `[h, w, 3]` uint8 picture to TensorBoard."""
        if self._active:
            self._board.add_image(name, image, step, dataformats="HWC")

    def flush(self) -> None:
        """Writes everything to the disk or the bucket, and waits for it."""
        if self._active:
            self._board.flush()
            self._files.put()

    def close(self) -> None:
        """Closes the files, and uploads them where they belong in a bucket."""
        if self._active:
            self._file.close()
            self._board.close()
            self._files.put()


def read_metrics(workdir: str | os.PathLike) -> list[dict[str, float]]:
    """Reads the records of `metrics.jsonl` in order, without lines that a crash cut short."""
    path = as_path(workdir) / _METRICS_FILE
    records = []
    for line in path.read_bytes().decode(errors="replace").splitlines() if path.exists() else []:
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(record, dict) and isinstance(record.get("step"), int):
            records.append(record)
    return records
