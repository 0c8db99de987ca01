"""What more devices change, on a machine that has none: `python -m benchmarks.scale`.

Two tables. A step of stage 1's `smoke` on 1, 2, 4 and 8 simulated devices, each in a process of its
own: they share the machine's cores, so that time tells what it costs to be many, not what it gains.
And what a device holds of the state of `paper`, counted without making it.
"""

import json
import statistics
import subprocess
import sys

import jax

from benchmarks import ahead
from benchmarks.report import format_table, time_ms
from configs import stage1 as stage1_config
from gesture_jax.parallel import sharding

_NUMBERS = 1, 2, 4, 8, 16
_BATCH_SIZE = 8


def main() -> None:
    """Measures and prints."""
    simulate(max(_NUMBERS))
    steps = {str(number): _measure_apart(number) for number in _NUMBERS[:-1]}
    print(format_table(steps, first="devices"))
    print()
    print(format_table({str(n): _count_state(n) for n in _NUMBERS}, first="fsdp"))


def simulate(num_devices: int) -> None:
    """Makes JAX see so many CPU devices, if it has not looked yet."""
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", num_devices)


def _measure_apart(num_devices: int) -> dict[str, float]:
    """`measure` in a process that has so many devices."""
    program = f"from benchmarks import scale; scale.measure({num_devices})"
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, stdout=subprocess.PIPE, text=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def measure(num_devices: int) -> None:
    """Prints time of a step, whose batch is the same for any number of devices, and memory."""
    simulate(num_devices)
    config = stage1_config.get_config("smoke")
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
    """Gigabytes on a device of 16 where each group of `fsdp` holds the state once."""
    config = stage1_config.get_config("paper")
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
