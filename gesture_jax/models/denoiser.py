"""Stage 2's network: a transformer that denoises a window of motion under speech and prior motion.

At its default sizes, with one prior frame, it is the denoiser of S2G-MDDiffusion (an EDGE decoder),
array for array; `torch_weights.py` maps them.
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
from gesture_jax.diffusion.samplers import Bound, Sampler, check_interval, guided, within_interval
from gesture_jax.errors import InputError
from gesture_jax.models.attention import LONGEST_WAVE, Memory
from gesture_jax.models.initializers import dense
from gesture_jax.models.transformer import EPSILON, Film, MotionIn, MotionLayer, SpeechLayer, mish

_NUM_TIME_TOKENS = 2
_TIME_WIDENING = 4
# Steps times examples; at the default sizes such a one takes 0.2 MB.
_MAX_PRECOMPUTED = 1024


@flax.struct.dataclass
class SpeechEncoding:
    """Speech as the denoiser reads it; it does not depend on the diffusion time.

    Attributes:
      memories: what each layer of the decoder attends to.
      hidden: [b, latent], a summary of the window.
    """

    memories: list[Memory]
    hidden: jax.Array


@flax.struct.dataclass
class TimeConditioning:
    """A diffusion time as the denoiser reads it, the same whatever the noisy motion.

    Attributes:
      memories: what each layer attends to beside the speech's, [b or 1, 2] tokens each.
      films: by layer, of self-attention, attention to speech and feed-forward.
    """

    memories: list[Memory]
    films: list[tuple[Film, Film, Film]]


def sinusoid(time: Time, latent: int) -> jax.Array:
    """[b] diffusion times to [b, latent]: sines, then cosines, of falling frequency."""
    half = latent // 2
    frequency = np.exp(np.arange(half) * -(np.log(LONGEST_WAVE) / max(half - 1, 1)))
    angle = time.astype(jnp.float32)[:, None] * jnp.asarray(frequency, jnp.float32)
    return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], axis=-1)


class MotionDenoiser(nn.Module):
    """Predicts the clean motion of a window from a noisy one.

    Attributes:
      motion_dim: d, length of a motion vector.
      speech_dim: a, speech features a frame.
      num_prior: frames before the window that are given; 1 is S2G-MDDiffusion's.
      portrait: whether the portrait's pose is given before these.
      window: t, frames.
      latent: width of all tokens.
      feedforward: inner width of the feed-forward parts.
      num_layers: of the decoder.
      num_heads: of every attention.
      num_speech_layers: of the speech encoder.
      num_speakers: known by number, each with a manner of its own; 0 for one manner.
      dropout: in training.
      dtype: of the computation; parameters and the result are float32.
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
        """Raises InputError for a width that heads and positions do not divide."""
        super().__post_init__()
        if self.latent % 2 or self.latent % self.num_heads:
            raise InputError(
                f"latent is {self.latent}; it has to be even, and a multiple of num_heads, "
                f"{self.num_heads}"
            )

    def setup(self):
        of_width = functools.partial(dense, dtype=self.dtype)
        norm = lambda: nn.LayerNorm(epsilon=EPSILON, dtype=self.dtype)
        layer = dict(
            latent=self.latent,
            feedforward=self.feedforward,
            num_heads=self.num_heads,
            dropout=self.dropout,
            dtype=self.dtype,
        )
        self.speech_in = of_width(self.latent)
        self.speech_layer = [SpeechLayer(**layer) for _ in range(self.num_speech_layers)]
        self.hidden_norm = norm()
        self.hidden_in, self.hidden_out = of_width(self.latent), of_width(self.latent)
        normal = nn.initializers.normal(1.0)
        self.null_tokens = self.param("null_tokens", normal, (1, self.window, self.latent))
        self.null_hidden = self.param("null_hidden", normal, (1, self.latent))
        if self.num_speakers:
            self.manner = nn.Embed(self.num_speakers, self.latent, dtype=self.dtype)
        self.time_in = of_width(_TIME_WIDENING * self.latent)
        self.time_hidden = of_width(self.latent)
        self.time_tokens = of_width(_NUM_TIME_TOKENS * self.latent)
        self.memory_norm = norm()
        self.motion_in = MotionIn(self.latent, self.dtype)
        self.layer = [MotionLayer(**layer) for _ in range(self.num_layers)]
        self.motion_out = of_width(self.motion_dim)

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
        """The clean window.

        Args:
          noisy: [b, t, d], x_t.
          time: [b] diffusion times.
          prior: [b, p, d], the frames right before the window; of them the first, where `portrait`,
            is the portrait's pose.
          speech: [b, t, a].
          speaker: [b] int, who moves; wanted where `num_speakers` is not 0, and never dropped.
          drop: [b] bool; where true, the speech is replaced by the learned null.
          train: whether dropout acts; then an rng "dropout" is needed.

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
        """What does not change with the diffusion time: computed once for all of its steps."""
        tokens = self.speech_in(speech)
        for layer in self.speech_layer:
            tokens = layer(tokens, train=train)
        if drop is not None:
            tokens = jnp.where(drop[:, None, None], self.null_tokens.astype(tokens.dtype), tokens)
        hidden = self.hidden_in(self.hidden_norm(tokens.mean(axis=-2)))
        hidden = self.hidden_out(nn.silu(hidden))
        if drop is not None:
            hidden = jnp.where(drop[:, None], self.null_hidden.astype(hidden.dtype), hidden)
        return SpeechEncoding(self._read(tokens), hidden + self._manner_of(speaker))

    def null_speech(self, batch_size: int, speaker: jax.Array | None = None) -> SpeechEncoding:
        """The encoding of no speech at all."""
        null = self._read(self.null_tokens), self.null_hidden
        memories, hidden = jax.tree.map(lambda x: jnp.repeat(x, batch_size, axis=0), null)
        return SpeechEncoding(memories, hidden + self._manner_of(speaker))

    def _read(self, tokens: jax.Array, start: int = 0) -> list[Memory]:
        tokens = self.memory_norm(tokens)
        return [layer.read(tokens, start) for layer in self.layer]

    def _manner_of(self, speaker: jax.Array | None) -> jax.Array | float:
        return self.manner(speaker) if self.num_speakers else 0.0

    def denoise(
        self,
        noisy: MotionSequence,
        time: Time,
        prior: Prior,
        speech: SpeechEncoding,
        *,
        num_hearings: int = 1,
        train: bool = False,
    ) -> MotionSequence:
        """As `__call__`, with the speech encoded.

        Args:
          noisy: [n b, t, d]; n neighbours have one speech.
          time: [n b], the same of these.
          prior: [n b, p, d].
          speech: of k b examples.
          num_hearings: k, in how many ways each window hears, as with speech and without.
          train: whether dropout acts.

        Returns:
          [k n b, t, d] float32, one hearing of all after the other.
        """
        count = num_hearings * len(noisy) // len(speech.hidden)
        moment = self.read_time(jnp.tile(time[::count], num_hearings), speech)
        return self.denoise_at(noisy, prior, speech, moment, num_hearings=num_hearings, train=train)

    def read_time(self, time: Time, speech: SpeechEncoding) -> TimeConditioning:
        """What does not change with the noisy motion: may be computed for all steps together.

        Args:
          time: [k b] diffusion times, or [1], that of all.
          speech: of k b examples.
        """
        wave = mish(self.time_in(sinusoid(time, self.latent)))
        tokens = self.time_tokens(wave).reshape(-1, _NUM_TIME_TOKENS, self.latent)
        condition = self.time_hidden(wave) + speech.hidden
        films = [layer.modulations(condition) for layer in self.layer]
        return TimeConditioning(self._read(tokens, start=self.window), films)

    def denoise_at(
        self,
        noisy: MotionSequence,
        prior: Prior,
        speech: SpeechEncoding,
        moment: TimeConditioning,
        *,
        num_hearings: int = 1,
        train: bool = False,
    ) -> MotionSequence:
        """As `denoise`, with the time read."""
        x = self.motion_in(noisy, prior)
        for layer, heard, timed, films in zip(
            self.layer, speech.memories, moment.memories, moment.films, strict=True
        ):
            memory = jax.tree.map(_append, heard, timed)
            num_rows = num_hearings * len(noisy)
            x = layer(x, memory, films, num_rows=num_rows, train=train)
        return self.motion_out(x).astype(jnp.float32)

    def init_variables(self, key: jax.Array) -> dict:
        """Variables at the start of training."""
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
    """How windows are drawn.

    Attributes:
      sampler: which steps are taken.
      guidance: weight of the speech; 1 is plain conditional sampling.
      interval: shares of the diffusion time, 0 clean and 1 noise, between which guidance acts.
    """

    sampler: Sampler
    guidance: float = 2.0
    interval: tuple[float, float] = (0.0, 1.0)

    def __post_init__(self):
        """Raises InputError for another interval."""
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
) -> MotionSequence:
    """Draws windows of motion.

    Args:
      model: the network.
      params: its parameters.
      key: of the noise.
      prior: [b, p, d].
      speech: [b, t, a].
      process: that the network was trained on.
      sampling: how.
      speaker: [b] int, where the network knows speakers.
      num_candidates: n, windows drawn of each example, in one batch.
      bound: holds estimates of a window within what motion can be, as `MotionSpace.bound` does.

    Returns:
      [n b, t, d]; candidates of one example are neighbours.
    """
    apply = lambda *args, method, **options: model.apply(
        {"params": params}, *args, method=method, **options
    )
    speech = apply(speech, speaker=speaker, method="encode_speech")
    null = apply(len(prior), speaker, method="null_speech")
    both = jax.tree.map(lambda a, b: jnp.concatenate([a, b.astype(a.dtype)]), speech, null)
    prior = jnp.repeat(prior, num_candidates, axis=0)
    read = lambda time: apply(time[None], both, method="read_time")
    known, at = jnp.asarray(sampling.sampler.times(process)), read
    if len(known) * len(null.hidden) <= _MAX_PRECOMPUTED:
        # Of all steps together: their kernels are read once, for few rows each.
        known, at = jax.vmap(read)(known), lambda moment: moment
    heard_alone = lambda moment: moment.replace(
        films=jax.tree.map(lambda x: x[: len(speech.hidden)], moment.films)
    )
    denoise = within_interval(
        guided(
            lambda noisy, _, told: apply(
                noisy, prior, both, at(told), num_hearings=2, method="denoise_at"
            ),
            sampling.guidance,
        ),
        lambda noisy, _, told: apply(
            noisy, prior, speech, heard_alone(at(told)), method="denoise_at"
        ),
        interval=sampling.interval,
        process=process,
    )
    shape = (len(prior), model.window, model.motion_dim)
    return sampling.sampler.sample(key, denoise, shape, process, known=known, bound=bound)


def _append(heard: jax.Array, timed: jax.Array) -> jax.Array:
    """[b, t, ...] and [b or 1, 2, ...] to [b, t + 2, ...]."""
    timed = jnp.broadcast_to(timed, (len(heard), *timed.shape[1:]))
    return jnp.concatenate([heard, timed], axis=1)
