"""`tallyman orders`: what an order asked for, what it got, and why that."""

from collections.abc import Iterator
from typing import Annotated, Any

import typer

from domain.allocation.errors import OrderNotFound
from domain.allocation.orders import Allocation, LineState, Order, OrderLine, OrderState
from worker.command.database import database
from worker.command.output import (
    AfterOption,
    JsonOption,
    say,
    show_fields,
    show_json,
    show_table,
    tell_of_more,
)

app = typer.Typer(no_args_is_help=True, add_completion=False)


@app.command("list")
def list_orders(
    *,
    state: Annotated[OrderState | None, typer.Option(help="Only orders in this state.")] = None,
    sku: Annotated[str | None, typer.Option(help="Only orders with a line of this.")] = None,
    after: AfterOption = None,
    limit: Annotated[int, typer.Option(min=1, help="Orders to show at the most.")] = 50,
    as_json: JsonOption = False,
) -> None:
    """List orders, the newest first."""
    with database() as opened:
        orders = opened.stock.orders(state=state, sku=sku, after=after, limit=limit)
    if as_json:
        show_json(orders)
        return
    show_table(
        "Orders",
        ("order", "state", "lines", "policy", "priority", "job", "placed"),
        [
            (
                order.order_id,
                order.state,
                order.lines,
                order.policy,
                order.priority,
                order.job_id,
                order.created_at,
            )
            for order in orders
        ],
    )
    tell_of_more([each.order_id for each in orders], limit=limit)


@app.command()
def show(
    order_id: Annotated[str, typer.Argument(metavar="ORDER_ID")], *, as_json: JsonOption = False
) -> None:
    """Show an order's lines, what each has of which batch, and why of that batch."""
    with database() as opened:
        order = opened.stock.order(order_id)
    if order is None:
        raise OrderNotFound.of(order_id)
    if as_json:
        show_json(_describe(order))
        return
    show_fields(
        {
            "order": order.order_id,
            "state": order.state,
            "policy": order.terms.policy,
            "may split": order.terms.may_split,
            "strategy": order.terms.strategy,
            "priority": order.terms.priority,
        }
    )
    show_table(
        "Lines",
        ("line", "sku", "wants", "has", "state", "from"),
        [
            (line.line_id, line.sku, line.quantity, line.allocated, line.state, _held(line))
            for line in order.lines
        ],
    )
    say("Why:")
    for line in order.lines:
        for sentence in _reasons(line):
            say(f"  line {line.line_id}: {sentence}")


def _held(line: OrderLine) -> str:
    return ", ".join(
        f"{held.quantity} of {held.batch_reference}" for held in line.allocations.values()
    )


def _reasons(line: OrderLine) -> Iterator[str]:
    for held in line.allocations.values():
        yield (
            f"{held.quantity} of {held.batch_reference} by {held.strategy!s},"
            f" which ranked {_ranked(held)}"
        )
    match line.state:
        case LineState.BACKORDERED:
            yield f"waits for {line.outstanding} more of {line.sku}"
        case LineState.PARTIALLY_ALLOCATED:
            yield f"there were {line.outstanding} too few of {line.sku}, for which it does not wait"
        case LineState.REJECTED:
            yield "refused: it, or under all_or_nothing another line of the order, found too little"
        case LineState.CANCELLED:
            yield "cancelled"
        case LineState.ALLOCATED | LineState.PENDING:
            pass


def _ranked(held: Allocation) -> str:
    return "; ".join(
        f"{place}. {reference} ({available} available, {f'arrives {eta}' if eta else 'on hand'})"
        for place, (reference, available, eta) in enumerate(held.ranking, start=1)
    )


def _describe(order: Order) -> dict[str, Any]:
    return {
        "order_id": order.order_id,
        "state": order.state,
        "policy": order.terms.policy,
        "may_split": order.terms.may_split,
        "strategy": order.terms.strategy,
        "priority": order.terms.priority,
        "lines": [
            {
                "line_id": line.line_id,
                "sku": line.sku,
                "quantity": line.quantity,
                "allocated": line.allocated,
                "outstanding": line.outstanding,
                "state": line.state,
                "promise": line.promise,
                "allocations": [
                    {
                        "batch": held.batch_reference,
                        "quantity": held.quantity,
                        "eta": held.eta,
                        "strategy": held.strategy,
                        "ranking": [
                            {"batch": reference, "available": available, "eta": eta}
                            for reference, available, eta in held.ranking
                        ],
                    }
                    for held in line.allocations.values()
                ],
            }
            for line in order.lines
        ],
    }
