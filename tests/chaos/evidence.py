"""What the system holds when all is over, read with SQL and Redis commands of our own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import psycopg
import redis
from psycopg.rows import class_row

from tests.chaos.audit_trail import TABLE as MOVES
from tests.chaos.audit_trail import JobMove

STREAM = "tallyman:events"

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRow:
    """A job of the ledger."""

    id: str
    kind: str
    door: str
    payload: Mapping[str, Any]
    state: str
    attempts: int
    max_attempts: int
    result: Mapping[str, Any] | None
    error: Mapping[str, Any] | None
    is_scrubbed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderRow:
    """An order, without its lines."""

    order_id: str
    job_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LineRow:
    """A line of an order."""

    order_id: str
    line_id: str
    sku: str
    quantity: int
    state: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchRow:
    """A batch of stock."""

    reference: str
    sku: str
    purchased: int
    allocated: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AllocationRow:
    """Units of a batch that a line has."""

    order_id: str
    line_id: str
    batch_reference: str
    quantity: int
    job_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MovementRow:
    """A change of one counter of one batch."""

    id: int
    job_id: str
    cause: str
    sku: str
    batch_reference: str
    counter: str
    before: int
    after: int
    order_id: str | None
    line_id: str | None

    @property
    def change(self) -> int:
        return self.after - self.before


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRow:
    """A row of the outbox."""

    id: int
    event_id: str
    name: str
    aggregate: str
    payload: Mapping[str, Any]
    job_id: str
    published: float | None
    """When it was noted as published, in seconds since 1970."""

    def changes(self) -> Sequence[tuple[int, Mapping[str, Any]]]:
        """Return the lines that it tells were given units (1), or lost them (-1)."""
        match self.name:
            case "OrderAllocated":
                return [(1, line) for line in self.payload["lines"]]
            case "LineAllocated":
                return [(1, self.payload)]
            case "LineDeallocated":
                return [(-1, self.payload)]
            case _:
                return []


@dataclass(frozen=True, slots=True, kw_only=True)
class UserRow:
    """A user."""

    id: str
    status: str
    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRow:
    """An import's run."""

    id: str
    file_name: str
    target: str
    state: str
    rows: int
    rows_done: int
    ends: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """All of it, as one moment saw it."""

    jobs: Mapping[str, JobRow]
    moves: Sequence[JobMove] | None
    """Every state that a job was in, where the trail was laid."""
    orders: Mapping[str, OrderRow]
    lines: Sequence[LineRow]
    batches: Mapping[str, BatchRow]
    allocations: Sequence[AllocationRow]
    movements: Sequence[MovementRow]
    """In the order in which they were written."""
    events: Sequence[EventRow]
    """In the order in which they were written."""
    users: Mapping[str, UserRow]
    runs: Sequence[RunRow]
    stream: Sequence[tuple[str, str]] | None
    """Entry and event id of what the stream still holds; None where nobody looked."""


def collect(database_url: str, *, stream_url: str | None) -> Evidence:
    """Read it all in one snapshot."""
    with psycopg.connect(plain(database_url)) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.read_only = True
        return Evidence(
            jobs={
                row.id: row
                for row in _rows(
                    connection,
                    JobRow,
                    """SELECT id, kind, door, payload, state, attempts, max_attempts, result, error,
                              scrubbed_at IS NOT NULL AS is_scrubbed FROM job""",
                )
            },
            moves=_moves(connection),
            orders={
                row.order_id: row
                for row in _rows(connection, OrderRow, "SELECT order_id, job_id FROM sales_order")
            },
            lines=_rows(
                connection,
                LineRow,
                """SELECT order_id, line_id, sku, quantity, state FROM order_line
                   ORDER BY order_id, position""",
            ),
            batches={
                row.reference: row
                for row in _rows(
                    connection, BatchRow, "SELECT reference, sku, purchased, allocated FROM batch"
                )
            },
            allocations=_rows(
                connection,
                AllocationRow,
                "SELECT order_id, line_id, batch_reference, quantity, job_id FROM allocation",
            ),
            movements=_rows(
                connection,
                MovementRow,
                """SELECT id, job_id, cause, sku, batch_reference, counter, before, after,
                          order_id, line_id FROM stock_movement ORDER BY id""",
            ),
            events=_rows(
                connection,
                EventRow,
                """SELECT id, event_id::text, name, aggregate, payload, job_id,
                          extract(epoch FROM published_at)::float AS published
                   FROM outbox ORDER BY id""",
            ),
            users={
                row.id: row
                for row in _rows(
                    connection, UserRow, "SELECT id, status, version FROM user_account"
                )
            },
            runs=_rows(
                connection,
                RunRow,
                "SELECT id, file_name, target, state, rows, rows_done, ends FROM import_run",
            ),
            stream=None if stream_url is None else _stream(stream_url),
        )


def plain(database_url: str) -> str:
    """Return an address as the driver takes it."""
    return database_url.replace("postgresql+psycopg://", "postgresql://")


def _moves(connection: psycopg.Connection[Any]) -> list[JobMove] | None:
    laid = connection.execute("SELECT to_regclass(%s) IS NOT NULL", [MOVES]).fetchone()
    if not (laid and laid[0]):
        return None
    return _rows(
        connection,
        JobMove,
        f"""SELECT job_id, before, after, attempts, answer
            FROM {MOVES} ORDER BY id""",
    )


def _rows(connection: psycopg.Connection[Any], row: type[T], query: str) -> list[T]:
    with connection.cursor(row_factory=class_row(row)) as cursor:
        return cursor.execute(query.encode()).fetchall()


def _stream(url: str) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    after = "-"
    with redis.Redis.from_url(url, decode_responses=True) as client:
        while entries := client.xrange(STREAM, min=after, count=10_000):
            found += [(entry, fields["event_id"]) for entry, fields in entries]
            after = f"({entries[-1][0]}"
    return found
