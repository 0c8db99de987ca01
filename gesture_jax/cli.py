"""What every command line shares: one clear sentence and exit code 2 for bad input."""

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

# What the system says of files and folders that are not as they would have to be.
_OF_THE_USERS_PLACES = {
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR,
    errno.EEXIST, errno.ELOOP, errno.EIO,
}  # fmt: skip


# What `define_style` adds to a command.
_STYLE = {
    "crop": "The portrait's square: auto (finds the person, extra [pose]), center, or "
    "LEFT,TOP,SIZE in pixels.",
    "size": "Side of the frames in pixels, up to that of the portrait's square; by default 512 "
    "where the portrait has as many.",
    "paste_back": "Shows the whole picture, the square moving in it.",
    "explain": "Shows beside each frame the warped portrait, what is drawn, their shares, "
    "the layer of the arms and the flow.",
    "watermark": "Marks every frame as synthetic; --watermark=TEXT with a text of yours.",
}


# What is defined here belongs to the command that asks for it.
flags.disclaim_key_flags()


def define_path(
    name: str, default: str | None, what: str, *, required: bool = False
) -> flags.FlagHolder[str | None]:
    """A flag for a file or a folder; `~` in it is the home folder, as shells do not expand it."""
    return flags.DEFINE(_PathParser(), name, default, what, required=required)


class _PathParser(flags.ArgumentParser):
    syntactic_help = "a path"

    def parse(self, argument: str) -> str:
        return expand_home(argument)


def define_style() -> None:
    """The flags `--crop`, `--size`, `--paste_back`, `--explain` and `--watermark`."""
    flags.DEFINE_integer("size", None, _STYLE["size"], lower_bound=1)
    flags.DEFINE_string("crop", "auto", _STYLE["crop"])
    flags.DEFINE_boolean("paste_back", False, _STYLE["paste_back"])
    flags.DEFINE_boolean("explain", False, _STYLE["explain"])
    define_watermark()


def define_watermark() -> None:
    """The flag `--watermark[=TEXT]`: None where it is not given, "" without a text."""
    parser = _OptionalText()
    flag = flags.Flag(parser, None, "watermark", None, _STYLE["watermark"], boolean=True)
    flags.DEFINE_flag(flag)


class _OptionalText(flags.ArgumentParser):
    """Of a flag that may be given without a value, which abseil then calls "true"."""

    syntactic_help = "a text, or nothing"

    def parse(self, argument: str) -> str | None:
        return {"true": "", "false": None}.get(argument, argument)


def define_config() -> flags.FlagHolder[ConfigDict]:
    """The flag --config=PATH:PRESET, whose values further flags override: --config.seed=1."""
    config = config_flags.DEFINE_config_file(
        "config", None, "configs/stage1.py:PRESET, configs/stage2.py:PRESET, or a file of yours."
    )
    flags.FLAGS["config"].parser = _ConfigParser("config")
    return config


class _ConfigParser(config_flags.ConfigFileFlagParser):
    """Reads a config file; says which one where it is not the one in the user's folder."""

    def parse(self, path: str) -> ConfigDict:
        name, *preset = expand_home(path).split(":", 1)
        found = presets.find(name)
        if found != name:
            print(f"{name}: not in this folder; {found} is read", file=sys.stderr)
        return renamed_keys.upgrade_config(super().parse(":".join([found, *preset])))


def run(main: Callable[[Sequence[str]], None]) -> None:
    """Parses the flags and calls `main(argv)`.

    Bad flags, `InputError`s and diverged runs print one line on stderr and exit with code 2 and no
    traceback; every other exception is a defect of ours and keeps its traceback.
    """
    signals.end_in_order()
    sys.stderr = signals.Unfailing(sys.stderr)
    logging.set_verbosity(logging.WARNING)
    sys.stdout.reconfigure(errors="backslashreplace")  # A file's name may be no text.
    _keep_programs()
    # What is imported and traced stays; to look through it again and again takes from each start.
    gc.set_threshold(100_000)
    try:
        app.run(one_sentence(main), flags_parser=parse_flags)
    except KeyboardInterrupt:
        sys.exit(130)


def _keep_programs() -> None:
    """Programs are compiled and traced once a machine; the user's own settings of JAX win."""
    folder = os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache_dir() / "xla"))
    # Else those of less than a second are not kept, which together take many.
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    os.environ.setdefault(TRACED_DIR, os.path.join(folder, "traced"))


def parse_flags(argv: list[str]) -> list[str]:
    """What `argv` has beside flags; bad ones end the program with one line and exit code 2."""
    argv[1:] = renamed_keys.upgrade_arguments(argv[1:])  # In place: configs read sys.argv.
    if "--help" in argv:
        app.usage(shorthelp=True, writeto_stdout=True, exitcode=0)  # absl's own exits with 1.
    try:
        remaining = flags.FLAGS(argv)
        if len(remaining) > 1:
            raise flags.Error(f"unexpected argument {remaining[1]!r}; options are --name=value")
        for name in flags.FLAGS:
            value = flags.FLAGS[name].value
            # No bound of a flag keeps NaN out.
            if isinstance(value, float) and not math.isfinite(value):
                raise flags.Error(f"--{name}={value}: a finite number is wanted")
        return remaining
    except (flags.Error, TypeError) as error:
        # What a config file's own code raised arrives as the text of a traceback.
        _fail(str(error).rpartition("InputError: ")[2])
    except (AttributeError, KeyError) as error:
        # ml_collections raises a KeyError's text, in quotes and with its line break escaped.
        reason = str(error).replace("\\n", " ").replace("\\", "").replace("'", "")
        _fail(f"no such value in the config: {reason}")


def one_sentence(main: Callable[[Sequence[str]], None]) -> Callable[[Sequence[str]], None]:
    """`main`, ending the program with one line where the user can mend what is wrong."""

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
            if error.errno not in _OF_THE_USERS_PLACES or not error.filename:
                raise
            _fail(f"{error.filename}: {error.strerror}; give another place")

    return guarded


def _fail(sentence: str) -> None:
    print("error:", one_line(" ".join(sentence.split())), file=sys.stderr)
    sys.exit(2)
