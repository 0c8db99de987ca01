"""Measures the effect of more devices, on a machine without any: `python -m benchmarks.scale`.

Prints two tables. The first has a step of stage 1's `smoke` on 1, 2, 4 and 8 simulated devices, in
separate processes. The devices share the machine's cores, so the times show the overhead of more
devices and not the gain. The second has the size of the state of `paper` per device, computed
without creating the state.
"""

import json
import statistics
import subprocess
import sys

import jax

from benchmarks import ahead
from benchmarks.report import format_table, time_ms
from gesture_jax import presets
from gesture_jax.parallel import sharding

_NUMBERS = 1, 2, 4, 8, 16
_BATCH_SIZE = 8


def main() -> None:
    """Measures and prints."""
    simulate(max(_NUMBERS))
    steps = {str(number): _measure_in_process(number) for number in _NUMBERS[:-1]}
    print(format_table(steps, first="devices"))
    print()
    print(format_table({str(n): _count_state(n) for n in _NUMBERS}, first="fsdp"))


def simulate(num_devices: int) -> None:
    """Simulates this many CPU devices; call it before JAX initialises its backend."""
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", num_devices)


def _measure_in_process(num_devices: int) -> dict[str, float]:
    """Runs `measure` in a process with this many devices."""
    program = f"from benchmarks import scale; scale.measure({num_devices})"
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, stdout=subprocess.PIPE, text=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def measure(num_devices: int) -> None:
    """Prints time and memory of a step; the batch is the same for any number of devices."""
    simulate(num_devices)
    config = presets.load("configs/stage1.py:smoke")
    program = ahead.train_step(config, jax.devices(), _BATCH_SIZE)
    run, found = ahead.running_step(config, program)
    times = time_ms(run)
    figures = {
        "step, ms": statistics.median(times),
        "state and batch a device, MB": found.arguments / 1e6,
        "temporaries a device, MB": found.temporaries / 1e6,
    }
    print(json.dumps(figures))


def _count_state(fsdp: int) -> dict[str, float]:
    """Returns gigabytes per device, of 16 devices, if each group of `fsdp` holds the state once."""
    config = presets.load("configs/stage1.py:paper")
    mesh = sharding.make_mesh({"data": -1, "fsdp": fsdp}, batch_size=max(_NUMBERS))
    state = ahead.abstract_state(config, mesh)
    parts = {
        "parameters, GB": state.params,
        "averages, GB": state.ema_params,
        "optimisers, GB": state.opt_state,
        "all, GB": state,
    }
    return {name: ahead.bytes_a_device(part) / 1e9 for name, part in parts.items()}


if __name__ == "__main__":
    main()
