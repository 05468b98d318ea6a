"""The relay's view of the ledger: what is due, and what has to be published again."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from sqlalchemy import Connection, Engine

from adapters.postgres.ledger import CHANNEL, LEASE
from domain.jobs.dispatching import DueJob

HEAD_START = "interval '50 seconds'"
"""By how much a job's first lease is cut short while no message waits in its queue: its own is
then with a worker, who holds the job's row, or lost."""

_CLAIM = f"""
WITH due AS MATERIALIZED (
    SELECT id FROM job
    WHERE state IN ('queued', 'retry') AND queue = %(queue)s
      AND next_dispatch <= now() + CASE WHEN %(is_idle)s THEN {HEAD_START} ELSE '0' END
      AND (next_dispatch <= now() OR dispatches = 1)
    ORDER BY priority DESC, next_dispatch, id LIMIT %(limit)s
    FOR NO KEY UPDATE SKIP LOCKED
)
UPDATE job SET
    dispatches = dispatches + 1,
    next_dispatch = now() + {LEASE} * 2 ^ least(dispatches, 4)
FROM due WHERE job.id = due.id
RETURNING job.id, job.kind, job.priority, job.dispatches, job.correlation_id, job.created_at"""

_RELEASE = """
UPDATE job SET dispatches = dispatches - 1, next_dispatch = now()
WHERE id = ANY(%(ids)s) AND state IN ('queued', 'retry') AND dispatches > 0"""

_FORGET = """
UPDATE job SET dispatches = 0, next_dispatch = now()
WHERE id IN (SELECT id FROM job WHERE state IN ('queued', 'retry') AND dispatches > 0
             FOR NO KEY UPDATE SKIP LOCKED)"""


class PostgresDispatches:
    """What the relay asks of the ledger; each call is a transaction of its own."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def claim_due(self, queue: str, *, limit: int, is_idle: bool) -> list[DueJob]:
        """Take what is due, the most urgent first, and note that it is being published.

        Where the queue `is_idle`, what was published more than some seconds ago and is in no
        worker's hands is due too: its message is lost.
        """
        parameters = {"queue": queue, "limit": limit, "is_idle": is_idle}
        with self._engine.begin() as connection:
            rows = connection.exec_driver_sql(_CLAIM, parameters).all()
        # An UPDATE returns rows in no order.
        rows = sorted(rows, key=lambda row: (-row.priority, row.created_at, row.id))
        return [
            DueJob(
                job_id=row.id,
                kind=row.kind,
                priority=row.priority,
                dispatches=row.dispatches,
                correlation_id=row.correlation_id,
            )
            for row in rows
        ]

    def release(self, job_ids: Sequence[str]) -> None:
        """Undo `claim_due` for jobs that could not be published."""
        with self._engine.begin() as connection:
            connection.exec_driver_sql(_RELEASE, {"ids": list(job_ids)})

    def forget(self) -> int:
        """Make all that was published due again: the broker has lost its memory."""
        with self._engine.begin() as connection:
            return connection.exec_driver_sql(_FORGET).rowcount

    @contextmanager
    def listening(self) -> Iterator["Bell"]:
        """Hear of accepted jobs while the context lasts."""
        with self._engine.connect() as connection:
            connection.exec_driver_sql(f"LISTEN {CHANNEL}")
            connection.commit()
            driver = connection.connection.driver_connection
            assert driver is not None  # noqa: S101  a checked-out connection has its driver's
            driver.autocommit = True
            try:
                yield Bell(connection)
            finally:
                connection.invalidate()


class Bell:
    """Rings when jobs are accepted."""

    def __init__(self, connection: Connection) -> None:
        self._driver = connection.connection.driver_connection

    def wait(self, seconds: float) -> bool:
        """Wait until it rings, at most this long; tell whether it did."""
        assert self._driver is not None  # noqa: S101  as above
        return any(self._driver.notifies(timeout=seconds, stop_after=1))
