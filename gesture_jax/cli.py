"""What every command line shares: one clear sentence and exit code 2 for bad input."""

import errno
import os
import signal
import sys
from collections.abc import Callable, Sequence

from absl import app, flags, logging
from ml_collections import config_flags  # noqa: F401  (registers its flag parsers before app.run)

from gesture_jax.cache import cache_dir
from gesture_jax.errors import InputError, Stopped


def run(main: Callable[[Sequence[str]], None]) -> None:
    """Parses the flags and calls `main(argv)`.

    Bad flags, `InputError`s and diverged runs print one line on stderr and exit with code 2 and no
    traceback; every other exception is a defect of ours and keeps its traceback.
    """
    logging.set_verbosity(logging.WARNING)
    _keep_compiled_programs()
    try:
        app.run(_one_sentence(main), flags_parser=_parse_flags)
    except KeyboardInterrupt:
        sys.exit(130)


def _keep_compiled_programs() -> None:
    """Programs are compiled once a machine; the user's own settings of JAX win."""
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache_dir() / "xla"))


def _parse_flags(argv: Sequence[str]) -> list[str]:
    try:
        remaining = flags.FLAGS(argv)
        if len(remaining) > 1:
            raise flags.Error(f"unexpected argument {remaining[1]!r}; options are --name=value")
        return remaining
    except (flags.Error, TypeError) as error:
        # What a config file's own code raised arrives as the text of a traceback.
        _fail(str(error).rpartition("InputError: ")[2])
    except (AttributeError, KeyError) as error:
        # ml_collections raises a KeyError's text, in quotes and with its line break escaped.
        reason = str(error).replace("\\n", " ").replace("\\", "").replace("'", "")
        _fail(f"no such value in the config: {reason}")


def _one_sentence(main: Callable[[Sequence[str]], None]) -> Callable[[Sequence[str]], None]:
    def guarded(argv: Sequence[str]) -> None:
        try:
            main(argv)
        except (InputError, FloatingPointError) as error:
            _fail(str(error))
        except Stopped as stopped:
            print(stopped, file=sys.stderr)
            sys.exit(128 + signal.SIGTERM)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            _fail(f"{error.filename or 'output'}: no space left on the disk; what was done is kept")

    return guarded


def _fail(sentence: str) -> None:
    print("error:", " ".join(sentence.split()), file=sys.stderr)
    sys.exit(2)
