"""What events amount to: the figures of the business."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from domain.allocation.events import (
    BatchCreated,
    LineAllocated,
    LineBackordered,
    LineDeallocated,
    OrderAllocated,
    OutOfStock,
)
from domain.imports.runs import RowEnd
from domain.messages import Event

_LINE_ALLOCATED = LineAllocated.__name__
LINE_REFUSED = "line_refused"
STOCK_OUT = "stock_out"
"""A line that stock did not serve at once, by product; forgotten after a day."""
IMPORT_ROW = "import_row"


class What(NamedTuple):
    """What is counted."""

    name: str
    """Name of an event, or one of those above."""
    label: str = ""

    @property
    def is_hourly(self) -> bool:
        """Tell whether each hour is counted by itself."""
        return self.name == STOCK_OUT


class Amount(NamedTuple):
    """How often it happened, and to how many units of stock."""

    number: int
    units: int = 0


def measure(events: Iterable[Event]) -> Mapping[What, Amount]:
    """Add up what events amount to."""
    # Some microseconds for each of thousands of events a second: hence no objects on the way.
    number: Counter[tuple[str, str]] = Counter()
    units: Counter[tuple[str, str]] = Counter()
    for event in events:
        name = event.name
        number[name, ""] += 1
        if name in _WITH_UNITS:
            for what, amount in _units(event):
                units[what] += amount
                if what[0] != name:
                    number[what] += 1
    return {What(*what): Amount(times, units[what]) for what, times in number.items()}


def import_rows(target: str, ends: Mapping[RowEnd, int]) -> Mapping[What, Amount]:
    """Say what became of the rows of a file."""
    return {What(IMPORT_ROW, f"{target}/{end}"): Amount(rows) for end, rows in ends.items()}


def _units(event: Event) -> Iterator[tuple[tuple[str, str], int]]:
    match event:
        case OrderAllocated():
            for given in event.lines:
                yield (_LINE_ALLOCATED, ""), sum(portion.quantity for portion in given.portions)
        case LineAllocated() | LineDeallocated():
            yield (event.name, ""), sum(portion.quantity for portion in event.portions)
        case LineBackordered():
            yield (event.name, ""), event.outstanding
            yield (STOCK_OUT, event.sku), event.outstanding
        case OutOfStock():
            for line in event.lines:
                yield (LINE_REFUSED, ""), line.requested
                yield (STOCK_OUT, line.sku), line.requested
        case BatchCreated():
            yield (event.name, ""), event.quantity
        case _:
            pass


_WITH_UNITS = frozenset(
    event.__name__
    for event in (
        OrderAllocated,
        LineAllocated,
        LineDeallocated,
        LineBackordered,
        OutOfStock,
        BatchCreated,
    )
)
