"""Child processes that a load is played by."""

import os
from collections.abc import Callable
from typing import NoReturn

from tests.chaos import forked

CROWD = 4
"""Processes that work at once."""
DEADLINE_SECONDS = 8.0
"""Time that a load has to be drained; it takes one or two when nothing is switched off."""


def one_by_one(work: Callable[[int], None], count: int) -> None:
    """Do pieces of work, each by a child of its own, when the one before has ended."""
    for number in range(count):
        child = os.fork()
        if not child:
            as_child(lambda number=number: work(number))  # type: ignore[misc]
        os.waitpid(child, 0)


def at_once(work: Callable[[int], None]) -> None:
    """Have a crowd of children work side by side."""
    children = []
    for number in range(CROWD):
        child = os.fork()
        if not child:
            as_child(lambda number=number: work(number))  # type: ignore[misc]
        children.append(child)
    for child in children:
        os.waitpid(child, 0)


def as_child(action: Callable[[], None]) -> NoReturn:
    """Do something and end, with 1 where it fails or takes much too long."""
    forked.as_child(action, seconds=int(4 * DEADLINE_SECONDS))
