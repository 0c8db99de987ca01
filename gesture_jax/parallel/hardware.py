"""What chips can do at most, and how much of their memory is taken."""

import dataclasses
import functools
import resource
import sys

import jax


@dataclasses.dataclass(frozen=True)
class Chip:
    """Peaks of a chip, as its maker states them.

    Attributes:
      flops: operations a second of dense bfloat16 matrix products.
      memory: bytes.
      memory_rate: bytes a second.
      link_rate: bytes a second that it sends to its neighbours, half of what both ways make.
    """

    flops: float
    memory: float
    memory_rate: float
    link_rate: float


# By the beginning of JAX's `device_kind`; the first that fits. Google Cloud's "System architecture"
# of each TPU, whose interconnect is stated both ways; NVIDIA's data sheets, without sparsity.
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
    """The peaks of a kind of device; None where they are not known, as of CPUs."""
    return next((chip for kind, chip in _CHIPS.items() if device_kind.startswith(kind)), None)


def device_memory() -> int | None:
    """Bytes that programs may take on a device of this process; None where it is not told."""
    stats = jax.local_devices()[0].memory_stats() or {}
    return stats.get("bytes_limit")


def peak_memory() -> dict[str, float]:
    """The most memory that was in use so far, GiB: of this process, and of its fullest device."""
    unit = 1 if sys.platform == "darwin" else 1024
    found = {"host": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit}
    stats = [device.memory_stats() or {} for device in jax.local_devices()]
    device = max(stat.get("peak_bytes_in_use", 0) for stat in stats)
    if device:  # CPU devices do not count theirs.
        found["device"] = device
    return {name: size / 2**30 for name, size in found.items()}


@functools.cache
def compiler_options() -> dict[str, str]:
    """Of `jax.jit`, for programs of many convolutions.

    To fetch such a program from the cache, XLA on CPUs looks for each of its products by YNNPACK
    among all instructions, which takes ten seconds for `paper`; its own products are as fast.
    """
    options = {"xla_cpu_experimental_ynn_fusion_type": ""}
    return options if jax.default_backend() == "cpu" and knows(options) else {}


def knows(options: dict[str, str]) -> bool:
    """Whether this version's compiler has options of these names."""
    try:
        jax.jit(lambda x: x, compiler_options=options).lower(0.0).compile()
    except jax.errors.JaxRuntimeError:
        return False
    return True
