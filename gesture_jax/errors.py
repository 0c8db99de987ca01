"""What a user can get wrong, told in one sentence."""

import signal

_MOST_CHARACTERS = 1000


class InputError(ValueError):
    """Bad input: the message names the file or value, what is wrong and what would be right.

    The command lines print it as one line and exit with code 2; library users can catch it.
    """

    def __init__(self, sentence: str):
        super().__init__(one_line(sentence))


def one_line(text: str) -> str:
    """A text that quotes hostile files, for a terminal: they can neither steer it nor fill it."""
    shown = (c if c.isprintable() else ascii(c)[1:-1] for c in " ".join(text.splitlines()))
    return "".join(shown)[:_MOST_CHARACTERS]


class Stopped(Exception):
    """A run was told to stop, and has saved all; the message says where it goes on.

    The command lines exit with 128 + `signal`, so that what restarts runs knows it is unfinished.

    Attributes:
      signal: the number of what told it.
    """

    def __init__(self, sentence: str, number: int = signal.SIGTERM):
        super().__init__(sentence)
        self.signal = number
