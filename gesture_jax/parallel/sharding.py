"""The device mesh and the sharding of arrays.

The same program runs on one device, on many devices and in many processes. The mesh has two axes.
Batches are sharded over both, so that each device gets its own part. The training state is sharded
over `fsdp` alone, so that each group of that many devices holds it once. Large parameters are
gathered where a step needs them; pictures never are.
"""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import (
    AxisType,
    Mesh,
    NamedSharding,
    PartitionSpec,
    Sharding,
    SingleDeviceSharding,
)

from gesture_jax.errors import InputError

AXES = "data", "fsdp"
# Sharding arrays with fewer elements is not worth the communication.
_MIN_SHARDED_SIZE = 2**14


def make_mesh(
    sizes: Mapping[str, int] | None = None,
    *,
    batch_size: int,
    devices: Sequence[jax.Device] | None = None,
) -> Mesh:
    """Makes a mesh of all devices with the axes `data` and `fsdp`.

    Args:
      sizes: sizes of the axes; one of them may be -1 and is inferred. By default all devices are
        along `data`.
      batch_size: size of the batches that are split over the devices.
      devices: all devices by default.

    Raises:
      InputError: if the sizes or the batch size do not fit the devices.
    """
    devices = jax.devices() if devices is None else devices
    shape = _infer_sizes(sizes or {"data": -1, "fsdp": 1}, len(devices))
    if batch_size % len(devices):
        raise InputError(
            f"batches of {batch_size} do not divide over {len(devices)} devices; choose a multiple "
            f"of {len(devices)}, for instance --config.batch_size={len(devices)} (of which "
            "accumulate_steps makes several batches)"
        )
    # Axes are Auto, as Explicit ones, the default of make_mesh, reject the gather of the warp.
    return jax.make_mesh(shape, AXES, axis_types=(AxisType.Auto,) * 2, devices=devices)


def inference_mesh(devices: Sequence[jax.Device] | None = None) -> Mesh | None:
    """The mesh of the devices that share the work of inference; None for one, the usual, device.

    Args:
      devices: devices of this process. By default all its accelerators, but only one CPU device:
        several are simulated, and share the same cores.
    """
    usual = jax.local_devices()
    if devices is None:
        devices = usual[:1] if usual[0].platform == "cpu" else usual
    if list(devices) == usual[:1]:
        return None
    return make_mesh(batch_size=len(devices), devices=devices)


def _infer_sizes(sizes: Mapping[str, int], num_devices: int) -> tuple[int, ...]:
    shape = [sizes.get(axis, 1) for axis in AXES]
    known = math.prod(size for size in shape if size != -1)
    if shape.count(-1) == 1 and known > 0:
        shape[shape.index(-1)] = num_devices // known
    if min(shape) < 1 or math.prod(shape) != num_devices or sizes.keys() - set(AXES):
        given = ", ".join(f"{axis}={size}" for axis, size in sizes.items())
        raise InputError(
            f"mesh of {given} does not fit {num_devices} devices; give data and fsdp, whose "
            "product is that number; -1 for one of them infers it"
        )
    return tuple(shape)


def replicated(mesh: Mesh) -> NamedSharding:
    """Returns the sharding that holds the same array on every device."""
    return NamedSharding(mesh, PartitionSpec())


def replicate(tree: Any, mesh: Mesh) -> Any:
    """Puts arrays that are the same in every process onto all devices."""
    put = lambda leaf: jax.make_array_from_process_local_data(replicated(mesh), np.asarray(leaf))
    return jax.tree.map(put, tree)


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Returns the sharding that splits the leading axis over all devices."""
    return NamedSharding(mesh, PartitionSpec(AXES))


def state_shardings(abstract: Any, mesh: Mesh) -> Any:
    """Returns the shardings of the training state, a tree of arrays or `jax.ShapeDtypeStruct`.

    A large array is sharded along the largest of its axes that `fsdp` divides, and along the last
    of several equal ones. All other arrays are replicated.
    """
    size = mesh.shape["fsdp"]

    def choose(leaf) -> NamedSharding:
        axes = [(length, axis) for axis, length in enumerate(leaf.shape) if length % size == 0]
        if not axes or math.prod(leaf.shape) < _MIN_SHARDED_SIZE:
            return replicated(mesh)
        _, axis = max(axes)
        return NamedSharding(mesh, PartitionSpec(*[None] * axis, "fsdp"))

    return jax.tree.map(choose, abstract)


def abstract(create: Callable[[], Any], shardings: Any) -> Any:
    """Returns shapes, dtypes and shardings of the result of `create()` without computing it."""
    make = lambda leaf, where: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where)
    return jax.tree.map(make, jax.eval_shape(create), shardings)


def place(tree: Any, where: Sharding) -> Any:
    """Returns the shapes of a tree of arrays or `jax.ShapeDtypeStruct`, all with one sharding."""
    put = lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where)
    return jax.tree.map(put, tree)


def on_device(tree: Any) -> Any:
    """Returns the shapes of a tree, like `place`, on the first device of this process."""
    return place(tree, SingleDeviceSharding(jax.local_devices()[0]))


def inference_shardings(mesh: Mesh | None) -> tuple[Sharding, Sharding]:
    """Returns the shardings of whole arrays and of batches for an `inference_mesh`."""
    if mesh is None:
        single = SingleDeviceSharding(jax.local_devices()[0])
        return single, single
    return replicated(mesh), batch_sharding(mesh)


def put_whole(tree: Any, mesh: Mesh | None) -> Any:
    """Puts arrays on every device of an `inference_mesh`, where `inference_shardings` has them.

    A compiled program is found by its arguments' placement too, so that it has to be the same here
    as where programs are compiled ahead.
    """
    whole, _ = inference_shardings(mesh)
    return jax.device_put(tree, whole)


def split_last(mesh: Mesh, function: Callable[..., Any], settings: tuple, *args: Any) -> Any:
    """Calls a function on every device with its share of the last argument.

    Args:
      mesh: the devices.
      function: a function of the settings and the arguments.
      settings: its first arguments, which are no arrays.
      *args: trees of arrays. The leading axis of those of the last one, and of the results, is
        split over the devices; all others are replicated.
    """
    split = PartitionSpec(AXES)
    each = jax.shard_map(
        functools.partial(function, *settings),
        mesh=mesh,
        in_specs=(*(PartitionSpec() for _ in args[1:]), split),
        out_specs=split,
        check_vma=False,
    )
    return each(*args)


def shard_batch(batch: dict[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """Puts this process's share of a batch onto its devices, split along the leading axis."""
    sharding = batch_sharding(mesh)
    return {
        name: jax.make_array_from_process_local_data(sharding, np.asarray(value))
        for name, value in batch.items()
    }


def split_batch(batch: dict[str, jax.Array], num_parts: int, mesh: Mesh) -> dict[str, jax.Array]:
    """Splits [b, *] into [parts, b / parts, *], where part k holds the rows k, k + parts, ...

    Each device splits its own rows.
    """
    split = lambda x: jnp.moveaxis(x.reshape(-1, num_parts, *x.shape[1:]), 1, 0)
    where = NamedSharding(mesh, PartitionSpec(None, AXES))
    return jax.lax.with_sharding_constraint(jax.tree.map(split, batch), where)


def gather(tree: Any, mesh: Mesh) -> Any:
    """Replicates arrays inside a compiled function."""
    return jax.lax.with_sharding_constraint(tree, replicated(mesh))


def scatter(tree: Any, mesh: Mesh) -> Any:
    """Shards arrays by `state_shardings` inside a compiled function."""
    return jax.lax.with_sharding_constraint(tree, state_shardings(tree, mesh))


def settle(tree: Any, mesh: Mesh) -> None:
    """Waits for arrays on simulated devices, whose threads cannot serve two programs at once."""
    if mesh.size > 1 and mesh.devices.flat[0].platform == "cpu":
        jax.block_until_ready(tree)
