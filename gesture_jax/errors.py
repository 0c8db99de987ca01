"""What a user can get wrong, told in one sentence."""


class InputError(ValueError):
    """Bad input: the message names the file or value, what is wrong and what would be right.

    The command lines print it as one line and exit with code 2; library users can catch it.
    """


class Stopped(Exception):
    """A run was told to stop, and has saved all; the message says where it goes on.

    The command lines exit with 128 + SIGTERM, so that what restarts runs knows it is unfinished.
    """
