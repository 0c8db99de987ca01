"""The compiled programs of stage 1: encode a portrait, extract motion, render frames."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from gesture_jax.inference.talking_mouth import move_mouth
from gesture_jax.models import layered
from gesture_jax.models.base import BaseModel, SourceFeatures
from gesture_jax.ops.cpu.conv import use_xla_conv
from gesture_jax.ops.precision import float32_matmuls
from gesture_jax.ops.warp import Places
from gesture_jax.parallel import hardware, sharding
from gesture_jax.parallel.aot_cache import CachedJit, cached_jit, register_exportable

for _node in (SourceFeatures, layered.Layers, layered.Enlarged, layered.Located, Places):
    register_exportable(_node)


class Programs:
    """The compiled programs of a stage-1 network, the same ones for equal networks.

    Those that take a batch of frames or of motion features take it as their last argument. With a
    mesh, each device computes its share of the batch, as one device alone would.

    Attributes:
      encode: `encode_source`.
      extract: `extract_motion`.
      render: `render_batch` for motion of the portrait itself.
      render_adapted: `render_batch` for motion of others.
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
        self.render = self._split(render_batch, model, False, **options)
        self.render_adapted = self._split(render_batch, model, True, **options)
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
        whole, split = sharding.inference_shardings(self._mesh)
        variables = sharding.place(variables, whole)
        model, render = self._model, self.render
        image = np.zeros((1, model.resolution, model.resolution, 3), np.float32)
        yield self.encode, (variables, image)
        features = sharding.place(self.encode.shapes(variables, image)[0], whole)
        if model.carries_pixels:
            render = self.render_adapted
            picture = jax.ShapeDtypeStruct((1, size, size, 12), np.float32)
            features = dataclasses.replace(features, picture=sharding.place(picture, whole))
        arguments = variables, features, np.zeros((batch_size, model.motion_dim), np.float32)
        yield render, arguments
        frames = sharding.place(render.shapes(*arguments), split)
        if features.picture is not None:
            yield self.locate, (frames,)
            located = sharding.place(self.locate.shapes(frames), split)
            yield self.compose, (features.picture, located)
            frames = sharding.place(self.compose.shapes(features.picture, located), split)
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
    model: BaseModel,
    adapt: bool,
    variables: Mapping[str, Any],
    features: SourceFeatures,
    motion: jax.Array,
) -> jax.Array | layered.Enlarged:
    """Renders frames [b, r, r, 3] in [0, 1] of one portrait from motion features [b, d].

    If the features have a picture, it returns the input of `layered.locate`, from which
    `layered.compose` makes frames of the picture's size.
    """
    repeated = jax.tree.map(lambda x: jnp.repeat(x, len(motion), axis=0), features)
    if adapt:
        motion = adapt_motion(model, variables, repeated, motion)
    method = "render" if features.picture is None else "draw_enlarged"
    rendered = model.apply(variables, repeated, motion, method=method)
    assert isinstance(rendered, jax.Array | layered.Enlarged)
    return rendered


def to_uint8(image: jax.Array) -> jax.Array:
    """Converts pictures from [0, 1] to 0 ... 255."""
    return jnp.rint(image * 255.0).astype(jnp.uint8)


@float32_matmuls
def explain_batch(
    model: BaseModel, variables: Mapping[str, Any], features: SourceFeatures, motion: jax.Array
) -> tuple[jax.Array, layered.Layers]:
    """Returns frames [b, r, r, 3] of one portrait, and the layers that they are composed of."""
    repeated = jax.tree.map(lambda x: jnp.repeat(x, len(motion), axis=0), features)
    motion = adapt_motion(model, variables, repeated, motion)
    made = model.apply(variables, repeated, motion, method="draw")
    assert isinstance(made, dict)
    return made["image"], made["layers"]


def adapt_motion(
    model: BaseModel, variables: Mapping[str, Any], features: SourceFeatures, motion: jax.Array
) -> jax.Array:
    """Adapts motion features [b, d] of others to the portrait of `features`.

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
