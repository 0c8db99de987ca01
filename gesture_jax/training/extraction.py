"""Extracts the motion features of a whole dataset, which stage 2 trains on."""

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
    """Returns the default folder for the motion features by a stage 1.

    It is `motions` in the workdir; for a packed file, in a folder named like the file.
    """
    path = absolute(stage1)
    return (path.with_suffix("") if packed.is_packed(stage1) else path) / "motions"


def extract_motions(stage1_workdir: str | os.PathLike, data_path: str, out_dir: str) -> None:
    """Writes the motion features of every clip of a dataset.

    Args:
      stage1_workdir: workdir or packed file of a trained stage 1.
      data_path: a dataset made by `gesture_jax.prepare`.
      out_dir: the folder to write, which must not exist; `motions.MotionSource` reads it.

    Raises:
      InputError: where the checkpoint or the dataset is missing.
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
                    "joints": record["joints"],
                }

    write_motions(
        out_dir,
        {split: functools.partial(motions, source) for split, source in sources.items()},
        metadata={
            "stage1_workdir": str(absolute(stage1_workdir)),
            "stage1_step": checkpoints.motion_step(stage1_workdir),
            "data_path": str(absolute(data_path)),
            "joint_names": list(sources["train"].joint_names),
            **sources["train"].speech_features,
        },
    )
