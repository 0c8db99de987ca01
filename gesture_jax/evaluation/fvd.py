"""FVD of two folders of videos, with its best possible value and its controls."""

import pathlib
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from tqdm import tqdm

from gesture_jax.evaluation import videos
from gesture_jax.evaluation.results import Results, make_controls, small_sample_notes
from gesture_jax.metrics import fvd as fvd_metric
from gesture_jax.metrics.scores import frechet_score, halves_scores
from gesture_jax.pretrained import fetch
from gesture_jax.storage.files import hash_file

Control = Callable[[np.ndarray], np.ndarray]
"""Changes the frames of a real clip, [t, h, w, 3]."""


def score(
    real: Sequence[pathlib.Path],
    generated: Sequence[pathlib.Path],
    *,
    size: int,
    length: int,
    stride: int,
    max_clips: int,
    paired: bool = False,
    seed: int = 0,
) -> Results:
    """FVD of clips that are cut from videos.

    Args:
      real: the real videos.
      generated: the generated videos.
      size: side in pixels at which videos are read.
      length: frames in a clip.
      stride: frames from the start of one clip to the next.
      max_clips: the largest number of clips from one video.
      paired: whether the generated videos belong to the real ones in the same order.
      seed: seeds the shuffled control and the bootstrap.

    Raises:
      InputError: where a video is shorter than a clip, or the weights cannot be fetched.
    """
    variables = fetch.load_i3d()
    cut = {"size": size, "length": length, "stride": stride, "max_clips": max_clips}

    def logits(paths: Sequence[pathlib.Path], name: str, change: Control = lambda clip: clip):
        clips = _Clips(paths, change, name, **cut)
        return clips.split(fvd_metric.logits(variables, clips))

    sides = {"real": logits(real, "real"), "generated": logits(generated, "generated")}
    others = {name: logits(real, name, change) for name, change in make_controls(seed).items()}
    distance = lambda other, paired: frechet_score(sides["real"], other, paired=paired, seed=seed)
    # Each control is computed from a real video, so they are paired.
    controls = {name: {"fvd": distance(other, True)} for name, other in others.items()}
    scores = {"fvd": distance(sides["generated"], paired)}
    if halves := halves_scores(sides["real"], sides["generated"], seed=seed):
        scores["fvd_halves"], controls["real"] = halves[0], {"fvd_halves": halves[1]}
    protocol = {
        "fvd": "I3D of Kinetics-400, logits before the softmax",
        "fvd_weights_sha256": hash_file(fetch.find("i3d")),
        "fvd_frames": length,
        "fvd_stride": stride,
        "fvd_clips_a_video": max_clips,
        "fvd_clips": {name: sum(map(len, clips)) for name, clips in sides.items()},
    }
    return Results(
        scores=scores, controls=controls, notes=small_sample_notes("FVD", sides), protocol=protocol
    )


class _Clips:
    """Iterates over the clips of all videos, and remembers how many belong to each video."""

    def __init__(self, paths: Sequence[pathlib.Path], change: Control, name: str, *, size, **cut):
        self._paths, self._change, self._name = paths, change, name
        self._size, self._cut = size, cut
        self._counts: list[int] = []

    def __iter__(self) -> Iterator[np.ndarray]:
        with tqdm(self._paths, desc=f"FVD, {self._name}", unit="video") as progress:
            for path in progress:
                frames = videos.read_frames(path, size=self._size)
                self._counts.append(0)
                for clip in videos.cut_clips(frames, **self._cut):
                    self._counts[-1] += 1
                    yield self._change(clip)
                if not self._counts[-1]:
                    raise videos.too_short(path, self._cut["length"])

    def split(self, rows: np.ndarray) -> list[np.ndarray]:
        """Splits the rows [n, d] of all clips into the rows [k, d] of each video."""
        return np.split(rows, np.cumsum(self._counts)[:-1])
