"""Stage 1: the deviation model, trained to redraw a driving frame from a source frame.

    python -m gesture_jax.train --config=configs/stage1.py:PRESET --workdir=WORKDIR \
        --config.data.path=DATASET

`demo` and `smoke` make a dataset of the procedural speaker if no DATASET is given.

| preset | model and data | hardware | duration | expected on the test split |
|---|---|---|---|---|
| paper (default) | 256x256, reference network, 210.6 M parameters | GPU or TPU | days | not run |
| photo | 256x256, photo people, 4.98 M parameters | one H100 | 10 minutes | PSNR 31.5 dB |
| demo | 64x64, the procedural speaker, compact network | one CPU core | 15 minutes | PSNR 29.6 dB |
| smoke | 32x32, 4 steps, for tests | one CPU core | seconds | nothing useful |

`photo` warps the portrait's own pixels, so it renders at any size; docs/photo_people.md shows how
to make its dataset. docs/stage1.md has the losses and measures to expect at each step.
"""

from ml_collections import ConfigDict

from gesture_jax import presets

# The procedural speaker makes as many examples as needed.
_NO_AUGMENTATION = {"swap": 0.0, "mirror": 0.0, "jitter": 0.0}


def get_config(preset: str = "paper") -> ConfigDict:
    """Returns the config of a preset: "paper", "photo", "demo" or "smoke"."""
    return presets.choose(preset, paper=_paper(), photo=_photo(), demo=_demo(), smoke=_smoke())


def _paper() -> dict:
    return {
        "stage": "stage1",
        "preset": "paper",
        # Seed of the random weights, the order of the data, and all random numbers of the steps.
        "seed": 0,
        # Fine-tuning: start from the averaged weights of this workdir or packed file instead of
        # random weights (docs/finetune.md). Empty: random weights.
        "init_from": "",
        # Training steps; the learning rate reaches its final value at the last one.
        "num_steps": 300_000,
        # Examples per step, over all devices and processes.
        "batch_size": 16,
        # Split each batch into this many parts, computed one after another; raise it if a batch
        # does not fit into memory. Batch statistics are then those of a part.
        "accumulate_steps": 1,
        # Activations that are recomputed for the gradient instead of stored: "none", "cheap"
        # (norms and activation functions) or "blocks" (everything but the blocks' outputs). Saves
        # memory, costs time.
        "remat": "none",
        # Type of the networks' computation: "float32" or "bfloat16", which halves the stored
        # activations. Parameters, statistics and losses are float32 either way.
        "dtype": "float32",
        # Number of devices along each axis of the mesh; -1 uses all that are left. `data` splits
        # the batch. `fsdp` splits parameters and optimiser state; raise it if they do not fit into
        # the memory of one device.
        "mesh": {"data": -1, "fsdp": 1},
        # Write the losses every this many steps.
        "log_every_steps": 100,
        # Measure on the test split, and draw samples, every this many steps; 0: never.
        "eval_every_steps": 5_000,
        # Save a checkpoint every this many steps.
        "checkpoint_every_steps": 5_000,
        # Keep this many of the newest checkpoints.
        "keep_checkpoints": 3,
        # Set from `init_from` or by `pack --portraits`: number of pose values that are read from a
        # motion feature, or 0.
        "num_pose_values": 0,
        # Set from `init_from` where the extractor is frozen: the step at which it was trained, by
        # which a stage 2 is known to fit; or 0.
        "motion_step": 0,
        # Set from the data: where shoulders are in the frames; see
        # `gesture_jax/data/portrait_framing.py`.
        "shoulders": (),
        # Measure ST-LPIPS on the test split, by VGG-16; off makes evaluation faster.
        "st_lpips": True,
        "data": {
            # Folder of a dataset made by `gesture_jax.prepare`. Empty: WORKDIR/dataset.
            "path": "",
            # Set from the data: hash of their content, which a resumed run compares.
            "sha256": "",
            # Make this many clips of the procedural speaker if the dataset is missing; 0: none.
            "procedural_clips": 0,
            # Number of different people in them.
            "procedural_identities": 4,
            # Length of each clip in seconds.
            "procedural_clip_sec": 5.0,
            # Their voices: "espeak" (real sentences, extra [voices]) or "formants" (made-up
            # syllables). Empty: espeak where it is installed, and the run keeps the choice.
            "procedural_voices": "",
            # Kind of their speech features, "baseline" or "mel", for stage 2.
            "procedural_features": "baseline",
            # Keep decoded frames in the memory of the host; for datasets of minutes, not hours.
            "cache": False,
            # Keep all decoded frames in the memory of the device. Use it with fast GPUs, which
            # train `photo` faster than CPUs decode, for datasets that fit.
            "on_device": False,
            # Processes that decode; 0 decodes in a thread of this process. Raise it if the run
            # warns that it waits for data.
            "num_workers": 2,
            # Augmentation of pairs, as in TPSMM. `swap`: probability that source and driving change
            # places; `mirror`: probability that other pairs are mirrored; `jitter`: largest
            # relative change of brightness, contrast, saturation and hue.
            "augment": {"swap": 0.5, "mirror": 0.5, "jitter": 0.1},
            # Largest relative change of each colour in the frames that the motion extractor gets,
            # but not in the frame to redraw. Keeps colours out of the motion features.
            "augment_views": 0.0,
            # Set from the data: names of the joints that are known in each frame.
            "joint_names": (),
            # Frames of each test clip that evaluation redraws.
            "eval_frames_per_clip": 8,
        },
        # Attributes of `models.deviation.DeviationModel`; the other networks have some of their own
        # (`models.compact.CompactModel`, `models.layered.LayeredModel`).
        "model": {
            # Which network: "reference", "compact" or "layered".
            "network": "reference",
            # Height and width of the frames in pixels.
            "resolution": 256,
            # Channels after the first layer of the source encoder, doubled per level.
            "width": 64,
            # Largest number of channels, which is the depth of the volume.
            "max_width": 512,
            # Levels from the frame to the volume, each halving its height and width.
            "num_downs": 3,
            # Bins of each predicted angle, 3 degrees wide.
            "num_bins": 66,
            # Channels of the first layer of the motion extractor.
            "extractor_width": 64,
            # Bottleneck blocks in each stage of the extractor.
            "extractor_blocks": (3, 4, 6),
            # Channels of the network that computes the warp from the motion feature.
            "field_width": 64,
            # How the source is warped: "volume" (the reference's three-dimensional warp), "exact"
            # (the same without its error at rest) or "flow" (one displacement per cell).
            "warp_kind": "volume",
            # Also give the source's own motion feature to the warp; the reference does not.
            "relative": False,
            # Residual blocks of the source encoder.
            "num_source_blocks": 4,
            # Residual blocks of the decoder.
            "num_decoder_blocks": 8,
        },
        # Patch discriminator, used if `loss.adversarial` is above zero: channels of its first
        # level, largest number of channels, and number of levels.
        "discriminator": {"width": 64, "max_width": 512, "num_levels": 4},
        # Weights of the terms of the loss, unless a comment says otherwise; 0 turns a term off.
        "loss": {
            # Mean absolute difference of the pixels, averaged over scales 1, 1/2, 1/4, ...
            "pixel": 10.0,
            # Number of these scales, also for `perceptual`.
            "pyramid_levels": 4,
            # Mean squared difference of the pixels; emphasises large errors, as those of hands.
            "squared": 0.0,
            # Weight of a pixel of a hand relative to others, in both terms, where joints are known.
            "region_weight": 3.0,
            # The same for a pixel of the mouth.
            "mouth_weight": 3.0,
            # Difference of VGG features, at several scales.
            "perceptual": 10.0,
            # Number of VGG's blocks that are compared.
            "perceptual_blocks": 5,
            # Step at which the perceptual terms start; later starts make training faster.
            "perceptual_start": 0,
            # File with torchvision's VGG-19 weights. Empty: VGG-16, fetched once.
            "vgg19": "",
            # Difference of VGG features in squares around hands and mouth, at full scale.
            "perceptual_regions": 0.0,
            # Difference of VGG features of the mouth, enlarged twice.
            "mouth": 0.0,
            # Difference between the warped source volume and the encoded driving frame.
            "warp": 10.0,
            # The next five terms are for the "layered" network only.
            # Pixel difference of the warped portrait.
            "warped": 0.0,
            # Pixel difference of the drawn picture, with which the portrait is blended.
            "drawn": 0.0,
            # Distance by which the flows miss the joints, in halves of the frame's side.
            "joints": 0.0,
            # `perceptual_regions` for the warped portrait.
            "warped_regions": 0.0,
            # Total variation of the masks; raise it if masks show dots or noise.
            "mask_smoothness": 0.0,
            # Hinge loss of the generator against the discriminator.
            "adversarial": 1.0,
            # Difference of the discriminator's features.
            "feature_matching": 10.0,
            # Step at which the discriminator and both terms above start.
            "adversarial_start": 100_000,
            # Hinge loss of the discriminator, which has its own optimiser.
            "discriminator": 1.0,
        },
        "optim": {
            # Peak learning rate, reached after the warm-up.
            "learning_rate": 2e-4,
            # Decay rates of Adam's first and second moment.
            "b1": 0.5,
            "b2": 0.999,
            # Decoupled weight decay, multiplied by the learning rate.
            "weight_decay": 0.0,
            # Steps over which the learning rate rises from zero.
            "warmup_steps": 500,
            # Learning rate at the last step, as a fraction of the peak (cosine decay).
            "final_fraction": 0.05,
            # Scale gradients down to this global norm.
            "clip_norm": 10.0,
            # Decay of the averaged weights, which evaluation and inference use.
            "ema_decay": 0.999,
            # Stop the run if the norm of a gradient exceeds this, as it has diverged; 0: never.
            "max_grad_norm": 1e6,
            # Parts of the network that do not change, as in ("extractor",): with the extractor of
            # `init_from`, a stage 2 that was trained on its motion features goes on fitting.
            "frozen_parts": (),
            # Options of the discriminator's optimiser that differ from those above.
            "discriminator": {"learning_rate": 2e-4},
        },
    }


def _photo() -> dict:
    """One GPU with 23 GB: about 10 minutes on an H100, with `data.on_device` for a fast input."""
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
    """One CPU core: 2800 steps in 15 minutes, the last 1000 of them with the perceptual loss."""
    return {
        "num_steps": 2800,
        # In a given time, many steps with small batches give better pictures than few large ones.
        "batch_size": 4,
        "log_every_steps": 50,
        "eval_every_steps": 1400,
        "checkpoint_every_steps": 1400,
        # Each clip is as long as two windows of stage 2.
        "data": {
            "procedural_clips": 120,
            "procedural_features": "mel",
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
            # docs/stage1.md compares the warps.
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
            # VGG makes a step ten times as long, so it is used at the end only, where it sharpens
            # faces.
            "perceptual": 5.0,
            "perceptual_blocks": 3,
            "perceptual_start": 1800,
            "warp": 0.0,
            "adversarial": 0.0,
        },
        "optim": {"learning_rate": 3e-3, "b1": 0.9, "warmup_steps": 100, "ema_decay": 0.998},
    }


def _smoke() -> dict:
    """Four steps that run every part of the training; for tests."""
    return {
        "num_steps": 4,
        "batch_size": 8,
        "log_every_steps": 1,
        "eval_every_steps": 2,
        "checkpoint_every_steps": 2,
        "data": {
            "procedural_clips": 4,
            "procedural_voices": "formants",
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
            # Generator and discriminator train from the third step on.
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
