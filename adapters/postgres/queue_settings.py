"""What operators set for queues: read by relays and workers many times a second."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine, Row

from adapters.postgres.ledger import CHANNEL
from domain.jobs.queues import QueueSettings

COLUMNS = """
    paused_at, pause_reason, coalesce(priority, 0) AS priority, jobs_per_second, most_waiting,
    coalesce(extract(epoch FROM next_job_at - clock_timestamp()), 0)::float8 AS wait_seconds"""
"""What `settings_of` reads, of a row of `queue` or of none."""

_PAUSE = """
INSERT INTO queue (name, paused_at, pause_reason)
SELECT unnest(%(names)s::text[]), now(), %(reason)s
ON CONFLICT (name) DO UPDATE SET
    paused_at = coalesce(queue.paused_at, excluded.paused_at),
    pause_reason = coalesce(excluded.pause_reason, queue.pause_reason),
    changed_at = now()
RETURNING name, paused_at, pause_reason"""

_RESUME = """
UPDATE queue SET paused_at = NULL, pause_reason = NULL, changed_at = now()
WHERE name = ANY(%(names)s) AND paused_at IS NOT NULL
RETURNING name"""

_SET = """
INSERT INTO queue (name, {column}) VALUES (%(name)s, %(value)s)
ON CONFLICT (name) DO UPDATE SET {column} = excluded.{column}, changed_at = now()"""

_FORGET_TURN = "UPDATE queue SET next_job_at = NULL WHERE name = %(name)s"


def read(connection: Connection) -> dict[str, QueueSettings]:
    """Return what is set, for the queues for which something was."""
    rows = connection.exec_driver_sql(f"SELECT name, {COLUMNS} FROM queue")
    return {row.name: settings_of(row) for row in rows}


def settings_of(row: Row[Any]) -> QueueSettings:
    """Read a row that holds a queue's name and the columns."""
    return QueueSettings(
        name=row.name,
        paused_at=row.paused_at,
        pause_reason=row.pause_reason,
        priority=row.priority,
        jobs_per_second=row.jobs_per_second,
        most_waiting=row.most_waiting,
        wait_seconds=row.wait_seconds,
    )


class PostgresQueueSettings:
    """Reads and changes them; each call is a transaction of its own, and wakes the relays."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def read(self) -> dict[str, QueueSettings]:
        """Return what is set, for the queues for which something was."""
        # Committed: psycopg forgets, at a rollback, all that a connection has prepared.
        with self._engine.begin() as connection:
            return read(connection)

    def pause(
        self, names: Sequence[str], *, reason: str | None
    ) -> list[tuple[str, datetime, str | None]]:
        """Pause queues; return (name, since when, why) of each.

        One that is paused stays so since then, with the reason that it had if there is no other.
        """
        with self._engine.begin() as connection:
            # In one order, so that two operators do not deadlock.
            rows = connection.exec_driver_sql(_PAUSE, {"names": sorted(names), "reason": reason})
            paused = [(row.name, row.paused_at, row.pause_reason) for row in rows]
            connection.exec_driver_sql(f"NOTIFY {CHANNEL}")
        return paused

    def resume(self, names: Sequence[str]) -> list[str]:
        """Let queues go on; return those that were paused."""
        with self._engine.begin() as connection:
            resumed = list(connection.exec_driver_sql(_RESUME, {"names": list(names)}).scalars())
            connection.exec_driver_sql(f"NOTIFY {CHANNEL}")
        return resumed

    def set_rate(self, name: str, jobs_per_second: float | None) -> None:
        with self._engine.begin() as connection:
            _set(connection, name, "jobs_per_second", jobs_per_second)
            # Its turn was reckoned by the old rate.
            connection.exec_driver_sql(_FORGET_TURN, {"name": name})

    def set_priority(self, name: str, priority: int) -> None:
        with self._engine.begin() as connection:
            _set(connection, name, "priority", priority)

    def set_limit(self, name: str, most_waiting: int | None) -> None:
        with self._engine.begin() as connection:
            _set(connection, name, "most_waiting", most_waiting)


def _set(connection: Connection, name: str, column: str, value: float | None) -> None:
    connection.exec_driver_sql(_SET.format(column=column), {"name": name, "value": value})
    connection.exec_driver_sql(f"NOTIFY {CHANNEL}")
