"""What may be told of an error beyond its name."""

import re

from domain.kinds import KINDS
from worker.harmless import plain

OF_OTHERS = "imports"
"""Queue of jobs whose rows may be of people, though the jobs themselves are not."""
MOST = 160

_DRIVER = re.compile(r"^\([\w.]+\) ")
"""What SQLAlchemy puts before the words of its driver."""


def told(kind: str, message: str, *, most: int = MOST) -> str:
    """Return the first line of a message; nothing where it may speak of a person."""
    known = KINDS.get(kind)
    if known is None or known.personal or known.queue == OF_OTHERS:
        return ""
    return plain(_DRIVER.sub("", message.strip()).partition("\n")[0], most=most)


def named(kind: str, error: str, message: str, *, most: int = MOST) -> str:
    """Return an error's name, and what may be told of it."""
    more = told(kind, message, most=most)
    return f"{plain(error, most=most)}: {more}" if more else plain(error, most=most)
