"""Training on one device and on many gives the same numbers, with a sharded state."""

import functools
import re

import jax
import jax.numpy as jnp
import optax
import pytest
from jax.sharding import PartitionSpec

from gesture_jax.errors import InputError
from gesture_jax.parallel import sharding
from gesture_jax.training import loop, optim
from tests import tiny

pytestmark = pytest.mark.usefixtures("quickly_compiled")
_STEPS = 10


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    """Config and task of both stages."""
    workdir = tmp_path_factory.mktemp("scale")
    config1 = tiny.stage1()
    task1 = loop.TASKS["stage1"](config1, str(workdir))
    tiny.untrained_stage1(config1, workdir)
    config2 = tiny.stage2(workdir)
    task2 = loop.TASKS["stage2"](config2, "")
    return {"stage1": (config1, task1), "stage2": (config2, task2)}


class _Run:
    """Ten steps from a given state on a mesh: losses, the last state, and the compiled HLO text."""

    def __init__(self, config, task, state, *, fsdp, num_devices, num_parts=1):
        devices = jax.devices()[:num_devices]
        mesh = sharding.make_mesh({"data": -1, "fsdp": fsdp}, batch_size=8, devices=devices)
        # Copies, because a step donates its state.
        put = lambda tree, where: jax.tree.map(jnp.copy, jax.device_put(tree, where))
        state = put(state, sharding.state_shardings(state, mesh))
        key, frozen = put((jax.random.key(1), task.frozen), sharding.replicated(mesh))
        step = loop.make_step(
            task, _optimizer(config), ema_decay=0.9, mesh=mesh, num_parts=num_parts
        )
        batches = task.train_batches()
        batch = sharding.shard_batch(next(batches), mesh)
        compiled = step.lower(state, frozen, batch, key).compile()
        self.text, self.losses = compiled.as_text(), []
        for _ in range(_STEPS):
            state, metrics = compiled(state, frozen, batch, key)
            self.losses.append(float(metrics["loss"]))
            batch = sharding.shard_batch(next(batches), mesh)
        batches.close()
        self.state, self.mesh = state, mesh


def _optimizer(config):
    return optim.make_optimizer(config.optim, num_steps=_STEPS)


def _first_state(config, task):
    return jax.jit(lambda: loop.create_state(task, _optimizer(config), seed=0))()


_MESHES = {
    "one device": {"fsdp": 1, "num_devices": 1},
    "4 x 2 devices": {"fsdp": 2, "num_devices": 8},
    "two parts": {"fsdp": 2, "num_devices": 4, "num_parts": 2},
}
# Parts of a batch are tested quickly by stage 2.
_SHARDED = ["4 x 2 devices", pytest.param("two parts", marks=pytest.mark.slow)]


@pytest.fixture(scope="module")
def run1(tasks):
    """A function that returns the run of stage 1 on a mesh of `_MESHES`."""
    config, task = tasks["stage1"]
    state = _first_state(config, task)
    return functools.cache(lambda name: _Run(config, task, state, **_MESHES[name]))


def _agree(one, other):
    assert one.losses == pytest.approx(other.losses, rel=1e-5)
    assert len(set(one.losses)) == _STEPS
    # Adam amplifies gradients that are mere rounding errors, so single numbers may differ.
    averages = [jax.device_get(run.state.ema_params) for run in (one, other)]
    apart = optax.tree.norm(optax.tree.sub(*averages))
    assert apart < 1e-3 * optax.tree.norm(averages[0])


@pytest.mark.parametrize("other", _SHARDED)
def test_stage1_trains_the_same_on_one_device_and_on_many(run1, other):
    """Discriminator, averages and optimiser are included."""
    _agree(run1("one device"), run1(other))


def test_stage2_trains_the_same_on_one_device_and_in_parts_on_many(tasks):
    config, task = tasks["stage2"]
    state = _first_state(config, task)
    _agree(*(_Run(config, task, state, **_MESHES[name]) for name in ("one device", "two parts")))


def test_only_parameters_are_gathered(run1):
    """Neither pictures nor the volumes that the warp reads are gathered."""
    run = run1("4 x 2 devices")
    parameters = {leaf.shape for leaf in jax.tree.leaves(run.state.params)}
    gathered = re.findall(r"= \w+\[([\d,]*)\]\S* all-gather\(", run.text)
    shapes = [tuple(map(int, shape.split(","))) for shape in gathered]
    assert shapes and set(shapes) <= parameters
    assert not re.findall(r" (all-to-all|collective-permute)\(", run.text)


@pytest.mark.parametrize("name", _SHARDED)
def test_the_state_stays_sharded(run1, name):
    """Each device holds half of each large array, of averages and moments too."""
    run = run1(name)
    wanted = sharding.state_shardings(run.state, run.mesh)
    cut = 0
    for leaf, where in zip(jax.tree.leaves(run.state), jax.tree.leaves(wanted), strict=True):
        assert leaf.sharding.is_equivalent_to(where, leaf.ndim)
        cut += leaf.addressable_shards[0].data.size * 2 == leaf.size
    assert cut >= 4


@pytest.mark.parametrize("stage", ["stage1", "stage2"])
def test_shapes_known_ahead_are_those_of_training(tasks, stage):
    """Shapes computed without data equal those with data."""
    config, task = tasks[stage]
    batches = task.train_batches()
    batch = jax.eval_shape(lambda: next(batches))
    batches.close()
    ahead = loop.OBJECTIVES[stage](config)
    assert ahead.abstract_batch(config.batch_size) == batch
    assert ahead.abstract_frozen() == task.frozen
    shapes = [jax.eval_shape(lambda o=o: _first_state(config, o)) for o in (ahead, task)]
    assert shapes[0] == shapes[1]


def test_which_axis_of_an_array_is_sharded():
    mesh = sharding.make_mesh({"data": -1, "fsdp": 4}, batch_size=8)
    spec = lambda *shape: sharding.state_shardings(jax.ShapeDtypeStruct(shape, "f4"), mesh).spec
    assert spec(3, 3, 256, 64) == PartitionSpec(None, None, "fsdp")
    assert spec(3, 3, 64, 256) == PartitionSpec(None, None, None, "fsdp")
    assert spec(256, 258) == PartitionSpec("fsdp")  # 4 does not divide 258.
    assert spec(127, 129, 3) == spec(128, 127) == spec(64) == spec() == PartitionSpec()


def test_a_mesh_uses_all_devices():
    shape = lambda **sizes: dict(sharding.make_mesh(sizes, batch_size=8).shape)
    assert shape(data=-1, fsdp=1) == shape(data=-1) == {"data": 8, "fsdp": 1}
    assert shape(data=-1, fsdp=4) == shape(data=2, fsdp=-1) == {"data": 2, "fsdp": 4}


@pytest.mark.parametrize(
    "sizes", [{"data": 3, "fsdp": 2}, {"data": -1, "fsdp": 3}, {"data": -1, "fsdp": -1},
              {"data": 0, "fsdp": -1}, {"data": -1, "model": 2}],
)  # fmt: skip
def test_a_mesh_that_does_not_fit_is_refused(sizes):
    with pytest.raises(InputError, match="does not fit 8 devices"):
        sharding.make_mesh(sizes, batch_size=8)


def test_parts_that_do_not_fit_are_refused(tmp_path):
    for parts, told in ((3, "does not divide batch_size 8"), (2, "batches of 4 do not divide")):
        with pytest.raises(InputError, match=told):
            loop.train(tiny.stage1(accumulate_steps=parts), str(tmp_path))
