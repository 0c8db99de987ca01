"""Samplers: draw x0 from noise with a network that they know as one function.

All take the same kind of step, from a time t to the next time s (abar_s = 1 after the last step):

  x_s = sqrt(abar_s) x0 + sqrt(1 - abar_s - sigma^2) e + sigma z,   z fresh noise           (1)
  e = (x_t - sqrt(abar_t) x0) / sqrt(1 - abar_t),   the noise in x_t given x0                 (2)
  sigma^2 = eta^2 (1 - abar_s) / (1 - abar_t) (1 - abar_t / abar_s)                           (3)

which keeps the noise share of the process at every s (Song et al. 2021, equations 12 and 16,
https://arxiv.org/abs/2010.02502). With eta = 1, (3) is the variance of q(x_s | x_t, x0), and (1)
draws from it: the ancestral sampler (Ho et al. 2020, https://arxiv.org/abs/2006.11239). With
eta = 0, (1) is exact for an x0 that stays the same from t to s, and of first order otherwise.
DPM-Solver++(2M) (Lu et al. 2022, algorithm 2, https://arxiv.org/abs/2211.01095) is (1) with

  x0 + h / (2 h') (x0 - x0')   in place of x0,                                                (4)

where x0' is the estimate of the step before and h, h' are the two steps' lengths in log-SNR.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import chex
import flax
import jax
import jax.numpy as jnp
import numpy as np

from gesture_jax.array_types import Time
from gesture_jax.diffusion.process import GaussianProcess
from gesture_jax.errors import InputError

# (noisy [b, ...], time [b], and the precomputed part of that step, if any) -> x0 [b, ...].
Denoise = Callable[..., jax.Array]
Bound = Callable[[jax.Array], jax.Array]
# (key, shape) -> standard normal noise.
DrawNoise = Callable[[jax.Array, tuple[int, ...]], jax.Array]
# Padded steps come in powers of two from this one on, so that most numbers share a program.
_FEWEST_PADDED = 8


@flax.struct.dataclass
class Steps:
    """The steps of a sampler as arrays, which may be traced.

    Samplers whose arrays have the same shapes run in the same compiled program.

    Attributes:
      count: number of steps to take; the arrays below may be longer.
      time: [n] int32, the time of each step.
      signal: [n], the factor of x0 in (1).
      noise: [n], the factor of e in (1).
      onward: [n], the factor of the change of x0 in (4).
      sigma: [n], that of (1), or None if no step adds fresh noise.
      clip: bound of |x0|, or None if there is none.
    """

    count: jax.Array | int
    time: jax.Array
    signal: jax.Array
    noise: jax.Array
    onward: jax.Array
    sigma: jax.Array | None = None
    clip: jax.Array | None = None

    def sample(
        self,
        key: jax.Array,
        denoise: Denoise,
        shape: tuple[int, ...],
        process: GaussianProcess,
        *,
        precomputed: Any = None,
        bound: Bound | None = None,
        draw_noise: DrawNoise = jax.random.normal,
    ) -> jax.Array:
        """Draws x0; see `Sampler.sample`."""
        key_first, key_steps = jax.random.split(key)
        keys = jax.random.split(key_steps, len(self.time))
        extra = () if precomputed is None else (precomputed,)

        def step(number, carry):
            noisy, before = carry
            time = jnp.full(shape[:1], self.time[number])
            x0 = denoise(noisy, time, *jax.tree.map(lambda leaf: leaf[number], extra))
            chex.assert_shape(x0, shape)
            if self.clip is not None:
                x0 = jnp.clip(x0, -self.clip, self.clip)
            x0 = x0 if bound is None else bound(x0)
            onward = x0 + self.onward[number] * (x0 - before)
            # Derived again from the bounded x0, so that both describe the same x_t.
            noise = process.noise_from(noisy, onward, time)
            noisy = self.signal[number] * onward + self.noise[number] * noise
            if self.sigma is not None:
                noisy += self.sigma[number] * draw_noise(keys[number], shape)
            return noisy, x0

        first = draw_noise(key_first, shape)
        _, x0 = jax.lax.fori_loop(0, self.count, step, (first, jnp.zeros_like(first)))
        return x0


@dataclasses.dataclass(frozen=True)
class Sampler:
    """The base of all samplers, which choose the times, the share of fresh noise and (4).

    Attributes:
      num_steps: evaluations of the network.
      clip: bound of |x0| if the data have one.
    """

    num_steps: int = 50
    _: dataclasses.KW_ONLY
    clip: float | None = None

    # Share of fresh noise in (3), and the exponent of the times; subclasses set them.
    eta = 0.0
    power = 1.0

    def __post_init__(self):
        """Raises InputError for less than one step."""
        if self.num_steps < 1:
            raise InputError(f"num_steps of a sampler is {self.num_steps}; it takes at least 1")

    def times(self, process: GaussianProcess) -> np.ndarray:
        """The times of the steps, falling from the last one: [num_steps] int32.

        With T steps of the process, these are T u^power - 1, rounded, for u = 1 ... 1 / num_steps
        evenly spaced; no time comes twice.

        Raises:
          InputError: if the process has fewer steps.
        """
        if self.num_steps > process.num_steps:
            raise InputError(
                f"num_steps of a sampler is {self.num_steps}; the process has {process.num_steps}"
            )
        ends = np.linspace(process.num_steps, 0, self.num_steps, endpoint=False)
        ends *= (ends / process.num_steps) ** (self.power - 1)
        # Where the power crowds the times, they become consecutive.
        ends = np.maximum(np.round(ends), np.arange(self.num_steps, 0, -1))
        return ends.astype(np.int32) - 1

    def steps(self, process: GaussianProcess, *, padded: bool = False) -> Steps:
        """The steps as float32 arrays, computed in float64.

        Args:
          process: that the network was trained on.
          padded: whether the arrays are padded to the next power of two, 8 or more, and all values
            are arrays. A compiled program that takes such steps as its arguments also serves other
            numbers of steps, other values of `eta` and other samplers.
        """
        times = self.times(process)
        variance = process.signal_variance[times]
        next_variance = np.append(variance[1:], 1.0)
        sigma = self.eta * np.sqrt(
            (1 - next_variance) / (1 - variance) * (1 - variance / next_variance)
        )
        length = self.num_steps
        if padded:
            length = max(_FEWEST_PADDED, 1 << (length - 1).bit_length())
        pad = lambda values: np.pad(values, (0, length - self.num_steps), mode="edge")
        to_array = lambda values: jnp.asarray(pad(values), jnp.float32)
        return Steps(
            count=np.int32(self.num_steps) if padded else self.num_steps,
            time=jnp.asarray(pad(times)),
            signal=to_array(np.sqrt(next_variance)),
            noise=to_array(np.sqrt(np.maximum(1 - next_variance - sigma**2, 0.0))),
            onward=to_array(self._onward(variance)),
            sigma=to_array(sigma) if self.eta else None,
            clip=None if self.clip is None else jnp.float32(self.clip),
        )

    def sample(
        self,
        key: jax.Array,
        denoise: Denoise,
        shape: tuple[int, ...],
        process: GaussianProcess,
        *,
        precomputed: Any = None,
        bound: Bound | None = None,
        draw_noise: DrawNoise = jax.random.normal,
    ) -> jax.Array:
        """Draws x0.

        Args:
          key: for the first noise and, where steps draw fresh noise, for that of each step.
          denoise: the network with all its conditions bound.
          shape: of x0, [b, ...].
          process: that the network was trained on.
          precomputed: a tree of [num_steps, ...] arrays that were computed from `times` before;
            `denoise` gets the part of its step as its third argument.
          bound: brings each estimate of x0 to where data can be, after `clip`.
          draw_noise: draws standard normal noise from a key and a shape.
        """
        return self.steps(process).sample(
            key, denoise, shape, process,
            precomputed=precomputed, bound=bound, draw_noise=draw_noise,
        )  # fmt: skip

    def _onward(self, variance: np.ndarray) -> np.ndarray:
        """The factor of the change of x0 in (4), [num_steps], given abar at the times."""
        return np.zeros_like(variance)


@dataclasses.dataclass(frozen=True)
class DDPM(Sampler):
    """Ancestral sampling (Ho et al. 2020): each step draws from q(x_s | x_t, x0)."""

    eta = 1.0


@dataclasses.dataclass(frozen=True)
class DDIM(Sampler):
    """DDIM (Song et al. 2021).

    Attributes:
      eta: 0 for the deterministic sampler, 1 for the noise of the ancestral one.
    """

    eta: float = 0.0


@dataclasses.dataclass(frozen=True)
class DPMSolver(Sampler):
    """DPM-Solver++(2M) (Lu et al. 2022): deterministic, of second order, for few steps."""

    # Evenly spaced times leave a first-order error at the end, where the variance of the noise
    # falls like t; evenly spaced log-SNR spends most steps at both ends, where it goes to infinity.
    # Among 1, 1.25, 1.5 and 2, 1.5 works best for both schedules on Gaussian data and mixtures:
    # with 20 steps the error is a third of DDIM's or less.
    power = 1.5

    def _onward(self, variance: np.ndarray) -> np.ndarray:
        length = np.diff(np.log(variance) - np.log1p(-variance))
        onward = np.zeros_like(variance)
        # The first step has no previous estimate; the last one is infinitely long and ends at x0.
        onward[1:-1] = length[1:] / (2 * length[:-1])
        return onward


SAMPLERS = {"ddpm": DDPM, "ddim": DDIM, "dpm": DPMSolver}


def make_sampler(
    name: str, *, num_steps: int, eta: float = 0.0, clip: float | None = None
) -> Sampler:
    """Returns a sampler by its name.

    Args:
      name: a key of `SAMPLERS`.
      num_steps: evaluations of the network.
      eta: of DDIM; the other samplers have none and accept only 0.
      clip: bound of |x0| if the data have one.

    Raises:
      InputError: for an unknown name, or values that the sampler does not accept.
    """
    if name not in SAMPLERS:
        raise InputError(f"unknown sampler {name!r}; choose {', '.join(SAMPLERS)}")
    if name == "ddim":
        return DDIM(num_steps, eta, clip=clip)
    if eta:
        raise InputError(f"eta is {eta}, but only the sampler ddim has one, not {name}")
    return SAMPLERS[name](num_steps, clip=clip)


def guided(denoise_both: Denoise, guidance: float | jax.Array) -> Denoise:
    """Classifier-free guidance (Ho & Salimans 2022): null + guidance (conditional - null).

    Args:
      denoise_both: denoises [b, ...] first with and then without the condition, to [2b, ...].
      guidance: 1 is plain conditional sampling.
    """

    def denoise(noisy: jax.Array, time: Time, *precomputed: Any) -> jax.Array:
        both = denoise_both(noisy, time, *precomputed)
        chex.assert_shape(both, (2 * len(noisy), *noisy.shape[1:]))
        conditional, null = jnp.split(both, 2)
        return null + guidance * (conditional - null)

    return denoise


def check_interval(interval: tuple[float, ...]) -> None:
    """Raises InputError for anything but two rising shares from 0 to 1."""
    numbers = all(isinstance(share, int | float) for share in interval)
    if not numbers or len(interval) != 2 or not 0 <= interval[0] <= interval[1] <= 1:
        raise InputError(f"interval is {interval}; it takes two rising shares from 0 to 1")


def within_interval(
    inside: Denoise,
    outside: Denoise,
    *,
    interval: tuple[float, float],
    process: GaussianProcess,
) -> Denoise:
    """Uses one network inside an interval of the time and another one outside.

    Each is evaluated only at its own times. With `guided` inside and the conditional network
    outside this is guidance in a limited interval (Kynkäänniemi et al. 2024,
    https://arxiv.org/abs/2404.07724): guidance at high noise costs variety, guidance at low noise
    has hardly any effect, and a step without guidance saves half of the batch.

    Args:
      inside: for times t with interval[0] <= t / T < interval[1], where the process has T steps.
      outside: for the other times.
      interval: shares of the time of the process, 0 clean and 1 noise; (0, 1) is `inside` alone.
      process: that the networks were trained on.

    Returns:
      A network for batches of a single time, which is how samplers call it.
    """
    check_interval(interval)
    first, end = (round(share * process.num_steps) for share in interval)
    if (first, end) == (0, process.num_steps):
        return inside

    def denoise(noisy: jax.Array, time: Time, *precomputed: Any) -> jax.Array:
        is_inside = (first <= time[0]) & (time[0] < end)
        return jax.lax.cond(is_inside, inside, outside, noisy, time, *precomputed)

    return denoise
