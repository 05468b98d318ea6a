"""What a rule says when it is broken."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from tests.chaos.evidence import Evidence
from tests.chaos.testimony import Testimony


class Sort(StrEnum):
    """What sort of promise is broken."""

    LOST = "lost"
    """Accepted, and not in the ledger."""
    LEFT_OPEN = "left open"
    """Accepted, and not finished."""
    DEAD = "dead"
    """Given up, though nothing was wrong with the job itself."""
    DUPLICATED = "duplicated"
    """An effect that is there more than once."""
    MISSING = "missing"
    """An effect that is not there, or not whole."""
    UNASKED = "unasked"
    """An effect, or a job, that nobody asked for."""
    CHANGED = "changed"
    """An answer that was another before, or a job that is not as it was handed over."""
    ILLEGAL_MOVE = "illegal move"
    """A state that may not follow the one before, or an attempt too many."""
    STOCK = "stock"
    """Books of stock that contradict each other."""
    EVENT = "event"
    """An event that is not on the stream, or not in its place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A broken promise."""

    sort: Sort
    text: str

    def __str__(self) -> str:
        return f"{self.sort}: {self.text}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What clients tell, and what the system holds."""

    testimony: Testimony
    evidence: Evidence


Rule = Callable[[Case], Iterator[Problem]]
