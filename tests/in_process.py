"""Runs commands in this process, which has imported everything that they need."""

import contextlib
import io
import runpy
import sys
import warnings

from absl.testing import flagsaver

# These modules define flags, which must exist before the flags are saved and restored.
import gesture_jax.evaluation.comparison
import gesture_jax.inference.generator
import gesture_jax.inference.pipeline
import gesture_jax.training.loop  # noqa: F401
from gesture_jax import cli


def run(command: str, *arguments: str) -> tuple[int, str]:
    """Runs `python -m gesture_jax.COMMAND ARGUMENTS`; returns the exit code and stderr.

    Exceptions that would end the command with a traceback are raised.
    """
    return _run(command, arguments, lambda main: cli.one_sentence(main)([command]))


def parse(command: str, *arguments: str) -> None:
    """Parses the flags of a command and the keys and values of its config, and does no more.

    Raises:
      AssertionError: the command would refuse them.
    """
    code, errors = _run(command, arguments, lambda main: None)
    assert code == 0, errors


def _run(command: str, arguments: tuple[str, ...], finish) -> tuple[int, str]:
    saved, argv = flagsaver.save_flag_values(), sys.argv
    sys.argv = [command, *arguments]  # Configs look here for the flags that override them.
    errors = io.StringIO()
    try:
        with (
            contextlib.redirect_stderr(errors),
            contextlib.redirect_stdout(io.StringIO()),
            # ml_collections raises this warning where it loads a config.
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
