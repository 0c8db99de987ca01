"""Stage 1: the deviation model, trained to redraw a driving frame from a source frame.

    python -m gesture_jax.train --config=configs/stage1.py:PRESET --workdir=DIR

| preset | what | hardware | duration |
|---|---|---|---|
| paper (default) | 256x256, 210.6 M parameters, the reference | GPU or TPU | days; not yet run |
| photo | 256x256 on photo people, carries pixels to any size | one GPU | 10 minutes, H100 |
| demo | 64x64 on the procedural speaker, compact | one CPU core | 15 minutes |
| smoke | 32x32, a few steps; what tests use | one CPU core | seconds |

What to expect of each, step by step, stands in docs/stage1.md.
"""

from ml_collections import ConfigDict

from gesture_jax import presets

# Drawn people are endless; nothing needs to be made of few.
_NO_AUGMENTATION = {"swap": 0.0, "mirror": 0.0, "jitter": 0.0}


def get_config(preset: str = "paper") -> ConfigDict:
    """The config of a preset: "paper", "photo", "demo" or "smoke"."""
    return presets.choose(preset, paper=_paper(), photo=_photo(), demo=_demo(), smoke=_smoke())


def _paper() -> dict:
    return {
        "stage": "stage1",
        "preset": "paper",
        "seed": 0,
        # Fine-tuning: the workdir, or a file packed of it, whose averaged weights the run begins
        # with; see docs/finetune.md.
        "init_from": "",
        "num_steps": 300_000,
        "batch_size": 16,
        # Parts of a batch that are computed one after another, for batches larger than the memory.
        # What a loss or a norm takes over a batch is taken over a part.
        "accumulate_steps": 1,
        # What is computed again for the gradient rather than kept, see `gesture_jax/ops/remat.py`:
        # "none", "cheap" (norms, activations) or "blocks" (all but the blocks' results).
        "remat": "none",
        # What the networks compute in while they train; "bfloat16" halves what is kept for the
        # gradient. Parameters, statistics and losses are float32 either way.
        "dtype": "float32",
        # Devices along the axes of the mesh; -1 is as many as there are. Each group of `fsdp` holds
        # the state once.
        "mesh": {"data": -1, "fsdp": 1},
        "log_every_steps": 100,
        "eval_every_steps": 5_000,
        "checkpoint_every_steps": 5_000,
        "keep_checkpoints": 3,
        # Where shoulders are in the frames of the data, which training measures; see
        # `gesture_jax/data/portrait_framing.py`.
        "shoulders": (),
        # Whether ST-LPIPS, by VGG-16, is measured on the test split.
        "st_lpips": True,
        "data": {
            # A dataset of `gesture_jax.prepare`; with demo and smoke an empty path means
            # WORKDIR/dataset.
            "path": "",
            # Read off the data: what tells them from others, wherever they lie.
            "sha256": "",
            # Clips of the procedural speaker to make where the dataset is missing (0: none).
            "procedural_clips": 0,
            "procedural_identities": 4,
            "procedural_clip_sec": 5.0,
            # Keeps decoded frames in memory: for data sets of minutes, not hours.
            "cache": False,
            # Keeps all frames decoded in the memory of the device, where each step reads its pairs:
            # for data sets that fit there, as no CPU decodes as fast as a GPU trains `photo`.
            "on_device": False,
            # Processes that decode; 0 is a thread of this one.
            "num_workers": 2,
            # TPSMM's: half of the pairs swapped in time, of the others half mirrored, colours by a
            # tenth.
            "augment": {"swap": 0.5, "mirror": 0.5, "jitter": 0.1},
            # How much brighter or darker each colour may be in what the extractor sees, apart from
            # the frame that is to be redrawn: motion features then cannot carry colours.
            "augment_views": 0.0,
            # Read off the data.
            "joint_names": (),
            "eval_frames_per_clip": 8,
        },
        # Attributes of `models.deviation.DeviationModel`, or of another network of `models.build`.
        "model": {
            "network": "reference",
            "resolution": 256,
            "width": 64,
            "max_width": 512,
            "num_downs": 3,
            "num_bins": 66,
            "extractor_width": 64,
            "extractor_blocks": (3, 4, 6),
            "field_width": 64,
            # "volume": the reference's warp; "exact": without its misfit; "flow": one displacement
            # a cell.
            "warp_kind": "volume",
            # Whether the field is made of the source's own motion too; the reference's is not.
            "relative": False,
            "num_source_blocks": 4,
            "num_decoder_blocks": 8,
        },
        # A patch discriminator, where `loss.adversarial` is above zero.
        "discriminator": {"width": 64, "max_width": 512, "num_levels": 4},
        # Weights of the terms; 0 switches a term off.
        "loss": {
            # Mean absolute difference at scales 1, 1/2, 1/4, 1/8.
            "pixel": 10.0,
            "pyramid_levels": 4,
            # Mean squared difference, which drives what is far off: hands.
            "squared": 0.0,
            # How much a pixel of hands and of the mouth counts in both, where they are known;
            # others 1.
            "region_weight": 3.0,
            "mouth_weight": 3.0,
            # VGG features at the same scales, as far down as VGG can see; of its first blocks, and
            # from a step on.
            "perceptual": 10.0,
            "perceptual_blocks": 5,
            "perceptual_start": 0,
            # The user's file of torchvision's VGG-19; empty is VGG-16, which is fetched.
            "vgg19": "",
            # The same of squares around hands and mouth, at one scale; and of the mouth alone, from
            # near.
            "perceptual_regions": 0.0,
            "mouth": 0.0,
            # Warped source volume against the driving frame's own encoding.
            "warp": 10.0,
            # Of the layered network: the warped portrait and what is drawn, each by itself, and
            # joints that the flows miss (1 is half of the frame's side); the squares again, of the
            # warped portrait; and how uneven the masks are.
            "warped": 0.0,
            "drawn": 0.0,
            "joints": 0.0,
            "warped_regions": 0.0,
            "mask_smoothness": 0.0,
            # Hinge loss against the discriminator and distance of its features, from a step on.
            "adversarial": 1.0,
            "feature_matching": 10.0,
            "adversarial_start": 100_000,
            # What the discriminator minimises; it has its own optimiser.
            "discriminator": 1.0,
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
            # A gradient longer than this stops the run: it has diverged.
            "max_grad_norm": 1e6,
            # Its own optimiser; what is not said here is as above.
            "discriminator": {"learning_rate": 2e-4},
        },
    }


def _photo() -> dict:
    return {
        "num_steps": 6000,
        "batch_size": 64,
        "log_every_steps": 50,
        "eval_every_steps": 2000,
        "checkpoint_every_steps": 1000,
        "data": {
            "num_workers": 0,
            "augment": {"swap": 0.0, "mirror": 0.5, "jitter": 0.05},
            "augment_views": 0.3,
        },
        "model": {
            "network": "layered",
            "resolution": 256,
            "num_downs": 3,
            "width": 128,
            "fine_width": 48,
            "extractor_width": 96,
            "field_width": 96,
            "warp_feature_width": 48,
            "refine_width": 32,
            "num_bins": 66,
            "relative": True,
            "num_source_blocks": 3,
            "num_extractor_blocks": 3,
            "num_field_blocks": 3,
            "num_decoder_blocks": 2,
            "num_fine_blocks": 2,
        },
        "loss": {
            "pixel": 5.0,
            "squared": 25.0,
            "region_weight": 3.0,
            "mouth_weight": 9.0,
            "perceptual": 1.0,
            "perceptual_regions": 3.0,
            "perceptual_blocks": 4,
            "mouth": 1.0,
            "warp": 0.0,
            "warped": 2.0,
            "drawn": 5.0,
            "joints": 8.0,
            "warped_regions": 1.0,
            "mask_smoothness": 0.5,
            "adversarial": 0.0,
        },
        "optim": {
            "learning_rate": 1.5e-3,
            "b1": 0.9,
            "warmup_steps": 300,
            "clip_norm": 1.0,
            "ema_decay": 0.999,
        },
    }


def _demo() -> dict:
    return {
        "num_steps": 2800,
        # Small batches and many steps: pictures come from steps.
        "batch_size": 4,
        "log_every_steps": 50,
        "eval_every_steps": 1400,
        "checkpoint_every_steps": 1400,
        # Two windows of stage 2 each.
        "data": {
            "procedural_clips": 120,
            "procedural_clip_sec": 6.6,
            "cache": True,
            "num_workers": 0,
            "augment": _NO_AUGMENTATION,
        },
        "model": {
            "network": "compact",
            "resolution": 64,
            "num_downs": 2,
            "width": 64,
            "fine_width": 24,
            "extractor_width": 48,
            "field_width": 64,
            "warp_feature_width": 32,
            "num_bins": 66,
            # See docs/stage1.md.
            "warp_kind": "flow",
            "relative": True,
            "num_source_blocks": 1,
            "num_extractor_blocks": 1,
            "num_decoder_blocks": 3,
        },
        "discriminator": {"width": 32, "max_width": 128, "num_levels": 3},
        "loss": {
            "squared": 50.0,
            "region_weight": 1.0,
            "mouth_weight": 1.0,
            # VGG makes a step ten times as long, so it comes at the end, and makes faces sharp.
            "perceptual": 5.0,
            "perceptual_blocks": 3,
            "perceptual_start": 1800,
            "warp": 0.0,
            "adversarial": 0.0,
        },
        "optim": {"learning_rate": 3e-3, "b1": 0.9, "warmup_steps": 100, "ema_decay": 0.998},
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
        "model": {
            "network": "compact",
            "resolution": 32,
            "num_downs": 2,
            "width": 64,
            "fine_width": 32,
            "extractor_width": 64,
            "field_width": 64,
            "warp_feature_width": 32,
            "num_bins": 66,
            "warp_kind": "flow",
            "relative": True,
            "num_source_blocks": 1,
            "num_extractor_blocks": 1,
            "num_decoder_blocks": 1,
        },
        "st_lpips": False,
        "discriminator": {"width": 8, "max_width": 16, "num_levels": 2},
        "loss": {
            "squared": 50.0,
            "perceptual": 0.0,
            "warp": 0.1,
            # Both sides of the game play from the third step on.
            "adversarial_start": 2,
        },
        "optim": {
            "learning_rate": 4e-3,
            "b1": 0.9,
            "b2": 0.99,
            "warmup_steps": 1,
            "clip_norm": 0.5,
        },
    }
