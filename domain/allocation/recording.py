"""Writing what a transaction's tallies count."""

from collections.abc import Iterable

from domain.allocation.events import OrderAllocated
from domain.allocation.ports import AllocationWork
from domain.allocation.tally import Tally


def write(tallies: Iterable[Tally], work: AllocationWork) -> None:
    """Save rows and movements, and record the events."""
    changed = [tally for tally in tallies if not tally.is_empty]
    work.stock.save(changed)
    for tally in changed:
        work.record(tally.job_id, tally.events)


def announce_complete(tallies: Iterable[Tally], work: AllocationWork) -> None:
    """Tell of the orders that the tallies completed; call it once, after all is written."""
    settled = {order_id: tally.job_id for tally in tallies for order_id in tally.settled}
    if settled:
        for order_id in work.stock.complete(settled):
            work.record(settled[order_id], [OrderAllocated(order_id=order_id)])
