"""Child processes that a load is played by."""

import os
import signal
import traceback
from collections.abc import Callable

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


def as_child(action: Callable[[], None]) -> None:
    """Do something and end, with 1 where it fails."""
    signal.alarm(int(4 * DEADLINE_SECONDS))
    try:
        action()
    except BaseException:  # noqa: BLE001  nothing may return into the parent's code
        traceback.print_exc()
        os._exit(1)
    os._exit(0)
