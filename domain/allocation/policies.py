"""Order policies: what an order gets when some of its lines are short."""

from collections.abc import Mapping, Sequence

from domain.allocation import events
from domain.allocation.commands import Policy
from domain.allocation.errors import OutOfStock, Shortage
from domain.allocation.orders import LineState, Order, OrderLine, OrderState, Terms
from domain.allocation.products import Choice, Product
from domain.allocation.tally import Cause, Tally


def place(order: Order, products: Mapping[str, Product], tally: Tally) -> list[Shortage]:
    """Decide every pending line of an order; return what is short, in line order.

    The order's own lines compete for the same units: demand is taken in line order, so two
    lines of one SKU are never both served from what is enough for one.
    """
    pending = [line for line in order.lines if line.state is LineState.PENDING]
    choices, shortages = _choose(pending, order.terms, products)
    if shortages and order.terms.policy is Policy.ALL_OR_NOTHING:
        choices = []
    given = [
        events.AllocatedLine(
            line_id=line.line_id,
            sku=line.sku,
            portions=products[line.sku].give(line, choice, tally, cause=Cause.ORDER_ALLOCATED),
        )
        for line, choice in choices
    ]
    if shortages:
        tally.events += [
            events.LineAllocated(
                order_id=order.order_id, line_id=line.line_id, sku=line.sku, portions=line.portions
            )
            for line in given
        ]
    else:
        tally.events.append(events.OrderAllocated(order_id=order.order_id, lines=tuple(given)))
    for line in pending:
        if line.state is LineState.PENDING:
            _leave_short(line, order.terms.policy, products[line.sku], tally)
        elif order.terms.policy is Policy.BACKORDER and line.outstanding:
            products[line.sku].backorder(line, tally)
    if shortages and order.terms.policy is not Policy.BACKORDER:
        tally.events.append(events.OutOfStock(order_id=order.order_id, lines=tuple(shortages)))
    return shortages


def refusal(order: Order, shortages: list[Shortage]) -> OutOfStock | None:
    """Return the error of an order none of whose lines got anything or waits."""
    if shortages and order.state is OrderState.REJECTED:
        return OutOfStock.of(order.order_id, shortages)
    return None


def _choose(
    lines: Sequence[OrderLine], terms: Terms, products: Mapping[str, Product]
) -> tuple[list[tuple[OrderLine, Choice]], list[Shortage]]:
    partly = terms.policy is not Policy.ALL_OR_NOTHING
    choices: list[tuple[OrderLine, Choice]] = []
    shortages: list[Shortage] = []
    for line in lines:
        product = products[line.sku]
        choice = product.choose(line.quantity, terms=terms, partly=partly)
        if choice is None or choice.quantity < line.quantity:
            taken = sum(choice.quantity for other, choice in choices if other.sku == line.sku)
            shortages.append(product.shortage(line, available=product.available + taken))
        if choice is not None:
            choice.hold()
            choices.append((line, choice))
    for _, choice in choices:
        choice.let_go()
    return choices, shortages


def _leave_short(line: OrderLine, policy: Policy, product: Product, tally: Tally) -> None:
    match policy:
        case Policy.BACKORDER:
            product.backorder(line, tally)
        case Policy.PARTIAL | Policy.ALL_OR_NOTHING:
            line.state = LineState.REJECTED
            tally.touch(line)
