"""What each value of a config may be: told before anything is made, as a typing slip costs hours.

Here are types and the ranges of numbers, one by one. Names, and what has to fit together, are known
to those who use them.
"""

from typing import Any

import flax
from ml_collections import ConfigDict

from gesture_jax.errors import InputError
from gesture_jax.ops import remat

_MANY = 10**9
_COUNT, _SOME, _WIDTH, _BLOCKS = (0, _MANY), (1, _MANY), (1, 2**14), (0, 64)
_SHARE, _WEIGHT = (0.0, 1.0), (0.0, 1e9)

_BOTH = {
    "stage": str, "preset": str, "init_from": str, "seed": (0, 2**31 - 1), "num_steps": _SOME,
    "batch_size": (1, 2**16), "accumulate_steps": (1, 2**16),
    "dtype": {"float32", "bfloat16"}, "remat": {*remat.POLICIES},
    "mesh.data": (-1, 2**16), "mesh.fsdp": (-1, 2**16),
    "log_every_steps": _SOME, "eval_every_steps": _SOME, "checkpoint_every_steps": _SOME,
    "keep_checkpoints": _SOME, "data.path": str, "data.sha256": str, "data.num_workers": (0, 1024),
    "optim.name": str, "optim.learning_rate": (0.0, 10.0), "optim.b1": (0.0, 0.99999),
    "optim.b2": (0.0, 0.99999), "optim.weight_decay": (0.0, 10.0), "optim.warmup_steps": _COUNT,
    "optim.final_fraction": _SHARE, "optim.clip_norm": (1e-9, 1e9), "optim.ema_decay": _SHARE,
    "optim.max_grad_norm": (0.0, 1e30),
}  # fmt: skip
_STAGE1 = {
    "shoulders": tuple, "st_lpips": bool,
    "data.procedural_clips": (0, 10**5), "data.procedural_identities": (1, 10**5),
    "data.procedural_clip_sec": (0.2, 600.0), "data.cache": bool, "data.on_device": bool,
    "data.augment.swap": _SHARE,
    "data.augment.mirror": _SHARE, "data.augment.jitter": _SHARE,
    "data.augment_views": _SHARE, "data.joint_names": tuple,
    "data.eval_frames_per_clip": (1, 10**4),
    "model.network": str, "model.resolution": (4, 2048), "model.width": _WIDTH,
    "model.max_width": _WIDTH, "model.fine_width": _WIDTH, "model.extractor_width": _WIDTH,
    "model.field_width": _WIDTH, "model.warp_feature_width": _WIDTH, "model.num_downs": (1, 8),
    "model.num_bins": (1, 1000), "model.extractor_blocks": tuple, "model.warp_kind": str,
    "model.relative": bool, "model.num_source_blocks": _BLOCKS,
    "model.num_extractor_blocks": _BLOCKS, "model.num_decoder_blocks": _BLOCKS,
    "model.refine_width": _WIDTH, "model.num_field_blocks": _BLOCKS,
    "model.num_fine_blocks": _BLOCKS,
    "discriminator.width": _WIDTH, "discriminator.max_width": _WIDTH,
    "discriminator.num_levels": (1, 8),
    "loss.pixel": _WEIGHT, "loss.pyramid_levels": (1, 8), "loss.squared": _WEIGHT,
    "loss.region_weight": _WEIGHT, "loss.perceptual": _WEIGHT, "loss.perceptual_blocks": (1, 5),
    "loss.perceptual_start": _COUNT, "loss.vgg19": str, "loss.warp": _WEIGHT,
    "loss.perceptual_regions": _WEIGHT, "loss.warped": _WEIGHT, "loss.drawn": _WEIGHT,
    "loss.joints": _WEIGHT, "loss.mask_smoothness": _WEIGHT, "loss.warped_regions": _WEIGHT,
    "loss.mouth": _WEIGHT, "loss.mouth_weight": _WEIGHT,
    "loss.adversarial": _WEIGHT, "loss.feature_matching": _WEIGHT,
    "loss.adversarial_start": _COUNT, "loss.discriminator": _WEIGHT,
}  # fmt: skip
_PACE = {"hop": (1, 10**4), "look_ahead": (0, 10**4), "blend": (0, 10**4), "candidates": (1, 1024)}
_STAGE2 = {
    "stage1_workdir": str, "data.extract_missing": bool, "data.window_stride": (1, 10**6),
    "data.features": str, "motion_space": str, "relative": bool, "standardise": bool,
    "training_bounds": bool, "loss.portrait_dropout": _SHARE, "loss.prior_drift": (0.0, 100.0),
    "speaker_conditioning": bool, "stage1_step": _COUNT, "feature_dim": (0, 10**6),
    "speech_dim": (0, 10**5), "speakers": tuple, "wavlm_sha256": str,
    "model.window": (12, 10**4), "model.num_prior": (1, 1000), "model.latent": _WIDTH,
    "model.feedforward": (1, 2**17), "model.num_layers": (1, 128), "model.num_heads": (1, 256),
    "model.num_speech_layers": _BLOCKS, "model.dropout": (0.0, 0.99),
    "process.num_steps": (1, 10**5), "process.schedule": str,
    "loss.position": _WEIGHT, "loss.velocity": _WEIGHT, "loss.acceleration": _WEIGHT,
    "loss.speech_dropout": _SHARE, "loss.future_dropout": _SHARE, "loss.prior_noise": (0.0, 100.0),
    "loss.timestep_power": (0.01, 1000.0),
    "sampler.name": str, "sampler.num_steps": (1, 10**5), "sampler.eta": _SHARE,
    "sampler.clip": (0.0, 1e6), "sampler.guidance": (0.0, 100.0), "sampler.interval": tuple,
    **{f"schedule.{name}": span for name, span in _PACE.items()},
    **{f"stream_schedule.{name}": span for name, span in _PACE.items()},
    "control.motion_scale": (0.0, 100.0), "control.head_scale": (0.0, 100.0),
    "control.hands_scale": (0.0, 100.0), "control.rest_sec": (0.0, 3600.0),
    "fgd_steps": (0, 10**7),
}  # fmt: skip
RULES = {"stage1": _BOTH | _STAGE1, "stage2": _BOTH | _STAGE2}
"""By stage and key, from where to where a number may be, of its type; or all names; or a type."""
_OPTIONAL = {"dtype", "remat", "init_from", "optim.name", "optim.max_grad_norm"}
# Older configs of stage 2 lack these.
_OPTIONAL |= {"data.sha256", "training_bounds", "loss.portrait_dropout", "loss.prior_drift"}


def check(config: ConfigDict) -> None:
    """Looks at each value of a stage's config.

    Raises:
      InputError: for the first that is of another type, out of range, or unknown.
    """
    flat = flax.traverse_util.flatten_dict(config.to_dict(), sep=".")
    rules = RULES.get(flat.get("stage"))
    if rules is None:
        raise InputError(f"stage is {flat.get('stage')!r}; wanted is one of {', '.join(RULES)}")
    for key, value in flat.items():
        # What is not said of the discriminator's optimiser is as the other's.
        _check_value(key, value, rules.get(key.replace("optim.discriminator.", "optim.")))


def check_complete(config: ConfigDict) -> None:
    """Likewise, and raises InputError where a key is missing that all configs of its stage have."""
    check(config)
    flat = flax.traverse_util.flatten_dict(config.to_dict(), sep=".")
    lacking = [key for key in RULES[config.stage] if key not in flat and key not in _OPTIONAL]
    if lacking:
        raise InputError(f"{lacking[0]} is missing")


def _check_value(key: str, value: Any, rule: Any) -> None:
    if rule is None:
        raise InputError(f"{key} is no part of a config")
    if isinstance(rule, set):
        if value not in rule:
            raise InputError(f"{key} is {value!r}; wanted is one of {', '.join(sorted(rule))}")
        return
    if isinstance(rule, type):
        if not isinstance(value, rule):
            raise InputError(f"{key} is {value!r}; wanted is a {rule.__name__}")
        return
    low, high = rule
    kinds = int if type(low) is int else int | float
    is_number = isinstance(value, kinds) and not isinstance(value, bool)
    if not is_number or not low <= value <= high:  # NaN is not.
        kind = "a whole number" if type(low) is int else "a number"
        raise InputError(f"{key} is {value!r}; wanted is {kind} from {low:g} to {high:g}")
