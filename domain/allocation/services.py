"""What happens for each command of allocation; a handler takes a batch of one kind."""

from collections.abc import Callable, Collection, Mapping, Sequence

from domain.allocation.answers import day, describe_changed
from domain.allocation.batches import Batch
from domain.allocation.commands import (
    CancelOrder,
    ChangeBatchEta,
    ChangeBatchQuantity,
    ChangeLineQuantity,
    CreateBatch,
    DeallocateLine,
)
from domain.allocation.errors import (
    BatchConflict,
    BatchNotFound,
    LineClosed,
    LineNotFound,
    OrderNotFound,
    OutOfStock,
    QuantityTooLow,
)
from domain.allocation.events import BatchCreated, OrderCancelled
from domain.allocation.orders import LineState, Order, OrderLine, OrderState
from domain.allocation.ports import AllocationWork
from domain.allocation.products import Product
from domain.allocation.recording import announce_complete, write
from domain.allocation.tally import Cause, Tally
from domain.errors import DomainError
from domain.jobs.model import C, Request
from domain.jobs.outcomes import Json, Outcome, Rejected, Succeeded

Known = Mapping[str, Collection[str]]
"""SKUs by id, of the batches or orders that existed before their products were locked.

What comes into being later is not held, so for this transaction it does not exist."""


def create_batches(
    requests: Sequence[Request[CreateBatch]], work: AllocationWork
) -> Sequence[Outcome]:
    """Put batches on record; those who wait for their products are served at once."""
    skus = work.stock.skus_of({request.command.reference for request in requests})
    new: dict[str, str] = {}
    for request in requests:
        if request.command.reference not in skus:
            new.setdefault(request.command.reference, request.command.sku)
    work.stock.introduce(set(new.values()))
    products = work.stock.hold({*skus.values(), *new.values()}, batches=True)
    batches = {
        reference: batch
        for product in products.values()
        for reference, batch in product.batches.items()
    }
    waiting = work.stock.waiting(set(new.values()))
    tallies = [Tally(job_id=request.job_id) for request in requests]
    outcomes = [
        _create_batch(request.command, batches, products, waiting, tally)
        for request, tally in zip(requests, tallies, strict=True)
    ]
    write(tallies, work)
    announce_complete(tallies, work)
    return outcomes


def change_batch_quantities(
    requests: Sequence[Request[ChangeBatchQuantity]], work: AllocationWork
) -> Sequence[Outcome]:
    """Set what batches hold: a cut moves lines or lets them wait, an increase serves them."""
    return _one_by_one(requests, work, _find_batches, _change_batch_quantity)


def change_batch_etas(
    requests: Sequence[Request[ChangeBatchEta]], work: AllocationWork
) -> Sequence[Outcome]:
    """Set when batches arrive, and tell the lines whose promise moves."""
    return _one_by_one(requests, work, _find_batches, _change_batch_eta)


def change_line_quantities(
    requests: Sequence[Request[ChangeLineQuantity]], work: AllocationWork
) -> Sequence[Outcome]:
    """Set what lines want: a surplus goes to those who wait, more is found or refused."""
    return _one_by_one(requests, work, _find_orders, _change_line_quantity)


def deallocate_lines(
    requests: Sequence[Request[DeallocateLine]], work: AllocationWork
) -> Sequence[Outcome]:
    """Take lines out of their orders; what they held goes to those who wait."""
    return _one_by_one(requests, work, _find_orders, _deallocate_line)


def cancel_orders(
    requests: Sequence[Request[CancelOrder]], work: AllocationWork
) -> Sequence[Outcome]:
    """Cancel orders; what they held goes to those who wait."""
    return _one_by_one(requests, work, _find_orders, _cancel_order)


def _create_batch(
    command: CreateBatch,
    batches: dict[str, Batch],
    products: Mapping[str, Product],
    waiting: Sequence[OrderLine],
    tally: Tally,
) -> Outcome:
    known = batches.get(command.reference)
    if known and known.fingerprint != command.fingerprint():
        return Rejected(error=BatchConflict.of(command.reference))
    if not known:
        product = products[command.sku]
        batch = Batch(
            reference=command.reference,
            sku=command.sku,
            purchased=command.quantity,
            eta=command.eta,
            fingerprint=command.fingerprint(),
        )
        batches[batch.reference] = batch
        product.add_batch(batch, tally)
        tally.events.append(
            BatchCreated(
                reference=batch.reference,
                sku=batch.sku,
                quantity=batch.purchased,
                eta=batch.eta,
            )
        )
        product.serve([line for line in waiting if line.sku == product.sku], tally)
    return Succeeded(
        result={
            "reference": command.reference,
            "sku": command.sku,
            "quantity": command.quantity,
            "eta": day(command.eta),
        }
    )


def _change_batch_quantity(
    command: ChangeBatchQuantity, known: Known, work: AllocationWork, tally: Tally
) -> Json:
    product, batch = _batch(command.reference, known, work)
    if command.quantity < batch.allocated and not command.displace:
        raise QuantityTooLow.of(
            batch.reference, quantity=command.quantity, allocated=batch.allocated
        )
    if command.quantity != batch.purchased:
        holders = work.stock.holders(batch.reference) if command.quantity < batch.allocated else []
        product.change_quantity(batch, command.quantity, holders, tally)
        _serve_waiting(product, work, tally)
    return {
        "reference": batch.reference,
        "sku": batch.sku,
        "quantity": batch.purchased,
        "allocated": batch.allocated,
    }


def _change_batch_eta(
    command: ChangeBatchEta, known: Known, work: AllocationWork, tally: Tally
) -> Json:
    product, batch = _batch(command.reference, known, work)
    if command.eta != batch.eta:
        product.change_eta(batch, command.eta, work.stock.holders(batch.reference), tally)
    return {"reference": batch.reference, "sku": batch.sku, "eta": day(batch.eta)}


def _change_line_quantity(
    command: ChangeLineQuantity, known: Known, work: AllocationWork, tally: Tally
) -> Json:
    order, line = _line(command.order_id, command.line_id, known, work)
    if not line.is_open:
        raise LineClosed.of(line.order_id, line.line_id, line.state)
    if command.quantity != line.quantity:
        product = work.stock.hold([line.sku], batches=True)[line.sku]
        shortage = product.resize(line, command.quantity, tally)
        if shortage:
            raise OutOfStock.of(order.order_id, [shortage])
        _serve_waiting(product, work, tally)
    return describe_changed(order, tally)


def _deallocate_line(
    command: DeallocateLine, known: Known, work: AllocationWork, tally: Tally
) -> Json:
    order, line = _line(command.order_id, command.line_id, known, work)
    _withdraw([line], work, tally, cause=Cause.LINE_DEALLOCATED)
    return describe_changed(order, tally)


def _cancel_order(command: CancelOrder, known: Known, work: AllocationWork, tally: Tally) -> Json:
    order = _order(command.order_id, known, work)
    if order.state is not OrderState.CANCELLED:
        _withdraw(order.lines, work, tally, cause=Cause.ORDER_CANCELLED)
        tally.events.append(OrderCancelled(order_id=order.order_id))
    return describe_changed(order, tally)


def _withdraw(
    lines: Sequence[OrderLine], work: AllocationWork, tally: Tally, *, cause: Cause
) -> None:
    open_lines = [line for line in lines if line.state is not LineState.CANCELLED]
    products = work.stock.hold({line.sku for line in open_lines}, batches=True)
    for line in open_lines:
        products[line.sku].withdraw(line, tally, cause=cause)
    for product in products.values():
        _serve_waiting(product, work, tally)


def _serve_waiting(product: Product, work: AllocationWork, tally: Tally) -> None:
    if product.available:
        stored = {line.identity: line for line in work.stock.waiting([product.sku])}
        changed = {
            identity: line for identity, line in tally.lines.items() if line.sku == product.sku
        }
        product.serve((stored | changed).values(), tally)


def _one_by_one(
    requests: Sequence[Request[C]],
    work: AllocationWork,
    find: Callable[[Sequence[C], AllocationWork], Known],
    change: Callable[[C, Known, AllocationWork, Tally], Json],
) -> list[Outcome]:
    known = find([request.command for request in requests], work)
    # All locks at once and first, so that a batch of commands cannot deadlock with another.
    work.stock.hold({sku for skus in known.values() for sku in skus}, batches=True)
    outcomes: list[Outcome] = []
    tallies: list[Tally] = []
    for request in requests:
        tally = Tally(job_id=request.job_id)
        try:
            result = change(request.command, known, work, tally)
        except DomainError as error:
            outcomes.append(Rejected(error=error))
        else:
            write([tally], work)
            tallies.append(tally)
            outcomes.append(Succeeded(result=result))
    announce_complete(tallies, work)
    return outcomes


def _find_batches(
    commands: Sequence[ChangeBatchQuantity | ChangeBatchEta], work: AllocationWork
) -> Known:
    skus = work.stock.skus_of({command.reference for command in commands})
    return {reference: {sku} for reference, sku in skus.items()}


def _find_orders(
    commands: Sequence[ChangeLineQuantity | DeallocateLine | CancelOrder], work: AllocationWork
) -> Known:
    orders = work.stock.orders({command.order_id for command in commands})
    return {order_id: {line.sku for line in order.lines} for order_id, order in orders.items()}


def _batch(reference: str, known: Known, work: AllocationWork) -> tuple[Product, Batch]:
    if reference not in known:
        raise BatchNotFound.of(reference)
    [product] = work.stock.hold(known[reference], batches=True).values()
    return product, product.batches[reference]


def _order(order_id: str, known: Known, work: AllocationWork) -> Order:
    if order_id not in known:
        raise OrderNotFound.of(order_id)
    return work.stock.orders([order_id])[order_id]


def _line(
    order_id: str, line_id: str, known: Known, work: AllocationWork
) -> tuple[Order, OrderLine]:
    order = _order(order_id, known, work)
    line = order.line(line_id)
    if line is None:
        raise LineNotFound.of(order_id, line_id)
    return order, line
