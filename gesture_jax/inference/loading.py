"""Loads a stage 2 and the speech features that it was trained on."""

import os

from ml_collections import ConfigDict

from gesture_jax.checkpoint import checkpoints
from gesture_jax.errors import InputError
from gesture_jax.inference.animator import Animator
from gesture_jax.models import motion_model
from gesture_jax.models.motion_space import is_sound
from gesture_jax.speech.extractor import SpeechFeatureExtractor, uses_wavlm


def load_stage2(workdir: str | os.PathLike, animator: Animator) -> tuple[ConfigDict, dict]:
    """Loads the config and the weights of a stage 2 that was trained on this stage 1.

    Raises:
      InputError: where there is no such checkpoint, its stage 1 had another motion grid or was at
        another step, or its statistics are damaged.
    """
    config = checkpoints.read_config(workdir, stage="stage2")
    if config.feature_dim != animator.model.motion_dim:
        raise InputError(
            f"{workdir}: was trained on motion features of length {config.feature_dim}, but this "
            f"stage 1 makes {animator.model.motion_dim}; give the stage 1 that it was trained on"
        )
    if config.stage1_step != animator.motion_step:
        raise InputError(
            f"{workdir}: was trained on stage 1 at step {config.stage1_step}, but this one is at "
            f"step {animator.motion_step}; extract the motions and train stage 2 again"
        )
    variables, _ = checkpoints.load_variables(
        workdir, motion_model.abstract_variables(config), stage="stage2"
    )
    if not is_sound(variables["statistics"]):
        raise InputError(f"{workdir}: the statistics of its training set are damaged; train again")
    return config, variables


def load_feature_extractor(
    workdir: str | os.PathLike, config: ConfigDict, wavlm: str | None
) -> SpeechFeatureExtractor:
    """Computes the speech features that a stage 2 was trained on.

    Raises:
      InputError: where WavLM's weights are missing, have no use, or differ from those of training.
    """
    kind, sha256 = config.data.features, config.wavlm_sha256
    if (wavlm is None) == uses_wavlm(kind):
        needed = "needs --wavlm=FILE" if wavlm is None else "has no use for --wavlm"
        raise InputError(f"{workdir}: was trained on speech features {kind!r} and {needed}")
    feature_extractor = SpeechFeatureExtractor(kind, wavlm)
    if feature_extractor.describe().get("wavlm_sha256", "") != sha256:
        raise InputError(
            f"{wavlm}: not the WavLM that {workdir} was trained with (SHA-256 {sha256}); give that"
        )
    return feature_extractor
