"""What the diffusion hears: features of speech, 25 frames a second.

The baseline's are the 35 of S2G-MDDiffusion (reference 3.4), by librosa: onset strength (1), MFCC
(20), chroma CENS (12), onsets (1) and beats (1) as zeros and ones. They are computed block by block
of 0.4 s, from what was said up to 3.2 s before it and 0.2 s after it: so they are the same in
training, in generation and while somebody is still speaking, and need memory for one block. The
other kind is WavLM-Large's last layer, in `wavlm_features.py`; it wants the whole recording.
"""

import contextlib
import dataclasses
import functools
import importlib
import types
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, ParamSpec, TypeVar
from unittest import mock

import librosa
import numpy as np
import threadpoolctl

from gesture_jax.errors import InputError
from gesture_jax.speech import librosa_filters
from gesture_jax.storage.cache import cache_dir
from gesture_jax.storage.files import hash_file, locked

if TYPE_CHECKING:  # It loads JAX, of which hearing has no need.
    from gesture_jax.array_types import Audio

librosa_filters.remember()

KINDS = ("baseline", "wavlm", "both")

NUM_FEATURES = 35
# Frames of a block, and of what is heard before and after it. All that librosa relates to a whole
# recording (loudest moment, tempo, smoothed chroma) is related to these.
BLOCK, _BEFORE, LOOK_AHEAD = 10, 80, 5
_HOP = 512
_RATE_HZ = 25 * _HOP
_INPUT_RATE_HZ = 16_000
_SAMPLES_PER_FRAME = _INPUT_RATE_HZ // 25
_TEMPO_RATE_HZ = 22_050
_NUM_MFCC = 20
_NUM_CHROMA = 12
_TIGHTNESS = 100
# Below -90 dB there is nothing to hear; chroma and tempo of it would be noise or undefined.
_SILENCE = 3e-5

P, T = ParamSpec("P"), TypeVar("T")


def compiled_alone(function: Callable[P, T]) -> Callable[P, T]:
    """`function`, which calls librosa; its first call in a process waits for those of others.

    Numba compiles librosa's programs when one of its modules is first touched, or they are first
    called, and keeps them on the disk. Where several processes do that at the same moment, what is
    kept ends corrupt, and every later call on this machine crashes.
    """
    compiled = False

    @functools.wraps(function)
    def alone(*args: P.args, **kwargs: P.kwargs) -> T:
        nonlocal compiled
        with contextlib.nullcontext() if compiled else locked(cache_dir() / "librosa.lock"):
            made = function(*args, **kwargs)
        compiled = True
        return made

    return alone


@dataclasses.dataclass(frozen=True)
class SpeechFeatureExtractor:
    """Which features are computed, the same way in preparation and inference.

    Attributes:
      kind: "baseline"; "wavlm"; or "both", WavLM's first, as in S2G-MDDiffusion.
      wavlm: the file of WavLM's weights, where they are wanted.
    """

    kind: str = "baseline"
    wavlm: str | None = None

    def __post_init__(self):
        """Raises InputError for an unknown kind, or weights missing or without use."""
        if self.kind not in KINDS:
            raise InputError(f"features {self.kind!r} are not known; choose {', '.join(KINDS)}")
        if (self.wavlm is None) != (self.kind == "baseline"):
            raise InputError(
                f"features {self.kind!r}: WavLM's weights go with wavlm and both, and with them "
                "only; give --wavlm=FILE, the .safetensors or .pt of WavLM-Large"
                if self.wavlm is None
                else f"--wavlm={self.wavlm}: features {self.kind!r} do without WavLM"
            )

    def describe(self) -> dict[str, str]:
        """What the features follow from; JSON-ready."""
        weights = {} if self.wavlm is None else {"wavlm_sha256": hash_file(self.wavlm)}
        return {"features": self.kind, **weights}

    def listen(self, audio: "Audio", *, num_frames: int) -> np.ndarray:
        """Features of a whole recording.

        Args:
          audio: [n] float32, mono, 16 kHz.
          num_frames: rows wanted; sound is padded with silence or cut.

        Returns:
          [t, a] float32; a is 35, 1024 or 1059.
        """
        return np.concatenate(list(self.iterate(audio, num_frames=num_frames)))

    def iterate(self, audio: "Audio", *, num_frames: int) -> Iterator[np.ndarray]:
        """Like `listen`, block after block as they are computed; with WavLM all at once."""
        if self.wavlm is None:
            yield from _iterate_features(audio, num_frames)
            return
        tables = [_load_wavlm(self.wavlm, hash_file(self.wavlm))(audio, num_frames=num_frames)]
        if self.kind == "both":
            tables.append(speech_features(audio, num_frames=num_frames))
        yield np.concatenate(tables, axis=1)


@functools.lru_cache(maxsize=2)
def _load_wavlm(path: str, sha256: str):
    """`sha256` is that of the file: weights that were replaced are loaded again."""
    del sha256
    from gesture_jax.speech.wavlm import WavLMFeatures  # Not without need: it loads JAX.

    return WavLMFeatures.load(path)


class StreamingFeatures:
    """Speech in as it comes, baseline features out: the same rows whatever the chunks."""

    def __init__(self):
        # From `_BEFORE` frames before the next block on; before the start there is silence.
        self._sound = np.zeros(_BEFORE * _SAMPLES_PER_FRAME, np.float32)

    def push(self, sound: "Audio") -> np.ndarray:
        """Takes [n] float32 at 16 kHz; returns the rows that are ready, [t, 35] float32.

        They come in blocks of 0.4 s, 0.2 s after the last sample that they are about.
        """
        self._sound = np.concatenate([self._sound, np.asarray(sound, np.float32)])
        piece = (_BEFORE + BLOCK + LOOK_AHEAD) * _SAMPLES_PER_FRAME
        rows = [np.zeros((0, NUM_FEATURES), np.float32)]
        while len(self._sound) >= piece:
            rows.append(_librosa_features(self._sound[:piece])[_BEFORE : _BEFORE + BLOCK])
            self._sound = self._sound[BLOCK * _SAMPLES_PER_FRAME :]
        return np.concatenate(rows)


def speech_features(audio: "Audio", *, num_frames: int | None = None) -> np.ndarray:
    """Features of a whole recording, one row a video frame: those that a `StreamingFeatures` gives.

    Args:
      audio: [n] float32, mono, 16 kHz.
      num_frames: rows wanted, n / 640 rounded by default; sound is padded with silence or cut.

    Returns:
      [t, 35] float32, finite for any sound, silence included.
    """
    if num_frames is None:
        num_frames = round(len(audio) / _SAMPLES_PER_FRAME)
    empty = np.zeros((0, NUM_FEATURES), np.float32)
    return np.concatenate([empty, *_iterate_features(audio, num_frames)])


def split(audio: "Audio", num_frames: int) -> Iterator[np.ndarray]:
    """The chunks, [n] each, of which `StreamingFeatures` makes `num_frames` rows or a few more."""
    step = BLOCK * _SAMPLES_PER_FRAME
    size = (-(-num_frames // BLOCK) * BLOCK + LOOK_AHEAD) * _SAMPLES_PER_FRAME
    audio = np.asarray(audio, np.float32)[: num_frames * _SAMPLES_PER_FRAME]
    for start in range(0, size, step):
        wanted = min(step, size - start)
        heard = audio[start : start + wanted]
        yield np.pad(heard, (0, wanted - len(heard)))


def _iterate_features(audio: "Audio", num_frames: int) -> Iterator[np.ndarray]:
    """Block after block, the last one cut."""
    listener = StreamingFeatures()
    for piece in split(audio, num_frames):
        rows = listener.push(piece)
        yield rows[:num_frames]
        num_frames -= len(rows)


@compiled_alone
def _librosa_features(piece: "Audio") -> np.ndarray:
    """The 35 of a piece of sound, [n / 640, 35]; the same on machines of any number of cores."""
    with _blas().limit(limits=1):
        return _compute_features(piece)


@functools.cache
def _blas() -> threadpoolctl.ThreadpoolController:
    """NumPy's and SciPy's, whose threads cost twice the work here and gain nothing."""
    importlib.import_module("scipy.linalg")  # Or it would not be among what is loaded.
    return threadpoolctl.ThreadpoolController()


def _compute_features(piece: "Audio") -> np.ndarray:
    sound = librosa.resample(piece, orig_sr=_INPUT_RATE_HZ, target_sr=_RATE_HZ, res_type="soxr_hq")
    mel = librosa.feature.melspectrogram(y=sound, sr=_RATE_HZ, hop_length=_HOP)
    decibels = librosa.power_to_db(mel)
    strength = librosa.onset.onset_strength(S=decibels, sr=_RATE_HZ, hop_length=_HOP)
    columns = [
        strength[:, None],
        librosa.feature.mfcc(S=decibels, sr=_RATE_HZ, n_mfcc=_NUM_MFCC).T,
        _chroma(sound),
        _impulses(_onsets(strength), len(strength)),
        _impulses(_beats(sound, strength), len(strength)),
    ]
    return np.concatenate(columns, axis=1).astype(np.float32)


def _chroma(sound: np.ndarray) -> np.ndarray:
    count = len(sound) // _HOP + 1
    if np.abs(sound).max() < _SILENCE:
        return np.zeros((count, _NUM_CHROMA), np.float32)
    # A tuning given spares an estimate, which speech does not have.
    return librosa.feature.chroma_cens(
        y=sound, sr=_RATE_HZ, hop_length=_HOP, n_chroma=_NUM_CHROMA, tuning=0.0
    ).T[:count]


def _onsets(strength: np.ndarray) -> np.ndarray:
    if strength.max() <= 0:
        return np.zeros(0, int)
    return librosa.onset.onset_detect(onset_envelope=strength, sr=_RATE_HZ, hop_length=_HOP)


def _beats(sound: np.ndarray, strength: np.ndarray) -> np.ndarray:
    if strength.max() <= 0:
        return np.zeros(0, int)
    faster = librosa.resample(sound, orig_sr=_RATE_HZ, target_sr=_TEMPO_RATE_HZ, res_type="soxr_hq")
    tempo = float(np.squeeze(librosa.feature.tempo(y=faster, sr=_TEMPO_RATE_HZ)))
    _, beats = _beat_module().beat_track(
        onset_envelope=strength,
        sr=_RATE_HZ,
        hop_length=_HOP,
        tightness=_TIGHTNESS,
        start_bpm=tempo if tempo > 0 else 120.0,
    )
    return beats


@functools.cache
def _beat_module() -> types.ModuleType:
    """`librosa.beat`, all of whose programs numba keeps on the disk.

    By itself it has one of them compiled by every process that imports it, which takes 2 s.
    """
    import numba

    vectorize = numba.guvectorize
    keeping = lambda *args, **options: vectorize(*args, **{**options, "cache": True})
    with mock.patch.object(numba, "guvectorize", keeping):
        return importlib.import_module("librosa.beat")


def _impulses(frames: np.ndarray, count: int) -> np.ndarray:
    column = np.zeros((count, 1), np.float32)
    column[frames[frames < count]] = 1.0
    return column
