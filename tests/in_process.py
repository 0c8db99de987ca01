"""Runs command lines in this process, where all that they import is there already."""

import contextlib
import io
import runpy
import sys
import warnings

from absl.testing import flagsaver

# What defines flags of its own, which have to outlive a command.
import gesture_jax.evaluation.comparison
import gesture_jax.inference.generator
import gesture_jax.inference.pipeline
import gesture_jax.training.loop  # noqa: F401
from gesture_jax import cli


def run(command: str, *arguments: str) -> tuple[int, str]:
    """As `python -m gesture_jax.COMMAND ARGUMENTS` does: exit code and stderr.

    What would end in a traceback is raised.
    """
    return _run(command, arguments, lambda main: cli.one_sentence(main)([command]))


def parse(command: str, *arguments: str) -> None:
    """As a command does before it begins; its flags, and the keys and values of its config.

    Raises:
      AssertionError: where they are not understood.
    """
    code, said = _run(command, arguments, lambda main: None)
    assert code == 0, said


def _run(command: str, arguments: tuple[str, ...], finish) -> tuple[int, str]:
    saved, argv = flagsaver.save_flag_values(), sys.argv
    sys.argv = [command, *arguments]  # Where configs look for what overrides them.
    errors = io.StringIO()
    try:
        with (
            contextlib.redirect_stderr(errors),
            contextlib.redirect_stdout(io.StringIO()),
            # As ml_collections loads a config.
            warnings.catch_warnings(action="ignore", category=DeprecationWarning),
        ):
            main = runpy.run_module(f"gesture_jax.{command}", run_name="in_process")["main"]
            cli.parse_flags(sys.argv)
            finish(main)
    except SystemExit as end:
        return end.code, errors.getvalue()
    finally:
        flagsaver.restore_flag_values(saved)
        sys.argv = argv
    return 0, errors.getvalue()
