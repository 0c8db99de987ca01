"""Where a run's numbers go: `metrics.jsonl`, one JSON object a logged step, and TensorBoard."""

import json
import os

import numpy as np
from tensorboardX import SummaryWriter

from gesture_jax.storage.files import as_path, write_beside
from gesture_jax.storage.growing import GrowingFiles

_METRICS_FILE = "metrics.jsonl"
# A bucket takes a file as a whole, whatever was added to it.
_PUT_SEC = 30.0


class MetricsWriter:
    """Writes metrics of a run that starts, or resumes, at `step`.

    Records of later steps, left by a run that was killed after its last checkpoint, are dropped:
    the resumed run writes them again. Of several processes one is `active`; the writers of the
    others touch nothing.
    """

    def __init__(self, workdir: str | os.PathLike, *, step: int = 0, active: bool = True):
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
        self._files.put(every_sec=_PUT_SEC)

    def write_image(self, step: int, name: str, image: np.ndarray) -> None:
        """Shows a `[h, w, 3]` uint8 picture in TensorBoard."""
        if self._active:
            self._board.add_image(name, image, step, dataformats="HWC")

    def flush(self) -> None:
        """Returns once all that was written is where it belongs."""
        if self._active:
            self._board.flush()
            self._files.put()

    def close(self) -> None:
        """Flushes everything to disk, or bucket."""
        if self._active:
            self._file.close()
            self._board.close()
            self._files.put()


def read_metrics(workdir: str | os.PathLike) -> list[dict[str, float]]:
    """The records of a run's `metrics.jsonl`, in order; a line cut short by a crash is left out."""
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
