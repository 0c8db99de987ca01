"""The device mesh and where arrays live on it.

One program for one device, many devices and many processes: the batch is split along the mesh's
`data` axis, the state is the same everywhere.
"""

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from gesture_jax.errors import InputError


def make_mesh(*, batch_size: int) -> Mesh:
    """All devices along one axis, `data`.

    Raises:
      InputError: where `batch_size` does not divide over the devices.
    """
    num_devices = jax.device_count()
    if batch_size % num_devices:
        raise InputError(
            f"batch_size {batch_size} does not divide over {num_devices} devices; "
            f"choose a multiple of {num_devices}, for instance --config.batch_size={num_devices}"
        )
    # Auto axes: Explicit ones, the default of make_mesh, reject the gather of the warp.
    return jax.make_mesh((num_devices,), ("data",), axis_types=(AxisType.Auto,))


def replicated(mesh: Mesh) -> NamedSharding:
    """The same array on every device."""
    return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """The leading axis split over the devices."""
    return NamedSharding(mesh, PartitionSpec("data"))


def shard_batch(batch: dict[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """Puts this process's share of a batch, leading axis first, onto its devices."""
    sharding = batch_sharding(mesh)
    return {
        name: jax.make_array_from_process_local_data(sharding, np.asarray(value))
        for name, value in batch.items()
    }
