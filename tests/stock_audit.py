"""All that allocation has on record, and whether it agrees with itself."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import NamedTuple

from sqlalchemy import Connection, Row, text

from domain.allocation.events import LineAllocated, LineDeallocated, OrderAllocated
from domain.allocation.orders import Ranking
from domain.messages import Event


class BatchRow(NamedTuple):
    """A batch on record."""

    sku: str
    purchased: int
    allocated: int
    eta: date | None

    @property
    def available(self) -> int:
        return self.purchased - self.allocated


class LineRow(NamedTuple):
    """An order line on record, with what its order agreed to."""

    sku: str
    quantity: int
    state: str
    policy: str
    may_split: bool
    priority: int


class AllocationRow(NamedTuple):
    """Units that a line has of a batch."""

    quantity: int
    strategy: str
    ranking: Ranking
    job_id: str


class MovementRow(NamedTuple):
    """A change of one counter of one batch."""

    job_id: str
    cause: str
    sku: str
    batch_reference: str
    counter: str
    before: int
    after: int
    order_id: str | None
    line_id: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Books:
    """What the tables of allocation hold."""

    products: Mapping[str, int]
    """Version by SKU."""
    batches: Mapping[str, BatchRow]
    orders: Sequence[str]
    """Order ids, first come first."""
    lines: Mapping[tuple[str, str], LineRow]
    """By order id and line id."""
    allocations: Mapping[tuple[str, str, str], AllocationRow]
    """By order id, line id and batch reference."""
    movements: Sequence[MovementRow]
    """In the order in which they were written."""

    def held_by(self, order_id: str, line_id: str) -> dict[str, int]:
        """Return the units that a line has, by batch reference."""
        return {
            reference: row.quantity
            for (order, line, reference), row in self.allocations.items()
            if (order, line) == (order_id, line_id)
        }

    def audit(self) -> None:
        """Fail where anything on record contradicts a rule."""
        self._audit_batches()
        self._audit_movements()
        self._audit_orders()
        held: dict[tuple[str, str], dict[str, int]] = defaultdict(dict)
        for (order_id, line_id, reference), allocation in self.allocations.items():
            held[order_id, line_id][reference] = allocation.quantity
        for identity, line in self.lines.items():
            self._audit_line(identity, line, held[identity])

    def _audit_batches(self) -> None:
        taken: dict[str, int] = defaultdict(int)
        for (order_id, line_id, reference), allocation in self.allocations.items():
            assert allocation.quantity >= 1
            assert self.batches[reference].sku == self.lines[order_id, line_id].sku
            assert reference in {known for known, _, _ in allocation.ranking}
            taken[reference] += allocation.quantity
        for reference, batch in self.batches.items():
            assert 0 <= batch.allocated <= batch.purchased, (reference, batch)
            assert batch.allocated == taken[reference], (reference, batch, taken[reference])
            assert batch.sku in self.products

    def _audit_movements(self) -> None:
        counters: dict[tuple[str, str], int] = defaultdict(int)
        portions: dict[tuple[str, str, str], int] = defaultdict(int)
        for movement in self.movements:
            key = (movement.batch_reference, movement.counter)
            assert movement.before == counters[key], movement
            assert movement.before != movement.after, movement
            assert movement.sku == self.batches[movement.batch_reference].sku, movement
            counters[key] = movement.after
            if movement.order_id is not None and movement.line_id is not None:
                assert movement.counter == "allocated", movement
                portion = (movement.order_id, movement.line_id, movement.batch_reference)
                portions[portion] += movement.after - movement.before
        for reference, batch in self.batches.items():
            assert counters[reference, "purchased"] == batch.purchased, reference
            assert counters[reference, "allocated"] == batch.allocated, reference
        held = {key: allocation.quantity for key, allocation in self.allocations.items()}
        assert {key: quantity for key, quantity in portions.items() if quantity} == held

    def _audit_orders(self) -> None:
        states: dict[str, set[str]] = defaultdict(set)
        for (order_id, _), line in self.lines.items():
            if line.policy == "all_or_nothing":
                states[order_id].add(line.state)
        for order_id, seen in states.items():
            assert "rejected" not in seen or seen <= {"rejected", "cancelled"}, (order_id, seen)

    def _audit_line(
        self, identity: tuple[str, str], line: LineRow, held: Mapping[str, int]
    ) -> None:
        told = (identity, line, held)
        has = sum(held.values())
        assert line.may_split or len(held) <= 1, told
        match line.state:
            case "allocated":
                assert has == line.quantity, told
            case "partially_allocated":
                assert 0 < has < line.quantity, told
                assert line.may_split, told
                assert line.policy == "partial", told
            case "backordered":
                assert has < line.quantity, told
                assert not self._can_be_served(line, held), told
            case "rejected":
                assert not held, told
                assert line.policy != "backorder", told
            case "cancelled":
                assert not held, told
            case _:
                raise AssertionError(told)

    def _can_be_served(self, line: LineRow, held: Mapping[str, int]) -> bool:
        free = {
            reference: batch.available
            for reference, batch in self.batches.items()
            if batch.sku == line.sku
        }
        if line.may_split:
            return any(free.values())
        lacks = line.quantity - sum(held.values())
        return any(
            available >= (lacks if reference in held else line.quantity)
            for reference, available in free.items()
        )


Key = tuple[str, str, str]
"""Order id, line id and batch reference."""


def portions_of(events: Iterable[Event]) -> Iterator[tuple[Key, int]]:
    """Yield the units that events tell of, negative where they were taken from a line."""
    for event in events:
        match event:
            case OrderAllocated(order_id=order_id, lines=lines):
                changes = [(1, line.line_id, line.portions) for line in lines]
            case LineAllocated(order_id=order_id, line_id=line_id, portions=portions):
                changes = [(1, line_id, portions)]
            case LineDeallocated(order_id=order_id, line_id=line_id, portions=portions):
                changes = [(-1, line_id, portions)]
            case _:
                continue
        for sign, line_id, portions in changes:
            for portion in portions:
                yield (order_id, line_id, portion.batch), sign * portion.quantity


def read_portions(connection: Connection) -> list[tuple[Key, int]]:
    """Read from the outbox what `portions_of` yields."""
    question = """
        SELECT payload ->> 'order_id' AS order_id, line ->> 'line_id' AS line_id, batch,
               CASE name WHEN 'LineDeallocated' THEN -quantity ELSE quantity END AS quantity
        FROM outbox,
             jsonb_array_elements(coalesce(payload -> 'lines', jsonb_build_array(payload))) AS line,
             jsonb_to_recordset(line -> 'portions') AS portion (batch text, quantity int)
        WHERE name IN ('OrderAllocated', 'LineAllocated', 'LineDeallocated') ORDER BY id"""
    return [
        ((row.order_id, row.line_id, row.batch), row.quantity)
        for row in connection.execute(text(question))
    ]


def replay(portions: Iterable[tuple[Key, int]]) -> dict[Key, int]:
    """Return what who believes the events thinks that each line has of each batch."""
    held: dict[Key, int] = defaultdict(int)
    for key, change in portions:
        held[key] += change
        assert held[key] >= 0, (key, change)
    return {key: quantity for key, quantity in held.items() if quantity}


def read_books(connection: Connection) -> Books:
    """Read the tables."""

    def rows(question: str) -> Sequence[Row[tuple[object, ...]]]:
        return connection.execute(text(question)).all()

    return Books(
        products={row.sku: row.version for row in rows("SELECT * FROM product")},
        batches={
            row.reference: BatchRow(row.sku, row.purchased, row.allocated, row.eta)
            for row in rows("SELECT * FROM batch")
        },
        orders=[row.order_id for row in rows("SELECT * FROM sales_order ORDER BY sequence")],
        lines={
            (row.order_id, row.line_id): LineRow(
                row.sku, row.quantity, row.state, row.policy, row.may_split, row.priority
            )
            for row in rows("SELECT * FROM order_line JOIN sales_order USING (order_id)")
        },
        allocations={
            (row.order_id, row.line_id, row.batch_reference): AllocationRow(
                row.quantity,
                row.strategy,
                tuple(
                    (reference, available, date.fromisoformat(eta) if eta else None)
                    for reference, available, eta in row.ranking
                ),
                row.job_id,
            )
            for row in rows("SELECT * FROM allocation")
        },
        movements=[
            MovementRow(
                row.job_id,
                row.cause,
                row.sku,
                row.batch_reference,
                row.counter,
                row.before,
                row.after,
                row.order_id,
                row.line_id,
            )
            for row in rows("SELECT * FROM stock_movement ORDER BY id")
        ],
    )
