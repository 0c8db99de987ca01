"""Trains a stage.

    python -m gesture_jax.train --config=configs/stage1.py:demo --workdir=DIR

A run resumes from the newest checkpoint in DIR. It joins other processes if the environment says so
(see `processes.start_processes`; the scripts in `launch/` set it).
"""

from absl import flags

from gesture_jax import cli
from gesture_jax.errors import InputError

_CONFIG = cli.define_config()
_WORKDIR = cli.define_path("workdir", None, "Folder of the run; an existing run is resumed.")
_PROFILE_STEPS = flags.DEFINE_string(
    "profile_steps",
    None,
    "Steps to trace by JAX's profiler, FIRST:LAST; the trace goes to WORKDIR/profile.",
)
flags.mark_flags_as_required(["config", "workdir"])


def main(_) -> None:
    from gesture_jax.parallel import processes
    from gesture_jax.training import loop

    profile_steps = _read_steps(_PROFILE_STEPS.value)
    processes.start_processes()
    with processes.ending_with_the_others():
        loop.train(_CONFIG.value, _WORKDIR.value, profile_steps=profile_steps)


def _read_steps(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    first, _, last = text.partition(":")
    if not (first.isdecimal() and last.isdecimal() and 1 <= int(first) <= int(last)):
        raise InputError(f"--profile_steps={text}: give two steps, as in --profile_steps=10:15")
    return int(first), int(last)


if __name__ == "__main__":
    cli.run(main)
