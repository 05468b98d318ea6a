"""The tally of one job: everything that it changes, counted as it happens."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from domain.allocation.batches import Batch
from domain.allocation.orders import Order, OrderLine
from domain.messages import Event


class Cause(StrEnum):
    """Why stock moved."""

    BATCH_CREATED = "batch_created"
    QUANTITY_CHANGED = "quantity_changed"
    ORDER_ALLOCATED = "order_allocated"
    BACKORDER_SERVED = "backorder_served"
    DISPLACED = "displaced"
    """A cut took the units from a line."""
    REALLOCATED = "reallocated"
    """A displaced line found other stock."""
    LINE_CHANGED = "line_changed"
    LINE_DEALLOCATED = "line_deallocated"
    ORDER_CANCELLED = "order_cancelled"


class Counter(StrEnum):
    """What a movement moves."""

    PURCHASED = "purchased"
    ALLOCATED = "allocated"


class StockMovement(NamedTuple):
    """A change of one counter of one batch by `change` units: thousands a second, so a tuple."""

    cause: Cause
    sku: str
    batch_reference: str
    counter: Counter
    change: int
    order_id: str | None = None
    line_id: str | None = None


@dataclass(slots=True, kw_only=True)
class Tally:
    """What one job did; the repository writes it, the outbox publishes its events."""

    job_id: str
    movements: list[StockMovement] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    batches: dict[str, Batch] = field(default_factory=dict)
    """Batches created, or whose quantity or eta was set, by reference."""
    versions: dict[str, int] = field(default_factory=dict)
    """Versions that products moved to, by SKU."""
    orders: list[Order] = field(default_factory=list)
    """Orders placed for the first time."""
    lines: dict[tuple[str, str], OrderLine] = field(default_factory=dict)
    """Lines placed or changed, by identity."""

    settled: set[str] = field(default_factory=set)
    """Ids of orders a line of which lacked something and does not now."""

    @property
    def is_empty(self) -> bool:
        return not (self.movements or self.events or self.batches or self.orders or self.lines)

    def touch(self, line: OrderLine) -> None:
        self.lines[line.identity] = line

    def absorb(self, other: "Tally") -> None:
        """Count in all that another tally of the same job has."""
        self.movements += other.movements
        self.events += other.events
        self.orders += other.orders
        self.batches |= other.batches
        self.versions |= other.versions
        self.lines |= other.lines
        self.settled |= other.settled
