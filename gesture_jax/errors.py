"""Errors that the user can mend, with one sentence each."""

import signal

_MAX_CHARACTERS = 1000


class InputError(ValueError):
    """Bad input. The message names the file or value, what is wrong and what would be right.

    The command lines print it as one line and exit with code 2; library users can catch it.
    """

    def __init__(self, sentence: str):
        super().__init__(one_line(sentence))


def one_line(text: str) -> str:
    """Makes a text that may quote hostile files safe to print: no control characters, not long."""
    shown = (c if c.isprintable() else ascii(c)[1:-1] for c in " ".join(text.splitlines()))
    return "".join(shown)[:_MAX_CHARACTERS]


class Stopped(Exception):
    """A signal has stopped a run, which is saved; the message says how to resume it.

    The command lines exit with 128 + `signal`, so that a scheduler knows the run is unfinished.

    Attributes:
      signal: the number of the signal.
    """

    def __init__(self, sentence: str, number: int = signal.SIGTERM):
        super().__init__(sentence)
        self.signal = number
