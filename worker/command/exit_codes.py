"""What a command's exit code tells a script."""

from enum import IntEnum


class ExitCode(IntEnum):
    """How a command ended."""

    DONE = 0
    """All that was asked for is done."""
    REFUSED = 1
    """Some of it was refused, or failed; what could be done is done."""
    USAGE = 2
    """The command line, a file, a payload or a setting cannot be used."""
    NOT_FOUND = 3
    """What was asked for is not there."""
    AWAY = 4
    """A server is away; the same command may do later."""
    FULL = 5
    """Too many jobs wait in a queue; the same command may do when some have finished."""
    INTERRUPTED = 130
    """Ctrl-C; what was accepted until then goes on."""
