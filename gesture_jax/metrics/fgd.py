"""FGD, the Frechet distance between latents of real and of generated motion (Yoon et al. 2020).

An autoencoder computes the latents. It is fitted to real motion windows once: the distance depends
on it, so only values by the same autoencoder can be compared, and a report names the data and the
seed of the fit. Report a value together with that of two halves of the real windows, which is the
best possible one for as many windows, and with that of a control such as motion at rest.
"""

import hashlib
import os
from collections.abc import Callable, Iterable
from typing import Any

import chex
import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Float
from tqdm import tqdm

from gesture_jax.array_types import Array, MotionSequence, typechecked
from gesture_jax.errors import InputError
from gesture_jax.metrics.frechet import Moments, frechet_distance
from gesture_jax.models.motion_autoencoder import FRAME_CHANNELS, LATENT_DIM, MotionAutoencoder
from gesture_jax.ops.precision import float32_matmuls
from gesture_jax.storage import npz
from gesture_jax.storage.files import write_beside

Variables = dict[str, Any]
"""Arrays: `params` and `batch_stats` of the network, `statistics` (mean and std, [d] each)."""
WindowArray = Float[Array, "n t d"]

_MODEL = MotionAutoencoder()
_OPTIMIZER = optax.adam(5e-4, b1=0.5)
_ENCODE_BATCH = 256
# The least deviation of a feature, as a share of the usual one: features that hardly move, such as
# the background's, are not scaled up to the size of others.
_SMALLEST_STD = 0.25


@typechecked
def cut_windows(
    motion: Float[Array, "t d"], *, window: int, stride: int
) -> Float[np.ndarray, "n {window} d"]:
    """Cuts a clip into windows, [t, d] -> [n, window, d], one every `stride` frames.

    n is (t - window) // stride + 1, and 0 for a clip shorter than a window.
    """
    chex.assert_rank(motion, 2)
    chex.assert_type(motion, float)
    motion = np.asarray(motion)
    starts = np.arange(0, len(motion) - window + 1, stride)
    return motion[starts[:, None] + np.arange(window)]


class Windows:
    """Windows of clips, cut on access, so that frames which windows share are stored once."""

    def __init__(self, clips: Iterable[MotionSequence], *, window: int, stride: int):
        """The windows of `cut_windows`, for one clip after the other.

        Args:
          clips: [t, d] each.
          window: length in frames.
          stride: frames from one window's start to the next one's.
        """
        self._clips = [np.asarray(clip, np.float32) for clip in clips]
        counts = [max((len(clip) - window) // stride + 1, 0) for clip in self._clips]
        self._ends = np.cumsum(counts, dtype=np.int64)
        self._window, self._stride = window, stride

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getitem__(self, indices: np.ndarray) -> np.ndarray:
        """The windows of [k] integer indices: [k, window, d] float32."""
        numbers = np.searchsorted(self._ends, indices, side="right")
        befores = np.concatenate([[0], self._ends])[numbers]
        starts = (np.asarray(indices) - befores) * self._stride
        return np.stack([
            self._clips[number][start : start + self._window]
            for number, start in zip(numbers, starts, strict=True)
        ])  # fmt: skip


@typechecked
def fit_autoencoder(
    windows: WindowArray | Windows,
    *,
    seed: int = 0,
    num_steps: int = 2000,
    batch_size: int = 128,
    progress: bool = False,
) -> Variables:
    """Fits an autoencoder to real motion.

    Adam (5e-4; 0.5, 0.999) minimises the L1 loss of positions plus that of the differences from
    frame to frame, on batches drawn with replacement. The variables include each feature's mean and
    standard deviation, so that all functions here take windows that are not standardised.

    Args:
      windows: [n, t, d], t 12 or more; one batch at a time is moved to the device.
      seed: seeds the initial weights and the batches; equal seeds give equal variables.
      num_steps: steps of the fit.
      batch_size: windows in a step.
      progress: shows a progress bar.

    Returns:
      The variables.

    Raises:
      InputError: for fewer than two windows, too short ones, or values that are not finite.
    """
    if not isinstance(windows, Windows):
        chex.assert_rank(windows, 3)
        chex.assert_type(windows, float)
    if len(windows) < 2:
        raise InputError(f"an autoencoder needs two motion windows or more, not {len(windows)}")
    statistics = _gather_statistics(windows)
    example = np.asarray(windows[np.arange(2)], np.float32)
    variables = {**_init(jax.random.key(seed), example), "statistics": statistics}
    opt_state = _OPTIMIZER.init(variables["params"])
    random = np.random.default_rng(seed)
    for _ in tqdm(range(num_steps), desc="fit autoencoder", unit="step", disable=not progress):
        batch = np.asarray(windows[random.integers(len(windows), size=batch_size)], np.float32)
        variables, opt_state = _train_step(variables, opt_state, batch)
    return variables


@float32_matmuls  # A value must not depend on the device.
@typechecked
def latent(variables: Variables, windows: WindowArray) -> Float[Array, f"n {LATENT_DIM}"]:
    """The latents of windows, [n, t, d] -> [n, 32]; a pure function, usable inside `jax.jit`."""
    chex.assert_rank(windows, 3)
    chex.assert_type(windows, float)
    inputs = _standardise(variables, windows)
    return _MODEL.apply(variables, inputs, train=False, method="encode")


@jax.jit
@typechecked
def reconstruction_loss(variables: Variables, windows: WindowArray) -> Float[Array, ""]:
    """The loss that the fit minimises, of windows [n, t, d]; a scalar."""
    chex.assert_rank(windows, 3)
    chex.assert_type(windows, float)
    inputs = _standardise(variables, windows)
    return _loss(_MODEL.apply(variables, inputs, train=False), inputs)


@typechecked
def encode_windows(
    variables: Variables, windows: WindowArray
) -> Float[np.ndarray, f"n {LATENT_DIM}"]:
    """Latents of any number of windows, in batches of one size, so that they compile once.

    Args:
      variables: of `fit_autoencoder`.
      windows: [n, t, d], with the t and d of the fit.

    Returns:
      [n, 32] float32.

    Raises:
      InputError: for windows of another shape.
    """
    chex.assert_rank(windows, 3)
    chex.assert_type(windows, float)
    _check_shape(variables, windows)
    latents = [np.zeros((0, LATENT_DIM), np.float32)]
    for start in range(0, len(windows), _ENCODE_BATCH):
        batch = np.asarray(windows[start : start + _ENCODE_BATCH], np.float32)
        padded = np.pad(batch, ((0, _ENCODE_BATCH - len(batch)), (0, 0), (0, 0)))
        latents.append(np.asarray(_encode(variables, padded))[: len(batch)])
    return np.concatenate(latents)


@typechecked
def fgd(
    variables: Variables,
    real_windows: Float[Array, "_ _ _"],
    generated_windows: Float[Array, "_ _ _"],
) -> float:
    """Frechet distance between real and generated windows, [n, t, d] and [m, t, d].

    Raises:
      InputError: for fewer than two windows, windows of another shape than those of the fit, or
        values that are not finite.
    """
    chex.assert_rank([real_windows, generated_windows], 3)
    chex.assert_type([real_windows, generated_windows], float)
    both = (real_windows, generated_windows)
    return frechet_distance(*(Moments.of(encode_windows(variables, each)) for each in both))


def write_autoencoder(path: str | os.PathLike, variables: Variables) -> None:
    """Writes a fitted autoencoder to an .npz, for later values that can be compared.

    Raises:
      InputError: where the file cannot be written.
    """
    with write_beside(path) as beside, beside.open("wb") as file:
        np.savez(file, **_flatten(variables))


def read_autoencoder(path: str | os.PathLike) -> Variables:
    """Reads the file of `write_autoencoder`, without unpickling anything.

    Raises:
      InputError: where it cannot be read or is no such file.
    """
    try:
        flat = dict(npz.iterate(path))
        shape = flat["statistics/mean"].shape
        length = len(flat["params/decoder/frames/bias"]) // FRAME_CHANNELS
        windows = jax.ShapeDtypeStruct((2, length, *shape), jnp.float32)
        expected = jax.eval_shape(_init, jax.random.key(0), windows)
    except Exception as error:  # Shapes that do not fit fail in many ways.
        raise InputError(
            f"{path}: is no fitted autoencoder; give one that `evaluate` wrote"
        ) from error
    wanted = {name: leaf.shape for name, leaf in _flatten(expected).items()}
    wanted |= {f"statistics/{name}": shape for name in ("mean", "std")}
    if {name: array.shape for name, array in flat.items()} != wanted:
        raise InputError(f"{path}: is an autoencoder of another version; fit a new one")
    sound = all(array.dtype.kind == "f" and np.isfinite(array).all() for array in flat.values())
    if not sound or not (flat["statistics/std"] > 0).all():
        raise InputError(f"{path}: does not hold finite floats; fit a new one")
    return flax.traverse_util.unflatten_dict(flat, sep="/")


def hash_autoencoder(variables: Variables) -> str:
    """The SHA-256 of all numbers of an autoencoder, in hexadecimal."""
    digest = hashlib.sha256()
    for name, array in sorted(_flatten(variables).items()):
        digest.update(name.encode() + np.asarray(array, np.float32).tobytes())
    return digest.hexdigest()


def _flatten(variables: Variables) -> dict[str, jax.Array]:
    return flax.traverse_util.flatten_dict(variables, sep="/")


_encode = jax.jit(latent)
_init = jax.jit(lambda key, windows: _MODEL.init(key, windows, train=True))


@jax.jit(donate_argnames=("variables", "opt_state"))
def _train_step(variables: Variables, opt_state: optax.OptState, windows: jax.Array):
    inputs = _standardise(variables, windows)

    def loss_fn(params):
        reconstruction, changed = _MODEL.apply(
            {**variables, "params": params}, inputs, train=True, mutable=["batch_stats"]
        )
        return _loss(reconstruction, inputs), changed

    gradient, changed = jax.grad(loss_fn, has_aux=True)(variables["params"])
    updates, opt_state = _OPTIMIZER.update(gradient, opt_state)
    params = optax.apply_updates(variables["params"], updates)
    return {**variables, **changed, "params": params}, opt_state


def _loss(reconstruction: jax.Array, windows: jax.Array) -> jax.Array:
    error = reconstruction - windows
    return jnp.abs(error).mean() + jnp.abs(jnp.diff(error, axis=1)).mean()


def _gather_statistics(windows: WindowArray | Windows) -> dict[str, jax.Array]:
    mean = _mean_over(windows, lambda part: part)
    std = np.sqrt(_mean_over(windows, lambda part: np.square(part - mean)))
    std = np.maximum(std, max(_SMALLEST_STD * np.sqrt(np.mean(std**2)), 1e-6))
    return {"mean": jnp.asarray(mean, jnp.float32), "std": jnp.asarray(std, jnp.float32)}


def _mean_over(
    windows: WindowArray | Windows, measure: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """The mean of `measure` over windows and frames, [d] float64, computed in batches."""
    total = 0.0
    for start in range(0, len(windows), _ENCODE_BATCH):
        part = windows[np.arange(start, min(start + _ENCODE_BATCH, len(windows)))]
        if not np.isfinite(part).all():
            raise InputError("motion windows hold NaN or infinity; they must be finite")
        total += measure(np.asarray(part, np.float64)).mean(axis=1).sum(axis=0)
    return total / len(windows)


def _standardise(variables: Variables, windows: WindowArray) -> jax.Array:
    statistics = variables["statistics"]
    return (windows - statistics["mean"]) / statistics["std"]


def _check_shape(variables: Variables, windows: WindowArray) -> None:
    length = len(variables["params"]["decoder"]["frames"]["bias"]) // FRAME_CHANNELS
    fitted = (length, len(variables["statistics"]["mean"]))
    if windows.shape[1:] != fitted:
        raise InputError(
            f"the autoencoder was fitted to windows of {fitted[0]} frames and {fitted[1]} "
            f"features, not of {windows.shape[1]} and {windows.shape[2]}"
        )
