"""Flags and errors of all command lines: bad input gets one sentence and exit code 2."""

import errno
import gc
import math
import os
import sys
from collections.abc import Callable, Sequence

from absl import app, flags, logging
from ml_collections import ConfigDict
from ml_collections.config_flags import config_flags

from gesture_jax import presets, renamed_keys
from gesture_jax.errors import InputError, Stopped, one_line
from gesture_jax.parallel import signals
from gesture_jax.storage.cache import TRACED_DIR, cache_dir
from gesture_jax.storage.files import FULL_DISK, expand_home

# Errors of the operating system that a user can mend by giving another path.
_PATH_ERRORS = {
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR,
    errno.EEXIST, errno.ELOOP, errno.EIO,
}  # fmt: skip

PRESET_HELP = "Which bundled weights to use (default: photo)."
_STYLE_HELP = {
    "crop": "Which square of the portrait moves: auto (find the person; needs the extra [pose]), "
    "center, or LEFT,TOP,SIZE in pixels.",
    "size": "Height and width of the frames in pixels, up to those of the portrait's square "
    "(default: 512 if the square is as large).",
    "paste_back": "Show the whole picture, with the square moving in it.",
    "explain": "Show beside each frame the warped portrait, the drawn pixels, their blend mask, "
    "the mask of the arms and the optical flow.",
    "renderer": "What draws the frames: puppet (the portrait's own pixels, moved in layers; needs "
    "the extra [pose]), network (stage 1), or auto (puppet where that is possible).",
    "watermark": 'Write "synthetic" on every frame, or --watermark=TEXT.',
}

AVATAR_HELP = "An avatar from `gesture_jax.personalize`: the portrait and the weights in one file."

# A flag that a function below defines belongs to the command that calls it.
flags.disclaim_key_flags()


def define_path(
    name: str, default: str | None, help: str, *, required: bool = False
) -> flags.FlagHolder[str | None]:
    """Defines a flag for a file or a folder; expands `~`, as shells do not in `--flag=~/file`."""
    return flags.DEFINE(_PathParser(), name, default, help, required=required)


class _PathParser(flags.ArgumentParser):
    syntactic_help = "a path"

    def parse(self, argument: str) -> str:
        return expand_home(argument)


def define_style() -> None:
    """Defines the flags of `Style`: `--crop`, `--size`, `--renderer` and so on."""
    flags.DEFINE_integer("size", None, _STYLE_HELP["size"], lower_bound=1)
    flags.DEFINE_string("crop", "auto", _STYLE_HELP["crop"])
    flags.DEFINE_boolean("paste_back", False, _STYLE_HELP["paste_back"])
    flags.DEFINE_boolean("explain", False, _STYLE_HELP["explain"])
    flags.DEFINE_enum("renderer", "auto", ["auto", "puppet", "network"], _STYLE_HELP["renderer"])
    define_watermark()


def define_watermark() -> None:
    """Defines `--watermark[=TEXT]`: None if it is not given, "" if it has no text."""
    parser = _OptionalText()
    flag = flags.Flag(parser, None, "watermark", None, _STYLE_HELP["watermark"], boolean=True)
    flags.DEFINE_flag(flag)


class _OptionalText(flags.ArgumentParser):
    """Parses a flag that may have no value, for which abseil says "true"."""

    syntactic_help = "a text, or nothing"

    def parse(self, argument: str) -> str | None:
        return {"true": "", "false": None}.get(argument, argument)


def define_config() -> flags.FlagHolder[ConfigDict]:
    """Defines --config=PATH:PRESET; further flags override its values, as in --config.seed=1."""
    config = config_flags.DEFINE_config_file(
        "config", None, "configs/stage1.py:PRESET, configs/stage2.py:PRESET, or your own file."
    )
    flags.FLAGS["config"].parser = _ConfigParser("config")
    return config


class _ConfigParser(config_flags.ConfigFileFlagParser):
    """Reads a config file, and says which one if it does not lie in the current folder."""

    def parse(self, path: str) -> ConfigDict:
        name, *preset = expand_home(path).split(":", 1)
        found = presets.find(name)
        if found != name:
            print(f"{name}: not in this folder; {found} is read", file=sys.stderr)
        return renamed_keys.upgrade_config(super().parse(":".join([found, *preset])))


def run(main: Callable[[Sequence[str]], None]) -> None:
    """Parses the flags and calls `main(argv)`.

    Bad flags, `InputError`s and diverged runs print one line on stderr and exit with code 2 and no
    traceback; every other exception is a bug of this package and keeps its traceback.
    """
    signals.end_in_order()
    sys.stderr = signals.Unfailing(sys.stderr)
    logging.set_verbosity(logging.WARNING)
    sys.stdout.reconfigure(errors="backslashreplace")  # File names may be invalid text.
    _cache_programs()
    # Imports and traces make many objects that stay; collecting them repeatedly slows the start.
    gc.set_threshold(100_000)
    try:
        app.run(one_sentence(main), flags_parser=parse_flags)
    except KeyboardInterrupt:
        sys.exit(130)


def _cache_programs() -> None:
    """Caches compiled and traced programs on the disk; the user's own settings of JAX win."""
    folder = os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache_dir() / "xla"))
    # By default JAX skips programs that compile within a second, which take many in all.
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    os.environ.setdefault(TRACED_DIR, os.path.join(folder, "traced"))


def parse_flags(argv: list[str]) -> list[str]:
    """Parses the flags and returns the rest; bad ones end the program with exit code 2."""
    argv[1:] = renamed_keys.upgrade_arguments(argv[1:])  # In place: configs read sys.argv.
    if "--help" in argv:
        app.usage(shorthelp=True, writeto_stdout=True, exitcode=0)  # absl's own exits with 1.
    try:
        remaining = flags.FLAGS(argv)
        if len(remaining) > 1:
            raise flags.Error(f"unexpected argument {remaining[1]!r}; options are --name=value")
        for name in flags.FLAGS:
            value = flags.FLAGS[name].value
            # Bounds of a flag do not refuse NaN.
            if isinstance(value, float) and not math.isfinite(value):
                raise flags.Error(f"--{name}={value}: a finite number is wanted")
        return remaining
    except (flags.Error, TypeError) as error:
        # An error in a config file arrives as the text of its traceback.
        _fail(str(error).rpartition("InputError: ")[2])
    except (AttributeError, KeyError) as error:
        # ml_collections quotes the text of a KeyError, and escapes its line break.
        reason = str(error).replace("\\n", " ").replace("\\", "").replace("'", "")
        _fail(f"no such value in the config: {reason}")


def one_sentence(main: Callable[[Sequence[str]], None]) -> Callable[[Sequence[str]], None]:
    """Wraps `main` so that errors which the user can mend print one line and end the program."""

    def guarded(argv: Sequence[str]) -> None:
        try:
            main(argv)
        except (InputError, FloatingPointError) as error:
            _fail(str(error))
        except Stopped as stopped:
            print(stopped, file=sys.stderr)
            sys.exit(128 + stopped.signal)
        except OSError as error:
            if error.errno in FULL_DISK:
                name = error.filename or "output"
                _fail(f"{name}: no space left on the disk; make room and run the command again")
            if error.errno not in _PATH_ERRORS or not error.filename:
                raise
            _fail(f"{error.filename}: {error.strerror}; give another place")

    return guarded


def _fail(sentence: str) -> None:
    print("error:", one_line(" ".join(sentence.split())), file=sys.stderr)
    sys.exit(2)
