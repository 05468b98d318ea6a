"""The books of stock, added up in several ways that have to agree."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine, RowMapping

from domain.allocation.orders import LineState, OrderState

_BOOKS = """
WITH held AS (
    SELECT batch_reference AS reference, sum(quantity) AS units FROM allocation GROUP BY 1
), moved AS (
    SELECT batch_reference AS reference,
           sum(after - before) FILTER (WHERE counter = 'allocated') AS allocated,
           sum(after - before) FILTER (WHERE counter = 'purchased') AS purchased
    FROM stock_movement GROUP BY 1
)
SELECT count(*) AS batches,
       coalesce(sum(batch.purchased), 0)::bigint AS purchased,
       coalesce(sum(batch.allocated), 0)::bigint AS counted,
       coalesce(sum(held.units), 0)::bigint AS held,
       coalesce(sum(moved.allocated), 0)::bigint AS moved,
       count(*) FILTER (WHERE batch.allocated > batch.purchased) AS over_allocated,
       count(*) FILTER (
           WHERE batch.allocated <> coalesce(held.units, 0)
              OR batch.allocated <> coalesce(moved.allocated, 0)
              OR batch.purchased <> coalesce(moved.purchased, 0)) AS disagreeing
FROM batch LEFT JOIN held USING (reference) LEFT JOIN moved USING (reference)"""

_PACE = """
SELECT count(*) AS jobs,
       coalesce(extract(epoch FROM max(finished_at) - min(created_at)), 0)::float AS seconds
FROM job WHERE correlation_id = %(correlation_id)s"""

_MOVED = """
SELECT count(DISTINCT (order_id, line_id)) FILTER (WHERE after < before) AS released,
       count(DISTINCT (order_id, line_id)) FILTER (WHERE after > before) AS placed
FROM stock_movement
WHERE job_id = %(job_id)s AND counter = 'allocated' AND order_id IS NOT NULL"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Books:
    """Stock added up over all batches, in units unless said otherwise."""

    batches: int
    purchased: int
    counted: int
    """Allocated, by the batches' own counters."""
    held: int
    """Allocated, by what order lines hold."""
    moved: int
    """Allocated, by the sum of all movements."""
    over_allocated: int
    """Batches that have more allocated than purchased."""
    disagreeing: int
    """Batches whose counters, allocations and movements differ."""

    @property
    def balance(self) -> bool:
        return (
            self.counted == self.held == self.moved
            and self.over_allocated == 0
            and self.disagreeing == 0
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """Order lines whose stock a job moved."""

    released: int
    """Lines that lost units."""
    placed: int
    """Lines that were given units, of other batches."""


class StockAudit:
    """Adds up what is on record; each call is a transaction of its own."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def books(self) -> Books:
        [row] = self._read(_BOOKS)
        return Books(**row)

    def orders(self) -> Counter[OrderState]:
        """Count orders by state."""
        rows = self._read(
            "SELECT array_agg(DISTINCT state) AS states FROM order_line GROUP BY order_id"
        )
        return Counter(OrderState.of(LineState(state) for state in row["states"]) for row in rows)

    def pace(self, correlation_id: str) -> tuple[int, float]:
        """Return how many jobs were done, and the seconds from the first accepted to the last."""
        [row] = self._read(_PACE, correlation_id=correlation_id)
        return row["jobs"], row["seconds"]

    def moved_by(self, job_id: str) -> Moved:
        [row] = self._read(_MOVED, job_id=job_id)
        return Moved(**row)

    def busiest_batch(self) -> tuple[str, int]:
        """Return the batch with the most units allocated, and how many."""
        [row] = self._read(
            "SELECT reference, allocated FROM batch ORDER BY allocated DESC, reference LIMIT 1"
        )
        return row["reference"], row["allocated"]

    def contested_line(self) -> tuple[str, str] | None:
        """Return a line for which several batches were considered."""
        rows = self._read(
            "SELECT order_id, line_id FROM allocation"
            " ORDER BY jsonb_array_length(ranking) DESC, order_id, line_id LIMIT 1"
        )
        return (rows[0]["order_id"], rows[0]["line_id"]) if rows else None

    @contextmanager
    def batch_locked(self, reference: str) -> Iterator[None]:
        """Hold a batch's row, so that nothing can be allocated from it meanwhile."""
        with self._engine.begin() as connection:
            connection.exec_driver_sql(
                "SELECT FROM batch WHERE reference = %(reference)s FOR NO KEY UPDATE",
                {"reference": reference},
            )
            yield

    def _read(self, statement: str, **parameters: Any) -> Sequence[RowMapping]:
        with self._engine.connect() as connection:
            return connection.exec_driver_sql(statement, parameters).mappings().all()
