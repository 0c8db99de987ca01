"""FVD of two folders, with its floor and its controls."""

import pathlib
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from tqdm import tqdm

from gesture_jax.evaluation import videos
from gesture_jax.evaluation.results import Results, changes, small_sample_notes
from gesture_jax.metrics import fvd
from gesture_jax.metrics.scores import frechet_score, halves_scores
from gesture_jax.pretrained import fetch
from gesture_jax.storage.files import hash_file

Change = Callable[[np.ndarray], np.ndarray]


def score(
    real: Sequence[pathlib.Path],
    generated: Sequence[pathlib.Path],
    *,
    size: int,
    length: int,
    stride: int,
    most: int,
    paired: bool = False,
    seed: int = 0,
) -> Results:
    """FVD, of clips cut from the videos.

    Args:
      real: videos.
      generated: others.
      size: side in pixels at which they are read.
      length: of a clip in frames.
      stride: frames from the start of one clip to the next.
      most: clips of one video.
      paired: whether each generated video belongs to the real one of its place.
      seed: of the shuffled control, and of the bootstrap.

    Raises:
      InputError: where a video is shorter than a clip, or the weights cannot be fetched.
    """
    variables = fetch.load_i3d()
    cut = {"size": size, "length": length, "stride": stride, "most": most}

    def logits(paths: Sequence[pathlib.Path], name: str, change: Change = lambda clip: clip):
        clips = _Clips(paths, change, name, **cut)
        return clips.split(fvd.logits(variables, clips))

    sides = {"real": logits(real, "real"), "generated": logits(generated, "generated")}
    others = {name: logits(real, name, change) for name, change in changes(seed).items()}
    found = lambda other, paired: frechet_score(sides["real"], other, paired=paired, seed=seed)
    # Made of the real clips, one of each.
    controls = {name: {"fvd": found(other, True)} for name, other in others.items()}
    scores = {"fvd": found(sides["generated"], paired)}
    if halves := halves_scores(sides["real"], sides["generated"], seed=seed):
        scores["fvd_halves"], controls["real"] = halves[0], {"fvd_halves": halves[1]}
    protocol = {
        "fvd": "I3D of Kinetics-400, logits before the softmax",
        "fvd_weights_sha256": hash_file(fetch.find("i3d")),
        "fvd_frames": length,
        "fvd_stride": stride,
        "fvd_clips_a_video": most,
        "fvd_clips": {name: sum(map(len, clips)) for name, clips in sides.items()},
    }
    return Results(
        scores=scores, controls=controls, notes=small_sample_notes("FVD", sides), protocol=protocol
    )


class _Clips:
    """The clips of all videos in a row, as the network wants them; remembers whose each is."""

    def __init__(self, paths: Sequence[pathlib.Path], change: Change, name: str, *, size, **cut):
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
        """[n, d] of all clips -> [k, d] of each video."""
        return np.split(rows, np.cumsum(self._counts)[:-1])
