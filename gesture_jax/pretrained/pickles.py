"""Unpickles what is not trusted.

A pickle is a program. Of this one every step is looked at before the first is taken, so that none
makes room for more than there is; and it gets stand-ins for what it names, nothing else.
"""

import io
import os
import pickle
import pickletools
from collections.abc import Mapping
from typing import Any

from gesture_jax.errors import InputError

# Beyond these there is no checkpoint: 651 arrays take 30 000 steps.
_MAX_STEPS = 300_000
_MAX_PROTOCOL = 4
_PUTS = {"PUT", "BINPUT", "LONG_BINPUT"}


class StandIn:
    """Something that a pickle may name and call; it has no state that a pickle could set."""

    def __setstate__(self, state: Any) -> None:
        # Without this, the pickle's BUILD would set attributes, those of our classes too.
        raise ValueError(f"a state for {type(self).__name__}, which has none")


class Unpickler(pickle.Unpickler):
    """Loads one pickle after the other from bytes; a subclass says what they may name."""

    KNOWN: Mapping[tuple[str, str], Any] = {}
    """By module and name, the stand-in; a class with `__setstate__`, or a constant."""
    NEEDLESS: str = "this does not need"
    """Said of any other name."""

    def __init__(self, content: io.BytesIO, path: str | os.PathLike, **options: Any):
        super().__init__(content, **options)
        self._content, self._path = content, path

    def load(self) -> Any:
        """What the next pickle makes.

        Raises:
          InputError: where it names anything unknown; nothing of that is looked up or run.
          Exception: of many kinds, where it is damaged.
        """
        self._check_steps()
        return super().load()

    def find_class(self, module: str, name: str) -> Any:
        """The stand-in for a name."""
        if (module, name) in self.KNOWN:
            return self.KNOWN[module, name]
        raise InputError(
            f"{self._path}: its pickle asks for {module}.{name}, which {self.NEEDLESS}; refused, "
            "nothing of it was run"
        )

    def _check_steps(self) -> None:
        """Raises ValueError where lengths, places or the number of steps cannot be honest."""
        start = self._content.tell()
        for count, (step, argument, _) in enumerate(pickletools.genops(self._content)):
            if count == _MAX_STEPS or step.proto > _MAX_PROTOCOL:
                raise ValueError(f"more than {_MAX_STEPS} steps, or newer than {_MAX_PROTOCOL}")
            # Python makes room for all places before one.
            if step.name in _PUTS and argument > _MAX_STEPS:
                raise ValueError(f"a place {argument} among at most {_MAX_STEPS}")
        self._content.seek(start)
