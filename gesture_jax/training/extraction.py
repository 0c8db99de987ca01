"""The motion features of a whole dataset, by which stage 2 learns."""

import functools
import os
import pathlib
from collections.abc import Iterator
from typing import Any

from tqdm import tqdm

from gesture_jax.checkpoint import checkpoints, packed
from gesture_jax.data import clips
from gesture_jax.data.motions import write_motions
from gesture_jax.inference.animator import Animator
from gesture_jax.storage.files import absolute


def default_folder(stage1: str | os.PathLike) -> pathlib.Path:
    """Where the motions by a stage 1 lie unless one says otherwise: in its workdir, or in a folder
    named like the file that was packed of it.
    """
    path = absolute(stage1)
    return (path.with_suffix("") if packed.is_packed(stage1) else path) / "motions"


def extract_motions(stage1_workdir: str | os.PathLike, data_path: str, out_dir: str) -> None:
    """Writes the motion features of every clip of a dataset.

    Args:
      stage1_workdir: of the trained stage 1.
      data_path: a dataset of `gesture_jax.prepare`.
      out_dir: where `motions.MotionSource` will read; must not exist.

    Raises:
      InputError: where checkpoint or dataset are missing.
    """
    animator = Animator.load(stage1_workdir)
    sources = {split: clips.ClipSource(data_path, split) for split in ("train", "test")}

    def motions(source: clips.ClipSource) -> Iterator[dict[str, Any]]:
        with tqdm(source, total=len(source), desc="extract", unit="clip") as progress:
            for record in progress:
                frames = clips.decode_frames(record)
                yield {
                    "clip_id": record["clip_id"],
                    "speaker": record["speaker"],
                    "motion": animator.extract_motion(frames),
                    "speech": record["speech"],
                }

    write_motions(
        out_dir,
        {split: functools.partial(motions, source) for split, source in sources.items()},
        metadata={
            "stage1_workdir": str(absolute(stage1_workdir)),
            "stage1_step": checkpoints.newest_step(stage1_workdir),
            "data_path": str(absolute(data_path)),
            **sources["train"].speech_features,
        },
    )
