"""The smallest configs that use everything: both stages, a discriminator, averages, sharding."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict
from ml_collections import ConfigDict

from configs import stage1 as stage1_config
from configs import stage2 as stage2_config
from gesture_jax.checkpoint import checkpoints
from gesture_jax.inference.animator import abstract_variables
from gesture_jax.models.build import build_model
from gesture_jax.training import stage2 as stage2_task
from gesture_jax.training.metrics_writer import read_metrics


def stage1(**changes) -> ConfigDict:
    """Returns `smoke` at 16 pixels with the reference's warp; some of its arrays are sharded.

    All pixels have the same weight and the warp has none, so the loss is a mean over examples.
    """
    config = stage1_config.get_config("smoke")
    narrow = dict.fromkeys(
        ("fine_width", "extractor_width", "field_width", "warp_feature_width"), 8
    )
    blocks = dict.fromkeys(("num_source_blocks", "num_extractor_blocks"), 0)
    config.update({
        "data": {"procedural_identities": 1, "procedural_clips": 2, "procedural_clip_sec": 4.0},
        "model": {"resolution": 16, "num_bins": 4, "warp_kind": "volume", **narrow, **blocks},
        "discriminator": {"width": 8, "num_levels": 1},
        "loss": {"pyramid_levels": 1, "region_weight": 1.0, "mouth_weight": 1.0, "warp": 0.0},
    })  # fmt: skip
    config.update_from_flattened_dict(changes)
    return config


def stage2(stage1_workdir, **changes) -> ConfigDict:
    """Returns `smoke` with one layer, and without dropout, which would depend on the sharding."""
    config = stage2_config.get_config("smoke")
    config.update({
        "stage1_workdir": str(stage1_workdir),
        "fgd_steps": 0,
        "model": {"latent": 64, "feedforward": 256, "num_layers": 1, "dropout": 0.0},
    })  # fmt: skip
    config.update_from_flattened_dict(changes)
    return config


def flags(config: ConfigDict) -> dict[str, str]:
    """Returns the values in which a config of this file differs from its preset, by flag name."""
    flat = lambda tree: flatten_dict(tree.to_dict(), sep=".")
    preset = flat(stage1_config.get_config(config.preset))
    return {name: value for name, value in flat(config).items() if preset[name] != value}


def records(workdir) -> list[dict[str, float]]:
    """Reads the metrics of a run, without times and memory, which differ between equal runs."""
    measured = lambda name: name.startswith(("time/", "memory/"))
    return [
        {name: value for name, value in record.items() if not measured(name)}
        for record in read_metrics(workdir)
    ]


def save(workdir: pathlib.Path, config: ConfigDict, abstract, fill) -> None:
    """Writes a workdir without compiling a network; `fill(shape)` makes the weights."""
    checkpoints.write_config(workdir, config)
    make = lambda leaf: np.asarray(fill(leaf.shape), leaf.dtype)
    checkpoints.save_variables(workdir, jax.tree.map(make, dict(abstract)))


def constant_stages(folder: pathlib.Path, **changes) -> None:
    """Writes workdirs `folder/stage1` and `folder/stage2` whose weights are all the same.

    Args:
      folder: parent of the two workdirs.
      **changes: to the config of stage 1.
    """
    _stages(folder, lambda shape: np.full(shape, 0.01), **changes)


def moving_stages(folder: pathlib.Path, *, num_lips: int = 0) -> None:
    """Writes the same workdirs with random weights, which make every motion visible."""
    random = np.random.default_rng(0)

    def fill(shape):
        values = 0.3 * random.standard_normal(shape)
        return np.abs(values) if len(shape) == 1 else values  # Standard deviations are positive.

    _stages(folder, fill, num_lips=num_lips)


def _stages(folder: pathlib.Path, fill, *, num_lips: int = 0, **changes) -> None:
    one = stage1(**changes)
    model = build_model(**one.model)
    save(folder / "stage1", one, abstract_variables(model), fill)
    two = stage2(folder / "stage1", **{"sampler.num_steps": 1, "schedule.candidates": 1})
    two.feature_dim, two.speech_dim, two.num_lips = model.motion_dim, 35, num_lips
    save(folder / "stage2", two, stage2_task.abstract_variables(two), fill)


def untrained_stage1(config: ConfigDict, workdir: pathlib.Path) -> None:
    """Writes a workdir of stage 1 that stage 2 can be trained on."""
    blank = jnp.zeros((1, *[config.model.resolution] * 2, 3))
    make = lambda: build_model(**config.model).init(jax.random.key(0), blank, blank, train=False)
    checkpoints.write_config(workdir, config)
    checkpoints.save_variables(workdir, jax.jit(make)())


class Position:
    """A position in the data with the two methods that checkpoints call."""

    def __init__(self):
        self.position = 0

    def get_state(self):
        return {"position": self.position}

    def set_state(self, state):
        self.position = state["position"]
