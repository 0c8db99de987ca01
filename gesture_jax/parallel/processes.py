"""One run in several processes: how they find each other, and what only the first one does."""

import contextlib
import os
import sys
import traceback
from collections.abc import Iterator

import jax
import numpy as np
from jax.experimental import multihost_utils

from gesture_jax.errors import InputError, Stopped

# When a process dies, the others end within a minute; one that has finished waits for the others
# so long.
_HEARTBEAT_SEC = 30
_SHUTDOWN_SEC = 60


def start_processes() -> None:
    """Joins the other processes of a run, if the environment says that there are any.

    Comes before all else that touches a device. `JAX_NUM_PROCESSES` says how many there are:

    - unset or 1: this process is alone;
    - auto: JAX asks the cluster (TPU pods, GKE, a step of SLURM);
    - a number: `JAX_PROCESS_ID` says which one this is, `JAX_COORDINATOR_ADDRESS` the host:port at
      which process 0 is reached.

    Raises:
      InputError: where these variables do not say it all, or no cluster is found.
    """
    number = os.environ.get("JAX_NUM_PROCESSES") or "1"
    if number == "1":
        return
    told = {} if number == "auto" else _told_processes(number)
    try:
        jax.distributed.initialize(
            **told,
            heartbeat_timeout_seconds=_HEARTBEAT_SEC,
            shutdown_timeout_seconds=_SHUTDOWN_SEC,
        )
    except ValueError as error:
        raise InputError(f"JAX_NUM_PROCESSES={number}: found no others ({error})") from None
    # CPUs wait half a minute for the others' first message, and for later ones as long as it takes.
    multihost_utils.sync_global_devices("start")


def _told_processes(number: str) -> dict[str, str | int]:
    """Arguments of `jax.distributed.initialize`, as the environment tells them."""
    address = os.environ.get("JAX_COORDINATOR_ADDRESS", "")
    own = os.environ.get("JAX_PROCESS_ID", "")
    numbered = number.isdecimal() and own.isdecimal() and int(own) < int(number)
    if not numbered or ":" not in address:
        raise InputError(
            f"JAX_NUM_PROCESSES={number} wants JAX_PROCESS_ID, from 0 to one less (found {own!r}), "
            f"and JAX_COORDINATOR_ADDRESS=HOST:PORT of process 0 (found {address!r})"
        )
    return {
        "coordinator_address": address,
        "num_processes": int(number),
        "process_id": int(own),
        # Or a SLURM job around would take part.
        "cluster_detection_method": "deactivate",
    }


@contextlib.contextmanager
def ending_with_the_others() -> Iterator[None]:
    """Around a run: a process in which it fails, as after the death of another, ends at once.

    It says why, and exits with code 1; an orderly end would wait for the dead. What the user is
    told of in a sentence, and what happens to a process that is alone, is raised as ever.
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
            "another one has died, its log says why; the same command goes on from the newest "
            "checkpoint",
            file=sys.stderr,
            flush=True,
        )
        os._exit(1)


def is_first_process() -> bool:
    """Whether this process writes what is written once a run, and talks."""
    return jax.process_index() == 0


def first_process_says(value: bool) -> bool:
    """`value` of process 0, so that all decide alike while files come and go."""
    return bool(multihost_utils.broadcast_one_to_all(np.asarray(value)))


def any_process_says(value: bool) -> bool:
    """Whether `value` holds in one process at least, so that all decide alike."""
    return bool(np.any(multihost_utils.process_allgather(np.asarray(value))))


@contextlib.contextmanager
def first_process_first(what: str) -> Iterator[None]:
    """Process 0 goes through the block alone, then all others: a shared disk gets `what` once.

    Every process has to come here. If process 0 fails, the others go on, and see it for themselves.
    Checkpoints are read in the block by all or by none: later saves wait until all have counted the
    same number of reads.
    """
    if not is_first_process():
        multihost_utils.sync_global_devices(what)
    try:
        yield
    finally:
        if is_first_process():
            multihost_utils.sync_global_devices(what)
