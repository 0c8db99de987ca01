"""Lips against speech in two folders of videos, with controls; see `metrics.lips`."""

import dataclasses
import functools
import hashlib
import importlib.metadata
import itertools
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import scipy.ndimage
from tqdm import tqdm

from gesture_jax.array_types import Audio
from gesture_jax.errors import InputError
from gesture_jax.evaluation.results import Results
from gesture_jax.media.rates import SAMPLE_RATE_HZ
from gesture_jax.media.sound import has_audio, read_audio
from gesture_jax.media.video import iterate_pictures
from gesture_jax.metrics import lip_sync, lips
from gesture_jax.metrics.scores import Score, mean_score, set_score
from gesture_jax.people import faces
from gesture_jax.pretrained import syncnet_weights
from gesture_jax.speech import phones as phone_finder
from gesture_jax.speech.phones import Phone
from gesture_jax.storage.files import as_path, hash_file

METRICS = lips.NAMES + lip_sync.NAMES
_CLOSURES = tuple(name for name in lips.NAMES if "closure" in name)
_NO_PHONES = (
    f"needs the phones of the speech: {phone_finder.REMEDY} in English; or pass --phones=FOLDER"
)
_NO_SYNCNET = "needs SyncNet's weights: pass --syncnet=syncnet_v2.model, its authors' file"
_LATE_SEC = 0.2
_MAX_OTHERS = 8
# Pictures with a longer side are scaled down.
_MAX_SIDE_PX = 1024
# Clips with fewer frames that show a face are left out.
_MIN_FACES = 0.5
# Boxes around faces are filtered by the median of so many frames, as SyncNet's authors do.
_MEDIAN_FRAMES = 13


@dataclasses.dataclass(frozen=True)
class LipOptions:
    """Files that lips are measured with.

    Attributes:
      phones: folder with a `.json` or `.csv` file of phones for each video, by its name; empty to
        find them with PocketSphinx.
      syncnet: file of SyncNet's weights; without it LSE-D and LSE-C are left out.
    """

    phones: str = ""
    syncnet: str = ""


@dataclasses.dataclass(frozen=True, eq=False)
class _Clip:
    """The lips and the speech of a video; `video` is SyncNet's embedding, if there are weights."""

    path: pathlib.Path
    opening: np.ndarray
    audio: Audio
    phones: list[Phone]
    video: np.ndarray | None = None

    @property
    def num_bilabials(self) -> int:
        """The number of phones /p/, /b/ and /m/."""
        return sum(phone.is_bilabial for phone in self.phones)


class _LeftOutError(Exception):
    """A clip cannot be measured; the message is the reason."""


def score(
    real: Sequence[pathlib.Path],
    generated: Sequence[pathlib.Path],
    options: LipOptions,
    *,
    seed: int = 0,
) -> Results:
    """Computes all measures of lips; clips without sound or without a face are left out.

    Args:
      real: the real videos.
      generated: the generated videos.
      options: files that lips are measured with.
      seed: seeds the bootstrap.

    Raises:
      InputError: where a video, the phones of one, or the weights cannot be read.
    """
    reader = _Reader(options)
    results = Results(protocol=reader.describe())
    sides = {}
    for side, paths in (("real", real), ("generated", generated)):
        sides[side] = reader.read_all(paths, side, results.notes)
    if not sides["generated"]:
        results.missing = dict.fromkeys(METRICS, "no generated video shows a face and has sound")
        return results
    results.missing = dict(reader.missing)
    rows = {
        "generated": _score_all(reader.score, sides["generated"]),
        "still": _score_all(lambda clip: reader.score(_still(clip)), sides["real"]),
        "late sound": _score_all(lambda clip: reader.score(_late(clip)), sides["generated"]),
        "other speech": _score_all(
            functools.partial(_score_others, reader, sides["generated"]), sides["generated"]
        ),
    }
    means = lambda row, side: _average(row, sides[side], seed)
    generated_row = rows.pop("generated")
    real_row = {
        f"{name}_real": values for name, values in _score_all(reader.score, sides["real"]).items()
    }
    results.scores = means(generated_row, "generated") | means(real_row, "real")
    results.controls = {
        name: means(row, "real" if name == "still" else "generated")
        for name, row in rows.items()
        if row
    }
    results.clips = {
        clip.path.stem: {name: values[index] for name, values in generated_row.items()}
        for index, clip in enumerate(sides["generated"])
    }
    results.protocol["lip_bilabials"] = {
        side: sum(clip.num_bilabials for clip in clips) for side, clips in sides.items()
    }
    return results


def _average(row: dict[str, list[float]], clips: Sequence[_Clip], seed: int) -> dict[str, Score]:
    """The mean of each metric over clips; for closure, over the phones of all clips.

    A clip with two such phones would otherwise count as much as one with twenty.
    """
    scores = {}
    for name, values in row.items():
        if name.removesuffix("_real") not in _CLOSURES:
            scores[name] = mean_score(values, seed=seed)
            continue
        weighted = [
            np.array([[value * clip.num_bilabials, clip.num_bilabials]], np.float64)
            for value, clip in zip(values, clips, strict=True)
            if not np.isnan(value)
        ]
        ratio = lambda rows: rows[:, 0].sum() / rows[:, 1].sum()
        scores[name] = (
            set_score(ratio, weighted, minimum=-1.0, seed=seed) if weighted else Score(np.nan, 0)
        )
    return scores


def _score_all(
    measure: Callable[[_Clip], dict[str, float]], clips: Sequence[_Clip]
) -> dict[str, list[float]]:
    """One value for each clip, by metric."""
    each = [measure(clip) for clip in clips]
    return {name: [scores[name] for scores in each] for name in each[0]} if each else {}


def _score_others(reader: "_Reader", clips: Sequence[_Clip], clip: _Clip) -> dict[str, float]:
    """The scores of a clip's lips with the speech of the clips after it, averaged.

    Clips with the same sound are left out.
    """
    index = clips.index(clip)
    after = [*clips[index + 1 :], *clips[:index]]
    others = (other for other in after if not np.array_equal(other.audio, clip.audio))
    moved = [
        dataclasses.replace(clip, audio=other.audio, phones=other.phones)
        for other in itertools.islice(others, _MAX_OTHERS)
    ]
    scores = [reader.score(each) for each in moved]
    means = {}
    for name in reader.names:
        known = [
            (found[name], each.num_bilabials if name in _CLOSURES else 1)
            for found, each in zip(scores, moved, strict=True)
            if not np.isnan(found[name])
        ]
        values, weights = np.transpose(known) if known else (np.full(1, np.nan), np.ones(1))
        means[name] = float(np.average(values, weights=weights))
    return means


def _still(clip: _Clip) -> _Clip:
    """The mouth of the first frame that shows it; its face is not embedded."""
    opening = np.full_like(clip.opening, clip.opening[~np.isnan(clip.opening)][0])
    return dataclasses.replace(clip, opening=opening, video=None)


def _late(clip: _Clip) -> _Clip:
    """The same lips with the sound 0.2 s later."""
    moved = np.pad(clip.audio, (round(_LATE_SEC * SAMPLE_RATE_HZ), 0))[: len(clip.audio)]
    late = lambda phone: Phone(phone.name, phone.start_sec + _LATE_SEC, phone.end_sec + _LATE_SEC)
    return dataclasses.replace(clip, audio=moved, phones=list(map(late, clip.phones)))


class _Reader:
    """Reads and scores clips, and remembers the phones and the embeddings of each sound.

    Attributes:
      missing: reasons for metrics that are not computed, by metric.
      names: of the metrics that are computed.
    """

    def __init__(self, options: LipOptions):
        self._options = options
        self._variables = syncnet_weights.load(options.syncnet) if options.syncnet else None
        self._has_phones = bool(options.phones) or phone_finder.is_installed()
        self._phones: dict[str, list[Phone]] = {}
        self._embeddings: dict[str, np.ndarray] = {}
        self.missing = {} if self._has_phones else dict.fromkeys(_CLOSURES, _NO_PHONES)
        if self._variables is None:
            self.missing |= dict.fromkeys(lip_sync.NAMES, _NO_SYNCNET)
        self.names = [name for name in METRICS if name not in self.missing]

    def read_all(self, paths: Sequence[pathlib.Path], side: str, notes: list[str]) -> list[_Clip]:
        """Reads all clips that can be measured, and adds a note that names the others."""
        clips, left_out = [], {}
        with faces.open_finder() as find, tqdm(paths, desc=f"lips, {side}", unit="video") as bar:
            for path in bar:
                try:
                    clips.append(self._read(path, find))
                except _LeftOutError as reason:
                    left_out.setdefault(str(reason), []).append(path.stem)
        for reason, names in left_out.items():
            notes.append(f"lips, {side}: {', '.join(names)} left out: {reason}")
        return clips

    def score(self, clip: _Clip) -> dict[str, float]:
        """The scores of one clip; LSE is NaN where its face is not embedded."""
        scores = lips.lip_scores(clip.opening, clip.audio, clip.phones)
        if self._variables is not None and clip.video is not None:
            embedding = self._embed(clip.audio)
            scores |= lip_sync.sync_scores(clip.video, embedding)
        return {name: scores.get(name, float("nan")) for name in self.names}

    def describe(self) -> dict[str, Any]:
        """The entries of the protocol."""
        if self._options.phones:
            source = "files"
        elif self._has_phones:
            source = f"PocketSphinx {importlib.metadata.version('pocketsphinx')}, US English"
        else:
            source = "none"
        described: dict[str, Any] = {"lip_gap": "MediaPipe's face mesh", "lip_phones": source}
        if self._options.syncnet:
            described["syncnet_sha256"] = hash_file(self._options.syncnet)
        return described

    def _read(self, path: pathlib.Path, find: Callable) -> _Clip:
        if not has_audio(path):
            raise _LeftOutError("no sound")
        found = [find(picture) for picture in iterate_pictures(path, most_px=_MAX_SIDE_PX)]
        if sum(face is not None for face in found) < _MIN_FACES * len(found):
            raise _LeftOutError("fewer than half of the frames show a face")
        opening = np.array([np.nan if face is None else face.mouth_opening for face in found])
        audio = read_audio(path)
        video = None
        if self._variables is not None:
            video = lip_sync.embed_video(self._variables, _cut_out(path, found))
        return _Clip(path, opening, audio, self._find_phones(path, audio), video)

    def _find_phones(self, path: pathlib.Path, audio: Audio) -> list[Phone]:
        if self._options.phones:
            folder = as_path(self._options.phones)
            candidates = [folder / f"{path.stem}{ending}" for ending in phone_finder.ENDINGS]
            for candidate in candidates:
                if candidate.is_file():
                    return phone_finder.read_phones(candidate)
            raise InputError(f"{candidates[0]}: no such file, nor one that ends in .csv; give the "
                             "phones of each video")  # fmt: skip
        if not self._has_phones:
            return []
        key = _hash(audio)
        if key not in self._phones:
            self._phones[key] = phone_finder.find_phones(audio)
        return self._phones[key]

    def _embed(self, audio: Audio) -> np.ndarray:
        key = _hash(audio)
        if key not in self._embeddings:
            self._embeddings[key] = lip_sync.embed_audio(self._variables, audio)
        return self._embeddings[key]


def _hash(audio: Audio) -> str:
    return hashlib.sha256(np.ascontiguousarray(audio)).hexdigest()


def _cut_out(path: pathlib.Path, found: Sequence[faces.Face | None]) -> Iterator[np.ndarray]:
    """Cuts out the face of each frame for SyncNet; boxes move smoothly and keep their shape."""
    known = [number for number, face in enumerate(found) if face is not None]
    boxes = np.array([found[number].box for number in known])
    centres, sides = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    squares = np.column_stack([centres, sides.max(axis=1) / 2])
    curves = [np.interp(range(len(found)), known, column) for column in squares.T]
    filtered = (scipy.ndimage.median_filter(c, _MEDIAN_FRAMES, mode="nearest") for c in curves)
    pictures = iterate_pictures(path, most_px=_MAX_SIDE_PX)
    for picture, x, y, half in zip(pictures, *filtered, strict=True):
        yield faces.cut_out_talking(picture, (x - half, y - half, x + half, y + half))
