"""Portraits that stage 1's networks render, clip by clip."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gesture_jax.inference.animator import Animator
from gesture_jax.inference.network_renderer import NetworkRenderer
from gesture_jax.models.build import build_model
from gesture_jax.procedural import speaker

pytestmark = pytest.mark.usefixtures("quickly_compiled")

_NARROW = dict.fromkeys(
    ("fine_width", "extractor_width", "field_width", "warp_feature_width", "refine_width"), 8
)
_SHALLOW = {f"num_{part}_blocks": 1 for part in ("source", "extractor", "field", "decoder", "fine")}


@pytest.fixture(scope="module")
def animator():
    """A random stage 1 that adapts motion to the portrait, and renders batches of four frames."""
    model = build_model(
        network="layered", resolution=32, num_downs=2, width=16, num_bins=8, **_NARROW, **_SHALLOW
    )
    blank = jnp.zeros((1, 32, 32, 3))
    variables = jax.jit(model.init)(jax.random.key(0), blank, blank)
    random = np.random.default_rng(0)
    disturb = lambda leaf: np.asarray(leaf) + 0.1 * random.standard_normal(leaf.shape).astype("f4")
    variables["params"] = jax.tree.map(disturb, variables["params"])
    return Animator(model, variables, batch_size=4)


@pytest.fixture(scope="module")
def frames():
    return speaker.perform(identity=1, seed=3, duration_sec=1.0, size=32).frames[::3]


@pytest.fixture(scope="module")
def motion(animator, frames):
    return animator.extract_motion(frames)


@pytest.fixture(scope="module")
def renderer(animator, frames):
    return NetworkRenderer(animator, animator.encode_source(frames[0]), notices=("a note",))


def test_motion_is_adapted_to_the_portrait(animator, renderer, motion, frames):
    source = animator.encode_source(frames[0])
    rendered = [*renderer.begin().render(motion)]
    wanted = [*animator.render_frames(source, motion, adapt=True)]
    np.testing.assert_array_equal(rendered, wanted)
    assert (wanted != np.array([*animator.render_frames(source, motion)])).any()
    assert rendered[0].shape == (32, 32, 3) and rendered[0].dtype == np.uint8
    assert renderer.notices == ("a note",) and not renderer.takes_lips


def test_a_clip_continues_over_several_calls(renderer, motion):
    """Whole batches, between which the adaptation is interpolated."""
    whole = [*renderer.begin().render(motion)]
    for cut in (4, 8):
        clip = renderer.begin()
        parts = [clip.render(motion[start : start + cut]) for start in range(0, len(motion), cut)]
        np.testing.assert_array_equal([*itertools.chain(*parts)], whole)


def test_layers_can_be_shown_beside_the_frames(animator, frames, motion):
    source = animator.encode_source(frames[0])
    explained = NetworkRenderer(animator, source, explain=True)
    explained.prepare()  # There is nothing to prepare.
    (row, *others) = explained.begin().render(motion)
    assert row.shape == (32, 6 * 32, 3) and len(others) == len(motion) - 1
