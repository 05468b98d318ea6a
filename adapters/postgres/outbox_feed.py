"""The outbox as its relay reads it: in order, by one reader at a time."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime

from sqlalchemy import Connection, Engine

from adapters.postgres.persistence import postgresql_breaker
from adapters.postgres.rows import as_array
from domain.jobs.publishing import RecordedEvent

READER_LOCK = 0x7A11_0B0C
"""Advisory lock of whoever relays the outbox: two at once would mix up the order."""

# The columns are the fields of `RecordedEvent`, in their order.
_UNPUBLISHED = """
SELECT id AS outbox_id, event_id::text, name, aggregate, payload::text, job_id, correlation_id,
       occurred_at, traceparent
FROM outbox WHERE published_at IS NULL ORDER BY id LIMIT %(limit)s"""

_PUBLISHED = """
UPDATE outbox SET published_at = %(moment)s WHERE id = ANY(%(ids)s::bigint[])"""

_FORGET = """
UPDATE outbox SET published_at = NULL
WHERE id IN (SELECT id FROM outbox WHERE published_at IS NOT NULL
             ORDER BY id DESC LIMIT %(at_most)s)"""

_FORGET_AFTER = "UPDATE outbox SET published_at = NULL WHERE published_at > %(moment)s"


class PostgresOutboxFeed:
    """Hands out the events that are not yet published.

    Events of a product, a user or a line of an order are written under its locks, so their ids
    follow the order of their commits. Lines of one order may change in two jobs at once, which
    decide nothing by each other: their events are handed out as they are committed.
    """

    def __init__(self, engine: Engine) -> None:
        # Each statement is a transaction by itself: one round trip instead of three.
        self._engine = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._breaker = postgresql_breaker()

    @contextmanager
    def reading(self) -> Iterator["OutboxReader | None"]:
        """Give the reader while the context lasts; None where somebody else is it."""
        with self._breaker.calling():
            connection = self._engine.connect()
        with connection:
            is_ours = connection.exec_driver_sql(
                f"SELECT pg_try_advisory_lock({READER_LOCK})"
            ).scalar_one()
            try:
                yield OutboxReader(connection) if is_ours else None
            finally:
                # Closing the connection for good gives the lock to the next.
                connection.invalidate()


class OutboxReader:
    """The one reader of the outbox."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def unpublished(self, *, limit: int) -> list[RecordedEvent]:
        """Return the oldest events that are not yet published, in order."""
        rows = self._connection.exec_driver_sql(_UNPUBLISHED, {"limit": limit}).all()
        return [RecordedEvent._make(row) for row in rows]

    def moment(self) -> datetime:
        """Return what the time is, by a clock that is the same for all readers."""
        now: datetime = self._connection.exec_driver_sql("SELECT clock_timestamp()").scalar_one()
        return now

    def mark_published(self, events: Sequence[RecordedEvent], *, moment: datetime) -> None:
        """Note that these events have reached the stream, which holds all until that moment."""
        ids = as_array(str(event.outbox_id) for event in events)
        self._connection.exec_driver_sql(_PUBLISHED, {"ids": ids, "moment": moment})

    def forget(self, *, at_most: int) -> int:
        """Have the newest published events published again: their stream is lost; count them."""
        return self._forget(_FORGET, {"at_most": at_most})

    def forget_after(self, moment: datetime) -> int:
        """Have published again what was published later: their stream lacks it; count it."""
        return self._forget(_FORGET_AFTER, {"moment": moment})

    def _forget(self, statement: str, parameters: dict[str, object]) -> int:
        # For good: once the stream is told so, nobody would notice again.
        self._connection.exec_driver_sql("SET synchronous_commit = on")
        again = self._connection.exec_driver_sql(statement, parameters).rowcount
        self._connection.exec_driver_sql("RESET synchronous_commit")
        return again
