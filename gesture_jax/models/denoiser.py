"""Stage 2's network: a transformer that denoises a window of motion, given speech and prior motion.

At its default sizes and with one prior frame it is the denoiser of S2G-MDDiffusion (an EDGE
decoder), array for array; `torch_weights.py` maps the arrays.
"""

import dataclasses
import functools

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from gesture_jax.array_types import MotionSequence, Prior, SpeechFeatures, Time
from gesture_jax.diffusion.process import GaussianProcess
from gesture_jax.diffusion.samplers import (
    Bound,
    DrawNoise,
    Sampler,
    Steps,
    check_interval,
    guided,
    within_interval,
)
from gesture_jax.errors import InputError
from gesture_jax.models.attention import LONGEST_WAVE, Memory
from gesture_jax.models.initializers import dense
from gesture_jax.models.transformer import EPSILON, Film, MotionIn, MotionLayer, SpeechLayer, mish

_NUM_TIME_TOKENS = 2
_TIME_WIDENING = 4
# Limit on steps times examples; at the default sizes each takes 0.2 MB.
_MAX_PRECOMPUTED = 1024


@flax.struct.dataclass
class SpeechEncoding:
    """Encoded speech, which does not depend on the diffusion time.

    Attributes:
      memories: keys and values for each layer of the decoder.
      hidden: [b, latent], a summary of the window.
    """

    memories: list[Memory]
    hidden: jax.Array


@flax.struct.dataclass
class TimeConditioning:
    """Everything that a diffusion time contributes; it does not depend on the noisy motion.

    Attributes:
      memories: keys and values for each layer, [b or 1, 2] tokens each, which it attends to
        together with those of the speech.
      films: for each layer those of self-attention, attention to speech and feed-forward.
    """

    memories: list[Memory]
    films: list[tuple[Film, Film, Film]]


def sinusoid(time: Time, latent: int) -> jax.Array:
    """Encodes diffusion times [b] as sines, then cosines, of falling frequency: [b, latent]."""
    half = latent // 2
    frequency = np.exp(np.arange(half) * -(np.log(LONGEST_WAVE) / max(half - 1, 1)))
    angle = time.astype(jnp.float32)[:, None] * jnp.asarray(frequency, jnp.float32)
    return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], axis=-1)


class MotionDenoiser(nn.Module):
    """Predicts the clean motion of a window from a noisy one.

    Attributes:
      motion_dim: d, length of a motion vector.
      speech_dim: a, number of speech features per frame.
      num_prior: number of frames before the window that are given; S2G-MDDiffusion has 1.
      portrait: whether the portrait's pose is given before these frames.
      window: t, number of frames.
      latent: width of all tokens.
      feedforward: inner width of the feed-forward parts.
      num_layers: number of layers of the decoder.
      num_heads: number of heads of every attention.
      num_speech_layers: number of layers of the speech encoder.
      num_speakers: number of speakers that condition the network; 0 for no speaker conditioning.
      dropout: dropout rate in training.
      dtype: dtype of the computation; parameters and the result are float32.
    """

    motion_dim: int
    speech_dim: int = 35
    num_prior: int = 5
    portrait: bool = False
    window: int = 80
    latent: int = 512
    feedforward: int = 1024
    num_layers: int = 8
    num_heads: int = 8
    num_speech_layers: int = 2
    num_speakers: int = 0
    dropout: float = 0.1
    dtype: jnp.dtype = jnp.float32

    def __post_init__(self):
        """Raises InputError for a width that is odd or no multiple of the number of heads."""
        super().__post_init__()
        if self.latent % 2 or self.latent % self.num_heads:
            raise InputError(
                f"latent is {self.latent}; it has to be even, and a multiple of num_heads, "
                f"{self.num_heads}"
            )

    def setup(self):
        project = functools.partial(dense, dtype=self.dtype)
        norm = lambda: nn.LayerNorm(epsilon=EPSILON, dtype=self.dtype)
        layer = dict(
            latent=self.latent,
            feedforward=self.feedforward,
            num_heads=self.num_heads,
            dropout=self.dropout,
            dtype=self.dtype,
        )
        self.speech_in = project(self.latent)
        self.speech_layer = [SpeechLayer(**layer) for _ in range(self.num_speech_layers)]
        self.hidden_norm = norm()
        self.hidden_in, self.hidden_out = project(self.latent), project(self.latent)
        normal = nn.initializers.normal(1.0)
        self.null_tokens = self.param("null_tokens", normal, (1, self.window, self.latent))
        self.null_hidden = self.param("null_hidden", normal, (1, self.latent))
        if self.num_speakers:
            self.manner = nn.Embed(self.num_speakers, self.latent, dtype=self.dtype)
        self.time_in = project(_TIME_WIDENING * self.latent)
        self.time_hidden = project(self.latent)
        self.time_tokens = project(_NUM_TIME_TOKENS * self.latent)
        self.memory_norm = norm()
        self.motion_in = MotionIn(self.latent, self.dtype)
        self.layer = [MotionLayer(**layer) for _ in range(self.num_layers)]
        self.motion_out = project(self.motion_dim)

    def __call__(
        self,
        noisy: MotionSequence,
        time: Time,
        prior: Prior,
        speech: SpeechFeatures,
        *,
        speaker: jax.Array | None = None,
        drop: jax.Array | None = None,
        train: bool = False,
    ) -> MotionSequence:
        """Estimates the clean window.

        Args:
          noisy: [b, t, d], x_t.
          time: [b] diffusion times.
          prior: [b, p, d], the frames right before the window; with `portrait`, the first one is
            the portrait's pose.
          speech: [b, t, a].
          speaker: [b] int, number of the speaker; required if `num_speakers` is not 0, and never
            dropped.
          drop: [b] bool; where true, the learned null embedding replaces the speech.
          train: whether dropout acts, which needs an rng "dropout".

        Returns:
          [b, t, d] float32.
        """
        encoding = self.encode_speech(speech, speaker=speaker, drop=drop, train=train)
        return self.denoise(noisy, time, prior, encoding, train=train)

    def encode_speech(
        self,
        speech: SpeechFeatures,
        *,
        speaker: jax.Array | None = None,
        drop: jax.Array | None = None,
        train: bool = False,
    ) -> SpeechEncoding:
        """Encodes the speech, once for all diffusion steps."""
        tokens = self.speech_in(speech)
        for layer in self.speech_layer:
            tokens = layer(tokens, train=train)
        if drop is not None:
            tokens = jnp.where(drop[:, None, None], self.null_tokens.astype(tokens.dtype), tokens)
        hidden = self.hidden_in(self.hidden_norm(tokens.mean(axis=-2)))
        hidden = self.hidden_out(nn.silu(hidden))
        if drop is not None:
            hidden = jnp.where(drop[:, None], self.null_hidden.astype(hidden.dtype), hidden)
        return SpeechEncoding(self._keys_and_values(tokens), hidden + self._condition_on(speaker))

    def null_speech(self, batch_size: int, speaker: jax.Array | None = None) -> SpeechEncoding:
        """Returns the encoding that stands for no speech."""
        null = self._keys_and_values(self.null_tokens), self.null_hidden
        memories, hidden = jax.tree.map(lambda x: jnp.repeat(x, batch_size, axis=0), null)
        return SpeechEncoding(memories, hidden + self._condition_on(speaker))

    def _keys_and_values(self, tokens: jax.Array, start: int = 0) -> list[Memory]:
        tokens = self.memory_norm(tokens)
        return [layer.keys_and_values(tokens, start) for layer in self.layer]

    def _condition_on(self, speaker: jax.Array | None) -> jax.Array | float:
        return self.manner(speaker) if self.num_speakers else 0.0

    def denoise(
        self,
        noisy: MotionSequence,
        time: Time,
        prior: Prior,
        speech: SpeechEncoding,
        *,
        num_conditions: int = 1,
        train: bool = False,
    ) -> MotionSequence:
        """Like `__call__`, for encoded speech.

        Args:
          noisy: [n b, t, d]; n neighbours share one speech.
          time: [n b]; neighbours share it too.
          prior: [n b, p, d].
          speech: the encoding of k b examples.
          num_conditions: k, number of conditions to denoise each window under, for example 2 for
            with and without speech.
          train: whether dropout acts.

        Returns:
          [k n b, t, d] float32: all windows under the first condition, then under the next.
        """
        count = num_conditions * len(noisy) // len(speech.hidden)
        timing = self.encode_time(jnp.tile(time[::count], num_conditions), speech)
        return self.denoise_at(
            noisy, prior, speech, timing, num_conditions=num_conditions, train=train
        )

    def encode_time(self, time: Time, speech: SpeechEncoding) -> TimeConditioning:
        """Computes everything that depends on the diffusion time but not on the noisy motion.

        It may be computed for all steps together.

        Args:
          time: [k b] diffusion times, or [1] if all share one.
          speech: the encoding of k b examples.
        """
        wave = mish(self.time_in(sinusoid(time, self.latent)))
        tokens = self.time_tokens(wave).reshape(-1, _NUM_TIME_TOKENS, self.latent)
        condition = self.time_hidden(wave) + speech.hidden
        films = [layer.films(condition) for layer in self.layer]
        return TimeConditioning(self._keys_and_values(tokens, start=self.window), films)

    def denoise_at(
        self,
        noisy: MotionSequence,
        prior: Prior,
        speech: SpeechEncoding,
        timing: TimeConditioning,
        *,
        num_conditions: int = 1,
        train: bool = False,
    ) -> MotionSequence:
        """Like `denoise`, for an encoded time."""
        x = self.motion_in(noisy, prior)
        for layer, speech_memory, time_memory, films in zip(
            self.layer, speech.memories, timing.memories, timing.films, strict=True
        ):
            memory = jax.tree.map(_append, speech_memory, time_memory)
            num_rows = num_conditions * len(noisy)
            x = layer(x, memory, films, num_rows=num_rows, train=train)
        return self.motion_out(x).astype(jnp.float32)

    def init_variables(self, key: jax.Array) -> dict:
        """Returns the variables at the start of training."""
        return self.init(
            key,
            jnp.zeros((1, self.window, self.motion_dim)),
            jnp.zeros((1,), jnp.int32),
            jnp.zeros((1, self.portrait + self.num_prior, self.motion_dim)),
            jnp.zeros((1, self.window, self.speech_dim)),
            speaker=jnp.zeros((1,), jnp.int32),
        )


@dataclasses.dataclass(frozen=True)
class Sampling:
    """How windows are sampled.

    Attributes:
      sampler: the sampler, or its steps as arrays.
      guidance: weight of the speech, which may be traced; 1 is plain conditional sampling.
      interval: shares of the diffusion time, 0 clean and 1 noise, between which guidance acts. It
        decides which networks a compiled program holds, so that it cannot be traced.
    """

    sampler: Sampler | Steps
    guidance: float | jax.Array = 2.0
    interval: tuple[float, float] = (0.0, 1.0)

    def __post_init__(self):
        """Raises InputError for anything but two rising shares as the interval."""
        check_interval(self.interval)


def sample_motion(
    model: MotionDenoiser,
    params,
    key: jax.Array,
    prior: Prior,
    speech: SpeechFeatures,
    *,
    process: GaussianProcess,
    sampling: Sampling,
    speaker: jax.Array | None = None,
    num_candidates: int = 1,
    bound: Bound | None = None,
    draw_noise: DrawNoise = jax.random.normal,
) -> MotionSequence:
    """Samples windows of motion.

    Args:
      model: the network.
      params: its parameters.
      key: for the noise.
      prior: [b, p, d].
      speech: [b, t, a].
      process: that the network was trained on.
      sampling: the sampler and its guidance.
      speaker: [b] int, if the network knows speakers.
      num_candidates: n, number of windows to sample for each example, in one batch.
      bound: keeps estimates of a window within the range of real motion, like `MotionSpace.bound`.
      draw_noise: draws standard normal noise from a key and a shape.

    Returns:
      [n b, t, d]; candidates of one example are neighbours.
    """
    steps = sampling.sampler
    if isinstance(steps, Sampler):
        steps = steps.steps(process)
    apply = lambda *args, method, **options: model.apply(
        {"params": params}, *args, method=method, **options
    )
    speech = apply(speech, speaker=speaker, method="encode_speech")
    null = apply(len(prior), speaker, method="null_speech")
    both = jax.tree.map(lambda a, b: jnp.concatenate([a, b.astype(a.dtype)]), speech, null)
    prior = jnp.repeat(prior, num_candidates, axis=0)
    encode_time = lambda time: apply(time[None], both, method="encode_time")
    precomputed, to_timing = steps.time, encode_time
    if len(steps.time) * len(null.hidden) <= _MAX_PRECOMPUTED:
        # All steps are encoded together, which reads the weights once, for few rows each.
        precomputed, to_timing = jax.vmap(encode_time)(steps.time), lambda timing: timing
    without_null = lambda timing: timing.replace(
        films=jax.tree.map(lambda x: x[: len(speech.hidden)], timing.films)
    )
    denoise_both = lambda noisy, _, extra: apply(
        noisy, prior, both, to_timing(extra), num_conditions=2, method="denoise_at"
    )
    denoise_conditional = lambda noisy, _, extra: apply(
        noisy, prior, speech, without_null(to_timing(extra)), method="denoise_at"
    )
    denoise = within_interval(
        guided(denoise_both, sampling.guidance),
        denoise_conditional,
        interval=sampling.interval,
        process=process,
    )
    shape = (len(prior), model.window, model.motion_dim)
    return steps.sample(
        key, denoise, shape, process, precomputed=precomputed, bound=bound, draw_noise=draw_noise
    )


def _append(speech: jax.Array, time: jax.Array) -> jax.Array:
    """Appends time tokens [b or 1, 2, ...] to speech tokens [b, t, ...]: [b, t + 2, ...]."""
    time = jnp.broadcast_to(time, (len(speech), *time.shape[1:]))
    return jnp.concatenate([speech, time], axis=1)
