"""How jobs answer with an order."""

from dataclasses import replace
from datetime import date

from domain.allocation.orders import Allocation, Order
from domain.allocation.tally import Tally
from domain.jobs.outcomes import Json


def describe(order: Order) -> Json:
    """Return an order as jobs answer with it."""
    return {
        "order_id": order.order_id,
        "state": order.state,
        "lines": [
            {
                "line_id": line.line_id,
                "sku": line.sku,
                "quantity": line.quantity,
                "state": line.state,
                "batches": [
                    {
                        "reference": allocation.batch_reference,
                        "quantity": allocation.quantity,
                        "eta": day(allocation.eta),
                    }
                    for allocation in sorted(line.allocations.values(), key=_arrival)
                ],
            }
            for line in order.lines
        ],
    }


def describe_changed(order: Order, tally: Tally) -> Json:
    """Return an order as it is by what `tally` counts.

    A line of it may have got what another gave up.
    """
    lines = [tally.lines.get(line.identity, line) for line in order.lines]
    return describe(replace(order, lines=lines))


def _arrival(allocation: Allocation) -> tuple[bool, date, str]:
    return (
        allocation.eta is not None,
        allocation.eta or date.min,
        allocation.batch_reference,
    )


def day(day: date | None) -> str | None:
    return day.isoformat() if day else None
