"""Placing orders: finding stock for them, as if one came after the other."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from domain.allocation.answers import describe
from domain.allocation.commands import AllocateOrder
from domain.allocation.errors import InvalidSku, OrderConflict
from domain.allocation.orders import LineState, Order, OrderLine, OrderState, Terms
from domain.allocation.policies import place, refusal
from domain.allocation.ports import AllocationWork
from domain.allocation.products import Product
from domain.allocation.recording import write
from domain.allocation.tally import Tally
from domain.errors import StaleDecision
from domain.jobs.model import Request
from domain.jobs.outcomes import Outcome, Rejected, Succeeded


def allocate_orders(
    requests: Sequence[Request[AllocateOrder]], work: AllocationWork
) -> Sequence[Outcome]:
    """Find stock for orders, as if one came after the other.

    Stock is read without locks and taken with a guard. A refusal or a backorder is decided
    a second time under its products' locks: stock that arrives meanwhile is never missed.
    """
    skus = {line.sku for request in requests for line in request.command.lines}
    order_ids = {request.command.order_id for request in requests}
    known, glanced = work.stock.look(order_ids, skus)
    held = {line.sku for order in known.values() for line in order.lines}
    if known or work.locks_first:
        # All at once: to lock more products beside those held could deadlock.
        held |= skus
    decision = _decide(requests, work, known, skus=skus, held=held, glanced=glanced)
    if decision.short and not held:
        held = decision.short
        decision = _decide(requests, work, known, skus=skus, held=held)
    if not decision.short <= held:
        raise StaleDecision(f"short of {sorted(decision.short - held)} too")
    write(decision.tallies, work)
    return decision.outcomes


@dataclass(frozen=True, slots=True, kw_only=True)
class _Decision:
    outcomes: list[Outcome]
    tallies: list[Tally]
    short: set[str]
    """SKUs that some order found too little of."""


def _decide(
    requests: Sequence[Request[AllocateOrder]],
    work: AllocationWork,
    known_ids: Collection[str],
    *,
    skus: set[str],
    held: set[str],
    glanced: Mapping[str, Product] | None = None,
) -> _Decision:
    products = work.stock.hold(held, batches=work.locks_first) if held else {}
    if rest := skus - held:
        products |= work.stock.glance(rest) if glanced is None else glanced
    # Read again, those alone whose products are held: lines are to be trusted under locks only.
    orders = work.stock.orders(known_ids) if known_ids else {}
    decision = _Decision(outcomes=[], tallies=[], short=set())
    for request in requests:
        tally = Tally(job_id=request.job_id)
        decision.outcomes.append(
            _allocate_order(request.command, orders, products, tally, decision.short)
        )
        decision.tallies.append(tally)
    return decision


def _allocate_order(
    command: AllocateOrder,
    orders: dict[str, Order],
    products: Mapping[str, Product],
    tally: Tally,
    short: set[str],
) -> Outcome:
    order = orders.get(command.order_id)
    if order and order.fingerprint != command.fingerprint():
        return Rejected(error=OrderConflict.of(command.order_id))
    if order and order.state is not OrderState.REJECTED:
        return Succeeded(result=describe(order))
    unknown = {line.sku: None for line in command.lines if line.sku not in products}
    if unknown:
        return Rejected(error=InvalidSku.of(list(unknown)))
    # A refused order that is refused again changes nothing and tells nobody.
    attempt = Tally(job_id=tally.job_id) if order else tally
    placed = _ordered(command, order)
    shortages = place(placed, products, attempt)
    short.update(shortage.sku for shortage in shortages)
    refused = refusal(placed, shortages)
    if not order:
        tally.orders.append(placed)
    elif not refused:
        tally.absorb(attempt)
    orders[command.order_id] = placed
    if refused:
        return Rejected(error=refused)
    return Succeeded(result=describe(placed))


def _ordered(command: AllocateOrder, order: Order | None) -> Order:
    terms = (
        order.terms
        if order
        else Terms(
            policy=command.policy,
            may_split=command.may_split,
            strategy=command.strategy,
            priority=command.priority,
        )
    )
    stored = order.lines if order else ()
    cancelled = {line.line_id for line in stored if line.state is LineState.CANCELLED}
    return Order(
        order_id=command.order_id,
        terms=terms,
        fingerprint=command.fingerprint(),
        lines=[
            OrderLine(
                order_id=command.order_id,
                line_id=line.line_id,
                sku=line.sku,
                quantity=line.quantity,
                terms=terms,
                state=LineState.CANCELLED if line.line_id in cancelled else LineState.PENDING,
            )
            for line in command.lines
        ],
    )
