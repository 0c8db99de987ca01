"""Stage 2 as a task: a diffusion model learns to generate motion features from speech."""

import dataclasses
import functools
from collections.abc import Iterable

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from gesture_jax.data import clips, motions, pipeline
from gesture_jax.diffusion.process import motion_loss
from gesture_jax.inference.animator import Animator, Source
from gesture_jax.inference.windows import WindowSchedule
from gesture_jax.media import images
from gesture_jax.metrics import fgd, frechet
from gesture_jax.metrics import motion as motion_metrics
from gesture_jax.models.denoiser import sample_motion
from gesture_jax.models.motion_model import abstract_variables, build, make_process, make_sampling
from gesture_jax.models.motion_space import (
    BOUNDS,
    fit_lip_motion,
    gather_statistics,
    hide_future,
    standardise_speech,
    unit_statistics,
)
from gesture_jax.models.readings import fit_reading
from gesture_jax.ops.precision import float32_matmuls
from gesture_jax.ops.rows import apply_to_other_rows
from gesture_jax.people.lips import LIP_JOINTS
from gesture_jax.training import datasets, fgd_reference

# The number of clips, spread over the training set, from which the reading of joints is fitted.
_MAX_READING_CLIPS = 256


class Objective:
    """Network, loss and measures of stage 2, which need only the sizes of the data.

    See `task.Objective`.
    """

    def __init__(self, config: ConfigDict):
        """Builds the network of a config in which `feature_dim` and `speech_dim` are set.

        Raises:
          InputError: for sizes or samplers that cannot be.
        """
        self._config = config
        self.space, model = build(config)
        self.model = model.clone(dtype=config.dtype)
        self.process = make_process(config)
        self.sampling = make_sampling(config)
        self.sampling.sampler.times(self.process)  # Raises where they do not fit.
        for schedule in (config.schedule, config.stream_schedule):
            WindowSchedule(**schedule).check(self.model)
        self._statistics = unit_statistics(abstract_variables(config)["statistics"])
        self._joint_reading: np.ndarray | None = None

    def abstract_batch(self, batch_size: int) -> dict[str, jax.ShapeDtypeStruct]:
        """Returns the shapes of a training batch."""
        model, config = self.model, self._config
        shape = lambda *rest, dtype="f4": jax.ShapeDtypeStruct((batch_size, *rest), dtype)
        return {
            "motion": shape(model.window, config.feature_dim + config.num_lips),
            "prior": shape(model.num_prior, config.feature_dim + config.num_lips),
            "portrait": shape(config.feature_dim + config.num_lips),
            "speech": shape(model.window, config.speech_dim),
            "speaker": shape(dtype="i4"),
        }

    def abstract_frozen(self) -> dict:
        """Returns nothing, as a step reads no frozen network."""
        return {}

    def init(self, key: jax.Array):
        """Returns parameters, and the statistics of the training set."""
        return self.model.init_variables(key)["params"], {"statistics": self._statistics}

    def _standardise(self, model_state, batch):
        statistics = model_state["statistics"]
        motion, prior, portrait = (
            self.space.from_feature(batch[name], statistics)
            for name in ("motion", "prior", "portrait")
        )
        return (
            self.space.encode(motion, portrait, statistics),
            self.space.encode_prior(prior, portrait, statistics),
            standardise_speech(batch["speech"], statistics),
        )

    def draw(self, key, batch):
        """Draws diffusion times, noise, and how speech and past are dropped or perturbed."""
        weights = self._config.loss
        key_time, key_noise, key_drop, key_future, key_past, _ = jax.random.split(key, 6)
        key_known, key_drift = jax.random.split(jax.random.fold_in(key_past, 1))
        count, length, _ = batch["motion"].shape
        return {
            "time": self.process.draw_times(key_time, count, power=weights.timestep_power),
            "noise": jax.random.normal(key_noise, (count, length, self.space.dim)),
            "drop": jax.random.bernoulli(key_drop, weights.speech_dropout, (count,)),
            "num_speech": self._draw_num_speech(key_future, count),
            "past_offset": self._draw_past_offset(key_past, count),
            "known": ~jax.random.bernoulli(key_known, weights.portrait_dropout, (count,)),
            "drift": weights.prior_drift * jax.random.uniform(key_drift, (count, 1, 1)),
            # The pose of another example, towards which `prior_drift` moves the past.
            "other_pose": jnp.roll(batch["prior"][:, -1], 1, axis=0),
            "other_portrait": jnp.roll(batch["portrait"], 1, axis=0),
        }

    def loss(self, params, model_state, frozen, batch, key, step):
        """Compares position, velocity and acceleration of the denoised window with the data."""
        del frozen, step
        weights = self._config.loss
        motion, prior, speech = self._standardise(model_state, batch)
        prior = self._perturb_past(prior, batch, model_state["statistics"])
        denoised = self.model.apply(
            {"params": params},
            self.process.add_noise(motion, batch["noise"], batch["time"]),
            batch["time"],
            prior,
            hide_future(speech, batch["num_speech"]),
            speaker=batch["speaker"],
            drop=batch["drop"],
            train=True,
            rngs={"dropout": jax.random.split(key, 6)[5]},  # `draw` has the others.
        )
        (body, lips), (real_body, real_lips) = self.space.split(denoised), self.space.split(motion)
        compare = functools.partial(
            motion_loss,
            position=weights.position,
            velocity=weights.velocity,
            acceleration=weights.acceleration,
        )
        loss, metrics = compare(body, real_body)
        if self.space.num_lips:
            # Among hundreds of other values, two for the lips would hardly count.
            metrics["lips"], _ = motion_loss(
                lips, real_lips, position=1.0, velocity=1.0, acceleration=0.0
            )
            loss += weights.lips * metrics["lips"]
        if self._joint_reading is not None:
            # So would the values that move the arms.
            metrics["joints"], _ = compare(*(x @ self._joint_reading for x in (body, real_body)))
            loss += weights.joints * metrics["joints"]
        return loss, (metrics, model_state)

    def _perturb_past(self, prior: jax.Array, batch, statistics) -> jax.Array:
        """Makes the past as inaccurate as it is when motion is generated."""
        if self.model.portrait:
            pose, prior = prior[:, :1] * batch["known"][:, None, None], prior[:, 1:]
        portrait, other = (
            self.space.from_feature(batch[name], statistics)
            for name in ("other_portrait", "other_pose")
        )
        drift = batch["drift"] * self.space.encode(other[:, None], portrait, statistics)
        prior = self.space.bound(prior + drift + batch["past_offset"], statistics)
        return jnp.concatenate([pose, prior], axis=1) if self.model.portrait else prior

    def _draw_past_offset(self, key: jax.Array, count: int) -> jax.Array:
        """Draws one offset for all frames before a window, [count, 1, d].

        Generated motion is never quite like real motion. A network that was trained on a perfect
        past accumulates its errors from window to window, until the pictures fall apart.
        """
        key_size, key_noise = jax.random.split(key)
        size = jax.random.uniform(key_size, (count, 1, 1), maxval=self._config.loss.prior_noise)
        return size * jax.random.normal(key_noise, (count, 1, self.space.dim))

    def _draw_num_speech(self, key: jax.Array, count: int) -> jax.Array:
        """Draws how many frames of speech are known, [count]: mostly all, or as in a stream."""
        key_which, key_where = jax.random.split(key)
        window, hop = self._config.model.window, self._config.stream_schedule.hop
        cut = jax.random.bernoulli(key_which, self._config.loss.future_dropout, (count,))
        return jnp.where(cut, jax.random.randint(key_where, (count,), hop, window), window)

    def evaluate(self, variables, frozen, batch, key):
        """Measures motion sampled from a window's speech, and two controls.

        Measures are `speed_error` and `speed_correlation`, where lips are known the correlation of
        their opening with the real one, `lip_correlation`, and the latents for FGD. The controls
        are motion sampled with the same noise from other speech (NaN where the batch has none), and
        no motion, for which the error is 1 and the correlation 0 by definition.
        """
        real, prior, speech = self._standardise(variables, batch)
        sample = lambda speech: self._sample(variables, key, prior, speech, batch["speaker"])
        generated = {
            "": sample(speech),
            "_shuffled_speech": apply_to_other_rows(sample, speech, batch["other"]),
            "_still": self._hold_still(batch, variables["statistics"]),
        }
        values = {}
        for name, motion in generated.items():
            values[f"speed_error{name}"] = motion_metrics.speed_error(motion, real)
            values[f"speed_correlation{name}"] = motion_metrics.speed_correlation(motion, real)
            if self.space.num_lips:
                opening, real_opening = (self.space.split(x)[1][..., 0] for x in (motion, real))
                values[f"lip_correlation{name}"] = motion_metrics.correlation(opening, real_opening)
        if "fgd" in frozen:
            for name, motion in {"_real": real, **generated}.items():
                values[f"latent{name}"] = fgd.latent(frozen["fgd"], motion)
        return values

    def _hold_still(self, batch, statistics):
        """Returns windows in which the portrait does not move."""
        portrait = self.space.from_feature(batch["portrait"], statistics)
        held = jnp.repeat(portrait[:, None], batch["motion"].shape[1], axis=1)
        return self.space.encode(held, portrait, statistics)

    def summarise(self, latents: dict[str, np.ndarray]) -> dict[str, float]:
        """Computes FGD of generated windows and of the controls, from [n, 32] latents of each.

        A control that is undefined for some windows is left out, as FGD depends on the number of
        windows.
        """
        moments = {
            name: frechet.Moments.of(each)
            for name, each in latents.items()
            if not np.isnan(each).any()
        }
        real = moments.pop("latent_real", None)
        if real is None or real.count < 2:
            return {}
        return {
            name.replace("latent", "fgd"): frechet.frechet_distance(real, other)
            for name, other in moments.items()
        }

    def _sample(self, variables, key, prior, speech, speaker):
        statistics = variables["statistics"]
        return sample_motion(
            self.model,
            variables["params"],
            key,
            prior,
            speech,
            process=self.process,
            sampling=self.sampling,
            speaker=speaker,
            bound=functools.partial(self.space.bound, statistics=statistics),
        )


class Stage2(Objective):
    """Stage 2 with its data; see `task.Task`. Batches are those of `pipeline.motion_windows`."""

    def __init__(self, config: ConfigDict, workdir: str):
        """Opens the motion features; extracts missing ones where the preset says so.

        Sets the values of `config` that depend on the data.

        Raises:
          InputError: where stage 1 or its motion features are missing.
        """
        path = datasets.ensure_motions(config)
        self._train = motions.MotionSource(path, "train")
        self._test = motions.MotionSource(path, "test")
        features = datasets.check_speech_features(self._train, config.data.features)
        config.data.features = features
        config.feature_dim, config.speech_dim = self._train.motion_dim, self._train.speech_dim
        config.num_lips = self._train.num_lips
        config.wavlm_sha256 = self._train.metadata.get("wavlm_sha256", "")
        config.stage1_step = self._train.metadata["stage1_step"]
        config.data.sha256 = self._train.sha256
        if config.speaker_conditioning:
            config.speakers = tuple(sorted(self._train.metadata["speakers"]))
        super().__init__(config)
        # Done here, so that clips that are too short are an error before training.
        self._test_windows = self._windows(
            self._test,
            stride=config.model.window // 2,
            seed=0,
            train=False,
            batch_size=config.batch_size,
        )
        lip_motion = self._fit_lip_motion()
        self._statistics = lip_motion | gather_statistics(
            fgd_reference.MotionVectors(self.space, self._train, lip_motion),
            (record["speech"] for record in self._train),
            standardise=config.standardise,
        )
        if not config.training_bounds:
            for name in BOUNDS:
                del self._statistics[name]
        if config.loss.joints:
            self._joint_reading = self._fit_joint_reading()
        self.frozen = {}
        if config.fgd_steps:
            self.frozen["fgd"] = fgd_reference.load_or_fit(
                config,
                workdir,
                space=self.space,
                source=self._train,
                statistics=self._statistics,
            )
        self._compiled_sample = jax.jit(float32_matmuls(self._sample))

    def _fit_lip_motion(self) -> dict[str, jax.Array]:
        """Returns `lip_motion` of the statistics, if the lips are known."""
        if not self.space.num_lips:
            return {}
        pure = dataclasses.replace(self.space, num_lips=0)
        others = [name not in LIP_JOINTS for name in self._train.joint_names]
        clips_read = (
            (np.asarray(pure.from_feature(x["motion"])), x["lips"], x["joints"][:, others])
            for x in self._train
        )
        return {"lip_motion": jnp.asarray(fit_lip_motion(clips_read))}

    def _fit_joint_reading(self) -> np.ndarray | None:
        """Fits how encoded motion of the body moves joints, [d, 2 j]; each has unit variance.

        Returns:
          The matrix; None where there are no joints, or none that is seen in whole clips.
        """
        pure = dataclasses.replace(self.space, num_lips=0)
        scale = np.asarray(self._statistics["pose_std"])[: self.space.body_dim]
        kept = [name not in LIP_JOINTS for name in self._train.joint_names]
        clips_read = []
        count = min(len(self._train), _MAX_READING_CLIPS)
        for index in np.linspace(0, len(self._train) - 1, count).astype(int).tolist():
            record = self._train[index]
            joints = record["joints"][:, kept].reshape(len(record["motion"]), -1)
            if joints.shape[1] and np.isfinite(joints).all():
                vectors = np.asarray(pure.from_feature(record["motion"])) / scale
                clips_read.append((vectors - vectors.mean(axis=0), joints - joints.mean(axis=0)))
        if not clips_read:
            return None
        reading = fit_reading(clips_read)
        spread = np.concatenate([joints for _, joints in clips_read]).std(axis=0)
        return reading / np.maximum(spread, 1e-3)

    def train_batches(self) -> pipeline.BatchIterator:
        """Returns endless random windows."""
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
        """Returns windows that overlap by half."""
        return self._test_windows

    def _windows(self, source: motions.MotionSource, **options):
        model = self._config.model
        return pipeline.motion_windows(
            source,
            window=model.window,
            num_prior=model.num_prior,
            speakers=self._config.speakers,
            **options,
        )

    @functools.cached_property
    def _example(self) -> tuple[Animator, Source]:
        """The renderer, and the portrait of the first test clip."""
        animator = Animator.load(self._config.stage1_workdir)
        test = clips.ClipSource(self._train.metadata.get("data_path", ""), "test")
        return animator, animator.encode_source(clips.decode_frames(test[0], [0])[0])

    def draw_samples(self, variables, batch, key) -> np.ndarray:
        """Renders every eighth frame of the first test clip: its real and its generated motion."""
        animator, source = self._example
        _, prior, speech = self._standardise(variables, batch)
        conditions = prior[:1], speech[:1], batch["speaker"][:1]
        sampled = self._compiled_sample(variables, key, *conditions)
        statistics = variables["statistics"]
        pose = self.space.from_feature(batch["portrait"][0], statistics)
        vectors = self.space.decode(sampled[0], pose, statistics)
        generated = self.space.to_feature(vectors, statistics)
        rows = [
            animator.render(source, np.asarray(m)[::8], adapt=True)
            for m in (batch["motion"][0, :, : self._config.feature_dim], generated)
        ]
        return images.contact_sheet(rows)
