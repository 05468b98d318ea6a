"""Stock and orders, as operators ask for them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from sqlalchemy import Engine, Row

from adapters.postgres.statements import Statements
from adapters.postgres.stock import PostgresStock
from domain.allocation.errors import OrderNotFound
from domain.allocation.orders import LineState, Order, OrderState

CHUNK = 1_000
"""Orders read at once while orders of one state are looked for."""

_WAITING = """
SELECT line.order_id, line.line_id, line.sku, line.quantity, priority, sequence,
       coalesce((SELECT sum(allocation.quantity) FROM allocation
                 WHERE allocation.order_id = line.order_id
                   AND allocation.line_id = line.line_id), 0)::bigint AS allocated
FROM order_line AS line JOIN sales_order USING (order_id)
WHERE line.state = 'backordered'"""

_STOCK = f"""
WITH held AS (
    SELECT sku, sum(purchased) AS purchased, sum(allocated) AS allocated,
           min(eta) FILTER (WHERE allocated < purchased) AS next_eta
    FROM batch GROUP BY sku
), waiting AS (
    SELECT sku, sum(quantity - allocated) AS backordered FROM ({_WAITING}) AS line GROUP BY sku
)
SELECT sku, coalesce(purchased, 0)::bigint AS purchased,
       coalesce(allocated, 0)::bigint AS allocated,
       coalesce(backordered, 0)::bigint AS backordered, next_eta, count(*) OVER () AS products
FROM product LEFT JOIN held USING (sku) LEFT JOIN waiting USING (sku)
WHERE %(sku)s::text IS NULL OR sku = %(sku)s
ORDER BY sku LIMIT %(limit)s"""

_BATCHES = """
SELECT reference, eta, purchased, allocated FROM batch WHERE sku = %(sku)s
ORDER BY eta NULLS FIRST, reference"""

_ORDERS = """
SELECT placed.order_id, sequence, policy, priority, job_id, created_at,
       array_agg(line.state) AS states
FROM (SELECT * FROM sales_order WHERE {fits} ORDER BY sequence DESC LIMIT %(limit)s) AS placed
JOIN order_line AS line ON line.order_id = placed.order_id
GROUP BY placed.order_id, sequence, policy, priority, job_id, created_at
ORDER BY sequence DESC"""

# Lines that have all they asked for are found by what they have: there are too many of them for an
# index that every order pays for.
_OF_PRODUCT = """
order_id IN (
    SELECT order_id FROM order_line
    WHERE sku = %(sku)s
      AND state IN ('backordered', 'partially_allocated', 'rejected', 'cancelled')
    UNION ALL
    SELECT order_id FROM allocation
    WHERE batch_reference = ANY (ARRAY(SELECT reference FROM batch WHERE sku = %(sku)s))
)"""

_WITH_A_LINE = """
EXISTS (SELECT FROM order_line AS line
        WHERE line.order_id = sales_order.order_id AND line.state IN ({}))"""

WITH_A_LINE: Mapping[OrderState, Sequence[LineState]] = {
    OrderState.PENDING: (LineState.PENDING,),
    OrderState.ALLOCATED: (LineState.ALLOCATED,),
    OrderState.PARTIALLY_ALLOCATED: (LineState.PARTIALLY_ALLOCATED, LineState.REJECTED),
    OrderState.BACKORDERED: (LineState.BACKORDERED,),
    OrderState.REJECTED: (LineState.REJECTED,),
    OrderState.CANCELLED: (LineState.CANCELLED,),
}
"""States of which an order has a line that is in this state: the others need not be looked at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProductView:
    """The stock of one product, in units."""

    sku: str
    purchased: int
    allocated: int
    available: int
    backordered: int
    """Units that lines wait for."""
    next_eta: date | None
    """Day on which the next units arrive that nobody has; null where none are on their way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchView:
    """A batch, in units."""

    reference: str
    eta: date | None
    purchased: int
    allocated: int
    available: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingLine:
    """A line that waits for stock."""

    order_id: str
    line_id: str
    quantity: int
    allocated: int
    outstanding: int
    priority: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderView:
    """An order in a list."""

    order_id: str
    state: OrderState
    lines: int
    policy: str
    priority: int
    job_id: str
    created_at: datetime


class StockQueries:
    """Reads stock; each call is a transaction of its own."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def products(self, *, limit: int) -> tuple[list[ProductView], int]:
        """Return the first products by SKU, and how many there are."""
        rows = self._read(_STOCK, sku=None, limit=limit)
        return [_product(row) for row in rows], rows[0].products if rows else 0

    def product(self, sku: str) -> ProductView | None:
        rows = self._read(_STOCK, sku=sku, limit=1)
        return _product(rows[0]) if rows else None

    def batches(self, sku: str) -> list[BatchView]:
        """Return the batches of a product, what is on hand first."""
        return [
            BatchView(
                reference=row.reference,
                eta=row.eta,
                purchased=row.purchased,
                allocated=row.allocated,
                available=row.purchased - row.allocated,
            )
            for row in self._read(_BATCHES, sku=sku)
        ]

    def waiting(self, sku: str) -> list[WaitingLine]:
        """Return the lines that wait for a product, in the order in which they are served."""
        rows = self._read(
            f"{_WAITING} AND line.sku = %(sku)s"
            " ORDER BY priority DESC, sequence, line.order_id, line.line_id",
            sku=sku,
        )
        return [
            WaitingLine(
                order_id=row.order_id,
                line_id=row.line_id,
                quantity=row.quantity,
                allocated=row.allocated,
                outstanding=row.quantity - row.allocated,
                priority=row.priority,
            )
            for row in rows
        ]

    def order(self, order_id: str) -> Order | None:
        """Return an order with its lines, their allocations, and why each was made."""
        with self._engine.connect() as connection:
            stock = PostgresStock(Statements(connection), reached=lambda _: None)
            return stock.orders([order_id]).get(order_id)

    def orders(
        self,
        *,
        state: OrderState | None = None,
        sku: str | None = None,
        after: str | None = None,
        limit: int,
    ) -> list[OrderView]:
        """Return orders, the newest first; after the one of this id where one is named.

        Raises:
            OrderNotFound: There is none of that id.
        """
        found: list[OrderView] = []
        for order in self._newest_orders(
            [] if state is None else WITH_A_LINE[state],
            sku,
            before=self._sequence(after) if after is not None else None,
            chunk=limit if state is None else CHUNK,
        ):
            if state in (None, order.state):
                found.append(order)
            if len(found) >= limit:
                break
        return found

    def _sequence(self, order_id: str) -> int:
        rows = self._read("SELECT sequence FROM sales_order WHERE order_id = %(id)s", id=order_id)
        if not rows:
            raise OrderNotFound.of(order_id)
        return int(rows[0].sequence)

    def _newest_orders(
        self,
        line_states: Sequence[LineState],
        sku: str | None,
        *,
        before: int | None,
        chunk: int,
    ) -> Iterator[OrderView]:
        # What state an order is in is for the domain to say, so one is looked for by reading.
        named = ", ".join(f"'{state.value}'" for state in line_states)
        while True:
            filters = [
                *(["sequence < %(before)s"] if before is not None else []),
                *([_OF_PRODUCT] if sku is not None else []),
                *([_WITH_A_LINE.format(named)] if named else []),
            ]
            rows = self._read(
                _ORDERS.format(fits=" AND ".join(filters) or "true"),
                before=before,
                sku=sku,
                limit=chunk,
            )
            for row in rows:
                yield OrderView(
                    order_id=row.order_id,
                    state=OrderState.of(LineState(state) for state in row.states),
                    lines=len(row.states),
                    policy=row.policy,
                    priority=row.priority,
                    job_id=row.job_id,
                    created_at=row.created_at,
                )
            if len(rows) < chunk:
                return
            before = rows[-1].sequence

    def _read(self, statement: str, **parameters: Any) -> Sequence[Row[Any]]:
        with self._engine.connect() as connection:
            return connection.exec_driver_sql(statement, parameters).all()


def _product(row: Row[Any]) -> ProductView:
    return ProductView(
        sku=row.sku,
        purchased=row.purchased,
        allocated=row.allocated,
        available=row.purchased - row.allocated,
        backordered=row.backordered,
        next_eta=row.next_eta,
    )
