"""Where a run's numbers go: `metrics.jsonl`, one JSON object a logged step, and TensorBoard."""

import json
import os
import pathlib

import numpy as np
from tensorboardX import SummaryWriter


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
        workdir = pathlib.Path(workdir)
        path = workdir / "metrics.jsonl"
        _drop_records_after(path, step)
        self._file = path.open("a", buffering=1)
        self._board = SummaryWriter(
            str(workdir / "tensorboard"), purge_step=step + 1 if step else None
        )

    def write_scalars(self, step: int, scalars: dict[str, float]) -> None:
        """Appends `{"step": step, name: value, ...}`."""
        if not self._active:
            return
        self._file.write(json.dumps({"step": step, **scalars}) + "\n")
        for name, value in scalars.items():
            self._board.add_scalar(name, value, step)

    def write_image(self, step: int, name: str, image: np.ndarray) -> None:
        """Shows a `[h, w, 3]` uint8 picture in TensorBoard."""
        if self._active:
            self._board.add_image(name, image, step, dataformats="HWC")

    def close(self) -> None:
        """Flushes everything to disk."""
        if self._active:
            self._file.close()
            self._board.close()


def read_metrics(workdir: str | os.PathLike) -> list[dict[str, float]]:
    """The records of a run's `metrics.jsonl`, in order; a line cut short by a crash is left out."""
    path = pathlib.Path(workdir) / "metrics.jsonl"
    records = []
    for line in path.read_text(errors="replace").splitlines() if path.exists() else []:
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(record, dict) and isinstance(record.get("step"), int):
            records.append(record)
    return records


def _drop_records_after(path: pathlib.Path, step: int) -> None:
    if not path.exists():
        return
    kept = [record for record in read_metrics(path.parent) if record["step"] <= step]
    beside = path.with_suffix(".tmp")
    beside.write_text("".join(json.dumps(record) + "\n" for record in kept))
    os.replace(beside, path)
