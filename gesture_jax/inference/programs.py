"""The compiled programs of stage 1: encode a portrait, extract motion, render frames."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import flax
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from gesture_jax.inference.talking_mouth import TalkingMouth, move_mouth
from gesture_jax.models import layered
from gesture_jax.models.base import BaseModel, SourceFeatures
from gesture_jax.ops.cpu.conv import use_xla_conv
from gesture_jax.ops.precision import float32_matmuls
from gesture_jax.ops.warp import Places
from gesture_jax.parallel import hardware, sharding
from gesture_jax.parallel.aot_cache import CachedJit, cached_jit, register_exportable
from gesture_jax.people import lips

for _node in (SourceFeatures, layered.Layers, layered.Enlarged, layered.Located, Places):
    register_exportable(_node)


class Programs:
    """The compiled programs of a stage-1 network, the same ones for equal networks.

    Those that take a batch of frames or of motion features take it as their last argument. With a
    mesh, each device computes its share of the batch, as one device alone would.

    Attributes:
      encode: `encode_source`.
      extract: `extract_motion`.
      render: `render_batch`.
      find_changes: `find_changes`.
      render_adapted: `render_adapted`.
      locate: `layered.locate`.
      compose: `layered.compose`.
      move_mouth: `talking_mouth.move_mouth`.
      to_uint8: `to_uint8`.
      explain: `explain_batch`.
    """

    def __init__(self, model: BaseModel, mesh: Mesh | None = None):
        """Compiles nothing yet.

        Args:
          model: the network.
          mesh: the devices that share a batch, or None for one device.
        """
        self._model, self._mesh = model, mesh
        options = hardware.compiler_options()
        self.encode = cached_jit(encode_source, model)
        self.extract = self._split(extract_motion, model, **options)
        self.render = self._split(render_batch, model, **options)
        self.find_changes = self._split(find_changes, model, **options)
        self.render_adapted = self._split(render_adapted, model, **options)
        self.locate = self._split(layered.locate, **options)
        self.compose = self._split(layered.compose, **options)
        self.move_mouth = self._split(move_mouth, **options)
        self.to_uint8 = self._split(to_uint8)
        self.explain = self._split(explain_batch, model)

    def _split(self, function: Callable, *settings: Any, **options: str) -> CachedJit:
        if self._mesh is None:
            return cached_jit(function, *settings, **options)
        return cached_jit(sharding.split_last, self._mesh, function, settings, **options)

    def calls(
        self, variables: Mapping[str, Any], *, batch_size: int, size: int
    ) -> Iterator[tuple[CachedJit, tuple]]:
        """Yields the programs that generating calls, in this order, with their abstract arguments.

        Args:
          variables: of the network, or their shapes.
          batch_size: number of frames that are rendered at once.
          size: height and width of the frames, if the network can enlarge them.
        """
        whole, _ = sharding.inference_shardings(self._mesh)
        variables = sharding.place(variables, whole)
        model = self._model
        image = np.zeros((1, model.resolution, model.resolution, 3), np.float32)
        yield self.encode, (variables, image)
        features = sharding.place(self.encode.shapes(variables, image)[0], whole)
        if model.carries_pixels:
            picture = jax.ShapeDtypeStruct((1, size, size, 12), np.float32)
            features = dataclasses.replace(features, picture=sharding.place(picture, whole))
        yield from self.rendering_calls(variables, features, batch_size=batch_size)

    def rendering_calls(
        self,
        variables: Mapping[str, Any],
        features: SourceFeatures,
        *,
        batch_size: int,
        mouth: TalkingMouth | None = None,
    ) -> Iterator[tuple[CachedJit, tuple]]:
        """Like `calls`, only for the frames of one portrait or for the shapes of its features."""
        _, split = sharding.inference_shardings(self._mesh)
        motion = np.zeros((batch_size, self._model.motion_dim), np.float32)
        render = self.render
        arguments: tuple = variables, features, motion
        if self._model.carries_pixels:
            ends = variables, features, motion[: self._mesh.size if self._mesh else 1]
            yield self.find_changes, ends
            changes = sharding.place(self.find_changes.shapes(*ends), split)
            render = self.render_adapted
            arguments = variables, features, AdaptedBatch(motion, changes, changes)
        yield render, arguments
        frames = sharding.place(render.shapes(*arguments), split)
        if features.picture is not None:
            yield self.locate, (frames,)
            located = sharding.place(self.locate.shapes(frames), split)
            yield self.compose, (features.picture, located)
            frames = sharding.place(self.compose.shapes(features.picture, located), split)
            if mouth is not None:
                drawn = mouth.draw(np.zeros((batch_size, lips.NUM_VALUES), np.float32))
                yield self.move_mouth, (features.picture, mouth.box, (frames, located, drawn))
        yield self.to_uint8, (frames,)


def abstract_variables(model: BaseModel) -> dict[str, Any]:
    """Returns the shapes of the model's variables without computing them."""
    return cached_jit(blank_variables, model).shapes()


def blank_variables(model: BaseModel) -> dict[str, Any]:
    """Returns zeros for all variables; once they are traced, their shapes are found quickly."""
    image = jnp.zeros((1, model.resolution, model.resolution, 3))
    shapes = jax.eval_shape(use_xla_conv(model.init), jax.random.key(0), image, image)
    return jax.tree.map(jnp.zeros_like, shapes)


@use_xla_conv
@float32_matmuls
def encode_source(
    model: BaseModel, variables: Mapping[str, Any], image: jax.Array
) -> tuple[SourceFeatures, jax.Array]:
    """Encodes a portrait, [1, r, r, 3] in [0, 1]; also returns its own motion feature [d]."""
    features = model.apply(variables, image, method="encode_source")
    assert isinstance(features, SourceFeatures)  # No collection is mutable, so it comes alone.
    own = features.motion
    return features, (extract_motion(model, variables, image) if own is None else own)[0]


@float32_matmuls
def extract_motion(model: BaseModel, variables: Mapping[str, Any], frames: jax.Array) -> jax.Array:
    """Extracts motion features [b, d] from frames [b, r, r, 3] in [0, 1]."""
    motion = model.apply(variables, frames, method="extract")
    assert isinstance(motion, jax.Array)
    return motion


@float32_matmuls
def render_batch(
    model: BaseModel, variables: Mapping[str, Any], features: SourceFeatures, motion: jax.Array
) -> jax.Array | layered.Enlarged:
    """Renders frames [b, r, r, 3] in [0, 1] of one portrait from motion features [b, d].

    If the features have a picture, it returns the input of `layered.locate`, from which
    `layered.compose` makes frames of the picture's size.
    """
    method = "render" if features.picture is None else "draw_enlarged"
    rendered = model.apply(variables, _repeat(features, len(motion)), motion, method=method)
    assert isinstance(rendered, jax.Array | layered.Enlarged)
    return rendered


@float32_matmuls
def find_changes(
    model: BaseModel, variables: Mapping[str, Any], features: SourceFeatures, motion: jax.Array
) -> jax.Array:
    """Returns by how much adapting changes motion features [k, d] of others: [k, d]."""
    adapted = model.apply(variables, _repeat(features, len(motion)), motion, method="adapt")
    assert isinstance(adapted, jax.Array)
    return adapted - motion


@register_exportable
@flax.struct.dataclass
class AdaptedBatch:
    """Motion features of others, with the changes that adapt them to a portrait.

    Several devices share the batch in equal parts.

    Attributes:
      motion: [b, d], features of frames that follow each other.
      before: [k, d], the change at the frame before the first one of each of k devices.
      last: [k, d], the change at the last frame of each device.
    """

    motion: jax.Array | np.ndarray
    before: jax.Array
    last: jax.Array

    def adapt(self) -> jax.Array:
        """Adapts the part of one device, k = 1: [b, d].

        How much adapting changes their motion hardly varies within a few frames, so that the change
        is interpolated between.
        """
        share = (jnp.arange(len(self.motion)) + 1.0)[:, None] / len(self.motion)
        return jnp.asarray(self.motion) + (1.0 - share) * self.before + share * self.last


def render_adapted(
    model: BaseModel, variables: Mapping[str, Any], features: SourceFeatures, batch: AdaptedBatch
) -> jax.Array | layered.Enlarged:
    """Renders motion of others, see `render_batch`."""
    return render_batch(model, variables, features, batch.adapt())


def to_uint8(image: jax.Array) -> jax.Array:
    """Converts pictures from [0, 1] to 0 ... 255."""
    return jnp.rint(image * 255.0).astype(jnp.uint8)


@float32_matmuls
def explain_batch(
    model: BaseModel, variables: Mapping[str, Any], features: SourceFeatures, batch: AdaptedBatch
) -> tuple[jax.Array, layered.Layers]:
    """Returns frames [b, r, r, 3] of one portrait, and the layers that they are composed of."""
    motion = batch.adapt()
    made = model.apply(variables, _repeat(features, len(motion)), motion, method="draw")
    assert isinstance(made, dict)
    return made["image"], made["layers"]


def _repeat(features: SourceFeatures, count: int) -> SourceFeatures:
    return jax.tree.map(lambda x: jnp.repeat(x, count, axis=0), features)
