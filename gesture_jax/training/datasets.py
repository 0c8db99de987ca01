"""Finds what a stage trains on, and makes it where the preset says so."""

import numpy as np
from ml_collections import ConfigDict

from gesture_jax.checkpoint import checkpoints
from gesture_jax.data import clips, motions, pipeline
from gesture_jax.errors import InputError
from gesture_jax.parallel import hardware, processes
from gesture_jax.preparation import procedural
from gesture_jax.procedural import voice
from gesture_jax.speech.extractor import SpeechFeatureExtractor
from gesture_jax.storage.files import absolute, as_path
from gesture_jax.training.extraction import default_folder, extract_motions

# The frames of a data set may take at most this share of a device's memory.
_MAX_MEMORY_SHARE = 0.6


def ensure_dataset(config: ConfigDict, workdir: str) -> str:
    """Returns the dataset's folder, and sets `config.data.path` to it.

    Makes a missing dataset of the procedural speaker where the preset says so.

    Raises:
      InputError: where it is missing and the preset makes none.
    """
    path = config.data.path or str(as_path(workdir) / "dataset")
    if config.data.procedural_clips and not config.data.procedural_voices:
        config.data.procedural_voices = voice.default_voices()
    with processes.first_process_first("dataset"):
        if not clips.is_dataset(path):
            _make_dataset(config, path)
    config.data.path = path
    return path


def _make_dataset(config: ConfigDict, path: str) -> None:
    if not config.data.procedural_clips:
        raise InputError(
            f"{path}: no dataset here; make one with `python -m gesture_jax.prepare "
            f"--videos=DIR --size={config.model.resolution} --out=DATASET` "
            "and pass --config.data.path=DATASET"
        )
    procedural.write_procedural(
        path,
        num_clips=config.data.procedural_clips,
        num_identities=config.data.procedural_identities,
        clip_sec=config.data.procedural_clip_sec,
        size=config.model.resolution,
        seed=config.seed,
        voices=config.data.procedural_voices,
        feature_extractor=SpeechFeatureExtractor(config.data.procedural_features),
    )


def check_resolution(source: clips.ClipSource, resolution: int) -> None:
    """Raises InputError where the frames of a dataset are not of the model's resolution."""
    if source.size != resolution:
        raise InputError(
            f"{source.path}: frames of {source.size} pixels, but the model's resolution is "
            f"{resolution}; prepare with --size={resolution}"
        )


def load_frames(source: clips.ClipSource) -> np.ndarray:
    """Decodes all frames; raises InputError where they would fill the memory of a device."""
    num_frames = sum(source.num_frames(clip) for clip in range(len(source)))
    needed = num_frames * source.size**2 * 3
    memory = hardware.device_memory()
    if memory and needed > _MAX_MEMORY_SHARE * memory:
        raise InputError(
            f"{source.path}: its {num_frames} frames take {needed / 1e9:.1f} GB, and the device "
            f"has {memory / 1e9:.1f} GB; leave --config.data.on_device out"
        )
    return pipeline.decode_all(source)


def ensure_motions(config: ConfigDict) -> str:
    """Returns the folder of the motion features, and sets `config.data.path` to it.

    Extracts missing features where the preset says so.

    Raises:
      InputError: where stage 1 is missing, or the features are missing or of another step of it.
    """
    if not config.stage1_workdir:
        raise InputError("stage 2 needs a trained stage 1: pass --config.stage1_workdir=DIR")
    stage1_config = checkpoints.read_config(config.stage1_workdir, stage="stage1")
    path = config.data.path or str(default_folder(config.stage1_workdir))
    if processes.first_process_says(not clips.is_dataset(path)):
        # Configs of converted and packed weights have no path of their data.
        data_path = stage1_config.get("data", {}).get("path", "")
        if not (config.data.extract_missing and data_path):
            raise InputError(
                f"{path}: no motion features here; extract them with `python -m "
                f"gesture_jax.extract --stage1={config.stage1_workdir} "
                f"--data={data_path or 'DATASET'} --out={path}`"
            )
        with processes.first_process_first("motions"):
            extract_motions(config.stage1_workdir, data_path, path)
    found = motions.MotionSource(path, "train").metadata.get("stage1_step")
    newest = checkpoints.motion_step(config.stage1_workdir)
    if found != newest:
        raise InputError(
            f"{path}: motion features of stage 1 at step {found}, but it is at step {newest} now; "
            "remove them, and extract them again"
        )
    config.data.path = path
    config.stage1_workdir = str(absolute(config.stage1_workdir))
    return path


def check_speech_features(source: motions.MotionSource, wanted: str) -> str:
    """Returns the kind of speech features that motions were prepared with.

    Args:
      source: the motions.
      wanted: the kind that is wanted; "" takes any.

    Raises:
      InputError: where another kind is wanted.
    """
    found = source.metadata.get("features", "baseline")
    if wanted not in ("", found):
        raise InputError(
            f"{source.path}: holds speech features {found!r}, but {wanted!r} are wanted; pass "
            f"--config.data.features={found}, or prepare with --features={wanted} and extract again"
        )
    return found
