"""Samplers: from noise to x0 by a network that enters as one function.

All take the same step, from a visited time t to the next one s (abar_s = 1 after the last):

  x_s = sqrt(abar_s) x0 + sqrt(1 - abar_s - sigma^2) e + sigma z,   z fresh noise           (1)
  e = (x_t - sqrt(abar_t) x0) / sqrt(1 - abar_t),   the noise that x0 leaves of x_t           (2)
  sigma^2 = eta^2 (1 - abar_s) / (1 - abar_t) (1 - abar_t / abar_s)                           (3)

which keeps the process' share of noise at every s (Song et al. 2021, equations 12 and 16,
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
import jax
import jax.numpy as jnp
import numpy as np

from gesture_jax.array_types import Time
from gesture_jax.diffusion.process import GaussianProcess
from gesture_jax.errors import InputError

# (noisy [b, ...], time [b], and what was known of that time) -> estimate of x0 [b, ...].
Denoise = Callable[..., jax.Array]
Bound = Callable[[jax.Array], jax.Array]


@dataclasses.dataclass(frozen=True)
class Sampler:
    """What the samplers share: everything but which times, how much fresh noise and (4).

    Attributes:
      num_steps: evaluations of the network.
      clip: bound of |x0| if the data have one.
    """

    num_steps: int = 50
    _: dataclasses.KW_ONLY
    clip: float | None = None

    # Share of fresh noise in (3), and the exponent of the times: given by the kind of sampler.
    eta = 0.0
    power = 1.0

    def __post_init__(self):
        if self.num_steps < 1:
            raise InputError(f"num_steps of a sampler is {self.num_steps}; it takes at least 1")

    def times(self, process: GaussianProcess) -> np.ndarray:
        """The times visited, falling from the last one: [num_steps] int32.

        With T steps of the process, T u^power - 1 rounded for u = 1 ... 1 / num_steps evenly; no
        time comes twice.
        """
        if self.num_steps > process.num_steps:
            raise InputError(
                f"num_steps of a sampler is {self.num_steps}; the process has {process.num_steps}"
            )
        ends = np.linspace(process.num_steps, 0, self.num_steps, endpoint=False)
        ends *= (ends / process.num_steps) ** (self.power - 1)
        # Where the power crowds them, one time after the other.
        ends = np.maximum(np.round(ends), np.arange(self.num_steps, 0, -1))
        return ends.astype(np.int32) - 1

    def sample(
        self,
        key: jax.Array,
        denoise: Denoise,
        shape: tuple[int, ...],
        process: GaussianProcess,
        *,
        known: Any = None,
        bound: Bound | None = None,
    ) -> jax.Array:
        """Draws x0.

        Args:
          key: of the first noise and, where steps draw fresh noise, of each step's.
          denoise: the network with all its conditions bound.
          shape: of x0, [b, ...].
          process: that the network was trained on.
          known: a tree of [num_steps, ...], what was computed of `times` before; the part of each
            goes to `denoise` with it.
          bound: brings each estimate of x0 to where data can be, after `clip`.
        """
        key_first, key_steps = jax.random.split(key)

        def step(carry, inputs):
            noisy, before = carry
            now, step_key, told = inputs
            time = jnp.full(shape[:1], now["time"])
            x0 = denoise(noisy, time, *told)
            chex.assert_shape(x0, shape)
            if self.clip is not None:
                x0 = jnp.clip(x0, -self.clip, self.clip)
            x0 = x0 if bound is None else bound(x0)
            onward = x0 + now["onward"] * (x0 - before)
            # Derived again from the bounded x0, so that both describe the same x_t.
            noise = process.noise_from(noisy, onward, time)
            noisy = now["signal"] * onward + now["noise"] * noise
            if self.eta:
                noisy += now["sigma"] * jax.random.normal(step_key, shape)
            return (noisy, x0), None

        first = jax.random.normal(key_first, shape)
        keys = jax.random.split(key_steps, self.num_steps)
        start = first, jnp.zeros_like(first)
        told = () if known is None else (known,)
        (x0, _), _ = jax.lax.scan(step, start, (self._schedule(process), keys, told))
        return x0

    def _schedule(self, process: GaussianProcess) -> dict[str, jax.Array]:
        """The factors of (1) and (4) by name: [num_steps] each, made in float64."""
        times = self.times(process)
        variance = process.signal_variance[times]
        next_variance = np.append(variance[1:], 1.0)
        sigma = self.eta * np.sqrt(
            (1 - next_variance) / (1 - variance) * (1 - variance / next_variance)
        )
        factors = {
            "signal": np.sqrt(next_variance),
            "noise": np.sqrt(np.maximum(1 - next_variance - sigma**2, 0.0)),
            "sigma": sigma,
            "onward": self._onward(variance),
        }
        factors = {name: jnp.asarray(values, jnp.float32) for name, values in factors.items()}
        return {"time": jnp.asarray(times), **factors}

    def _onward(self, variance: np.ndarray) -> np.ndarray:
        """How far x0 moves on along its last change: [num_steps], of abar at the times."""
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

    # Even times leave an error of first order at the end, where the variance of the noise falls
    # like t; even log-SNR spends most steps at both ends, where it goes to infinity. Of 1, 1.25,
    # 1.5 and 2, 1.5 suits both schedules on Gaussian data and mixtures: with 20 steps a third of
    # DDIM's error or less.
    power = 1.5

    def _onward(self, variance: np.ndarray) -> np.ndarray:
        length = np.diff(np.log(variance) - np.log1p(-variance))
        onward = np.zeros_like(variance)
        # The first step has no estimate before it; the last, infinitely long, ends at x0 itself.
        onward[1:-1] = length[1:] / (2 * length[:-1])
        return onward


SAMPLERS = {"ddpm": DDPM, "ddim": DDIM, "dpm": DPMSolver}


def make_sampler(
    name: str, *, num_steps: int, eta: float = 0.0, clip: float | None = None
) -> Sampler:
    """The sampler of a name.

    Args:
      name: a key of `SAMPLERS`.
      num_steps: evaluations of the network.
      eta: that of DDIM; the others have none and take 0 only.
      clip: bound of |x0| if the data have one.
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
      denoise_both: denoises [b, ...] both with and without the condition, to [2b, ...] in this
        order.
      guidance: 1 is plain conditional sampling.
    """

    def denoise(noisy: jax.Array, time: Time, *known: Any) -> jax.Array:
        both = denoise_both(noisy, time, *known)
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
    """One network at the times of an interval, another at the rest; each evaluated only there.

    With `guided` inside and the conditional network outside this is guidance in a limited interval
    (Kynkäänniemi et al. 2024, https://arxiv.org/abs/2404.07724): in much noise it costs variety,
    in little it does next to nothing, and without it half of the batch is saved.

    Args:
      inside: for times t with interval[0] <= t / T < interval[1], T those of the process.
      outside: for the others.
      interval: shares of the process' time, 0 clean and 1 noise; (0, 1) is `inside` alone.
      process: that the networks were trained on.

    Returns:
      A network for batches of one time, as samplers call it.
    """
    check_interval(interval)
    first, end = (round(share * process.num_steps) for share in interval)
    if (first, end) == (0, process.num_steps):
        return inside

    def denoise(noisy: jax.Array, time: Time, *known: Any) -> jax.Array:
        here = (first <= time[0]) & (time[0] < end)
        return jax.lax.cond(here, inside, outside, noisy, time, *known)

    return denoise
