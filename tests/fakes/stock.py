"""Stock in memory, held to the real thing by the contract tests."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from domain.allocation.batches import Batch
from domain.allocation.orders import Allocation, LineState, Order, OrderLine, OrderState, Terms
from domain.allocation.products import Product
from domain.allocation.tally import StockMovement, Tally
from domain.errors import StaleDecision
from domain.messages import Event
from tests.stock_audit import AllocationRow, BatchRow, Books, LineRow, MovementRow


@dataclass(frozen=True, slots=True, kw_only=True)
class _Placed:
    terms: Terms
    fingerprint: str
    line_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Held:
    allocation: Allocation
    job_id: str


class FakeStock:
    """Keeps copies, as tables do: what is not saved has not happened."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self._versions: dict[str, int] = {}
        self._batches: dict[str, Batch] = {}
        self._orders: dict[str, _Placed] = {}
        self._lines: dict[tuple[str, str], OrderLine] = {}
        self._held: dict[tuple[str, str, str], _Held] = {}
        self._movements: list[MovementRow] = []
        self._unsettled: list[tuple[str, StockMovement]] = []

    def look(
        self, order_ids: Collection[str], skus: Collection[str]
    ) -> tuple[dict[str, Order], dict[str, Product]]:
        return self.orders(order_ids), self.glance(skus)

    def glance(self, skus: Collection[str]) -> dict[str, Product]:
        self._read("glance")
        return self._products(skus, only_free=True)

    def hold(self, skus: Collection[str], *, batches: bool) -> dict[str, Product]:
        self._read("hold with batches" if batches else "hold")
        return self._products(skus)

    def introduce(self, skus: Collection[str]) -> None:
        self._read("introduce")
        for sku in sorted(skus):
            self._versions.setdefault(sku, 0)

    def skus_of(self, references: Collection[str]) -> Mapping[str, str]:
        self._read("skus_of")
        return {r: self._batches[r].sku for r in references if r in self._batches}

    def orders(self, order_ids: Collection[str]) -> dict[str, Order]:
        self._read("orders")
        return {
            order_id: Order(
                order_id=order_id,
                terms=placed.terms,
                fingerprint=placed.fingerprint,
                lines=[self._line((order_id, line_id)) for line_id in placed.line_ids],
            )
            for order_id, placed in self._orders.items()
            if order_id in order_ids
        }

    def waiting(self, skus: Collection[str]) -> list[OrderLine]:
        self._read("waiting")
        return [
            self._line(identity)
            for identity, line in self._lines.items()
            if line.sku in skus and line.state is LineState.BACKORDERED
        ]

    def holders(self, reference: str) -> list[OrderLine]:
        self._read("holders")
        return [
            self._line((order_id, line_id))
            for order_id, line_id, batch in self._held
            if batch == reference
        ]

    def complete(self, order_ids: Collection[str]) -> list[str]:
        self._read("complete")
        orders = self.orders(order_ids)
        return sorted(i for i, order in orders.items() if order.state is OrderState.ALLOCATED)

    def save(self, tallies: Iterable[Tally]) -> None:
        self.calls.append("save")
        tallies = list(tallies)
        for tally in tallies:
            for batch in tally.batches.values():
                self._save_batch(batch)
            for order in tally.orders:
                self._add_order(order)
        for tally in tallies:
            self._versions |= tally.versions
            for identity, line in tally.lines.items():
                self._lines[identity] = replace(line, allocations={})
            self._save_allocations(tally)
            self._unsettled += [(tally.job_id, movement) for movement in tally.movements]

    def flush(self) -> None:
        """Move the counters, as the end of a unit of work does."""
        unsettled, self._unsettled = self._unsettled, []
        for job_id, movement in unsettled:
            batch = self._batches[movement.batch_reference]
            before = getattr(batch, movement.counter)
            setattr(batch, movement.counter, before + movement.change)
            self._movements.append(_written(job_id, movement, before))
        for _, movement in unsettled:
            batch = self._batches[movement.batch_reference]
            if not 0 <= batch.allocated <= batch.purchased:
                raise StaleDecision("a batch has too few units left")

    def books(self) -> Books:
        """Return all that is on record."""
        self.flush()
        return Books(
            products=dict(self._versions),
            batches={
                batch.reference: BatchRow(batch.sku, batch.purchased, batch.allocated, batch.eta)
                for batch in self._batches.values()
            },
            orders=list(self._orders),
            lines={
                identity: LineRow(
                    line.sku,
                    line.quantity,
                    line.state,
                    line.terms.policy,
                    line.terms.may_split,
                    line.terms.priority,
                )
                for identity, line in self._lines.items()
            },
            allocations={
                key: AllocationRow(
                    held.allocation.quantity,
                    held.allocation.strategy,
                    held.allocation.ranking,
                    held.job_id,
                )
                for key, held in self._held.items()
            },
            movements=list(self._movements),
        )

    def _read(self, call: str) -> None:
        self.calls.append(call)
        self.flush()

    def _products(self, skus: Collection[str], *, only_free: bool = False) -> dict[str, Product]:
        return {
            sku: Product(
                sku=sku,
                version=self._versions[sku],
                batches={
                    reference: replace(batch)
                    for reference, batch in sorted(self._batches.items())
                    if batch.sku == sku and (batch.available or not only_free)
                },
            )
            for sku in sorted(skus)
            if sku in self._versions
        }

    def _line(self, identity: tuple[str, str]) -> OrderLine:
        return replace(
            self._lines[identity],
            terms=self._orders[identity[0]].terms,
            allocations={
                reference: held.allocation._replace(eta=self._batches[reference].eta)
                for (order_id, line_id, reference), held in sorted(self._held.items())
                if (order_id, line_id) == identity
            },
        )

    def _save_batch(self, batch: Batch) -> None:
        known = self._batches.get(batch.reference)
        if known is None:
            self._batches[batch.reference] = replace(batch, purchased=0, allocated=0)
        elif known.fingerprint != batch.fingerprint:
            raise StaleDecision("a batch was created meanwhile")
        else:
            known.eta = batch.eta

    def _add_order(self, order: Order) -> None:
        if order.order_id in self._orders:
            raise StaleDecision("an order was placed meanwhile")
        self._orders[order.order_id] = _Placed(
            terms=order.terms._replace(sequence=len(self._orders) + 1),
            fingerprint=order.fingerprint,
            line_ids=tuple(line.line_id for line in order.lines),
        )
        for line in order.lines:
            self._lines[line.identity] = replace(line, allocations={})

    def _save_allocations(self, tally: Tally) -> None:
        for movement in tally.movements:
            if movement.order_id is None or movement.line_id is None:
                continue
            line = tally.lines[movement.order_id, movement.line_id]
            key = (*line.identity, movement.batch_reference)
            if movement.batch_reference in line.allocations:
                self._held[key] = _Held(
                    allocation=line.allocations[movement.batch_reference], job_id=tally.job_id
                )
            else:
                self._held.pop(key, None)


class FakeAllocationWork:
    """A unit of work whose events can be looked at."""

    def __init__(self, stock: FakeStock | None = None, *, locks_first: bool = False) -> None:
        self.stock = stock or FakeStock()
        self.locks_first = locks_first
        self.recorded: list[tuple[str, Event]] = []

    def record(self, job_id: str, events: Iterable[Event]) -> None:
        self.recorded.extend((job_id, event) for event in events)

    @property
    def events(self) -> Sequence[Event]:
        return [event for _, event in self.recorded]


def _written(job_id: str, movement: StockMovement, before: int) -> MovementRow:
    return MovementRow(
        job_id,
        movement.cause,
        movement.sku,
        movement.batch_reference,
        movement.counter,
        before,
        before + movement.change,
        movement.order_id,
        movement.line_id,
    )
