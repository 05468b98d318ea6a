"""What a fault is: a name, a lane, and a function that breaks something and mends it."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from random import Random

from tests.chaos.arena import Arena


class Lane(StrEnum):
    """Faults of one lane come one after the other; lanes run at the same time."""

    PROCESSES = "processes"
    """Something of ours dies."""
    FREEZES = "freezes"
    """Something of ours stands still for long, and goes on as if nothing had been."""
    SERVERS = "servers"
    """PostgreSQL, Valkey, or the way to them."""


class NotApplied(Exception):
    """The fault cannot be brought about here, and nothing was broken; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A kind of fault."""

    act: Callable[[Arena, Random], None]
    """Break it, wait, and mend it."""
    lane: Lane
    weight: int = 1
    """How often it is in the deck that the lane is drawn from."""
    is_long: bool = False
    """It takes longer than there is time for in a short plan."""

    @property
    def kind(self) -> str:
        return self.act.__name__
