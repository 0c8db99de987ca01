"""One program for one device and for many: the same numbers, the state in pieces."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from gesture_jax import optim, sharding, train_lib
from gesture_jax.errors import InputError
from tests import tiny

_STEPS = 10


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    """Config and task of both stages."""
    workdir = tmp_path_factory.mktemp("scale")
    config1 = tiny.stage1()
    task1 = train_lib.TASKS["stage1"](config1, str(workdir))
    tiny.untrained_stage1(config1, workdir)
    config2 = tiny.stage2(workdir)
    task2 = train_lib.TASKS["stage2"](config2, "")
    return {"stage1": (config1, task1), "stage2": (config2, task2)}


class _Run:
    """Ten steps from one state on a mesh: losses, the last state, and the compiled step's text."""

    def __init__(self, config, task, state, *, fsdp, num_devices, num_parts=1):
        devices = jax.devices()[:num_devices]
        mesh = sharding.make_mesh({"data": -1, "fsdp": fsdp}, batch_size=8, devices=devices)
        optimizer = _optimizer(config)
        put = lambda tree, where: jax.tree.map(jnp.copy, jax.device_put(tree, where))
        state = put(state, sharding.state_shardings(state, mesh))
        key, frozen = put((jax.random.key(1), task.frozen), sharding.replicated(mesh))
        step = train_lib.make_step(
            task, optimizer, ema_decay=0.9, mesh=mesh, num_parts=num_parts
        )
        batches = task.train_batches()
        self.losses = []
        for number in range(_STEPS):
            batch = sharding.shard_batch(next(batches), mesh)
            if not number:
                compiled = step.lower(state, frozen, batch, key).compile()
            state, metrics = compiled(state, frozen, batch, key)
            self.losses.append(float(metrics["loss"]))
        batches.close()
        self.state, self.metrics, self.batch = state, metrics, batch
        self.text = compiled.as_text()


def _optimizer(config):
    return optim.make_optimizer(config.optim, num_steps=_STEPS)


@pytest.fixture(scope="module", params=["stage1", "stage2"])
def runs(request, tasks):
    config, task = tasks[request.param]
    create = lambda: train_lib.create_state(task, _optimizer(config), seed=0)
    state = jax.jit(create)()
    return {
        "one": _Run(config, task, state, fsdp=1, num_devices=1),
        "eight": _Run(config, task, state, fsdp=2, num_devices=8),
        "parts": _Run(config, task, state, fsdp=2, num_devices=4, num_parts=2),
    }


@pytest.mark.parametrize("other", ["eight", "parts"])
def test_losses_are_those_of_one_device(runs, other):
    """4 x 2 devices, and 2 x 2 with the batch in two parts; of ten steps with game and averages."""
    assert runs["one"].losses == pytest.approx(runs[other].losses, rel=1e-5)
    assert runs["one"].losses[-1] != runs["one"].losses[0]
    print(np.abs(np.array(runs["one"].losses) / np.array(runs[other].losses) - 1))
