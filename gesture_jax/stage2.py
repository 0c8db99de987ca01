"""Stage 2 as a task: a diffusion model learns to make stage 1's motion features from speech."""

import pathlib
from collections.abc import Iterable

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from gesture_jax import checkpoints
from gesture_jax.animator import Animator, extract_motions
from gesture_jax.data import clips, images, motions, pipeline
from gesture_jax.diffusion.process import GaussianProcess, motion_loss
from gesture_jax.diffusion.samplers import DDIM
from gesture_jax.errors import InputError
from gesture_jax.metrics import motion as motion_metrics
from gesture_jax.models.denoiser import MotionDenoiser, sample_motion
from gesture_jax.models.motion_space import (
    MotionSpace,
    Statistics,
    gather_statistics,
    standardise_speech,
)


class Stage2:
    """See `train_lib.Task`. Batches: `motion` [b, t, d], `prior` [b, p, d], `speech` [b, t, a]."""

    def __init__(self, config: ConfigDict, workdir: str):
        """Finds the motion features, or extracts them where the preset says so.

        Raises:
          InputError: where stage 1 or its motion features are missing.
        """
        del workdir
        self._config = config
        path = ensure_motions(config)
        self._train = motions.MotionSource(path, "train")
        self._test = motions.MotionSource(path, "test")
        _check_features(self._train, config.data.features)
        config.feature_dim, config.speech_dim = self._train.motion_dim, self._train.speech_dim
        config.wavlm_sha256 = self._train.metadata.get("wavlm_sha256", "")
        config.stage1_step = self._train.metadata["stage1_step"]
        self.space, self.model = build(config)
        self.process = GaussianProcess(**config.process)
        self.frozen = {}
        # Here, so that too short clips are told of before training, not after hours of it.
        self._test_windows = self._windows(
            self._test,
            stride=config.model.window // 2,
            seed=0,
            train=False,
            batch_size=config.batch_size,
        )
        self._statistics = gather_statistics(
            (self.space.from_feature(record["motion"]) for record in self._train),
            (record["speech"] for record in self._train),
        )

    def train_batches(self) -> pipeline.BatchIterator:
        """Endless random windows."""
        return iter(
            self._windows(
                self._train,
                stride=self._config.data.window_stride,
                seed=self._config.seed,
                train=True,
                batch_size=self._config.batch_size // jax.process_count(),
                num_workers=self._config.data.num_workers,
                shard=(jax.process_index(), jax.process_count()),
            )
        )

    def test_batches(self) -> Iterable[dict[str, np.ndarray]]:
        """Windows that overlap by half."""
        return self._test_windows

    def _windows(self, source: motions.MotionSource, **options):
        model = self._config.model
        return pipeline.motion_windows(
            source, window=model.window, num_prior=model.num_prior, **options
        )

    def init(self, key: jax.Array):
        """Parameters, and the training set's statistics."""
        return self.model.init_variables(key)["params"], {"statistics": self._statistics}

    def _standardise(self, model_state, batch):
        statistics = model_state["statistics"]
        motion = self.space.encode(batch["motion"], statistics)
        prior = self.space.encode(batch["prior"], statistics)
        return motion, prior, standardise_speech(batch["speech"], statistics)

    def loss(self, params, model_state, frozen, batch, key, step):
        """Position, velocity and acceleration of the denoised window."""
        del frozen, step
        weights = self._config.loss
        key_time, key_noise, key_drop, key_dropout = jax.random.split(key, 4)
        motion, prior, speech = self._standardise(model_state, batch)
        count = len(motion)
        time = self.process.draw_times(key_time, count, power=weights.time_power)
        noise = jax.random.normal(key_noise, motion.shape)
        denoised = self.model.apply(
            {"params": params},
            self.process.add_noise(motion, noise, time),
            time,
            prior,
            speech,
            drop=jax.random.bernoulli(key_drop, weights.speech_dropout, (count,)),
            train=True,
            rngs={"dropout": key_dropout},
        )
        loss, metrics = motion_loss(
            denoised,
            motion,
            position=weights.position,
            velocity=weights.velocity,
            acceleration=weights.acceleration,
        )
        return loss, (metrics, model_state)

    def evaluate(self, variables, frozen, batch, key):
        """`speed_error` and `speed_correlation` of motion sampled from the window's speech, and of
        two controls.

        Shuffled: the same model and noise on the speech of another example. Still: no motion,
        whose error is 1 and whose correlation 0 by definition.
        """
        del frozen
        real, prior, speech = self._standardise(variables, batch)
        matched = self._sample(variables, key, prior, speech)
        shuffled = self._sample(variables, key, prior, jnp.roll(speech, len(speech) // 2, axis=0))
        still = jnp.broadcast_to(prior[:, -1:], real.shape)
        return {
            "speed_error": motion_metrics.speed_error(matched, real),
            "speed_error_shuffled_speech": motion_metrics.speed_error(shuffled, real),
            "speed_error_still": motion_metrics.speed_error(still, real),
            "speed_correlation": motion_metrics.speed_correlation(matched, real),
            "speed_correlation_shuffled_speech": motion_metrics.speed_correlation(shuffled, real),
        }

    def _sample(self, variables, key, prior, speech):
        sampler = self._config.sampler
        return sample_motion(
            self.model,
            variables["params"],
            key,
            prior,
            speech,
            process=self.process,
            sampler=DDIM(num_steps=sampler.num_steps, eta=sampler.eta),
            guidance=sampler.guidance,
        )

    def draw_samples(self, variables, batch, key) -> np.ndarray:
        """The first test clip, every eighth frame: as it moved, and as generated; both rendered."""
        animator = Animator.load(self._config.stage1_workdir)
        portrait = clips.decode_frames(
            clips.ClipSource(self._train.metadata["data_path"], "test")[0], [0]
        )[0]
        source = animator.encode_source(portrait)
        _, prior, speech = self._standardise(variables, batch)
        sampled = jax.jit(self._sample)(variables, key, prior[:1], speech[:1])
        generated = self.space.decode(sampled[0], variables["statistics"])
        rows = [
            animator.render(source, np.asarray(m)[::8]) for m in (batch["motion"][0], generated)
        ]
        return images.contact_sheet(rows)


def _check_features(source: motions.MotionSource, wanted: str) -> None:
    found = source.metadata.get("features", "baseline")
    if found != wanted:
        raise InputError(
            f"{source.path}: holds speech features {found!r}, but {wanted!r} are wanted; pass "
            f"--config.data.features={found}, or prepare with --features={wanted} and extract again"
        )


def build(config: ConfigDict) -> tuple[MotionSpace, MotionDenoiser]:
    """The motion space and the network of a stage-2 config whose sizes are known."""
    space = MotionSpace(config.motion_space, config.feature_dim)
    return space, MotionDenoiser(motion_dim=space.dim, speech_dim=config.speech_dim, **config.model)


def abstract_variables(config: ConfigDict) -> dict:
    """Shapes of what a stage-2 checkpoint holds, nothing computed."""
    space, model = build(config)
    params = jax.eval_shape(model.init_variables, jax.random.key(0))["params"]
    motion = jax.ShapeDtypeStruct((space.dim,), jnp.float32)
    speech = jax.ShapeDtypeStruct((config.speech_dim,), jnp.float32)
    statistics = Statistics(
        motion_mean=motion, motion_std=motion, speech_mean=speech, speech_std=speech
    )
    return {"params": params, "statistics": statistics}


def ensure_motions(config: ConfigDict) -> str:
    """The folder of the motion features; extracts missing ones where the preset says so.

    Raises:
      InputError: where stage 1 is missing, or the features are and the preset extracts none.
    """
    if not config.stage1_workdir:
        raise InputError("stage 2 needs a trained stage 1: pass --config.stage1_workdir=DIR")
    stage1_config = checkpoints.read_config(config.stage1_workdir, stage="stage1")
    path = config.data.path or str(pathlib.Path(config.stage1_workdir).absolute() / "motions")
    if not clips.is_dataset(path):
        data_path = stage1_config.data.path
        if not config.data.extract_missing:
            raise InputError(
                f"{path}: no motion features here; extract them with `python -m "
                f"gesture_jax.extract --stage1={config.stage1_workdir} --data={data_path}`"
            )
        extract_motions(config.stage1_workdir, data_path, path)
    found = motions.MotionSource(path, "train").metadata["stage1_step"]
    newest = checkpoints.newest_step(config.stage1_workdir)
    if found != newest:
        raise InputError(
            f"{path}: motion features of stage 1 at step {found}, but it is at step {newest} now; "
            "remove them, and extract them again"
        )
    config.data.path = path
    config.stage1_workdir = str(pathlib.Path(config.stage1_workdir).absolute())
    return path
