"""Makes an avatar from one portrait or from a video of one person.

The renderer of stage 1 is fine-tuned on clips of the person: those of the video, or clips of the
portrait as a puppet (`preparation.photo_people`). The motion extractor does not change, so that the
stage 2 of the bundled weights goes on fitting.

Everything lies in the workdir of that training: `clips`, the data; `checkpoints`; and for a video
`motions` and `stage2`. After an interruption, the same call resumes.
"""

import dataclasses
import os
import pathlib
from collections.abc import Mapping

import numpy as np
from ml_collections import ConfigDict

from gesture_jax import presets
from gesture_jax.checkpoint import checkpoints
from gesture_jax.data import motions, portrait_framing
from gesture_jax.errors import InputError
from gesture_jax.inference import avatar, bundled
from gesture_jax.inference.avatar import Avatar, Consent
from gesture_jax.media import images
from gesture_jax.preparation import videos
from gesture_jax.preparation.photo_people import takes
from gesture_jax.puppets import rig, rig_builder
from gesture_jax.speech.extractor import SpeechFeatureExtractor
from gesture_jax.storage import files
from gesture_jax.training import extraction, loop, portraits_of_video

# The pictures of an avatar are at most this large; frames of 4K video need no more.
_MAX_SIDE = 1024
# Clips of a portrait, and the length of each.
_NUM_CLIPS, _CLIP_SEC = 10, 6.6
# The last share of a video is the test split.
_TEST_FRACTION = 0.2
# With less video than this, the manner of the bundled stage 2 is better than one's own.
_LEAST_MANNER_SEC = 30.0


@dataclasses.dataclass(frozen=True)
class Steps:
    """The lengths of the trainings.

    Attributes:
      stage1: steps of the renderer.
      stage2: steps of the manner; 0 keeps that of the bundled weights.
    """

    stage1: int
    stage2: int = 0


def from_portrait(
    image: str | os.PathLike,
    workdir: str | os.PathLike,
    consent: Consent,
    steps: Steps,
    *,
    donor: Mapping[str, str] | None = None,
) -> pathlib.Path:
    """Makes an avatar from one portrait.

    Args:
      image: the portrait, which shows one person from the hips up.
      workdir: see the module.
      consent: who agreed.
      steps: lengths of the trainings.
      donor: files of the `stage1`, of the layered network, and the `stage2` to begin from; by
        default the bundled ones.

    Returns:
      The file of the avatar, beside the workdir.

    Raises:
      InputError: where the portrait cannot be read, or nobody suitable is found in it.
    """
    folder, found = files.absolute(workdir), donor or bundled.find()
    photo = images.load_photo(image)
    known = _shoulders(found["stage1"])
    (left, top, side), _ = portrait_framing.choose_square(image, photo.picture, None, known)
    square = _shrink(photo.picture[top : top + side, left : left + side])
    try:
        made, still = rig_builder.build_rig(square, max_side=_MAX_SIDE)
    except rig_builder.UnsuitablePortraitError as error:
        raise InputError(f"{image}: {error.reason} ({error.detail})") from None
    rigs = folder / "rigs"
    rigs.mkdir(parents=True, exist_ok=True)
    rig.save_rig(rigs / f"person{rig.ENDING}", made)
    takes.write_photo_people(
        rigs, folder / "clips",
        clips_each=_NUM_CLIPS, clip_sec=_CLIP_SEC, size=_resolution(found["stage1"]), seed=0,
        framing="own",
    )  # fmt: skip
    train_renderer(folder, init_from=found["stage1"], num_steps=steps.stage1)
    return _write(folder, Avatar((square,), consent, made, still), stage2=found["stage2"])


def from_video(
    video: str | os.PathLike,
    workdir: str | os.PathLike,
    consent: Consent,
    steps: Steps,
    *,
    donor: Mapping[str, str] | None = None,
) -> pathlib.Path:
    """Makes an avatar from a video of one person, of at least ten seconds.

    Args:
      video: the video, with sound.
      workdir: see the module.
      consent: who agreed.
      steps: lengths of the trainings.
      donor: files of the `stage1`, of the layered network, and the `stage2` to begin from; by
        default the bundled ones.

    Returns:
      The file of the avatar, beside the workdir.

    Raises:
      InputError: where the video cannot be used.
    """
    folder, found = files.absolute(workdir), donor or bundled.find()
    settings = videos.Settings(
        _resolution(found["stage1"]), require_person=True, joints=True,
        feature_extractor=SpeechFeatureExtractor("mel"),
    )  # fmt: skip
    videos.write_videos(
        video, folder / "clips", settings=settings, crop=None,
        test_fraction=_TEST_FRACTION, split_within_clips=True,
    )  # fmt: skip
    pictures, made, still = portraits_of_video.choose(
        video, _shoulders(found["stage1"]), max_side=_MAX_SIDE
    )
    train_renderer(folder, init_from=found["stage1"], num_steps=steps.stage1)
    stage2 = _train_manner(folder, found["stage2"], steps.stage2) or found["stage2"]
    return _write(folder, Avatar(pictures, consent, made, still), stage2=stage2)


def train_renderer(workdir: pathlib.Path, *, init_from: str | os.PathLike, num_steps: int) -> None:
    """Fine-tunes the renderer of a stage 1 on `workdir/clips`, into the workdir.

    Args:
      workdir: of the training.
      init_from: the stage 1 to begin from, whose extractor is kept.
      num_steps: number of steps.
    """
    config = presets.load("configs/stage1.py:photo")
    config.update(_same_networks(init_from))
    config.init_from = str(init_from)
    config.data.path = str(workdir / "clips")
    config.update(ConfigDict({
        "num_steps": num_steps, "batch_size": 4, "log_every_steps": 20,
        "eval_every_steps": 0, "checkpoint_every_steps": max(num_steps // 8, 1),
        "keep_checkpoints": 1, "st_lpips": False,
    }))  # fmt: skip
    config.data.update(ConfigDict({"cache": True, "augment_views": 0.0}))
    config.data.augment.update(ConfigDict({"mirror": 0.0, "jitter": 0.0}))
    config.loss.update(ConfigDict({"perceptual": 0.0, "perceptual_regions": 1.0, "mouth": 0.0}))
    config.optim.update(ConfigDict({
        "learning_rate": 4e-4, "warmup_steps": 20, "ema_decay": 0.98,
        "frozen_parts": ("extractor",),
    }))  # fmt: skip
    loop.train(config, str(workdir))


def _train_manner(
    folder: pathlib.Path, init_from: str | os.PathLike, num_steps: int
) -> pathlib.Path | None:
    """Fine-tunes stage 2 on the person's motion; None where that is not asked for, or too short."""
    if not num_steps:
        return None
    motions_dir = folder / "motions"
    if not motions_dir.exists():
        extraction.extract_motions(folder, str(folder / "clips"), str(motions_dir))
    source = motions.MotionSource(motions_dir, "train")
    if source.metadata["splits"]["train"]["seconds"] < _LEAST_MANNER_SEC:
        return None
    config = presets.load("configs/stage2.py:photo")
    config.update(ConfigDict({
        "init_from": str(init_from), "stage1_workdir": str(folder), "num_steps": num_steps,
        "eval_every_steps": 0, "checkpoint_every_steps": max(num_steps // 4, 1), "fgd_steps": 0,
    }))  # fmt: skip
    config.data.path = str(motions_dir)
    config.optim.update(ConfigDict({"learning_rate": 3e-4, "warmup_steps": 20}))
    loop.train(config, str(folder / "stage2"))
    return folder / "stage2"


def _write(folder: pathlib.Path, person: Avatar, *, stage2: str | os.PathLike) -> pathlib.Path:
    """Packs both stages, and writes the avatar beside the folder."""
    packed = {}
    for stage, workdir in (("stage1", folder), ("stage2", stage2)):
        packed[stage] = workdir
        if files.is_folder(workdir):
            packed[stage] = folder / f"{stage}.safetensors"
            checkpoints.pack(workdir, packed[stage], half=True)
    path = folder.with_name(folder.name + ".avatar")
    avatar.write(path, person, **packed)
    return path


def _same_networks(stage1: str | os.PathLike) -> ConfigDict:
    """Returns the networks of a trained stage 1, as a part of a config."""
    return ConfigDict({"model": checkpoints.read_config(stage1, stage="stage1").model.to_dict()})


def _resolution(stage1: str | os.PathLike) -> int:
    return checkpoints.read_config(stage1, stage="stage1").model.resolution


def _shoulders(stage1: str | os.PathLike) -> np.ndarray | None:
    config = checkpoints.read_config(stage1, stage="stage1")
    return portrait_framing.read_range(config.get("shoulders"), name=stage1)


def _shrink(square: np.ndarray) -> np.ndarray:
    return images.shrink(images.to_uint8(square), most_px=_MAX_SIDE)
