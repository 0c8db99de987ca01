"""WavLM features: one vector per video frame, for a recording of any length.

WavLM gives 50 vectors a second. As in S2G-MDDiffusion (reference 3.4), the last one is repeated
once, and the n vectors are resampled to ceil(n / 2) rows by linear interpolation with aligned ends.
The network runs over overlapping chunks that start at multiples of its hop, so that the frames of
a chunk are frames of the whole recording; interpolation happens after the chunks are joined.
"""

import itertools
import math
import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gesture_jax.array_types import Audio
from gesture_jax.models.wavlm import WavLM
from gesture_jax.ops.precision import float32_matmuls
from gesture_jax.pretrained import wavlm_weights
from gesture_jax.storage.files import hash_file

_RATE_HZ = 16_000
_VARIANCE_FLOOR = 1e-7


class WavLMFeatures:
    """Speech to the last hidden states of a WavLM, 25 rows a second.

    Attention covers the whole recording, so chunks give features close to those of one pass, not
    equal ones. A frame depends on at most `chunk_sec` of sound and on at least
    (overlap_sec - fade_sec) / 2 on either side, 2.5 s at the defaults; the positional convolution
    needs 1.3 s.

    The difference from one pass was measured on a minute of synthetic sound at the defaults, for
    features with a standard deviation of 1. With random weights of a narrow network, whose
    attention is flat, it is 0.02 to 0.03 on average and 0.23 at most; longer chunks lower it, more
    overlap does not. With attention that falls with distance and a ten times stronger positional
    convolution it is 4e-4 and 0.03 (0.06 with 4 s of overlap). It was not measured with the weights
    of WavLM-Large.

    Attributes:
      sha256: hash of the file of weights, in hexadecimal digits; empty where there is none.
      dim: number of features per row, 1024 for WavLM-Large.
    """

    def __init__(
        self,
        model: WavLM,
        params: dict[str, Any],
        *,
        sha256: str = "",
        chunk_sec: float = 20.0,
        overlap_sec: float = 6.0,
        fade_sec: float = 1.0,
    ):
        """Most users want `load`.

        Args:
          model: the network.
          params: its parameters.
          sha256: hash of their file.
          chunk_sec: length of the network's input; shorter recordings are padded to it, so that
            the network is compiled once.
          overlap_sec: overlap of neighbouring chunks.
          fade_sec: length of the cross-fade in the middle of the overlap.
        """
        frames = lambda seconds: round(seconds * _RATE_HZ / model.config.hop)
        self._chunk, self._overlap = frames(chunk_sec), frames(overlap_sec)
        self._fade = frames(fade_sec)
        if not 0 < self._fade <= self._overlap <= self._chunk - 2 * self._fade:
            raise ValueError(
                f"{chunk_sec=}, {overlap_sec=}, {fade_sec=}: chunks must share at least what they "
                "fade over and be at least two fades longer than what they share"
            )
        self.sha256, self.dim = sha256, model.config.latent
        self._config = model.config
        # Copies: a file that is mapped to memory may change.
        self._params = jax.tree.map(jnp.array, params)
        self._run = jax.jit(float32_matmuls(model.apply))

    @classmethod
    def load(cls, path: str | os.PathLike, **options: float) -> "WavLMFeatures":
        """Loads a `.safetensors` or PyTorch file of WavLM-Large, see `wavlm_weights.load`.

        Args:
          path: the file.
          **options: chunk_sec, overlap_sec, fade_sec.

        Raises:
          InputError: if the file is missing, damaged or of another network.
        """
        model, params = wavlm_weights.load(path)
        return cls(model, params, sha256=hash_file(path), **options)

    def __call__(self, audio: Audio, *, num_frames: int) -> np.ndarray:
        """Computes the features of a recording, one row per video frame.

        The waveform is normalised to zero mean and unit variance over the whole recording. Besides
        the result, memory holds one chunk and the 50 vectors a second.

        Args:
          audio: [n] float32, mono, 16 kHz.
          num_frames: number of rows; missing rows at the end repeat the last one.

        Returns:
          [num_frames, dim] float32, finite for any sound, including silence and no sound at all.
        """
        hidden = self._hidden(_normalise(audio, at_least=self._config.receptive_field))
        rows = _halve_rate(hidden)[:num_frames]
        return np.pad(rows, ((0, num_frames - len(rows)), (0, 0)), mode="edge")

    def _hidden(self, waveform: np.ndarray) -> np.ndarray:
        """[n] to [frames, dim], 50 a second."""
        count = self._config.num_frames(len(waveform))
        starts = _chunk_starts(count, chunk=self._chunk, overlap=self._overlap)
        hidden = np.zeros((count, self.dim), np.float32)
        for start, weight in zip(starts, self._weights(starts), strict=True):
            part = hidden[start : start + self._chunk]
            part += weight[: len(part), None] * self._run_chunk(waveform, start)[: len(part)]
        return hidden

    def _run_chunk(self, waveform: np.ndarray, start: int) -> np.ndarray:
        """Computes frames `start` to `start + chunk`; frames beyond the end are zero."""
        config = self._config
        length = (self._chunk - 1) * config.hop + config.receptive_field
        part = waveform[start * config.hop :][:length]
        padded = np.zeros((1, length), np.float32)
        padded[0, : len(part)] = part
        lengths = np.array([len(part)], np.int32)
        return np.asarray(self._run({"params": self._params}, padded, lengths))[0]

    def _weights(self, starts: list[int]) -> np.ndarray:
        """Cross-fade weights, [chunks, chunk]: 1 in the middle, 0 where a neighbour takes over."""
        weights = np.ones((len(starts), self._chunk), np.float32)
        for index, (start, following) in enumerate(itertools.pairwise(starts)):
            middle = (following + start + self._chunk) / 2
            frame = np.arange(following, start + self._chunk)
            rising = np.clip((frame + 0.5 - middle) / self._fade + 0.5, 0.0, 1.0)
            weights[index, following - start :] *= 1.0 - rising
            weights[index + 1, : len(rising)] *= rising
        return weights


def _normalise(audio: Audio, *, at_least: int) -> np.ndarray:
    """Normalises [n] and pads it with zeros to the samples that one frame needs."""
    audio = np.asarray(audio, np.float32)
    mean, variance = 0.0, 0.0
    if len(audio):
        mean, variance = audio.mean(dtype=np.float64), audio.var(dtype=np.float64)
    waveform = (audio - np.float32(mean)) / np.float32(math.sqrt(variance + _VARIANCE_FLOOR))
    return np.pad(waveform, (0, max(0, at_least - len(waveform))))


def _chunk_starts(count: int, *, chunk: int, overlap: int) -> list[int]:
    """The first frame of each chunk; the last chunk ends with the recording."""
    last = max(0, count - chunk)
    return [*range(0, last, chunk - overlap), last]


def _halve_rate(hidden: np.ndarray) -> np.ndarray:
    """[n - 1, d] at 50 Hz to [ceil(n / 2), d] at 25 Hz, first and last rows kept."""
    count = len(hidden) + 1
    rows = -(-count // 2)
    place = np.linspace(0.0, count - 1, rows)
    below = np.floor(place).astype(int)
    above = np.minimum(below + 1, len(hidden) - 1)
    share = (place - below).astype(np.float32)[:, None]
    # The repeated last row needs no copy: it is the last row.
    below = np.minimum(below, len(hidden) - 1)
    return (1.0 - share) * hidden[below] + share * hidden[above]
