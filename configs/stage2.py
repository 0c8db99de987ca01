"""Stage 2: latent motion diffusion, trained to make the motion features of stage 1 from speech.

    python -m gesture_jax.train --config=configs/stage2.py:PRESET \
        --config.stage1_workdir=STAGE1 --workdir=DIR

Motion features are read from STAGE1/motions (`gesture_jax.extract` writes them); with demo and
smoke missing ones are made first.

| preset | what | hardware | duration |
|---|---|---|---|
| paper (default) | 8 layers, 80 frames, 5 prior frames | GPU or TPU | days; not yet run |
| photo | that of demo, on a stage 1 of photo; streams draw once | two CPU cores | 10 minutes |
| demo | 2 layers of 128 on the procedural speaker | one CPU core | 4 minutes |
| smoke | 2 small layers; what tests use | one CPU core | seconds |
"""

from ml_collections import ConfigDict

from gesture_jax import presets


def get_config(preset: str = "paper") -> ConfigDict:
    """The config of a preset: "paper", "photo", "demo" or "smoke"."""
    return presets.choose(
        preset,
        paper=_paper(),
        photo=_photo(),
        demo=_demo(),
        smoke=_smoke(),
    )


def _paper() -> dict:
    return {
        "stage": "stage2",
        "preset": "paper",
        "seed": 0,
        # Fine-tuning: the workdir, or a file packed of it, whose averaged weights the run begins
        # with; see docs/finetune.md.
        "init_from": "",
        # The trained stage 1, whose motions are learned and whose decoder draws the samples.
        "stage1_workdir": "",
        "num_steps": 500_000,
        "batch_size": 64,
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
        "data": {
            # Motion features of `gesture_jax.extract`; empty means STAGE1/motions.
            "path": "",
            # Read off the data: what tells them from others, wherever they lie.
            "sha256": "",
            # Extracts missing motions before training.
            "extract_missing": False,
            "window_stride": 10,
            # The kind of speech features that the data have to have: "baseline", "wavlm", "both".
            "features": "baseline",
            # Processes that read; 0 is a thread of this one.
            "num_workers": 0,
        },
        # "angles": three angles a cell, recomposed to rotations; "matrix": nine entries a cell.
        "motion_space": "angles",
        # Whether motion is relative to the portrait's pose, or to the mean of all frames.
        "relative": True,
        # Whether each of its values is brought to unit size, or all by one factor.
        "standardise": True,
        # Whether generated motion is held within what the training set shows, which is kept in the
        # checkpoint; else within four standard deviations.
        "training_bounds": True,
        # Whether each speaker has a manner of moving of its own.
        "speaker_conditioning": False,
        # Read off the data: steps that stage 1 had been trained for, lengths of its motion feature
        # and of a frame's speech features.
        "stage1_step": 0,
        "feature_dim": 0,
        "speech_dim": 0,
        # Names, where each has a manner of its own.
        "speakers": (),
        # Of the file of WavLM's weights, where the features are its.
        "wavlm_sha256": "",
        "model": {
            "window": 80,
            "num_prior": 5,
            "latent": 512,
            "feedforward": 1024,
            "num_layers": 8,
            "num_heads": 8,
            "num_speech_layers": 2,
            "dropout": 0.1,
        },
        "process": {"num_steps": 1000, "schedule": "cosine"},
        "loss": {
            "position": 1.0,
            "velocity": 1.0,
            "acceleration": 1.0,
            "speech_dropout": 0.25,
            # How often only the speech up to some frame is heard, as in a stream.
            "future_dropout": 0.25,
            # Most that the frames before a window are moved off, in standard deviations.
            "prior_noise": 0.5,
            # Most that they are moved by the motion of another example, as a share of it.
            "prior_drift": 0.25,
            # How often the portrait's own pose is not told.
            "portrait_dropout": 0.5,
            # 1: all diffusion times alike; more: rather late ones, which teach to listen.
            "timestep_power": 1.0,
        },
        # Defaults of generation. "ddpm", "ddim" or "dpm"; `clip` bounds what is denoised, in
        # standard deviations, 0 does not; guidance acts between two shares of the diffusion time.
        # These are the fewest steps that do as well as DDIM's 50, see docs/stage2.md.
        "sampler": {
            "name": "dpm",
            "num_steps": 8,
            "eta": 0.0,
            "clip": 0.0,
            "guidance": 2.0,
            "interval": (0.0, 1.0),
        },
        # Frames kept of a window, frames of speech heard beyond them, frames over which one window
        # fades into the next, and windows drawn to choose from: of whole speech, and of a stream.
        "schedule": {"hop": 72, "look_ahead": 8, "blend": 8, "candidates": 4},
        "stream_schedule": {"hop": 10, "look_ahead": 10, "blend": 5, "candidates": 4},
        # How far the portrait moves away from its own pose, see `gesture_jax/inference/control.py`.
        "control": {
            "motion_scale": 1.0,
            "head_scale": 1.0,
            "hands_scale": 1.0,
            "rest_sec": 0.0,
        },
        # FGD of windows sampled from the test split, by an autoencoder fitted to the training split
        # in this many steps; 0 does without.
        "fgd_steps": 1000,
        "optim": {
            "name": "adamw",
            "learning_rate": 2e-4,
            "b1": 0.9,
            "b2": 0.99,
            "weight_decay": 0.02,
            "warmup_steps": 1000,
            "final_fraction": 0.05,
            "clip_norm": 1.0,
            "ema_decay": 0.9999,
        },
    }


def _photo() -> dict:
    return {
        **_demo(),
        "num_steps": 2000,
        # A stream that is drawn four times would not keep up with the speech on two CPU cores.
        "stream_schedule": {"candidates": 1},
    }


def _demo() -> dict:
    return {
        "num_steps": 1000,
        "batch_size": 16,
        "log_every_steps": 20,
        "eval_every_steps": 500,
        "checkpoint_every_steps": 500,
        "data": {"extract_missing": True},
        "model": {
            "latent": 128,
            "feedforward": 256,
            "num_layers": 2,
            "num_heads": 4,
            "num_speech_layers": 2,
            "dropout": 0.0,
        },
        # Uniform times did not learn to follow speech in these few steps; these did.
        "loss": {"velocity": 16.0, "speech_dropout": 0.1, "timestep_power": 8.0},
        "sampler": {"guidance": 1.5},
        "fgd_steps": 300,
        "optim": {"learning_rate": 1e-3, "warmup_steps": 100, "ema_decay": 0.995},
    }


def _smoke() -> dict:
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
