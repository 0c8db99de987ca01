"""`gesture-jax COMMAND --flag=value ...` is `python -m gesture_jax.COMMAND --flag=value ...`."""

import ast
import importlib.metadata
import importlib.util
import runpy
import sys

from gesture_jax.errors import one_line

COMMANDS = (
    "generate", "animate", "personalize", "prepare", "train", "extract", "evaluate", "convert",
    "pack", "app",
)  # fmt: skip


def main() -> None:
    """Runs a command as `python -m gesture_jax.COMMAND` would."""
    command = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if command == "--help":
        print(_overview())
    elif command == "--version":
        print("gesture_jax", importlib.metadata.version("gesture_jax"))
    elif command in COMMANDS:
        sys.argv = [f"gesture-jax {command}", *sys.argv[2:]]
        runpy.run_module(f"gesture_jax.{command}", run_name="__main__", alter_sys=True)
    else:
        known = ", ".join(COMMANDS)
        print(f"error: unknown command {one_line(command)}; known: {known}", file=sys.stderr)
        sys.exit(2)


def _overview() -> str:
    rows = [f"  {command:13}{_first_line(command)}" for command in COMMANDS]
    usage = "gesture-jax COMMAND --flag=value ...; gesture-jax COMMAND --help lists its flags."
    return "\n".join([usage, "", *rows])


def _first_line(command: str) -> str:
    """The first line of a command's docstring, which is read without importing the command."""
    name = f"gesture_jax.{command}"
    source = importlib.util.find_spec(name).loader.get_source(name)
    return ast.get_docstring(ast.parse(source)).splitlines()[0]


if __name__ == "__main__":
    main()
