"""Mixes several channels to mono, also where they cancel each other."""

import numpy as np

from gesture_jax.errors import InputError

_BLOCK_SEC = 0.04
_MAX_CHANNELS = 64
# A channel carries sound once a block of it is louder than this share (-40 dB) of the loudest
# block of any channel.
_CARRIES = 1e-4
# The energy of the mix is compared with that of uncorrelated channels; below this share of it the
# channels cancel each other.
_CANCELS = 0.1


class Mixer:
    """Averages the channels that carry sound; takes the loudest one where they cancel each other.

    The mix of each block of 40 ms depends on the sound up to the end of the block, so that it does
    not depend on how the sound is cut into chunks.
    """

    def __init__(self, rate_hz: int):
        """Mixes sound of `rate_hz` samples a second."""
        self._block = max(round(rate_hz * _BLOCK_SEC), 1)
        self._rest: np.ndarray | None = None
        self._peaks: np.ndarray | None = None
        self._weights: np.ndarray | None = None
        self._loudest = 0
        self._energy, self._cancelled = 0.0, 0.0

    @property
    def has_cancelled(self) -> bool:
        """Whether channels cancelled each other in more than a tenth of the sound so far."""
        return self._cancelled > 0.1 * self._energy

    def push(self, sound: np.ndarray) -> np.ndarray:
        """Takes [n] or [n, channels] float; returns the finished part, [m] float32, mono.

        Raises:
          InputError: for another shape or type, or when the number of channels changes.
        """
        sound = _check(sound)
        channels = sound.shape[1]
        if self._rest is None:
            self._rest = np.zeros((0, channels), np.float32)
            self._peaks = np.zeros(channels)
        if self._rest.shape[1] != channels:
            known = self._rest.shape[1]
            raise InputError(f"sound of {channels} channels follows sound of {known}; keep to one")
        if channels == 1:
            return sound[:, 0]
        sound = np.concatenate([self._rest, sound])
        whole = len(sound) // self._block * self._block
        self._rest = sound[whole:]
        blocks = sound[:whole].reshape(-1, self._block, channels)
        return np.concatenate([np.zeros(0, np.float32), *map(self._mix, blocks)])

    def finish(self) -> np.ndarray:
        """Returns the rest, [m] float32; more sound may follow."""
        if self._rest is None or not len(self._rest):
            return np.zeros(0, np.float32)
        rest, self._rest = self._rest, self._rest[:0]
        return self._mix(rest)

    def _mix(self, block: np.ndarray) -> np.ndarray:
        energy = np.square(block, dtype=np.float64).sum(axis=0)
        self._peaks = np.maximum(self._peaks, energy)
        carries = self._peaks >= _CARRIES * self._peaks.max()
        weights = (carries / carries.sum()).astype(np.float32)
        mixed = block @ weights
        expected = (energy * np.square(weights)).sum()
        self._energy += expected
        if np.square(mixed, dtype=np.float64).sum() < _CANCELS * expected:
            self._cancelled += expected
            # No switching between channels of similar loudness: their phases may be opposite.
            if energy[self._loudest] < 0.5 * energy.max():
                self._loudest = int(energy.argmax())
            weights = np.eye(len(energy), dtype=np.float32)[self._loudest]
            mixed = block[:, self._loudest]
        before, self._weights = self._weights, weights
        if before is None or (before == weights).all():
            return mixed
        fade = np.linspace(0.0, 1.0, len(block), dtype=np.float32)
        return (1.0 - fade) * (block @ before) + fade * mixed


def mix(sound: np.ndarray, rate_hz: int) -> np.ndarray:
    """Mixes [n] or [n, channels] float to [n] float32; raises the errors of `Mixer.push`."""
    mixer = Mixer(rate_hz)
    return np.concatenate([mixer.push(sound), mixer.finish()])


def _check(sound: np.ndarray) -> np.ndarray:
    """Returns [n, channels] float32, with values that are not numbers replaced by silence."""
    sound = np.asarray(sound)
    if not np.issubdtype(sound.dtype, np.floating):
        raise InputError(f"sound has to be of floats in [-1, 1], but is of {sound.dtype}")
    if sound.ndim == 1:
        sound = sound[:, None]
    if sound.ndim != 2 or not 1 <= sound.shape[1] <= _MAX_CHANNELS:
        shape = list(sound.shape)
        raise InputError(f"sound has to be of shape [n] or [n, channels], but is of {shape}")
    return np.nan_to_num(sound.astype(np.float32), copy=False, nan=0.0, posinf=1.0, neginf=-1.0)
