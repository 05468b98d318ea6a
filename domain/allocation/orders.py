"""Orders and their lines: what was asked for, what is held and what is waited for."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum
from typing import NamedTuple

from domain.allocation.commands import Policy
from domain.allocation.strategies import Strategy


class LineState(StrEnum):
    """Where an order line stands."""

    PENDING = "pending"
    """Placed, not yet decided; never stored."""
    ALLOCATED = "allocated"
    """Has all it asked for."""
    PARTIALLY_ALLOCATED = "partially_allocated"
    """Has some of it, and does not wait for the rest."""
    BACKORDERED = "backordered"
    """Waits for what it does not have."""
    REJECTED = "rejected"
    """Refused: has nothing and does not wait."""
    CANCELLED = "cancelled"
    """Withdrawn: has nothing and does not wait."""


class OrderState(StrEnum):
    """Where an order stands, which its lines tell."""

    PENDING = "pending"
    ALLOCATED = "allocated"
    PARTIALLY_ALLOCATED = "partially_allocated"
    BACKORDERED = "backordered"
    REJECTED = "rejected"
    CANCELLED = "cancelled"

    @classmethod
    def of(cls, lines: Iterable[LineState]) -> "OrderState":
        """Derive an order's state: cancelled lines count only where all are."""
        states = set(lines)
        if len(states) > 1:
            states.discard(LineState.CANCELLED)
        if len(states) == 1:
            return cls(states.pop())
        if LineState.BACKORDERED in states:
            return cls.BACKORDERED
        return cls.PARTIALLY_ALLOCATED


Ranking = tuple[tuple[str, int, date | None], ...]


class Allocation(NamedTuple):
    """Units of a batch that a line has, and why that batch: thousands a second, so a tuple."""

    batch_reference: str
    quantity: int
    eta: date | None
    strategy: Strategy
    ranking: Ranking
    """(reference, units available, eta) of each batch considered, best first."""


class Terms(NamedTuple):
    """What an order agreed to when it was placed."""

    policy: Policy = Policy.ALL_OR_NOTHING
    may_split: bool = False
    strategy: Strategy = Strategy.EARLIEST
    priority: int = 0
    sequence: int = 0
    """First come, first served: the lower was placed earlier. 0 until it is stored."""


@dataclass(slots=True, kw_only=True, eq=False)
class OrderLine:
    """A line of an order; (order_id, line_id) is who it is, whatever it holds."""

    order_id: str
    line_id: str
    sku: str
    quantity: int
    terms: Terms
    state: LineState = LineState.PENDING
    allocations: dict[str, Allocation] = field(default_factory=dict)
    """By batch reference."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, OrderLine) and other.identity == self.identity

    def __hash__(self) -> int:
        return hash(self.identity)

    @property
    def identity(self) -> tuple[str, str]:
        return (self.order_id, self.line_id)

    @property
    def allocated(self) -> int:
        return sum([allocation.quantity for allocation in self.allocations.values()])

    @property
    def outstanding(self) -> int:
        return self.quantity - self.allocated

    @property
    def is_open(self) -> bool:
        return self.state not in (LineState.REJECTED, LineState.CANCELLED)

    @property
    def promise(self) -> date | None:
        """The day all it holds is here; None where that is now."""
        return max((a.eta for a in self.allocations.values() if a.eta), default=None)

    @property
    def turn(self) -> tuple[int, int, str, str]:
        """Sort key among those who wait: priority, then first come."""
        return (-self.terms.priority, self.terms.sequence, self.order_id, self.line_id)


@dataclass(slots=True, kw_only=True, eq=False)
class Order:
    """An order with all its lines."""

    order_id: str
    terms: Terms
    fingerprint: str
    lines: list[OrderLine]

    @property
    def state(self) -> OrderState:
        return OrderState.of([line.state for line in self.lines])

    def line(self, line_id: str) -> OrderLine | None:
        return next((line for line in self.lines if line.line_id == line_id), None)
