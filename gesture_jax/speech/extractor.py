"""Speech features, the input of the diffusion: 25 rows a second.

The "baseline" features are the 35 of S2G-MDDiffusion (reference 3.4): onset strength (1), MFCC
(20), chroma CENS (12), onsets (1) and beats (1), the last two as zeros and ones. They are computed
in blocks of 0.4 s from the sound up to 3.2 s before and 0.2 s after the block. So they are the same
in training, in generation and in a live stream, and need memory for one block. The "mel" features
(`log_mel.py`) depend on no later sound at all. The alternative to both is the last layer of
WavLM-Large (`wavlm.py`), which needs the whole recording.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import soxr

from gesture_jax.errors import InputError
from gesture_jax.media.rates import FPS, SAMPLE_RATE_HZ, SAMPLES_PER_FRAME
from gesture_jax.speech import beats, chroma, log_mel, spectrum
from gesture_jax.speech.activity import SpeechGate
from gesture_jax.speech.log_mel import StreamingLogMel
from gesture_jax.storage.files import hash_file

if TYPE_CHECKING:  # It loads JAX, which the features do not need.
    from gesture_jax.array_types import Audio

KINDS = ("baseline", "mel", "wavlm", "both")

NUM_FEATURES = 35
# Frames of a block, and of the context before and after it. Quantities that depend on a whole
# recording (its loudest moment, its tempo, its smoothed chroma) are those of block and context.
BLOCK, _BEFORE, LOOK_AHEAD = 10, 80, 5
_ROWS = slice(_BEFORE, _BEFORE + BLOCK)
_HOP = 512
_RATE_HZ = FPS * _HOP
_TEMPO_RATE_HZ = 22_050
# Below -90 dB, chroma and tempo would be noise or undefined.
_SILENCE = 3e-5


@dataclasses.dataclass(frozen=True)
class SpeechFeatureExtractor:
    """Computes one kind of speech features, the same way in preparation and inference.

    Attributes:
      kind: "baseline"; "mel"; "wavlm"; or "both", which are WavLM's and then the baseline's, as in
        S2G-MDDiffusion.
      wavlm: the file of WavLM's weights; None for the kinds that do without it.
    """

    kind: str = "baseline"
    wavlm: str | None = None

    def __post_init__(self):
        """Raises InputError for an unknown kind, and for weights that are missing or unused."""
        if self.kind not in KINDS:
            raise InputError(f"features {self.kind!r} are not known; choose {', '.join(KINDS)}")
        if (self.wavlm is None) == uses_wavlm(self.kind):
            raise InputError(
                f"features {self.kind!r}: WavLM's weights go with wavlm and both, and with them "
                "only; give --wavlm=FILE, the .safetensors or .pt of WavLM-Large"
                if self.wavlm is None
                else f"--wavlm={self.wavlm}: features {self.kind!r} do without WavLM"
            )

    def describe(self) -> dict[str, str]:
        """The kind and the hash of the weights, ready for JSON."""
        weights = {} if self.wavlm is None else {"wavlm_sha256": hash_file(self.wavlm)}
        return {"features": self.kind, **weights}

    def extract(
        self, audio: "Audio", *, num_frames: int, other: "Audio | None" = None
    ) -> np.ndarray:
        """Computes the features of a whole recording.

        Args:
          audio: [n] float32, mono, 16 kHz.
          num_frames: number of rows; the sound is padded with silence or cut to fit.
          other: [m] of the same kind, what another person says meanwhile; padded and cut as
            `audio`. Only "mel" has a column for it.

        Returns:
          [t, a] float32; a is 35, 129, 1024 or 1059.
        """
        return np.concatenate(list(self.iterate(audio, num_frames=num_frames, other=other)))

    def iterate(
        self,
        audio: "Audio",
        *,
        num_frames: int,
        other: "Audio | None" = None,
        gate: SpeechGate | None = None,
    ) -> Iterator[np.ndarray]:
        """Yields the rows of `extract` as they are computed, in blocks; WavLM's in one piece.

        Args:
          audio: see `extract`.
          num_frames: see `extract`.
          other: see `extract`.
          gate: silences the parts of `audio` in which nobody speaks.
        """
        if self.wavlm is None:
            yield from _iterate_features(self.stream(), audio, other, num_frames, gate)
            return
        audio = gate.apply(audio) if gate else audio
        tables = [_load_wavlm(self.wavlm, hash_file(self.wavlm))(audio, num_frames=num_frames)]
        if self.kind == "both":
            tables.append(speech_features(audio, num_frames=num_frames))
        yield np.concatenate(tables, axis=1)

    @property
    def is_silent(self) -> Callable[[np.ndarray], np.ndarray] | None:
        """Maps features [t, a] to [t] booleans: in which frames nobody speaks.

        None where the features do not show it.
        """
        return log_mel.is_silent if self.kind == "mel" else None

    def stream(self) -> "StreamingFeatures | StreamingLogMel":
        """Starts to compute the same features of sound that is still to come.

        Raises:
          InputError: for WavLM's features.
        """
        if self.wavlm is not None:
            raise InputError(
                f"speech features {self.kind!r}: WavLM needs the whole recording before it "
                "computes any; to stream, train stage 2 on the features 'baseline' or 'mel'"
            )
        return StreamingLogMel() if self.kind == "mel" else StreamingFeatures()


def uses_wavlm(kind: str) -> bool:
    """Returns whether features of this kind need WavLM's weights and the whole recording."""
    return kind in ("wavlm", "both")


@functools.lru_cache(maxsize=2)
def _load_wavlm(path: str, sha256: str):
    """Loads and keeps a network; the hash makes a file that was replaced load again."""
    del sha256
    from gesture_jax.speech.wavlm import WavLMFeatures  # Imported here because it loads JAX.

    return WavLMFeatures.load(path)


class StreamingFeatures:
    """Computes baseline features of a live stream; how it is cut into chunks changes nothing.

    Attributes:
      delay: number of frames of later sound that a row may wait for.
    """

    delay = BLOCK + LOOK_AHEAD

    def __init__(self):
        # The sound from `_BEFORE` frames before the next block on, after silence at the start.
        self._sound = np.zeros(_BEFORE * SAMPLES_PER_FRAME, np.float32)

    def push(self, sound: "Audio", other: "Audio | None" = None) -> np.ndarray:
        """Takes the next samples and returns the rows that are ready.

        Rows come in blocks of 0.4 s, as soon as 0.2 s of the sound after them is known.

        Args:
          sound: [n] float32, mono, 16 kHz.
          other: what another person says meanwhile, which these features do not show.

        Returns:
          [t, 35] float32.

        Raises:
          InputError: for samples that are not finite.
        """
        del other
        sound = np.asarray(sound, np.float32)
        if not np.isfinite(sound).all():
            raise InputError("the speech has samples that are not finite numbers")
        self._sound = np.concatenate([self._sound, sound])
        piece = (_BEFORE + BLOCK + LOOK_AHEAD) * SAMPLES_PER_FRAME
        rows = [np.zeros((0, NUM_FEATURES), np.float32)]
        while len(self._sound) >= piece:
            rows.append(_block_features(self._sound[:piece]))
            self._sound = self._sound[BLOCK * SAMPLES_PER_FRAME :]
        return np.concatenate(rows)


def speech_features(audio: "Audio", *, num_frames: int | None = None) -> np.ndarray:
    """Computes the baseline features of a whole recording, the same as `StreamingFeatures`.

    Args:
      audio: [n] float32, mono, 16 kHz.
      num_frames: number of rows, one per video frame; n / 640 rounded by default. The sound is
        padded with silence or cut to fit.

    Returns:
      [t, 35] float32; finite for silence too.
    """
    if num_frames is None:
        num_frames = round(len(audio) / SAMPLES_PER_FRAME)
    empty = np.zeros((0, NUM_FEATURES), np.float32)
    return np.concatenate([empty, *_iterate_features(StreamingFeatures(), audio, None, num_frames)])


def _iterate_features(
    stream: StreamingFeatures | StreamingLogMel,
    audio: "Audio",
    other: "Audio | None",
    num_frames: int,
    gate: SpeechGate | None = None,
) -> Iterator[np.ndarray]:
    """Yields block after block, [10, a] each, the last one cut."""
    step = BLOCK * SAMPLES_PER_FRAME
    num_samples = num_frames * SAMPLES_PER_FRAME
    sounds = [np.zeros(0) if sound is None else sound for sound in (audio, other)]
    sounds = [np.asarray(sound, np.float32)[:num_samples] for sound in sounds]
    for start in itertools.count(0, step):
        if num_frames <= 0:
            return
        chunks = [sound[start : start + step] for sound in sounds]
        chunks = [np.pad(chunk, (0, step - len(chunk))) for chunk in chunks]
        if gate:
            chunks[0] = gate.push(chunks[0])  # The gate returns whole steps.
        rows = stream.push(*chunks)
        yield rows[:num_frames]
        num_frames -= len(rows)


def _block_features(piece: "Audio") -> np.ndarray:
    """Computes the features of one block, [10, 35], from the sound around it, [60800] float32."""
    sound = soxr.resample(piece, SAMPLE_RATE_HZ, _RATE_HZ, "HQ")
    decibels = spectrum.mel_spectrogram_db(sound, rate_hz=_RATE_HZ, hop=_HOP)
    strength = spectrum.onset_strength(decibels, hop=_HOP)
    features = np.zeros((BLOCK, NUM_FEATURES), np.float32)
    features[:, 0] = strength[_ROWS]
    features[:, 1:21] = spectrum.mfcc(decibels[_ROWS])
    if np.abs(sound).max() >= _SILENCE:
        features[:, 21:33] = chroma.chroma_cens(sound, rate_hz=_RATE_HZ, hop=_HOP, rows=_ROWS)
    if strength.max() > 0:
        onsets = beats.find_onsets(strength, rate_hz=_RATE_HZ, hop=_HOP)
        features[:, 33] = _impulses(onsets)
        features[:, 34] = _impulses(_find_beats(sound, strength))
    return features


def _find_beats(sound: np.ndarray, strength: np.ndarray) -> np.ndarray:
    """Returns the indices of the frames with a beat.

    As in S2G-MDDiffusion, the tempo is estimated twice: from the sound at 22.05 kHz and, with that
    tempo as the most likely one, from the onset strength.
    """
    faster = soxr.resample(sound, _RATE_HZ, _TEMPO_RATE_HZ, "HQ")
    decibels = spectrum.mel_spectrogram_db(faster, rate_hz=_TEMPO_RATE_HZ, hop=_HOP)
    fine_strength = spectrum.onset_strength(decibels, hop=_HOP)
    bpm = beats.estimate_tempo(fine_strength, frames_per_sec=_TEMPO_RATE_HZ / _HOP)
    bpm = beats.estimate_tempo(strength, frames_per_sec=FPS, start_bpm=bpm)
    return beats.track_beats(strength, frames_per_sec=FPS, bpm=bpm)


def _impulses(frames: np.ndarray) -> np.ndarray:
    """Marks the frames of the block that are among `frames`: [10] bool."""
    return np.isin(np.arange(_ROWS.start, _ROWS.stop), frames)
