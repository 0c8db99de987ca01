"""Runs in several processes: start, failure, and work that only the first process does."""

import contextlib
import os
import sys
import traceback
from collections.abc import Iterator

import jax
import numpy as np
from jax.experimental import multihost_utils

from gesture_jax.errors import InputError, Stopped

# When a process dies, the others end within a minute; a process that has finished waits for the
# others that long.
_HEARTBEAT_SEC = 30
_SHUTDOWN_SEC = 60


def start_processes() -> None:
    """Connects to the other processes of a run, if the environment says that there are any.

    It has to be called before any device is used. `JAX_NUM_PROCESSES` is the number of processes:

    - unset or 1: this process is alone;
    - auto: JAX asks the cluster (TPU pods, GKE, a step of SLURM);
    - a number: `JAX_PROCESS_ID` is the number of this process, and `JAX_COORDINATOR_ADDRESS` the
      host:port of process 0.

    Raises:
      InputError: if these variables are incomplete, or no cluster is found.
    """
    number = os.environ.get("JAX_NUM_PROCESSES") or "1"
    if number == "1":
        return
    settings = {} if number == "auto" else _read_environment(number)
    try:
        jax.distributed.initialize(
            **settings,
            heartbeat_timeout_seconds=_HEARTBEAT_SEC,
            shutdown_timeout_seconds=_SHUTDOWN_SEC,
        )
    except ValueError as error:
        raise InputError(f"JAX_NUM_PROCESSES={number}: found no others ({error})") from None
    # CPUs wait half a minute for the first message of the others, and without limit for later ones.
    multihost_utils.sync_global_devices("start")


def _read_environment(number: str) -> dict[str, str | int]:
    """Reads the arguments of `jax.distributed.initialize` from the environment."""
    address = os.environ.get("JAX_COORDINATOR_ADDRESS", "")
    own = os.environ.get("JAX_PROCESS_ID", "")
    numbered = number.isdecimal() and own.isdecimal() and int(own) < int(number)
    if not numbered or ":" not in address:
        raise InputError(
            f"JAX_NUM_PROCESSES={number} needs JAX_PROCESS_ID, from 0 to one less (found {own!r}), "
            f"and JAX_COORDINATOR_ADDRESS=HOST:PORT of process 0 (found {address!r})"
        )
    return {
        "coordinator_address": address,
        "num_processes": int(number),
        "process_id": int(own),
        # Otherwise JAX would use the settings of a surrounding SLURM job.
        "cluster_detection_method": "deactivate",
    }


@contextlib.contextmanager
def ending_with_the_others() -> Iterator[None]:
    """Ends a process at once if the run inside fails, for example after the death of another one.

    It prints the reason and exits with code 1; an orderly exit would wait for the dead process.
    Errors with a message for users, and errors of a process that is alone, are raised as usual.
    """
    try:
        yield
    except (InputError, Stopped, FloatingPointError):
        raise
    except Exception as error:  # JAX raises a ValueError where a message does not arrive.
        if jax.process_count() == 1:
            raise
        traceback.print_exc()
        reason = str(error).splitlines()[0]
        print(
            f"error: process {jax.process_index()} of {jax.process_count()} ends: {reason}; if "
            "another one has died, its log says why; the same command continues from the newest "
            "checkpoint",
            file=sys.stderr,
            flush=True,
        )
        os._exit(1)


def is_first_process() -> bool:
    """Returns whether this process writes the files of the run and prints messages."""
    return jax.process_index() == 0


def first_process_says(value: bool) -> bool:
    """Returns the value of process 0, so that all decide alike while files change."""
    return bool(multihost_utils.broadcast_one_to_all(np.asarray(value)))


def any_process_says(value: bool) -> bool:
    """Returns whether the value is true in at least one process, so that all decide alike."""
    return bool(np.any(multihost_utils.process_allgather(np.asarray(value))))


@contextlib.contextmanager
def first_process_first(name: str) -> Iterator[None]:
    """Lets process 0 run the block alone and then all others, as for files on a shared disk.

    Every process has to enter the block. If process 0 fails, the others continue, and find out
    themselves. Either all or no processes may read checkpoints in the block: later saves wait until
    all have counted the same number of reads.

    Args:
      name: unique name of the block.
    """
    if not is_first_process():
        multihost_utils.sync_global_devices(name)
    try:
        yield
    finally:
        if is_first_process():
            multihost_utils.sync_global_devices(name)
