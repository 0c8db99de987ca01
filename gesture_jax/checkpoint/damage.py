"""Tells damaged checkpoints from disks, networks and memory that fail while one is read.

A damaged checkpoint may be moved away; one that cannot be read at the moment must stay.
"""

import contextlib
import os
import re
from collections.abc import Iterator

from gesture_jax.errors import InputError

# Types of errors for content that is missing, truncated or changed.
_DAMAGE = (ValueError, LookupError, TypeError, FileNotFoundError)
# Types of errors for a disk, a network, memory or another process that fails.
_FAILURE = (OSError, RuntimeError, MemoryError)
# TensorStore's codes for damage; it uses its other codes where a disk or a network fails.
_DAMAGE_CODES = {
    "DATA_LOSS", "NOT_FOUND", "OUT_OF_RANGE", "INVALID_ARGUMENT", "FAILED_PRECONDITION",
}  # fmt: skip
# TensorStore's messages contain this where the operating system gave the reason.
_FROM_SYSTEM = "os_error_code"


class DamagedError(Exception):
    """The content of a checkpoint is not what was saved."""


def is_damage(error: BaseException) -> bool:
    """Whether an error, or one of its causes, means missing or changed content for certain."""
    causes = _causes(error)
    return not any(map(_is_failure, causes)) and any(isinstance(e, _DAMAGE) for e in causes)


def describe(error: BaseException) -> str:
    """Returns one line: the type and the message of the innermost cause of a known type."""
    causes = _causes(error)
    error = next((e for e in causes[::-1] if isinstance(e, (*_DAMAGE, *_FAILURE))), causes[0])
    return f"{type(error).__name__}: {error}".splitlines()[0][:200]


@contextlib.contextmanager
def as_input_error(path: os.PathLike) -> Iterator[None]:
    """Raises InputError, with a sentence about the checkpoint at `path`, for errors of reading."""
    try:
        yield
    except InputError:
        raise
    except (*_DAMAGE, *_FAILURE) as error:
        if not is_damage(error):
            raise InputError(
                f"{path}: this checkpoint cannot be read now ({describe(error)}); try again "
                "once the disk, network or memory allows"
            ) from error
        raise InputError(
            f"{path}: this checkpoint is damaged ({describe(error)}); train on for a while, "
            "which starts from the newest undamaged one, or move it away"
        ) from error


def _is_failure(error: BaseException) -> bool:
    if not isinstance(error, _DAMAGE):
        return isinstance(error, _FAILURE)
    code = re.match("([A-Z_]{4,}): ", str(error))
    if code is None or code[1] == "NOT_FOUND":
        return False
    return code[1] not in _DAMAGE_CODES or _FROM_SYSTEM in str(error)


def _causes(error: BaseException | None) -> list[BaseException]:
    """The error and its causes, without the KeyError that the checkpoint library wraps around."""
    chain = []
    while error is not None:
        chain.append(error)
        error = error.__cause__ or error.__context__
    return [each for each in chain if type(each).__name__ != "NoEntryError"] or chain
