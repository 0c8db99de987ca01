"""The Gaussian diffusion process and its loss, for arrays whose first axis is the batch."""

import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np

from gesture_jax.array_types import MotionSequence, Time, typechecked
from gesture_jax.errors import InputError

_OFFSET = 0.008
_LARGEST_BETA = 0.999
# Where the linear schedule starts and ends for 1000 steps (Ho et al. 2020).
_LINEAR_BETAS = 1e-4, 0.02


@dataclasses.dataclass(frozen=True)
class GaussianProcess:
    """x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) noise, t = 0 ... num_steps - 1.

    Attributes:
      num_steps: number of steps of the discrete process.
      schedule: "cosine" (Nichol & Dhariwal 2021, offset 0.008, betas up to 0.999) or "linear".
    """

    num_steps: int = 1000
    schedule: str = "cosine"

    def __post_init__(self):
        """Raises InputError for an unknown schedule."""
        if self.schedule not in ("cosine", "linear"):
            raise InputError(f"unknown schedule {self.schedule!r}; choose cosine or linear")

    @functools.cached_property
    def signal_variance(self) -> np.ndarray:
        """abar_t, [num_steps] float64: the share of the signal in the variance of x_t."""
        if self.schedule == "linear":
            scale = 1000 / self.num_steps
            betas = np.linspace(*_LINEAR_BETAS, self.num_steps) * scale
        else:
            time = np.arange(self.num_steps + 1) / self.num_steps
            signal = np.cos((time + _OFFSET) / (1 + _OFFSET) * np.pi / 2) ** 2
            betas = 1 - signal[1:] / signal[:-1]
        return np.cumprod(1 - np.minimum(betas, _LARGEST_BETA))

    def draw_times(self, key: jax.Array, count: int, *, power: float = 1.0) -> Time:
        """Times to train at: [count] int32, T (1 - (1 - u)^power) rounded down, u uniform.

        Power 1 is uniform; a larger power favours late times, where little of the data is left and
        the network has to rely on its condition.
        """
        share = 1.0 - (1.0 - jax.random.uniform(key, (count,))) ** power
        return jnp.minimum((self.num_steps * share).astype(jnp.int32), self.num_steps - 1)

    def add_noise(self, x0: jax.Array, noise: jax.Array, time: Time) -> jax.Array:
        """Returns x_t for x0 [b, ...] at times [b]."""
        chex.assert_equal_shape([x0, noise])
        signal_scale, noise_scale = self._scales(time, x0)
        return signal_scale * x0 + noise_scale * noise

    def noise_from(self, noisy: jax.Array, x0: jax.Array, time: Time) -> jax.Array:
        """Returns the noise that turns `x0` into `noisy`: the inverse of `add_noise`."""
        chex.assert_equal_shape([noisy, x0])
        signal_scale, noise_scale = self._scales(time, x0)
        return (noisy - signal_scale * x0) / noise_scale

    def _scales(self, time: Time, x0: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Returns sqrt(abar_t) and sqrt(1 - abar_t), [b, 1, ...].

        They are computed in float64, as 1 - abar_t can be tiny.
        """
        chex.assert_type([x0, time], [float, int])
        chex.assert_rank(time, 1)
        chex.assert_equal_shape_prefix([x0, time], 1)
        variances = self.signal_variance, 1 - self.signal_variance
        tables = (jnp.asarray(np.sqrt(variance), jnp.float32) for variance in variances)
        return tuple(table[time].reshape(-1, *(1,) * (x0.ndim - 1)) for table in tables)


@typechecked
def motion_loss(
    prediction: MotionSequence,
    target: MotionSequence,
    *,
    position: float,
    velocity: float,
    acceleration: float,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Weighted sum of mean squared errors of a sequence and of its first and second differences.

    Args:
      prediction: [b, t, d].
      target: [b, t, d].
      position: weight of the values.
      velocity: weight of the first differences along t.
      acceleration: weight of the second differences.

    Returns:
      The loss, and its unweighted terms by name.
    """
    chex.assert_rank(prediction, 3)
    chex.assert_equal_shape([prediction, target])
    chex.assert_type([prediction, target], float)
    error = prediction - target
    terms = {
        # Differences are linear: the difference of errors is the error of the differences.
        name: jnp.square(jnp.diff(error, n=order, axis=-2)).mean()
        for order, name in enumerate(("position", "velocity", "acceleration"))
    }
    weights = {"position": position, "velocity": velocity, "acceleration": acceleration}
    return sum(weights[name] * term for name, term in terms.items()), terms
