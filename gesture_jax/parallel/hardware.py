"""Peak performance of chips, memory in use, and compiler options."""

import dataclasses
import functools
import resource
import sys

import jax


@dataclasses.dataclass(frozen=True)
class Chip:
    """Peak performance of a chip according to its maker.

    Attributes:
      flops: operations per second of dense bfloat16 matrix products.
      memory: size of its memory in bytes.
      memory_rate: bandwidth of its memory in bytes per second.
      link_rate: bytes per second that it sends to its neighbours, half of the bidirectional rate.
    """

    flops: float
    memory: float
    memory_rate: float
    link_rate: float


# Chips by the beginning of JAX's `device_kind`; the first match counts. Sources: Google Cloud's
# "System architecture" of each TPU, which states bidirectional rates, and NVIDIA's data sheets,
# without sparsity.
_CHIPS = {
    "TPU v4": Chip(275e12, 32e9, 1228e9, 300e9),
    "TPU v5 lite": Chip(197e12, 16e9, 819e9, 200e9),
    "TPU v5": Chip(459e12, 95e9, 2765e9, 600e9),
    "TPU v6 lite": Chip(918e12, 32e9, 1638e9, 400e9),
    "NVIDIA H200": Chip(989e12, 141e9, 4800e9, 450e9),
    "NVIDIA H100 PCIe": Chip(756e12, 80e9, 2000e9, 300e9),
    "NVIDIA H100": Chip(989e12, 80e9, 3350e9, 450e9),
    "NVIDIA A100-SXM4-80GB": Chip(312e12, 80e9, 2039e9, 300e9),
    "NVIDIA A100": Chip(312e12, 40e9, 1555e9, 300e9),
    "NVIDIA L4": Chip(121e12, 24e9, 300e9, 32e9),
    "Tesla T4": Chip(65e12, 16e9, 320e9, 16e9),  # float16: it has no bfloat16.
}


def find_chip(device_kind: str) -> Chip | None:
    """Returns the chip of a kind of device; None if it is unknown, as for CPUs."""
    return next((chip for kind, chip in _CHIPS.items() if device_kind.startswith(kind)), None)


def device_memory() -> int | None:
    """Returns the bytes that programs may use on a device of this process; None if unknown."""
    stats = jax.local_devices()[0].memory_stats() or {}
    return stats.get("bytes_limit")


def peak_memory() -> dict[str, float]:
    """Returns the peak memory in GiB of this process, and of its device with the highest peak."""
    unit = 1 if sys.platform == "darwin" else 1024
    found = {"host": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit}
    stats = [device.memory_stats() or {} for device in jax.local_devices()]
    device = max(stat.get("peak_bytes_in_use", 0) for stat in stats)
    if device:  # CPU devices report none.
        found["device"] = device
    return {name: size / 2**30 for name, size in found.items()}


@functools.cache
def compiler_options() -> dict[str, str]:
    """Returns options of `jax.jit` for programs with many convolutions.

    When XLA fetches such a program from the cache on a CPU, it searches all instructions for each
    of its YNNPACK products, which takes ten seconds for `paper`; XLA's own products are as fast.
    """
    options = {"xla_cpu_experimental_ynn_fusion_type": ""}
    return options if jax.default_backend() == "cpu" and knows(options) else {}


def knows(options: dict[str, str]) -> bool:
    """Returns whether the installed compiler has options of these names."""
    try:
        jax.jit(lambda x: x, compiler_options=options).lower(0.0).compile()
    except jax.errors.JaxRuntimeError:
        return False
    return True
