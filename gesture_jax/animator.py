"""Portrait and motion to frames: a trained stage 1 at work."""

import collections
import dataclasses
import itertools
import os
import threading
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gesture_jax import checkpoints, hardware, torch_checkpoint, torch_weights
from gesture_jax.array_types import Frames
from gesture_jax.data import images, people
from gesture_jax.models.base import BaseModel, SourceFeatures
from gesture_jax.models.build import build_model
from gesture_jax.ops import rotation
from gesture_jax.ops.conv import plain
from gesture_jax.ops.precision import exact


@dataclasses.dataclass(frozen=True)
class Source:
    """A portrait, encoded once for any number of frames.

    Attributes:
      image: [r, r, 3], uint8 or float32, cropped and scaled to the model's resolution.
      features: what the renderer reads of it.
    """

    image: np.ndarray
    features: SourceFeatures


class Animator:
    """Moves a portrait by motion features, and reads motion features from frames.

    Work is done in batches of one fixed size, so that each network is compiled once.
    """

    def __init__(
        self,
        model: BaseModel,
        variables: Mapping[str, Any],
        *,
        step: int = 0,
        batch_size: int = 4,
        shoulders: np.ndarray | None = None,
    ):
        """Most users want `load`, `from_torch` or `from_state_dict`.

        Args:
          model: the network.
          variables: its `params` and `batch_stats`.
          step: how long it was trained, 0 for converted weights.
          batch_size: frames rendered or read at once.
          shoulders: how training frames were framed, from `people.read_range`.
        """
        self.model, self.step, self.shoulders = model, step, shoulders
        self._variables = variables
        self._batch_size = batch_size
        self._encode_source = jax.jit(
            plain(exact(lambda v, x: model.apply(v, x, method="encode_source")))
        )
        options = hardware.compiler_options()
        self._extract = jax.jit(
            exact(lambda v, x: model.apply(v, x, method="extract")), compiler_options=options
        )
        self._render = jax.jit(render_batch, static_argnums=0, compiler_options=options)
        self._retarget = jax.jit(exact(rotation.retarget_feature))
        self._preparing: threading.Thread | None = None

    @classmethod
    def load(cls, workdir: str | os.PathLike) -> "Animator":
        """From the workdir of a stage-1 training or of `gesture_jax.convert`.

        Raises:
          InputError: where there is no stage-1 checkpoint.
        """
        config = checkpoints.read_config(workdir, stage="stage1")
        model = build_model(**config.model)
        variables, step = checkpoints.load_variables(workdir, abstract_variables(model))
        shoulders = people.read_range(config.get("shoulders"), name=workdir)
        return cls(model, variables, step=step, shoulders=shoulders)

    @classmethod
    def from_torch(cls, path: str | os.PathLike) -> "Animator":
        """From the PyTorch checkpoint of the paper's release, read without PyTorch.

        Raises:
          InputError: where the file is not such a checkpoint.
        """
        return cls.from_state_dict(torch_checkpoint.read_checkpoint(path))

    @classmethod
    def from_state_dict(cls, state_dict: Mapping[str, np.ndarray]) -> "Animator":
        """From the 651 arrays of the reference's state dict.

        Raises:
          InputError: naming the arrays that are missing, left over or misshapen.
        """
        return cls(build_model(), torch_weights.deviation_variables(state_dict))

    @property
    def resolution(self) -> int:
        """Height and width of the frames in pixels."""
        return self.model.resolution

    def encode_source(self, image: np.ndarray) -> Source:
        """Encodes a portrait.

        Args:
          image: [h, w], [h, w, 1..4]; uint8, uint16 or float in [0, 1]; any size, cropped to its
            central square.
        """
        square = images.square(images.to_rgb(image), size=self.resolution)
        features = self._encode_source(self._variables, _to_float(square[None]))
        return Source(square, features)

    def extract_motion(self, frames: Iterable[np.ndarray]) -> np.ndarray:
        """Motion features of frames.

        Args:
          frames: [t, h, w, 3], or an iterator of [h, w, 3].

        Returns:
          [t, 9 g^2 + 3] float32 (2307 at the paper's size).
        """
        return np.array([*self.iterate_motion(frames)], "f4").reshape(-1, self.model.motion_dim)

    def iterate_motion(self, frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Like `extract_motion`, one feature after the other, in constant memory."""
        squares = (images.square(images.to_rgb(frame), size=self.resolution) for frame in frames)
        for batch, count in _batched(squares, self._batch_size):
            yield from np.asarray(self._extract(self._variables, _to_float(batch)))[:count]

    def retarget(self, source: Source, motions: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Moves that change the portrait's own pose as others change theirs, in constant memory.

        Args:
          source: from `encode_source`.
          motions: [d] motion features, the first of which is taken for the portrait's own pose.

        Yields:
          [d] motion features; the first is the portrait's own.
        """
        own = self.extract_motion(source.image[None])[0]
        first = None
        for motion in motions:
            first = motion if first is None else first
            yield np.asarray(self._retarget(motion, first, own))

    def prepare(self, source: Source) -> None:
        """Has `render` compiled, or fetched from the cache, on a thread while other work is done.

        Args:
          source: from `encode_source`; what is rendered may be another one.
        """
        if self._preparing:
            return
        motion = np.zeros((self._batch_size, self.model.motion_dim), np.float32)
        program = lambda: self._render.lower(
            self.model, self._variables, source.features, motion
        ).compile()
        self._preparing = threading.Thread(target=program)
        self._preparing.start()

    def render(self, source: Source, motion: np.ndarray) -> np.ndarray:
        """The portrait in every pose of a motion sequence.

        Args:
          source: from `encode_source`.
          motion: [t, 9 g^2 + 3].

        Returns:
          [t, r, r, 3] float32 in [0, 1].
        """
        shape = (0, self.resolution, self.resolution, 3)
        return np.concatenate([np.zeros(shape, "f4"), *self._render_batches(source, motion)])

    def render_frames(self, source: Source, motion: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Like `render`, one [r, r, 3] uint8 frame after the other, in constant memory."""
        for batch in self._render_batches(source, motion):
            yield from np.rint(batch * 255.0).astype(np.uint8)

    def _render_batches(self, source: Source, motion: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """One batch ahead: the next one is computed while frames are encoded and written."""
        pending: collections.deque[tuple[jax.Array, int]] = collections.deque()
        for batch, count in _batched(motion, self._batch_size):
            if self._preparing:
                self._preparing.join()
            image = self._render(self.model, self._variables, source.features, batch)
            pending.append((image, count))
            if len(pending) > 1:
                yield _fetch(*pending.popleft())
        yield from itertools.starmap(_fetch, pending)


def abstract_variables(model: BaseModel) -> dict[str, Any]:
    """Shapes of the model's variables, nothing computed."""
    image = jax.ShapeDtypeStruct((1, model.resolution, model.resolution, 3), jnp.float32)
    return jax.eval_shape(plain(model.init), jax.random.key(0), image, image)


@exact
def render_batch(
    model: BaseModel, variables: Mapping[str, Any], features: SourceFeatures, motion: jax.Array
) -> jax.Array:
    """Features of one portrait and motion features [b, d] to frames [b, r, r, 3] in [0, 1]."""
    repeated = jax.tree.map(lambda x: jnp.repeat(x, len(motion), axis=0), features)
    frames = model.apply(variables, repeated, motion, method="render")
    assert isinstance(frames, jax.Array)  # Nothing is mutable that would come beside it.
    return frames


def _batched(items: Iterable[np.ndarray], size: int) -> Iterator[tuple[np.ndarray, int]]:
    """Batches of `size`, the last one filled up by repetition, with the count of true items."""
    batch: list[np.ndarray] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield np.stack(batch), size
            batch = []
    if batch:
        yield np.stack(batch + batch[-1:] * (size - len(batch))), len(batch)


def _fetch(image: jax.Array, count: int) -> np.ndarray:
    return np.asarray(image)[:count]


def _to_float(frames: Frames) -> np.ndarray:
    return frames.astype(np.float32) / 255.0 if frames.dtype == np.uint8 else frames
