"""Stage 1: the deviation model, trained to redraw a driving frame from a source frame.

    python -m gesture_jax.train --config=configs/stage1.py:PRESET --workdir=DIR

| preset | what | hardware | duration |
|---|---|---|---|
| paper (default) | 256x256, 210.6 M parameters, the reference | GPU or TPU | days; not yet run |
| demo | 64x64 on the procedural speaker | two CPU cores | about 5 minutes |
| smoke | 32x32, a few steps; what tests use | one CPU core | seconds |
"""

from ml_collections import ConfigDict

from gesture_jax import presets

# Drawn people are endless; nothing needs to be made of few.
_NO_AUGMENTATION = {"swap": 0.0, "mirror": 0.0, "jitter": 0.0}


def get_config(preset: str = "paper") -> ConfigDict:
    """The config of a preset: "paper", "demo" or "smoke"."""
    return presets.choose(preset, paper=_paper(), demo=_demo(), smoke=_smoke())


def _paper() -> dict:
    return {
        "stage": "stage1",
        "preset": "paper",
        "seed": 0,
        "num_steps": 300_000,
        "batch_size": 16,
        "log_every_steps": 100,
        "eval_every_steps": 5_000,
        "checkpoint_every_steps": 5_000,
        "keep_checkpoints": 3,
        # Whether ST-LPIPS, by VGG-16, is measured on the test split.
        "st_lpips": True,
        "data": {
            # A dataset of `gesture_jax.prepare`; with demo and smoke an empty path means
            # WORKDIR/dataset.
            "path": "",
            # Clips of the procedural speaker to make where the dataset is missing (0: none).
            "procedural_clips": 0,
            "procedural_identities": 4,
            "procedural_clip_sec": 5.0,
            # Keeps decoded frames in memory: for data sets of minutes, not hours.
            "cache": False,
            # Processes that decode; 0 is a thread of this one.
            "num_workers": 2,
            # TPSMM's: half of the pairs swapped in time, of the others half mirrored, colours by a
            # tenth.
            "augment": {"swap": 0.5, "mirror": 0.5, "jitter": 0.1},
            "eval_frames_per_clip": 8,
        },
        "model": {
            "resolution": 256,
            "width": 64,
            "max_width": 512,
            "num_downs": 3,
            "num_bins": 66,
            "extractor_width": 64,
            "extractor_blocks": (3, 4, 6),
            "field_width": 64,
            # "volume": the reference's warp; "flow": one displacement a cell.
            "warp_kind": "volume",
            # Whether the field is made of the source's own motion too; the reference's is not.
            "relative": False,
            "num_source_blocks": 4,
            "num_decoder_blocks": 8,
        },
        "loss": {
            # Mean absolute difference at scales 1, 1/2, 1/4, 1/8.
            "pixel": 10.0,
            "pyramid_levels": 4,
            # VGG features at the same scales, as far down as VGG can see; 0 does without VGG.
            "perceptual": 10.0,
            # The user's file of torchvision's VGG-19; empty is VGG-16, which is fetched.
            "vgg19": "",
            # Warped source volume against the driving frame's own encoding.
            "warp": 10.0,
        },
        "optim": {
            "learning_rate": 2e-4,
            "b1": 0.5,
            "b2": 0.999,
            "weight_decay": 0.0,
            "warmup_steps": 500,
            "final_fraction": 0.05,
            "clip_norm": 10.0,
            "ema_decay": 0.999,
        },
    }


def _demo() -> dict:
    return {
        "num_steps": 1300,
        "batch_size": 8,
        "log_every_steps": 20,
        "eval_every_steps": 650,
        "checkpoint_every_steps": 650,
        # Two windows of stage 2 each.
        "data": {
            "procedural_clips": 120,
            "procedural_clip_sec": 6.6,
            "cache": True,
            "num_workers": 0,
            "augment": _NO_AUGMENTATION,
        },
        "model": {
            "resolution": 64,
            "width": 8,
            "max_width": 32,
            "num_downs": 2,
            "extractor_width": 16,
            "extractor_blocks": (2, 2),
            "field_width": 16,
            # See docs/stage1.md.
            "warp_kind": "flow",
            "relative": True,
            "num_source_blocks": 1,
            "num_decoder_blocks": 2,
        },
        "st_lpips": False,
        "loss": {"warp": 0.1, "perceptual": 0.0},
        "optim": {"learning_rate": 1e-3, "b1": 0.9, "warmup_steps": 50, "ema_decay": 0.99},
    }


def _smoke() -> dict:
    return {
        "num_steps": 4,
        "batch_size": 8,
        "log_every_steps": 1,
        "eval_every_steps": 2,
        "checkpoint_every_steps": 2,
        "data": {
            "procedural_clips": 4,
            "procedural_identities": 2,
            "procedural_clip_sec": 4.0,
            "cache": True,
            "num_workers": 0,
            "augment": _NO_AUGMENTATION,
            "eval_frames_per_clip": 2,
        },
        "st_lpips": False,
        "loss": {"perceptual": 0.0},
        "model": {
            "resolution": 32,
            "width": 8,
            "max_width": 16,
            "num_downs": 2,
            "extractor_width": 8,
            "extractor_blocks": (1, 1),
            "field_width": 8,
            "warp_kind": "flow",
            "relative": True,
            "num_source_blocks": 1,
            "num_decoder_blocks": 1,
        },
        "optim": {"warmup_steps": 1},
    }
