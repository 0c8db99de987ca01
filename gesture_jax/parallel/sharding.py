"""The device mesh and where arrays live on it.

One program for one device, many devices and many processes. The mesh has two axes: each device gets
its own part of every batch, and the state is cut along `fsdp` alone, so that a group of that many
devices holds it once. Large parameters are gathered where a step needs them; pictures never are.
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
# Arrays of fewer numbers are not worth the messages that cutting them costs.
_SMALL = 2**14


def make_mesh(
    sizes: Mapping[str, int] | None = None,
    *,
    batch_size: int,
    devices: Sequence[jax.Device] | None = None,
) -> Mesh:
    """A mesh of all devices with the axes `data` and `fsdp`.

    Args:
      sizes: of the axes; one may be -1: as many as there are devices for. By default all devices
        are along `data`.
      batch_size: of what is split over the devices at once.
      devices: all there are, by default.

    Raises:
      InputError: where sizes, or `batch_size`, do not fit the devices.
    """
    devices = jax.devices() if devices is None else devices
    shape = _infer_sizes(sizes or {"data": -1, "fsdp": 1}, len(devices))
    if batch_size % len(devices):
        raise InputError(
            f"batches of {batch_size} do not divide over {len(devices)} devices; choose a multiple "
            f"of {len(devices)}, for instance --config.batch_size={len(devices)} (of which "
            "accumulate_steps makes several batches)"
        )
    # Auto axes: Explicit ones, the default of make_mesh, reject the gather of the warp.
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
        told = ", ".join(f"{axis}={size}" for axis, size in sizes.items())
        raise InputError(
            f"mesh of {told} does not fit {num_devices} devices; give data and fsdp, whose product "
            "is that number, -1 for one of them to be inferred"
        )
    return tuple(shape)


def replicated(mesh: Mesh) -> NamedSharding:
    """The same array on every device."""
    return NamedSharding(mesh, PartitionSpec())


def replicate(tree: Any, mesh: Mesh) -> Any:
    """Puts arrays that every process has alike onto all devices."""
    put = lambda leaf: jax.make_array_from_process_local_data(replicated(mesh), np.asarray(leaf))
    return jax.tree.map(put, tree)


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """The leading axis split over all devices."""
    return NamedSharding(mesh, PartitionSpec(AXES))


def state_shardings(abstract: Any, mesh: Mesh) -> Any:
    """The one rule of where the state lives, for a tree of arrays or `jax.ShapeDtypeStruct`.

    A large array is cut along the largest of its axes that `fsdp` divides, the last of equals;
    all else is the same on every device.
    """
    size = mesh.shape["fsdp"]

    def choose(leaf) -> NamedSharding:
        axes = [(length, axis) for axis, length in enumerate(leaf.shape) if length % size == 0]
        if not axes or math.prod(leaf.shape) < _SMALL:
            return replicated(mesh)
        _, axis = max(axes)
        return NamedSharding(mesh, PartitionSpec(*[None] * axis, "fsdp"))

    return jax.tree.map(choose, abstract)


def abstract(create: Callable[[], Any], shardings: Any) -> Any:
    """Shapes, dtypes and shardings of what `create()` makes, nothing computed."""
    make = lambda leaf, where: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where)
    return jax.tree.map(make, jax.eval_shape(create), shardings)


def place(tree: Any, where: Sharding) -> Any:
    """Shapes of a tree of arrays, or of `jax.ShapeDtypeStruct`, all in one place."""
    put = lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where)
    return jax.tree.map(put, tree)


def on_device(tree: Any) -> Any:
    """Like `place`, on the first device of this process."""
    return place(tree, SingleDeviceSharding(jax.local_devices()[0]))


def inference_shardings(mesh: Mesh | None) -> tuple[Sharding, Sharding]:
    """Shardings of whole arrays and of batches for the result of `inference_mesh`."""
    if mesh is None:
        single = SingleDeviceSharding(jax.local_devices()[0])
        return single, single
    return replicated(mesh), batch_sharding(mesh)


def put_whole(tree: Any, mesh: Mesh | None) -> Any:
    """Replicates arrays over the result of `inference_mesh`; None leaves them as they are."""
    return tree if mesh is None else jax.device_put(tree, replicated(mesh))


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
    """Puts this process's share of a batch, leading axis first, onto its devices."""
    sharding = batch_sharding(mesh)
    return {
        name: jax.make_array_from_process_local_data(sharding, np.asarray(value))
        for name, value in batch.items()
    }


def split_batch(batch: dict[str, jax.Array], num_parts: int, mesh: Mesh) -> dict[str, jax.Array]:
    """[b, *] to [parts, b / parts, *], where part k is rows k, k + parts, ...: each device splits
    what it has.
    """
    split = lambda x: jnp.moveaxis(x.reshape(-1, num_parts, *x.shape[1:]), 1, 0)
    where = NamedSharding(mesh, PartitionSpec(None, AXES))
    return jax.lax.with_sharding_constraint(jax.tree.map(split, batch), where)


def gather(tree: Any, mesh: Mesh) -> Any:
    """Arrays whole on every device."""
    return jax.lax.with_sharding_constraint(tree, replicated(mesh))


def scatter(tree: Any, mesh: Mesh) -> Any:
    """Arrays where `state_shardings` has them."""
    return jax.lax.with_sharding_constraint(tree, state_shardings(tree, mesh))


def settle(tree: Any, mesh: Mesh) -> None:
    """Waits for arrays where devices are simulated, as their threads do not serve two programs."""
    if mesh.size > 1 and mesh.devices.flat[0].platform == "cpu":
        jax.block_until_ready(tree)
