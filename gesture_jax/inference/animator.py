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

from gesture_jax.array_types import Frames
from gesture_jax.checkpoint import checkpoints
from gesture_jax.data import portrait_framing
from gesture_jax.errors import InputError
from gesture_jax.inference import explain
from gesture_jax.media import images
from gesture_jax.models import layered
from gesture_jax.models.base import BaseModel, SourceFeatures
from gesture_jax.models.build import build_model
from gesture_jax.ops import rotation
from gesture_jax.ops.cpu.conv import use_xla_conv
from gesture_jax.ops.precision import float32_matmuls
from gesture_jax.ops.warp import Places, with_differences
from gesture_jax.parallel import aot_cache, hardware, sharding
from gesture_jax.parallel.aot_cache import CachedJit, cached_jit, register_exportable
from gesture_jax.pretrained import torch_checkpoint, torch_weights

register_exportable(SourceFeatures)
register_exportable(layered.Layers)
register_exportable(layered.Enlarged)
register_exportable(layered.Located)
register_exportable(Places)
_BATCH_SIZE = 4
# Side of the frames where nothing else is asked for and the portrait is as large.
_USUAL_SIZE = 512
# The largest frames: of 4K video.
_MOST_SIZE = 2160


@dataclasses.dataclass(frozen=True)
class Source:
    """A portrait, encoded once for any number of frames.

    Attributes:
      image: [s, s, 3], uint8 or float32, its square at the size of the frames.
      features: what the renderer reads of it.
      motion: [d] float32, its own motion feature: where a clip begins, what scales refer to.
    """

    image: np.ndarray
    features: SourceFeatures
    motion: np.ndarray

    @property
    def size(self) -> int:
        """Height and width of the frames in pixels."""
        return len(self.image)


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
        batch_size: int = _BATCH_SIZE,
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
        self._encode, self._extract, self._render, self._render_adapted = _programs(model)
        self._locate, self._compose = _finishing_programs()
        self._to_uint8 = cached_jit(to_uint8)
        self._explain = cached_jit(explain_batch, model)
        self._retarget = jax.jit(float32_matmuls(rotation.retarget_feature))

    @classmethod
    def load(cls, workdir: str | os.PathLike, *, ahead: bool = False) -> "Animator":
        """From the workdir of a stage-1 training or of `gesture_jax.convert`.

        Args:
          workdir: the folder, or the file that `gesture_jax.pack` made of it.
          ahead: whether what earlier processes compiled to generate is fetched meanwhile.

        Raises:
          InputError: where there is no stage-1 checkpoint.
        """
        config = checkpoints.read_config(workdir, stage="stage1")
        model = build_model(**config.model)
        shapes = abstract_variables(model)
        if ahead:
            aot_cache.compile_ahead(_calls(model, shapes), only_kept=True)
        variables, step = checkpoints.load_variables(workdir, shapes)
        shoulders = portrait_framing.read_range(config.get("shoulders"), name=workdir)
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
        """Height and width in pixels of what the networks see."""
        return self.model.resolution

    def choose_size(self, side: int, wanted: int | None = None) -> int:
        """Height and width of the frames of a portrait.

        Args:
          side: of the portrait's square in pixels.
          wanted: what was asked for; by default 512 where the portrait is as large, else the
            resolution of the networks.

        Raises:
          InputError: for a size that these networks cannot make, or that video cannot have.
        """
        if wanted is None:
            large = self.model.carries_pixels and side >= _USUAL_SIZE > self.resolution
            return _USUAL_SIZE if large else self.resolution
        if wanted == self.resolution:
            return wanted
        if not self.model.carries_pixels:
            raise InputError(
                f"size {wanted}: these weights make frames of {self.resolution} pixels only; "
                "leave the size out, or use weights of the preset photo"
            )
        most = min(side // 2 * 2, _MOST_SIZE)
        if wanted % 2 or not self.resolution < wanted <= most:
            sizes = f" or an even number up to {most}" if most > self.resolution else ""
            raise InputError(
                f"size {wanted}: the portrait's square has {side} pixels; choose "
                f"{self.resolution}{sizes}"
            )
        return wanted

    def encode_source(self, image: np.ndarray, *, size: int | None = None) -> Source:
        """Encodes a portrait.

        Args:
          image: [h, w], [h, w, 1..4]; uint8, uint16 or float in [0, 1]; any size, cropped to its
            central square.
          size: of the frames, see `choose_size`.

        Raises:
          InputError: for a picture or a size that cannot be.
        """
        picture = images.to_rgb(image)
        size = self.choose_size(min(picture.shape[:2]), size)
        seen = images.square(picture, size=self.resolution)
        features, motion = self._encode(self._variables, _to_float(seen[None]))
        square = seen if size == self.resolution else images.square(picture, size=size)
        if self.model.carries_pixels:
            full = with_differences(jnp.asarray(_to_float(square[None])))
            features = dataclasses.replace(features, picture=full)
        return Source(square, features, np.asarray(motion))

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
        first = None
        for motion in motions:
            first = motion if first is None else first
            yield np.asarray(self._retarget(motion, first, source.motion))

    def prepare(self, source: Source) -> threading.Thread:
        """Has `render` compiled, or fetched from the cache, on a thread while other work is done.

        Args:
          source: from `encode_source`; what is rendered may be another one.

        Returns:
          The thread, which nobody has to wait for.
        """
        motion = np.zeros((self._batch_size, self.model.motion_dim), np.float32)
        arguments = self._variables, source.features, motion
        return aot_cache.compile_ahead([(self._renderer(adapt=True), arguments)])

    def render(self, source: Source, motion: np.ndarray, *, adapt: bool = False) -> np.ndarray:
        """The portrait in every pose of a motion sequence.

        Args:
          source: from `encode_source`.
          motion: [t, 9 g^2 + 3].
          adapt: whether the motion is another person's, or generated, and is first adapted to the
            portrait (`adapt_motion`); takes half as long again.

        Returns:
          [t, s, s, 3] float32 in [0, 1], s the source's size.
        """
        batches = self._render_batches(source, motion, adapt)
        fetched = itertools.starmap(_fetch, batches)
        return np.concatenate([np.zeros((0, source.size, source.size, 3), "f4"), *fetched])

    def render_frames(
        self, source: Source, motion: Iterable[np.ndarray], *, adapt: bool = False
    ) -> Iterator[np.ndarray]:
        """Like `render`, one [s, s, 3] uint8 frame after the other, in constant memory."""
        batches = self._render_batches(source, motion, adapt)
        for batch, count in ((self._to_uint8(image), count) for image, count in batches):
            yield from _fetch(batch, count)

    def _renderer(self, adapt: bool) -> CachedJit:
        return self._render_adapted if adapt and self.model.carries_pixels else self._render

    def explain_frames(self, source: Source, motion: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Frames of adapted motion beside what they are put together from, see `explain.rows`.

        Yields:
          [r, 6 r, 3] uint8, at the resolution of the networks.

        Raises:
          InputError: for networks that draw every pixel anew.
        """
        if not self.model.carries_pixels:
            raise InputError(
                "these weights draw every pixel anew, so that there is nothing to "
                "explain; use weights of the preset photo"
            )
        features = dataclasses.replace(source.features, picture=None)
        for batch, count in _batched(motion, self._batch_size):
            image, layers = self._explain(self._variables, features, batch)
            yield from explain.strips(image, layers)[:count]

    def _render_batches(
        self, source: Source, motion: Iterable[np.ndarray], adapt: bool
    ) -> Iterator[tuple[jax.Array, int]]:
        """One batch ahead: the next one is computed while frames are encoded and written."""
        pending: collections.deque[tuple[jax.Array, int]] = collections.deque()
        for batch, count in _batched(motion, self._batch_size):
            image = self._renderer(adapt)(self._variables, source.features, batch)
            if source.features.picture is not None:
                image = self._compose(source.features.picture, self._locate(image))
            pending.append((image, count))
            if len(pending) > 1:
                yield pending.popleft()
        yield from pending


def abstract_variables(model: BaseModel) -> dict[str, Any]:
    """Shapes of the model's variables, nothing computed."""
    return cached_jit(blank_variables, model).shapes()


def blank_variables(model: BaseModel) -> dict[str, Any]:
    """Variables of nothing but zeros, whose shapes are quickly told once they are traced."""
    image = jnp.zeros((1, model.resolution, model.resolution, 3))
    shapes = jax.eval_shape(use_xla_conv(model.init), jax.random.key(0), image, image)
    return jax.tree.map(jnp.zeros_like, shapes)


def _programs(model: BaseModel) -> tuple[CachedJit, CachedJit, CachedJit, CachedJit]:
    """That encode a portrait, read motions, render, and render motions of others."""
    options = hardware.compiler_options()
    return (
        cached_jit(encode_source, model),
        cached_jit(extract_motion, model, **options),
        cached_jit(render_batch, model, False, **options),
        cached_jit(render_batch, model, True, **options),
    )


def _finishing_programs() -> tuple[CachedJit, CachedJit]:
    """That make frames of the portrait's size of what a network draws."""
    options = hardware.compiler_options()
    return cached_jit(layered.locate, **options), cached_jit(layered.compose, **options)


def _calls(model: BaseModel, variables: Mapping[str, Any]) -> Iterator[tuple[CachedJit, tuple]]:
    """What is called to generate, in this order, with shapes of what it is called with."""
    encode, _, render, render_adapted = _programs(model)
    variables = sharding.on_device(variables)
    image = np.zeros((1, model.resolution, model.resolution, 3), np.float32)
    yield encode, (variables, image)
    features = sharding.on_device(encode.shapes(variables, image)[0])
    if model.carries_pixels:
        render = render_adapted
        size = max(model.resolution, _USUAL_SIZE)
        picture = jax.ShapeDtypeStruct((1, size, size, 12), np.float32)
        features = dataclasses.replace(features, picture=sharding.on_device(picture))
    arguments = variables, features, np.zeros((_BATCH_SIZE, model.motion_dim), np.float32)
    yield render, arguments
    frames = sharding.on_device(render.shapes(*arguments))
    if features.picture is not None:
        locate, compose = _finishing_programs()
        yield locate, (frames,)
        located = sharding.on_device(locate.shapes(frames))
        yield compose, (features.picture, located)
        frames = sharding.on_device(compose.shapes(features.picture, located))
    yield cached_jit(to_uint8), (frames,)


@use_xla_conv
@float32_matmuls
def encode_source(
    model: BaseModel, variables: Mapping[str, Any], image: jax.Array
) -> tuple[SourceFeatures, jax.Array]:
    """What is rendered of a portrait, [1, r, r, 3] in [0, 1], and its own motion feature [d]."""
    features = model.apply(variables, image, method="encode_source")
    assert isinstance(features, SourceFeatures)  # Nothing is mutable that would come beside it.
    own = features.motion
    return features, (extract_motion(model, variables, image) if own is None else own)[0]


@float32_matmuls
def extract_motion(model: BaseModel, variables: Mapping[str, Any], frames: jax.Array) -> jax.Array:
    """Frames [b, r, r, 3] in [0, 1] to motion features [b, d]."""
    motion = model.apply(variables, frames, method="extract")
    assert isinstance(motion, jax.Array)
    return motion


@float32_matmuls
def render_batch(
    model: BaseModel,
    adapt: bool,
    variables: Mapping[str, Any],
    features: SourceFeatures,
    motion: jax.Array,
) -> jax.Array | layered.Enlarged:
    """Features of one portrait and motion features [b, d] to frames [b, r, r, 3] in [0, 1].

    Where the features have a picture, what `layered.locate` and `layered.compose` make frames of
    its size from.
    """
    repeated = jax.tree.map(lambda x: jnp.repeat(x, len(motion), axis=0), features)
    if adapt:
        motion = adapt_motion(model, variables, repeated, motion)
    method = "render" if features.picture is None else "draw_enlarged"
    made = model.apply(variables, repeated, motion, method=method)
    assert isinstance(made, jax.Array | layered.Enlarged)
    return made


def to_uint8(image: jax.Array) -> jax.Array:
    """Pictures in [0, 1] to 0 to 255."""
    return jnp.rint(image * 255.0).astype(jnp.uint8)


@float32_matmuls
def explain_batch(
    model: BaseModel, variables: Mapping[str, Any], features: SourceFeatures, motion: jax.Array
) -> tuple[jax.Array, layered.Layers]:
    """Frames [b, r, r, 3] of one portrait, and the layers that they are put together from."""
    repeated = jax.tree.map(lambda x: jnp.repeat(x, len(motion), axis=0), features)
    motion = adapt_motion(model, variables, repeated, motion)
    made = model.apply(variables, repeated, motion, method="draw")
    assert isinstance(made, dict)
    return made["image"], made["layers"]


def adapt_motion(
    model: BaseModel, variables: Mapping[str, Any], features: SourceFeatures, motion: jax.Array
) -> jax.Array:
    """Motion features [b, d] of others as the portrait of `features` shows them.

    The frames follow each other. How much adapting changes their motion hardly varies within a few
    frames, so that only the first and the last are adapted, and the change is interpolated between.
    """
    ends = jnp.array([0, len(motion) - 1])
    portrait = jax.tree.map(lambda x: x[ends], features)
    adapted = model.apply(variables, portrait, motion[ends], method="adapt")
    assert isinstance(adapted, jax.Array)
    change = adapted - motion[ends]
    share = jnp.linspace(0.0, 1.0, len(motion))[:, None]
    return motion + (1.0 - share) * change[0] + share * change[1]


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
