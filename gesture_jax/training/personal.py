"""Makes an avatar from one portrait or from a video of one person.

The renderer of stage 1 is fine-tuned on clips of the person: those of the video, or clips of the
portrait as a puppet (`preparation.photo_people`). The motion extractor does not change, so that the
stage 2 of the bundled weights goes on fitting.

Everything lies in the workdir of that training: `source.json`, which portrait or video it is for;
`clips`, the data; `checkpoints`; and for a video `motions` and `stage2`. After an interruption, the
same call resumes.
"""

import dataclasses
import json
import math
import os
import pathlib
from collections.abc import Mapping

import jax
import numpy as np
from ml_collections import ConfigDict

from gesture_jax import presets
from gesture_jax.checkpoint import checkpoints, packed
from gesture_jax.data import portrait_framing, records
from gesture_jax.data.clips import ClipRecords
from gesture_jax.errors import InputError
from gesture_jax.inference import avatar, bundled
from gesture_jax.inference.avatar import Avatar, Consent
from gesture_jax.media import images
from gesture_jax.media.sound import has_audio
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
_LEAST_BATCH = 4
_SOURCE_FILE = "source.json"


@dataclasses.dataclass(frozen=True)
class Steps:
    """The lengths of the trainings.

    Attributes:
      stage1: steps of the renderer; 0 keeps the bundled one, which puppets do not need.
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
      InputError: where the portrait cannot be read, nobody suitable is found in it, or the workdir
        is used for something else.
    """
    found = donor or bundled.find()
    photo = images.load_photo(image)
    folder = _claim(workdir, image)
    known = _shoulders(found["stage1"])
    (left, top, side), _ = portrait_framing.choose_square(image, photo.picture, None, known)
    square = _shrink(photo.picture[top : top + side, left : left + side])
    try:
        made, still = rig_builder.build_rig(square, max_side=_MAX_SIDE)
    except rig_builder.UnsuitablePortraitError as error:
        raise InputError(f"{image}: {error.reason} ({error.detail})") from None
    person = Avatar((square,), consent, made, still)
    if not steps.stage1:
        return _write(folder, person, **found)
    rigs = folder / "rigs"
    rigs.mkdir(parents=True, exist_ok=True)
    rig.save_rig(rigs / f"person{rig.ENDING}", made)
    takes.write_photo_people(
        rigs, folder / "clips",
        clips_each=_NUM_CLIPS, clip_sec=_CLIP_SEC, size=_resolution(found["stage1"]), seed=0,
        framing="own",
    )  # fmt: skip
    train_renderer(folder, init_from=found["stage1"], num_steps=steps.stage1)
    return _write(folder, person, stage1=folder, stage2=found["stage2"])


def from_video(
    video: str | os.PathLike,
    workdir: str | os.PathLike,
    consent: Consent,
    steps: Steps,
    *,
    donor: Mapping[str, str] | None = None,
    least_sec: float = 10.0,
) -> pathlib.Path:
    """Makes an avatar from a video of one person.

    Args:
      video: the video, with sound.
      workdir: see the module.
      consent: who agreed.
      steps: lengths of the trainings.
      donor: files of the `stage1`, of the layered network, and the `stage2` to begin from; by
        default the bundled ones.
      least_sec: shorter videos are refused.

    Returns:
      The file of the avatar, beside the workdir.

    Raises:
      InputError: where the video cannot be used, or the workdir is used for something else.
    """
    found = donor or bundled.find()
    if not has_audio(video):
        raise InputError(f"{video}: has no sound; give a video of one person who talks")
    folder = _claim(workdir, video)
    settings = videos.Settings(
        _resolution(found["stage1"]), require_person=True, joints=True,
        feature_extractor=SpeechFeatureExtractor("mel"),
    )  # fmt: skip
    videos.write_videos(
        video, folder / "clips", settings=settings, crop=None,
        test_fraction=_TEST_FRACTION, split_within_clips=True,
    )  # fmt: skip
    seconds = _count_seconds(folder / "clips")
    if round(seconds) < least_sec:
        raise InputError(
            f"{video}: one person who talks is seen in {seconds:.1f} s of it only; "
            f"{least_sec:g} s or more are needed"
        )
    pictures, made, still = portraits_of_video.choose(
        video, _shoulders(found["stage1"]), max_side=_MAX_SIDE
    )
    stages: dict[str, str | os.PathLike] = dict(found)
    if steps.stage1:
        train_renderer(folder, init_from=found["stage1"], num_steps=steps.stage1)
        stages["stage1"] = folder
    if steps.stage2 and seconds >= _LEAST_MANNER_SEC:
        stages["stage2"] = _train_manner(folder, stages["stage1"], found["stage2"], steps.stage2)
    return _write(folder, Avatar(pictures, consent, made, still), **stages)


def _claim(workdir: str | os.PathLike, source: str | os.PathLike) -> pathlib.Path:
    """Makes the workdir of a portrait or a video, or finds the one that an earlier run has made.

    Raises:
      InputError: where it is used for another one or for something else, or the avatar could not be
        written beside it.
    """
    folder = files.absolute(workdir)
    if files.is_remote(folder):
        raise InputError(f"{workdir}: an avatar is made on this machine; give a folder of its disk")
    if packed.is_packed(folder):
        raise InputError(
            f"{workdir}: --out is the folder of the training, and the avatar is written beside it; "
            f"give --out={folder.stem}"
        )
    file, note = folder / _SOURCE_FILE, json.dumps({"sha256": files.hash_file(source)}) + "\n"
    if not files.is_free(folder):
        if not files.is_file(file) or file.read_text(errors="replace") != note:
            raise InputError(
                f"{workdir}: holds something else than an avatar of {source} in the making; choose "
                "another --out"
            )
    elif _avatar_path(folder).exists():
        raise InputError(f"{_avatar_path(folder)}: exists already; choose another --out")
    else:
        with files.write_beside(file) as beside:
            beside.write_text(note)
    return folder


def _avatar_path(folder: pathlib.Path) -> pathlib.Path:
    return folder.with_name(folder.name + packed.AVATAR_ENDING)


def _count_seconds(clips_dir: pathlib.Path) -> float:
    """Returns the length of all clips of a data set."""
    splits = records.read_meta(clips_dir, kind=ClipRecords.name, remedy="remove it")["splits"]
    return sum(split["seconds"] for split in splits.values())


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
        "num_steps": num_steps, "batch_size": _choose_batch_size(), "log_every_steps": 20,
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


def _choose_batch_size() -> int:
    """Returns the smallest size from `_LEAST_BATCH` on that all devices can share."""
    return math.ceil(_LEAST_BATCH / jax.device_count()) * jax.device_count()


def _train_manner(
    folder: pathlib.Path,
    stage1: str | os.PathLike,
    init_from: str | os.PathLike,
    num_steps: int,
) -> pathlib.Path:
    """Fine-tunes stage 2 on the person's motion, and returns its workdir."""
    motions_dir = folder / "motions"
    if not motions_dir.exists():
        extraction.extract_motions(stage1, str(folder / "clips"), str(motions_dir))
    config = presets.load("configs/stage2.py:photo")
    config.update(ConfigDict({
        "init_from": str(init_from), "stage1_workdir": str(stage1), "num_steps": num_steps,
        "eval_every_steps": 0, "checkpoint_every_steps": max(num_steps // 4, 1), "fgd_steps": 0,
    }))  # fmt: skip
    config.data.path = str(motions_dir)
    config.optim.update(ConfigDict({"learning_rate": 3e-4, "warmup_steps": 20}))
    loop.train(config, str(folder / "stage2"))
    return folder / "stage2"


def _write(folder: pathlib.Path, person: Avatar, **stages: str | os.PathLike) -> pathlib.Path:
    """Packs the stages that are workdirs, and writes the avatar beside the folder."""
    packed_stages = {}
    for stage, workdir in stages.items():
        packed_stages[stage] = workdir
        if files.is_folder(workdir):
            packed_stages[stage] = folder / f"{stage}.safetensors"
            checkpoints.pack(workdir, packed_stages[stage], half=True)
    avatar.write(_avatar_path(folder), person, **packed_stages)
    return _avatar_path(folder)


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
