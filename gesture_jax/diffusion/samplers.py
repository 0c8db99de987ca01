"""Samplers: from noise to x0 by a network that enters as one function."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from gesture_jax.diffusion.process import GaussianProcess

# (noisy [b, ...], time [b]) -> estimate of x0 [b, ...].
Denoise = Callable[[jax.Array, jax.Array], jax.Array]


@dataclasses.dataclass(frozen=True)
class DDIM:
    """DDIM (Song et al. 2021) for networks that predict x0.

    Attributes:
      num_steps: evaluations of the network.
      eta: 0 for the deterministic sampler, 1 for the noise of the ancestral one.
      clip: bound of |x0| if the data have one.
    """

    num_steps: int = 50
    eta: float = 0.0
    clip: float | None = None

    def times(self, process: GaussianProcess) -> np.ndarray:
        """The times visited, falling from the last one: [num_steps] int32."""
        ends = np.linspace(process.num_steps, 0, self.num_steps, endpoint=False)
        return np.round(ends).astype(np.int32) - 1

    def sample(
        self, key: jax.Array, denoise: Denoise, shape: tuple[int, ...], process: GaussianProcess
    ) -> jax.Array:
        """Draws x0.

        Args:
          key: of the first noise and, for eta > 0, of each step's.
          denoise: the network with all its conditions bound.
          shape: of x0, [b, ...].
          process: that the network was trained on.
        """
        times = self.times(process)
        variance = process.signal_variance[times]
        next_variance = np.append(variance[1:], 1.0)
        # Equation 16 of the paper, on the host in float64.
        sigma = self.eta * np.sqrt(
            (1 - next_variance) / (1 - variance) * (1 - variance / next_variance)
        )
        key_first, key_steps = jax.random.split(key)
        schedule = {
            "time": times,
            "signal": np.sqrt(next_variance),
            "noise": np.sqrt(np.maximum(1 - next_variance - sigma**2, 0.0)),
            "sigma": sigma,
        }
        schedule = {
            name: jnp.asarray(values, jnp.int32 if name == "time" else jnp.float32)
            for name, values in schedule.items()
        }

        def step(noisy, inputs):
            now, step_key = inputs
            time = jnp.full(shape[:1], now["time"])
            x0 = denoise(noisy, time)
            if self.clip is not None:
                x0 = jnp.clip(x0, -self.clip, self.clip)
            # Derived again from the clipped x0, so that both describe the same x_t.
            noise = process.noise_from(noisy, x0, time)
            noisy = now["signal"] * x0 + now["noise"] * noise
            if self.eta:
                noisy += now["sigma"] * jax.random.normal(step_key, shape)
            return noisy, None

        first = jax.random.normal(key_first, shape)
        keys = jax.random.split(key_steps, self.num_steps)
        x0, _ = jax.lax.scan(step, first, (schedule, keys))
        return x0


def guided(denoise_both: Denoise, guidance: float | jax.Array) -> Denoise:
    """Classifier-free guidance (Ho & Salimans 2022): null + guidance (conditional - null).

    Args:
      denoise_both: denoises [2b, ...] in one batch, the first half with, the second without the
        condition.
      guidance: 1 is plain conditional sampling.
    """

    def denoise(noisy: jax.Array, time: jax.Array) -> jax.Array:
        both = denoise_both(jnp.concatenate([noisy, noisy]), jnp.concatenate([time, time]))
        conditional, null = jnp.split(both, 2)
        return null + guidance * (conditional - null)

    return denoise
