"""Unpickles data from untrusted files.

A pickle is a program. `Unpickler` reads all of its opcodes before it runs the first, so that none
can make room for more data than the file holds, and it resolves the names in the pickle to
nothing but the stand-ins that a subclass lists.
"""

import io
import os
import pickle
import pickletools
from collections.abc import Mapping
from typing import Any

from gesture_jax.errors import InputError

# No checkpoint has more: 651 arrays take 30 000 opcodes.
_MAX_OPCODES = 300_000
_MAX_PROTOCOL = 4
_PUTS = {"PUT", "BINPUT", "LONG_BINPUT"}


class StandIn:
    """An object that a pickle may name and call; it has no state that a pickle could set."""

    def __setstate__(self, state: Any) -> None:
        # Without this, the pickle's BUILD would set attributes, even those of our classes.
        raise ValueError(f"a state for {type(self).__name__}, which has none")


class Unpickler(pickle.Unpickler):
    """Loads consecutive pickles from bytes; a subclass lists the names that they may use.

    Attributes:
      KNOWN: by module and name, the stand-in: a class with `__setstate__`, or a constant.
      NEEDLESS: the end of the sentence that refuses any other name.
    """

    KNOWN: Mapping[tuple[str, str], Any] = {}
    NEEDLESS: str = "this does not need"

    def __init__(self, content: io.BytesIO, path: str | os.PathLike, **options: Any):
        super().__init__(content, **options)
        self._content, self._path = content, path

    def load(self) -> Any:
        """Returns the object of the next pickle.

        Raises:
          InputError: where the pickle uses an unknown name; that name is not looked up.
          Exception: of many types, where the pickle is damaged.
        """
        self._check_opcodes()
        return super().load()

    def find_class(self, module: str, name: str) -> Any:
        """Returns the stand-in for a name."""
        if (module, name) in self.KNOWN:
            return self.KNOWN[module, name]
        raise InputError(
            f"{self._path}: its pickle asks for {module}.{name}, which {self.NEEDLESS}; refused, "
            "nothing of it was run"
        )

    def _check_opcodes(self) -> None:
        """Raises ValueError where the number of opcodes, a length or a memo index is too large."""
        start = self._content.tell()
        for count, (opcode, argument, _) in enumerate(pickletools.genops(self._content)):
            if count == _MAX_OPCODES or opcode.proto > _MAX_PROTOCOL:
                raise ValueError(
                    f"more than {_MAX_OPCODES} opcodes, or a protocol above {_MAX_PROTOCOL}"
                )
            # Python makes room for all memo entries up to the index.
            if opcode.name in _PUTS and argument > _MAX_OPCODES:
                raise ValueError(f"memo index {argument} is above {_MAX_OPCODES}")
        self._content.seek(start)
