"""The autoencoder by which a stage 2 run measures FGD: fitted once, then kept in the workdir."""

import contextlib
from collections.abc import Iterator

import numpy as np
from ml_collections import ConfigDict

from gesture_jax.checkpoint import checkpoints
from gesture_jax.data import motions
from gesture_jax.errors import InputError
from gesture_jax.metrics import fgd
from gesture_jax.models.motion_space import MotionSpace, Statistics
from gesture_jax.parallel import processes
from gesture_jax.storage.files import as_path


class MotionVectors:
    """Iterates over the motions of a data set, clip by clip, as vectors of a motion space."""

    def __init__(
        self, space: MotionSpace, source: motions.MotionSource, statistics: Statistics | None
    ):
        """Reads `source` anew for each iteration; lips need their `lip_motion` in `statistics`."""
        self._space, self._source, self._statistics = space, source, statistics

    def __iter__(self) -> Iterator[np.ndarray]:
        for each in self._source:
            vectors = self._space.from_feature(motions.with_lips(each), self._statistics)
            yield np.asarray(vectors)


def load_or_fit(
    config: ConfigDict,
    workdir: str,
    *,
    space: MotionSpace,
    source: motions.MotionSource,
    statistics: Statistics,
) -> fgd.Variables:
    """Returns the autoencoder in `workdir/fgd.npz`, or fits one to the training windows.

    The first process fits it, once per run, so that all FGD values of a run are comparable.
    """
    path = as_path(workdir) / "fgd.npz"
    resumed = processes.first_process_says(checkpoints.is_saved(workdir))
    with processes.first_process_first("fgd"):
        if resumed or not processes.is_first_process():
            # It is fitted again where the file is damaged or an older run has not kept it.
            with contextlib.suppress(InputError):
                return fgd.read_autoencoder(path)
        variables = _fit(config, space, source, statistics)
        if processes.is_first_process():
            fgd.write_autoencoder(path, variables)
        return variables


def _fit(
    config: ConfigDict,
    space: MotionSpace,
    source: motions.MotionSource,
    statistics: Statistics,
) -> fgd.Variables:
    """Fits an autoencoder to training windows, encoded as the diffusion model gets them."""
    encode = lambda vectors: space.encode(vectors, vectors[0], statistics)
    windows = fgd.Windows(
        map(encode, MotionVectors(space, source, statistics)),
        window=config.model.window,
        stride=config.data.window_stride,
    )
    return fgd.fit_autoencoder(windows, seed=config.seed, num_steps=config.fgd_steps, progress=True)
