"""Renders frames from a portrait and motion features, with a trained stage 1."""

import collections
import dataclasses
import itertools
import os
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gesture_jax.array_types import Frames
from gesture_jax.checkpoint import checkpoints
from gesture_jax.data import portrait_framing
from gesture_jax.errors import InputError
from gesture_jax.inference import explain
from gesture_jax.inference.programs import AdaptedBatch, Programs, abstract_variables
from gesture_jax.inference.talking_mouth import TalkingMouth
from gesture_jax.media import images
from gesture_jax.models.base import BaseModel, SourceFeatures
from gesture_jax.models.build import build_model
from gesture_jax.models.motion_space import MotionSpace
from gesture_jax.ops import rotation
from gesture_jax.ops.precision import float32_matmuls
from gesture_jax.ops.warp import with_differences
from gesture_jax.parallel import aot_cache, sharding
from gesture_jax.pretrained import torch_checkpoint, torch_weights

_BATCH_SIZE = 4
# The largest batch of a device where the number of frames is known, see `choose_batch_size`.
_LARGEST_BATCH = 5
# Default side of the frames if the portrait is at least as large.
_DEFAULT_SIZE = 512
# The largest side, the height of 4K video.
_MAX_SIZE = 2160


@dataclasses.dataclass(frozen=True)
class Source:
    """A portrait, encoded once for any number of frames.

    Attributes:
      image: [s, s, 3], uint8 or float32, its central square at the size of the frames.
      features: the input of the renderer.
      motion: [d] float32, its own motion feature, at which clips begin and to which scales refer.
    """

    image: np.ndarray
    features: SourceFeatures
    motion: np.ndarray

    @property
    def size(self) -> int:
        """Height and width of the frames in pixels."""
        return len(self.image)


class Adaptation:
    """How the motion of one clip, which is of another person or generated, fits a portrait.

    See `LayeredModel.adapt`. The change of the motion is found at the last frame of each batch, and
    interpolated from one batch to the next.
    """

    def __init__(self) -> None:
        """Begins a clip."""
        self._last: jax.Array | None = None

    def follow(self, motion: np.ndarray, changes: jax.Array) -> AdaptedBatch:
        """Returns the next batch.

        Args:
          motion: [b, d].
          changes: [k, d], at the last frame of each of k equal parts of the batch.
        """
        last = changes[:1] if self._last is None else self._last
        before = last
        if len(changes) > 1:
            before = jax.device_put(jnp.concatenate([last, changes[:-1]]), changes.sharding)
        self._last = changes[-1:]
        return AdaptedBatch(motion, before, changes)


class Animator:
    """Animates a portrait by motion features, and extracts motion features from frames.

    It works in batches of one fixed size, so that each network is compiled once. Several devices
    share each batch.

    Attributes:
      model: the network.
      motion_step: see `checkpoints.motion_step`; 0 for converted weights.
      shoulders: how training frames were framed, or None.
      pose_reading: [3 g^2 + 3, p] float32, how poses are read from motion, see
        `training.pose_reading`; None where it was not fitted.
      mesh: the devices that share a batch, or None for one device.
    """

    def __init__(
        self,
        model: BaseModel,
        variables: Mapping[str, Any],
        *,
        motion_step: int = 0,
        batch_size: int = _BATCH_SIZE,
        shoulders: np.ndarray | None = None,
        pose_reading: np.ndarray | None = None,
        devices: Sequence[jax.Device] | None = None,
    ):
        """Most users want `load`, `from_torch` or `from_state_dict`.

        Args:
          model: the network.
          variables: its `params` and `batch_stats`.
          motion_step: see the class.
          batch_size: number of frames that each device renders or reads at once.
          shoulders: how training frames were framed, from `portrait_framing.read_range`.
          pose_reading: see the class.
          devices: see `load`.
        """
        self.model, self.motion_step, self.shoulders = model, motion_step, shoulders
        self.pose_reading = pose_reading
        self.mesh = sharding.inference_mesh(devices)
        self._variables = sharding.put_whole(variables, self.mesh)
        self._batch_size = batch_size * (self.mesh.size if self.mesh else 1)
        self._programs = Programs(model, self.mesh)
        self._retarget = jax.jit(float32_matmuls(rotation.retarget_feature))

    @classmethod
    def load(
        cls,
        workdir: str | os.PathLike,
        *,
        ahead: bool = False,
        devices: Sequence[jax.Device] | None = None,
    ) -> "Animator":
        """Loads the workdir of a stage-1 training or of `gesture_jax.convert`.

        Args:
          workdir: the folder, or the file that `gesture_jax.pack` made from it.
          ahead: whether to fetch, on a thread, the programs that earlier processes compiled to
            generate.
          devices: devices of this process that share the work; the frames are the same for any
            number of them. By default all local accelerators, or a single CPU device, as several
            CPU devices are simulated and share the same cores.

        Raises:
          InputError: if there is no stage-1 checkpoint.
        """
        config = checkpoints.read_config(workdir, stage="stage1")
        model = build_model(**config.model)
        shapes = abstract_variables(model)
        if ahead:
            mesh = sharding.inference_mesh(devices)
            batch_size = _BATCH_SIZE * (mesh.size if mesh else 1)
            size = max(model.resolution, _DEFAULT_SIZE)
            calls = Programs(model, mesh).calls(shapes, batch_size=batch_size, size=size)
            aot_cache.compile_ahead(calls, only_kept=True)
        num_values = config.get("num_pose_values", 0)  # Older runs lack it.
        if num_values:
            dim = MotionSpace("angles", model.motion_dim).dim
            shapes["pose_reading"] = {"matrix": jax.ShapeDtypeStruct((dim, num_values), np.float32)}
        variables, _ = checkpoints.load_variables(workdir, shapes)
        shoulders = portrait_framing.read_range(config.get("shoulders"), name=workdir)
        reading = variables.pop("pose_reading", None)
        return cls(
            model, variables, motion_step=checkpoints.motion_step(workdir), shoulders=shoulders,
            devices=devices,
            pose_reading=None if reading is None else np.asarray(reading["matrix"]),
        )  # fmt: skip

    @classmethod
    def from_torch(cls, path: str | os.PathLike) -> "Animator":
        """Reads the PyTorch checkpoint of the paper's release, without PyTorch.

        Raises:
          InputError: if the file is not such a checkpoint.
        """
        return cls.from_state_dict(torch_checkpoint.read_checkpoint(path))

    @classmethod
    def from_state_dict(cls, state_dict: Mapping[str, np.ndarray]) -> "Animator":
        """Converts the 651 arrays of the reference's state dict.

        Raises:
          InputError: if arrays are missing, unknown or misshapen; it names them.
        """
        return cls(build_model(), torch_weights.deviation_variables(state_dict))

    @property
    def resolution(self) -> int:
        """Height and width in pixels of the input of the networks."""
        return self.model.resolution

    def choose_size(self, side: int, wanted: int | None = None) -> int:
        """Returns the height and width of the frames for a portrait.

        Args:
          side: side of the portrait's central square in pixels.
          wanted: the requested size; by default 512 if the portrait is at least as large, else the
            resolution of the networks.

        Raises:
          InputError: for a size that these networks cannot render, or that video cannot have.
        """
        if wanted is None:
            large = self.model.carries_pixels and side >= _DEFAULT_SIZE > self.resolution
            return _DEFAULT_SIZE if large else self.resolution
        if wanted == self.resolution:
            return wanted
        if not self.model.carries_pixels:
            raise InputError(
                f"size {wanted}: these weights make frames of {self.resolution} pixels only; "
                "leave the size out, or use weights of the preset photo"
            )
        most = min(side // 2 * 2, _MAX_SIZE)
        if wanted % 2 or not self.resolution < wanted <= most:
            sizes = f" or an even number up to {most}" if most > self.resolution else ""
            raise InputError(
                f"size {wanted}: the portrait's square has {side} pixels; choose "
                f"{self.resolution}{sizes}"
            )
        return wanted

    def choose_batch_size(self, num_frames: int) -> int:
        """Returns the batch size that suits calls which render this many frames each.

        A batch that is not full takes as long as a full one.
        """
        num_devices = self.mesh.size if self.mesh else 1
        share = -(-num_frames // num_devices)
        num_batches = -(-share // _LARGEST_BATCH)
        return -(-share // num_batches) * num_devices

    def encode_source(self, image: np.ndarray, *, size: int | None = None) -> Source:
        """Encodes a portrait.

        Args:
          image: [h, w], [h, w, 1..4]; uint8, uint16 or float in [0, 1]; any size, cropped to its
            central square.
          size: size of the frames, see `choose_size`.

        Raises:
          InputError: for a picture or a size that is not supported.
        """
        picture = images.to_rgb(image)
        size = self.choose_size(min(picture.shape[:2]), size)
        small = images.square(picture, size=self.resolution)
        features, motion = self._programs.encode(self._variables, _to_float(small[None]))
        square = small if size == self.resolution else images.square(picture, size=size)
        if self.model.carries_pixels:
            full = with_differences(jnp.asarray(_to_float(square[None])))
            full = sharding.put_whole(full, self.mesh)
            features = dataclasses.replace(features, picture=full)
        return Source(square, features, np.asarray(motion))

    def extract_motion(self, frames: Iterable[np.ndarray]) -> np.ndarray:
        """Extracts the motion features of frames.

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
            motion = self._programs.extract(self._variables, _to_float(batch))
            yield from np.asarray(motion)[:count]

    def retarget(self, source: Source, motions: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Transfers the changes of a motion to the portrait's own pose, in constant memory.

        Args:
          source: from `encode_source`.
          motions: [d] motion features, the first of which corresponds to the portrait's own pose.

        Yields:
          [d] motion features; the first is the portrait's own.
        """
        first = None
        for motion in motions:
            first = motion if first is None else first
            yield np.asarray(self._retarget(motion, first, source.motion))

    def prepare(
        self,
        source: Source,
        *,
        mouth: TalkingMouth | None = None,
        batch_size: int | None = None,
    ) -> threading.Thread:
        """Compiles `render_frames`, or fetches it from the cache, on a thread.

        Args:
          source: from `encode_source`; any other source of the same size is prepared, too.
          mouth: see `render`.
          batch_size: see `render_frames`.

        Returns:
          The thread; there is no need to wait for it.
        """
        size = batch_size or self._batch_size
        calls = self._programs.rendering_calls(
            self._variables, source.features, batch_size=size, mouth=mouth
        )
        return aot_cache.compile_ahead(calls)

    def render(
        self,
        source: Source,
        motion: np.ndarray,
        *,
        adapt: bool | Adaptation = False,
        mouth: TalkingMouth | None = None,
    ) -> np.ndarray:
        """Renders the portrait in every pose of a motion sequence.

        Args:
          source: from `encode_source`.
          motion: [t, 9 g^2 + 3]; or [t, 9 g^2 + 3 + l] with the positions of the lips.
          adapt: whether the motion belongs to another person or is generated, so that it is first
            adapted to the portrait; takes a quarter longer. An `Adaptation` continues the clip of
            the motion before.
          mouth: the portrait's mouth, which follows the positions of the lips.

        Returns:
          [t, s, s, 3] float32 in [0, 1], where s is the source's size.
        """
        batches = self._render_batches(source, motion, adapt, mouth, self._batch_size)
        fetched = itertools.starmap(_fetch, batches)
        return np.concatenate([np.zeros((0, source.size, source.size, 3), "f4"), *fetched])

    def render_frames(
        self,
        source: Source,
        motion: Iterable[np.ndarray],
        *,
        adapt: bool | Adaptation = False,
        mouth: TalkingMouth | None = None,
        batch_size: int | None = None,
    ) -> Iterator[np.ndarray]:
        """Like `render`, one [s, s, 3] uint8 frame after the other, in constant memory.

        Args:
          source: see `render`.
          motion: see `render`.
          adapt: see `render`.
          mouth: see `render`.
          batch_size: number of frames that all devices together render at once, see
            `choose_batch_size`; by default that of the animator.
        """
        size = batch_size or self._batch_size
        batches = self._render_batches(source, motion, adapt, mouth, size)
        for batch, count in ((self._programs.to_uint8(image), count) for image, count in batches):
            yield from _fetch(batch, count)

    def _adapt(self, source: Source, motion: np.ndarray, adaptation: Adaptation) -> AdaptedBatch:
        share = len(motion) // (self.mesh.size if self.mesh else 1)
        ends = motion[share - 1 :: share]
        changes = self._programs.find_changes(self._variables, source.features, ends)
        return adaptation.follow(motion, changes)

    def explain_frames(self, source: Source, motion: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Renders frames of adapted motion beside the layers they consist of, see `explain.rows`.

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
        features, adaptation = dataclasses.replace(source.features, picture=None), Adaptation()
        for batch, count in _batched(motion, self._batch_size):
            motions = self._adapt(source, batch[:, : self.model.motion_dim], adaptation)
            image, layers = self._programs.explain(self._variables, features, motions)
            yield from explain.strips(image, layers)[:count]

    def _render_batches(
        self,
        source: Source,
        motion: Iterable[np.ndarray],
        adapt: bool | Adaptation,
        mouth: TalkingMouth | None,
        batch_size: int,
    ) -> Iterator[tuple[jax.Array, int]]:
        """Renders one batch ahead, so that it is computed while frames are encoded and written."""
        pending: collections.deque[tuple[jax.Array, int]] = collections.deque()
        adaptation = Adaptation() if adapt is True else adapt
        for batch, count in _batched(motion, batch_size):
            motions, lips = np.split(batch, [self.model.motion_dim], axis=1)
            if adaptation and self.model.carries_pixels:
                adapted = self._adapt(source, motions, adaptation)
                image = self._programs.render_adapted(self._variables, source.features, adapted)
            else:
                image = self._programs.render(self._variables, source.features, motions)
            if (picture := source.features.picture) is not None:
                located = self._programs.locate(image)
                image = self._programs.compose(picture, located)
                if mouth is not None and lips.shape[1]:
                    drawn = mouth.draw(lips)
                    image = self._programs.move_mouth(picture, mouth.box, (image, located, drawn))
            pending.append((image, count))
            if len(pending) > 1:
                yield pending.popleft()
        yield from pending


def _batched(items: Iterable[np.ndarray], size: int) -> Iterator[tuple[np.ndarray, int]]:
    """Yields batches of `size` items and how many of them count.

    The last item fills up the last batch.
    """
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
