"""Stage 2: latent motion diffusion, trained to generate stage 1's motion features from speech.

    python -m gesture_jax.extract --stage1=STAGE1 --data=DATASET
    python -m gesture_jax.train --config=configs/stage2.py:PRESET --workdir=WORKDIR \
        --config.stage1_workdir=STAGE1

`extract` writes the motion features to STAGE1/motions. The presets `photo`, `demo` and `smoke` run
it themselves if the features are missing.

| preset | model | hardware | duration | expected on the test split |
|---|---|---|---|---|
| paper (default) | 8 layers of 512 channels | GPU or TPU | days | not run yet |
| photo | as demo, on a stage 1 of `photo` | two CPU cores | 10 minutes | see docs/stage2.md |
| demo | 2 layers of 128 channels | one CPU core | 4 minutes | speed correlation 0.35 |
| smoke | 2 layers of 16 channels, 4 steps, for tests | one CPU core | seconds | nothing useful |

All presets generate windows of 80 frames (3.2 s) after 5 known frames. docs/stage2.md has the
losses and measures to expect at each step.
"""

from ml_collections import ConfigDict

from gesture_jax import presets


def get_config(preset: str = "paper") -> ConfigDict:
    """Returns the config of a preset: "paper", "photo", "demo" or "smoke"."""
    return presets.choose(preset, paper=_paper(), photo=_photo(), demo=_demo(), smoke=_smoke())


def _paper() -> dict:
    return {
        "stage": "stage2",
        "preset": "paper",
        # Seed of the random weights, the order of the data, and all random numbers of the steps.
        "seed": 0,
        # Fine-tuning: start from the averaged weights of this workdir or packed file instead of
        # random weights (docs/finetune.md). Empty: random weights.
        "init_from": "",
        # Workdir or packed file of the trained stage 1, which made the motion features and renders
        # the samples.
        "stage1_workdir": "",
        # Training steps; the learning rate reaches its final value at the last one.
        "num_steps": 500_000,
        # Examples per step, over all devices and processes.
        "batch_size": 64,
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
        "data": {
            # Folder of motion features made by `gesture_jax.extract`. Empty: STAGE1/motions.
            "path": "",
            # Set from the data: hash of their content, which a resumed run compares.
            "sha256": "",
            # Extract missing motion features before training.
            "extract_missing": False,
            # Frames between the starts of two training windows.
            "window_stride": 10,
            # Kind of speech features that the dataset must hold: "baseline" (35 hand-made ones),
            # "mel" (causal log-mel spectra, for lips and low latency), "wavlm" or "both". Empty:
            # those that it holds.
            "features": "baseline",
            # Processes that read the data; 0 reads in a thread of this process.
            "num_workers": 0,
        },
        # Representation of a motion: "angles" (three per rotation) or "matrix" (nine entries, for
        # features of the released network).
        "motion_space": "angles",
        # Generate motion relative to the portrait's pose; off: relative to the mean of all frames.
        "relative": True,
        # Scale each motion value to unit variance; off: all by one factor.
        "standardise": True,
        # Limit generated motion to the range of the training set, which the checkpoint then holds;
        # off: to four standard deviations.
        "training_bounds": True,
        # Learn an embedding per speaker, so that `generate --speaker=NAME` can choose one.
        "speaker_conditioning": False,
        # Set from the data: the number of steps that stage 1 was trained for.
        "stage1_step": 0,
        # Set from the data: number of values that describe the lips, 0 where they are not known.
        "num_lips": 0,
        # Set from the data: length of a motion feature.
        "feature_dim": 0,
        # Set from the data: number of speech features per frame.
        "speech_dim": 0,
        # Set from the data: names of the speakers, with `speaker_conditioning`.
        "speakers": (),
        # Set from the data: hash of the WavLM weights that computed the speech features, if any.
        "wavlm_sha256": "",
        # Attributes of `models.denoiser.MotionDenoiser`.
        "model": {
            # Frames of a window.
            "window": 80,
            # Frames before a window that the network gets.
            "num_prior": 5,
            # Channels of the transformer.
            "latent": 512,
            # Channels of the feed-forward layers.
            "feedforward": 1024,
            # Transformer layers that denoise the motion.
            "num_layers": 8,
            # Heads of each attention.
            "num_heads": 8,
            # Transformer layers that encode the speech.
            "num_speech_layers": 2,
            # Dropout rate in training.
            "dropout": 0.1,
        },
        # Diffusion process: number of steps, and noise schedule.
        "process": {"num_steps": 1000, "schedule": "cosine"},
        "loss": {
            # Weight of the squared error of the motion.
            "position": 1.0,
            # Weight of the squared error of its differences from frame to frame.
            "velocity": 1.0,
            # Weight of the squared error of the differences of these.
            "acceleration": 1.0,
            # Weight of the squared error of the lips, where their positions are known.
            "lips": 1.0,
            # Weight of the squared error of the joints that the motion of the body moves, where the
            # data set has joints.
            "joints": 0.0,
            # Probability that the speech is dropped, which guidance needs.
            "speech_dropout": 0.25,
            # Probability that only the speech up to some frame is given, as in a stream.
            "future_dropout": 0.25,
            # Largest random offset of the known past, in standard deviations. Makes the network
            # robust to its own errors.
            "prior_noise": 0.5,
            # Largest shift of the known past towards another example's pose, as a fraction of it.
            "prior_drift": 0.25,
            # Probability that the portrait's own pose is dropped.
            "portrait_dropout": 0.5,
            # Diffusion times are drawn as 1 - (1 - u)^power with uniform u: 1 is uniform; more
            # favours noisy times, at which the network has to use the speech.
            "timestep_power": 1.0,
        },
        # Defaults of generation; `generate` has flags for most of them. These are the fewest steps
        # that do as well as 50 steps of DDIM (docs/stage2.md).
        "sampler": {
            # "ddpm", "ddim" or "dpm" (DPM-Solver++).
            "name": "dpm",
            # Denoising steps.
            "num_steps": 8,
            # Noise that "ddim" adds in each step, from 0 (none) to 1 (as much as "ddpm").
            "eta": 0.0,
            # Limit of the denoised motion in standard deviations; 0: no limit.
            "clip": 0.0,
            # Classifier-free guidance; 1 turns it off, more follows the speech more closely.
            "guidance": 2.0,
            # Range of diffusion times at which guidance is used, as fractions of the process.
            "interval": (0.0, 1.0),
        },
        # How windows follow each other when the whole speech is known, in frames. `hop`: frames
        # kept of each window; `look_ahead`: frames of speech used beyond them; `blend`: frames over
        # which one window fades into the next; `candidates`: windows generated to choose from;
        # `memory`: share of earlier windows in each frame of the body, for short hops.
        "schedule": {"hop": 72, "look_ahead": 8, "blend": 8, "candidates": 4, "memory": 0.0},
        # The same for a stream; its delay is hop + look_ahead.
        "stream_schedule": {
            "hop": 10,
            "look_ahead": 10,
            "blend": 5,
            "candidates": 4,
            "memory": 0.0,
        },
        # How far the portrait moves away from its own pose: factors for all of it, the head, the
        # hands and the lips, and seconds over which it returns at the end; see
        # `gesture_jax/inference/motion_scales.py`.
        "control": {
            "motion_scale": 1.0,
            "head_scale": 1.0,
            "hands_scale": 1.0,
            "mouth_scale": 1.0,
            "rest_sec": 0.0,
        },
        # Steps to train the autoencoder by which FGD is measured on the test split; 0: no FGD.
        "fgd_steps": 1000,
        "optim": {
            # "adamw" or "adan"; "adan" has decay rates of its own and ignores b1 and b2.
            "name": "adamw",
            # Peak learning rate, reached after the warm-up.
            "learning_rate": 2e-4,
            # Decay rates of Adam's first and second moment.
            "b1": 0.9,
            "b2": 0.99,
            # Decoupled weight decay, multiplied by the learning rate.
            "weight_decay": 0.02,
            # Steps over which the learning rate rises from zero.
            "warmup_steps": 1000,
            # Learning rate at the last step, as a fraction of the peak (cosine decay).
            "final_fraction": 0.05,
            # Scale gradients down to this global norm.
            "clip_norm": 1.0,
            # Decay of the averaged weights, which evaluation and inference use.
            "ema_decay": 0.9999,
        },
    }


def _photo() -> dict:
    """Two CPU cores: 5000 steps in 20 minutes."""
    demo = _demo()
    return {
        **demo,
        "num_steps": 5000,
        # Half of the windows know the speech up to some frame only, for streams without look-ahead.
        "loss": {**demo["loss"], "lips": 4.0, "joints": 2.0, "future_dropout": 0.5},
        # More guidance exaggerates the motion of strangers, and takes twice as long.
        "sampler": {"guidance": 1.0},
        # Four candidates per window would be slower than real time on two CPU cores.
        "stream_schedule": {"hop": 5, "look_ahead": 0, "candidates": 1, "memory": 0.7},
    }


def _demo() -> dict:
    """One CPU core: 1000 steps in 4 minutes."""
    return {
        "num_steps": 1000,
        "batch_size": 16,
        "log_every_steps": 20,
        "eval_every_steps": 500,
        "checkpoint_every_steps": 500,
        "data": {"extract_missing": True, "features": ""},
        "model": {
            "latent": 128,
            "feedforward": 256,
            "num_layers": 2,
            "num_heads": 4,
            "num_speech_layers": 2,
            "dropout": 0.0,
        },
        # With uniform times the network did not learn to follow the speech in so few steps.
        "loss": {"velocity": 16.0, "speech_dropout": 0.1, "timestep_power": 8.0},
        "sampler": {"guidance": 1.5},
        "fgd_steps": 300,
        "optim": {"learning_rate": 1e-3, "warmup_steps": 100, "ema_decay": 0.995},
    }


def _smoke() -> dict:
    """Four steps that run every part of the training; for tests."""
    return {
        "num_steps": 4,
        "batch_size": 8,
        "log_every_steps": 1,
        "eval_every_steps": 2,
        "checkpoint_every_steps": 2,
        "data": {"extract_missing": True},
        "model": {
            "latent": 16,
            "feedforward": 32,
            "num_layers": 2,
            "num_heads": 2,
            "num_speech_layers": 1,
        },
        "sampler": {"num_steps": 2},
        "fgd_steps": 2,
        "optim": {"warmup_steps": 1},
    }
