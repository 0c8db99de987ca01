"""Stage 2 as a task: a diffusion model learns to make stage 1's motion features from speech."""

import contextlib
import functools
from collections.abc import Iterable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from gesture_jax.checkpoint import checkpoints
from gesture_jax.data import clips, motions, pipeline
from gesture_jax.diffusion.process import motion_loss
from gesture_jax.errors import InputError
from gesture_jax.inference.animator import Animator, Source
from gesture_jax.inference.windows import WindowSchedule
from gesture_jax.media import images
from gesture_jax.metrics import fgd, frechet
from gesture_jax.metrics import motion as motion_metrics
from gesture_jax.models.denoiser import sample_motion
from gesture_jax.models.motion_model import abstract_variables, build, make_process, make_sampling
from gesture_jax.models.motion_space import (
    BOUNDS,
    MotionSpace,
    gather_statistics,
    hide_future,
    standardise_speech,
    unit_statistics,
)
from gesture_jax.ops.precision import float32_matmuls
from gesture_jax.ops.rows import apply_to_other_rows
from gesture_jax.parallel import processes
from gesture_jax.storage.files import absolute, as_path
from gesture_jax.training.extraction import default_folder, extract_motions


class Objective:
    """What of stage 2 needs no data but its sizes: network, losses, measures."""

    def __init__(self, config: ConfigDict):
        """Of a config whose `feature_dim` and `speech_dim` are known.

        Raises:
          InputError: for sizes or samplers that cannot be.
        """
        self._config = config
        self.space, model = build(config)
        self.model = model.clone(dtype=config.dtype)
        self.process = make_process(config)
        self.sampling = make_sampling(config)
        self.sampling.sampler.times(self.process)  # Which refuses what does not fit.
        for pace in (config.pace, config.stream_pace):
            WindowSchedule(**pace).check(self.model)
        self._statistics = unit_statistics(abstract_variables(config)["statistics"])

    def abstract_batch(self, batch_size: int) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes of a training batch."""
        model, config = self.model, self._config
        shape = lambda *rest, dtype="f4": jax.ShapeDtypeStruct((batch_size, *rest), dtype)
        return {
            "motion": shape(model.window, config.feature_dim),
            "prior": shape(model.num_prior, config.feature_dim),
            "portrait": shape(config.feature_dim),
            "speech": shape(model.window, config.speech_dim),
            "speaker": shape(dtype="i4"),
        }

    def abstract_frozen(self) -> dict:
        """Nothing that a step reads."""
        return {}

    def init(self, key: jax.Array):
        """Parameters, and the training set's statistics."""
        return self.model.init_variables(key)["params"], {"statistics": self._statistics}

    def _standardise(self, model_state, batch):
        statistics = model_state["statistics"]
        motion, prior, portrait = (
            self.space.from_feature(batch[name]) for name in ("motion", "prior", "portrait")
        )
        return (
            self.space.encode(motion, portrait, statistics),
            self.space.encode_prior(prior, portrait, statistics),
            standardise_speech(batch["speech"], statistics),
        )

    def draw(self, key, batch):
        """Diffusion times, noise, and what of speech and past is kept from the network."""
        weights = self._config.loss
        key_time, key_noise, key_drop, key_future, key_past, _ = jax.random.split(key, 6)
        key_known, key_drift = jax.random.split(jax.random.fold_in(key_past, 1))
        count, length, _ = batch["motion"].shape
        return {
            "time": self.process.draw_times(key_time, count, power=weights.time_power),
            "noise": jax.random.normal(key_noise, (count, length, self.space.dim)),
            "drop": jax.random.bernoulli(key_drop, weights.speech_dropout, (count,)),
            "heard": self._draw_heard(key_future, count),
            "past_offset": self._draw_past_offset(key_past, count),
            "known": ~jax.random.bernoulli(key_known, weights.portrait_dropout, (count,)),
            "drift": weights.prior_drift * jax.random.uniform(key_drift, (count, 1, 1)),
            # Where another example is, as somewhere that motion may have gone to.
            "other_pose": jnp.roll(batch["prior"][:, -1], 1, axis=0),
            "other_portrait": jnp.roll(batch["portrait"], 1, axis=0),
        }

    def loss(self, params, model_state, frozen, batch, key, step):
        """Position, velocity and acceleration of the denoised window."""
        del frozen, step
        weights = self._config.loss
        motion, prior, speech = self._standardise(model_state, batch)
        prior = self._lead_astray(prior, batch, model_state["statistics"])
        denoised = self.model.apply(
            {"params": params},
            self.process.add_noise(motion, batch["noise"], batch["time"]),
            batch["time"],
            prior,
            hide_future(speech, batch["heard"]),
            speaker=batch["speaker"],
            drop=batch["drop"],
            train=True,
            rngs={"dropout": jax.random.split(key, 6)[5]},  # `draw` has the others.
        )
        loss, metrics = motion_loss(
            denoised,
            motion,
            position=weights.position,
            velocity=weights.velocity,
            acceleration=weights.acceleration,
        )
        return loss, (metrics, model_state)

    def _lead_astray(self, prior: jax.Array, batch, statistics) -> jax.Array:
        """What is known of the past, as uncertain as it is when motion is generated."""
        if self.model.portrait:
            pose, prior = prior[:, :1] * batch["known"][:, None, None], prior[:, 1:]
        portrait, other = (
            self.space.from_feature(batch[name]) for name in ("other_portrait", "other_pose")
        )
        drift = batch["drift"] * self.space.encode(other[:, None], portrait, statistics)
        prior = self.space.bound(prior + drift + batch["past_offset"], statistics)
        return jnp.concatenate([pose, prior], axis=1) if self.model.portrait else prior

    def _draw_past_offset(self, key: jax.Array, count: int) -> jax.Array:
        """How far the frames before a window are moved off, all alike; [count, 1, d].

        What was generated is never quite what is real; a network that trusts it adds its errors up
        from window to window, until pictures fall apart.
        """
        key_size, key_noise = jax.random.split(key)
        size = jax.random.uniform(key_size, (count, 1, 1), maxval=self._config.loss.prior_noise)
        return size * jax.random.normal(key_noise, (count, 1, self.space.dim))

    def _draw_heard(self, key: jax.Array, count: int) -> jax.Array:
        """How many frames of speech are heard: mostly all, else as in a stream; [count]."""
        key_which, key_where = jax.random.split(key)
        window, hop = self._config.model.window, self._config.stream_pace.hop
        cut = jax.random.bernoulli(key_which, self._config.loss.future_dropout, (count,))
        return jnp.where(cut, jax.random.randint(key_where, (count,), hop, window), window)

    def evaluate(self, variables, frozen, batch, key):
        """`speed_error` and `speed_correlation` of motion sampled from the window's speech, and of
        two controls; and what FGD is made of.

        Shuffled: the same model and noise on other speech; NaN where the batch has none. Still: no
        motion, whose error is 1 and whose correlation 0 by definition.
        """
        real, prior, speech = self._standardise(variables, batch)
        sample = lambda speech: self._sample(variables, key, prior, speech, batch["speaker"])
        generated = {
            "": sample(speech),
            "_shuffled_speech": apply_to_other_rows(sample, speech, batch["other"]),
            "_still": self._hold(batch, variables["statistics"]),
        }
        values = {}
        for name, motion in generated.items():
            values[f"speed_error{name}"] = motion_metrics.speed_error(motion, real)
            values[f"speed_correlation{name}"] = motion_metrics.speed_correlation(motion, real)
        if "fgd" in frozen:
            for name, motion in {"_real": real, **generated}.items():
                values[f"latent{name}"] = fgd.latent(frozen["fgd"], motion)
        return values

    def _hold(self, batch, statistics):
        """Windows in which the portrait holds still."""
        portrait = self.space.from_feature(batch["portrait"])
        held = jnp.repeat(portrait[:, None], batch["motion"].shape[1], axis=1)
        return self.space.encode(held, portrait, statistics)

    def summarise(self, latents: dict[str, np.ndarray]) -> dict[str, float]:
        """FGD of generated windows and of controls, from [n, 32] of each kind.

        A control that some windows lack has none, as distances depend on the number of windows.
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
    """See `train_lib.Task`. Batches are those of `pipeline.motion_windows`."""

    def __init__(self, config: ConfigDict, workdir: str):
        """Finds the motion features, or extracts them where the preset says so.

        Raises:
          InputError: where stage 1 or its motion features are missing.
        """
        path = ensure_motions(config)
        self._train = motions.MotionSource(path, "train")
        self._test = motions.MotionSource(path, "test")
        _check_features(self._train, config.data.features)
        config.feature_dim, config.speech_dim = self._train.motion_dim, self._train.speech_dim
        config.wavlm_sha256 = self._train.metadata.get("wavlm_sha256", "")
        config.stage1_step = self._train.metadata["stage1_step"]
        config.data.sha256 = self._train.sha256
        if config.speaker_manners:
            config.speakers = tuple(sorted(self._train.metadata["speakers"]))
        super().__init__(config)
        # Here, so that too short clips are told of before training, not after hours of it.
        self._test_windows = self._windows(
            self._test,
            stride=config.model.window // 2,
            seed=0,
            train=False,
            batch_size=config.batch_size,
        )
        self._statistics = gather_statistics(
            _Vectors(self.space, self._train),
            (record["speech"] for record in self._train),
            standardise=config.standardise,
        )
        if not config.training_bounds:
            for name in BOUNDS:
                del self._statistics[name]
        self.frozen = {"fgd": self._find_fgd(workdir)} if config.fgd_steps else {}
        self._compiled_sample = jax.jit(float32_matmuls(self._sample))

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
            source,
            window=model.window,
            num_prior=model.num_prior,
            speakers=self._config.speakers,
            **options,
        )

    def _find_fgd(self, workdir: str) -> fgd.Variables:
        """The network that FGD is measured by, fitted once a run, by its first process.

        It is kept in the workdir, so that all values of a run are by the same one.
        """
        path = as_path(workdir) / "fgd.npz"
        resumed = processes.first_process_says(checkpoints.is_saved(workdir))
        with processes.first_process_first("fgd"):
            if resumed or not processes.is_first_process():
                # It is fitted again where it is damaged, or an older run has not kept it.
                with contextlib.suppress(InputError):
                    return fgd.read_autoencoder(path)
            variables = self._fit_fgd()
            if processes.is_first_process():
                fgd.write_autoencoder(path, variables)
            return variables

    def _fit_fgd(self) -> fgd.Variables:
        """Of training windows, as the diffusion sees them."""
        encode = lambda vectors: self.space.encode(vectors, vectors[0], self._statistics)
        windows = fgd.Windows(
            map(encode, _Vectors(self.space, self._train)),
            window=self._config.model.window,
            stride=self._config.data.window_stride,
        )
        return fgd.fit_autoencoder(
            windows, seed=self._config.seed, num_steps=self._config.fgd_steps, progress=True
        )

    @functools.cached_property
    def _example(self) -> tuple[Animator, Source]:
        """What renders, and the portrait of the first test clip."""
        animator = Animator.load(self._config.stage1_workdir)
        test = clips.ClipSource(self._train.metadata.get("data_path", ""), "test")
        return animator, animator.encode_source(clips.decode_frames(test[0], [0])[0])

    def draw_samples(self, variables, batch, key) -> np.ndarray:
        """The first test clip, every eighth frame: as it moved, and as generated; both rendered."""
        animator, source = self._example
        _, prior, speech = self._standardise(variables, batch)
        conditions = prior[:1], speech[:1], batch["speaker"][:1]
        sampled = self._compiled_sample(variables, key, *conditions)
        pose = self.space.from_feature(batch["portrait"][0])
        vectors = self.space.decode(sampled[0], pose, variables["statistics"])
        generated = self.space.to_feature(vectors)
        rows = [
            animator.render(source, np.asarray(m)[::8], adapt=True)
            for m in (batch["motion"][0], generated)
        ]
        return images.contact_sheet(rows)


class _Vectors:
    """The motions of a data set, clip by clip, as vectors of a space; as often as wanted."""

    def __init__(self, space: MotionSpace, source: motions.MotionSource):
        self._space, self._source = space, source

    def __iter__(self) -> Iterator[np.ndarray]:
        return (np.asarray(self._space.from_feature(each["motion"])) for each in self._source)


def _check_features(source: motions.MotionSource, wanted: str) -> None:
    found = source.metadata.get("features", "baseline")
    if found != wanted:
        raise InputError(
            f"{source.path}: holds speech features {found!r}, but {wanted!r} are wanted; pass "
            f"--config.data.features={found}, or prepare with --features={wanted} and extract again"
        )


def ensure_motions(config: ConfigDict) -> str:
    """The folder of the motion features; extracts missing ones where the preset says so.

    Raises:
      InputError: where stage 1 is missing, or the features are and the preset extracts none.
    """
    if not config.stage1_workdir:
        raise InputError("stage 2 needs a trained stage 1: pass --config.stage1_workdir=DIR")
    stage1_config = checkpoints.read_config(config.stage1_workdir, stage="stage1")
    path = config.data.path or str(default_folder(config.stage1_workdir))
    if processes.first_process_says(not clips.is_dataset(path)):
        # Converted and packed ones lack it.
        data_path = stage1_config.get("data", {}).get("path", "")
        if not (config.data.extract_missing and data_path):
            raise InputError(
                f"{path}: no motion features here; extract them with `python -m "
                f"gesture_jax.extract --stage1={config.stage1_workdir} "
                f"--data={data_path or 'DATASET'} --out={path}`"
            )
        with processes.first_process_first("motions"):
            extract_motions(config.stage1_workdir, data_path, path)
    found = motions.MotionSource(path, "train").metadata.get("stage1_step")
    newest = checkpoints.newest_step(config.stage1_workdir)
    if found != newest:
        raise InputError(
            f"{path}: motion features of stage 1 at step {found}, but it is at step {newest} now; "
            "remove them, and extract them again"
        )
    config.data.path = path
    config.stage1_workdir = str(absolute(config.stage1_workdir))
    return path
