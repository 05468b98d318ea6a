"""The relay's view of the ledger: what is due, and what has to be published again."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Engine

from adapters.postgres import queue_settings
from adapters.postgres.ledger import CHANNEL, LEASE
from adapters.postgres.persistence import postgresql_breaker
from domain.jobs.dispatching import Due, DueJob
from domain.jobs.queues import BURST_SECONDS, QueueSettings
from domain.kinds import KINDS

HEAD_START = "interval '50 seconds'"
"""By how much a job's first lease is cut short while no message waits in its queue: its own is
then with a worker, who holds the job's row, or lost."""

FEW = 8
"""Jobs claimed at once of which it is told what they are about: a backlog is in a hurry."""
MOST_SUMMED_UP = 8_192
"""Bytes of a payload that are read for this."""

_IS_DUE = f"""
    state IN ('queued', 'retry') AND queue = %(queue)s
      AND next_dispatch <= now() + CASE WHEN %(is_idle)s THEN {HEAD_START} ELSE '0' END
      AND (next_dispatch <= now() OR dispatches = 1)"""

_LOOK = f"""
SELECT asked.name, (SELECT count(*) FROM (
    SELECT FROM job WHERE {_IS_DUE % {"queue": "asked.name", "is_idle": "is_idle"}}
    LIMIT %(at_most)s
) AS due) AS jobs, {queue_settings.COLUMNS}
FROM unnest(%(queues)s::text[], %(idle)s::boolean[]) AS asked (name, is_idle)
LEFT JOIN queue ON queue.name = asked.name"""

_CLAIM = f"""
WITH due AS MATERIALIZED (
    SELECT id FROM job WHERE {_IS_DUE}
    ORDER BY priority DESC, next_dispatch, id LIMIT %(limit)s
    FOR NO KEY UPDATE SKIP LOCKED
), claimed AS (
    UPDATE job SET
        dispatches = dispatches + 1,
        next_dispatch = now() + {LEASE} * 2 ^ least(dispatches, 4)
    FROM due WHERE job.id = due.id
    RETURNING job.id, job.kind, job.priority, job.dispatches, job.correlation_id,
        job.traceparent,
        CASE WHEN (SELECT count(*) FROM due) <= {FEW}
                  AND pg_column_size(job.payload) <= {MOST_SUMMED_UP}
             THEN job.payload END AS payload,
        job.created_at
)
-- An UPDATE returns rows in no order.
SELECT id, kind, priority, dispatches, correlation_id, traceparent, payload
FROM claimed ORDER BY priority DESC, created_at, id"""

# Relays take turns at a limited queue: who holds its row may hand out what the rate allows. What
# the time is, is asked after that: `now()` would be when the transaction began to wait.
_TAKE_TURN = "SELECT FROM queue WHERE name = %(queue)s FOR UPDATE"

_ALLOWED = f"""
SELECT jobs_per_second AS rate,
       floor(1 + jobs_per_second * extract(epoch FROM least(
           statement_timestamp() - next_job_at, interval '{BURST_SECONDS} seconds'
       )))::integer AS jobs
FROM queue
WHERE name = %(queue)s AND paused_at IS NULL AND jobs_per_second IS NOT NULL
  AND (next_job_at <= statement_timestamp()) IS NOT FALSE"""

_NEXT_TURN = f"""
UPDATE queue SET
    next_job_at = greatest(next_job_at, statement_timestamp() - interval '{BURST_SECONDS} seconds')
        + %(jobs)s / jobs_per_second * interval '1 second'
WHERE name = %(queue)s"""

_RELEASE = """
UPDATE job SET dispatches = dispatches - 1, next_dispatch = coalesce(run_after, created_at)
WHERE id = ANY(%(ids)s) AND state IN ('queued', 'retry') AND dispatches > 0"""

_FORGET = """
UPDATE job SET dispatches = 0, next_dispatch = now()
WHERE id IN (SELECT id FROM job WHERE state IN ('queued', 'retry') AND dispatches > 0
             FOR NO KEY UPDATE SKIP LOCKED)"""


class PostgresDispatches:
    """What the relay asks of the ledger; each call is a transaction of its own."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        # A statement that is a transaction by itself: one round trip instead of three.
        self._singly = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._breaker = postgresql_breaker()

    def look(
        self, waiting: Mapping[str, int], *, at_most: int
    ) -> tuple[dict[str, QueueSettings], dict[str, int]]:
        """Return, of each queue, what operators have set for it and how many jobs are due.

        Of those in a queue, where so many messages wait, no more are counted than `at_most`.
        What `claim_due` says of idle queues holds here as well.
        """
        with self._breaker.calling(), self._singly.connect() as connection:
            rows = connection.exec_driver_sql(
                _LOOK,
                {
                    "queues": list(waiting),
                    "idle": [not messages for messages in waiting.values()],
                    "at_most": at_most,
                },
            ).all()
        return (
            {row.name: queue_settings.settings_of(row) for row in rows},
            {row.name: row.jobs for row in rows},
        )

    def claim_due(self, queue: str, *, limit: int, is_idle: bool) -> Due:
        """Take what is due, the most urgent first, and note that it is being published.

        Where the queue `is_idle`, what was published more than some seconds ago and is in no
        worker's hands is due too: its message is lost.
        """
        with self._breaker.calling(), self._singly.connect() as connection:
            return Due(jobs=_claim(connection, queue, limit=limit, is_idle=is_idle))

    def claim_paced(self, queue: str, *, limit: int, is_idle: bool) -> Due:
        """Take what is due of a limited queue, no more than its rate allows.

        However many relays do, the rate is that of them all: it is kept in the queue's row.
        """
        with self._transaction() as connection:
            connection.exec_driver_sql(_TAKE_TURN, {"queue": queue})
            allowed = connection.exec_driver_sql(_ALLOWED, {"queue": queue}).one_or_none()
            if allowed is None:
                # Another relay was first, or somebody has just changed what the queue may.
                return Due(jobs=())
            jobs = _claim(connection, queue, limit=min(limit, allowed.jobs), is_idle=is_idle)
            if jobs:
                connection.exec_driver_sql(_NEXT_TURN, {"queue": queue, "jobs": len(jobs)})
        return Due(jobs=jobs, pace=allowed.rate)

    def release(self, job_ids: Sequence[str]) -> None:
        """Undo `claim_due` for jobs that could not be published."""
        with self._transaction() as connection:
            connection.exec_driver_sql(_RELEASE, {"ids": list(job_ids)})

    def forget(self) -> int:
        """Make all that was published due again: the broker has lost its memory."""
        with self._transaction() as connection:
            # For good: once the broker is told so, nobody would notice again.
            connection.exec_driver_sql("SET LOCAL synchronous_commit = on")
            return connection.exec_driver_sql(_FORGET).rowcount

    @contextmanager
    def listening(self) -> Iterator["Bell"]:
        """Hear of accepted jobs while the context lasts."""
        with self._breaker.calling():
            connection = self._engine.connect()
        with connection:
            connection.exec_driver_sql(f"LISTEN {CHANNEL}")
            connection.commit()
            driver = connection.connection.driver_connection
            assert driver is not None  # noqa: S101  a checked-out connection has its driver's
            driver.autocommit = True
            try:
                yield Bell(connection)
            finally:
                connection.invalidate()

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        with self._breaker.calling(), self._engine.begin() as connection:
            yield connection


def _claim(connection: Connection, queue: str, *, limit: int, is_idle: bool) -> list[DueJob]:
    parameters = {"queue": queue, "limit": limit, "is_idle": is_idle}
    return [
        DueJob(
            job_id=job_id,
            kind=kind,
            priority=priority,
            dispatches=dispatches,
            correlation_id=correlation_id,
            traceparent=traceparent,
            about=_about(kind, payload) if payload is not None else "",
        )
        for (
            job_id,
            kind,
            priority,
            dispatches,
            correlation_id,
            traceparent,
            payload,
        ) in connection.exec_driver_sql(_CLAIM, parameters).all()
    ]


def _about(kind: str, payload: Mapping[str, Any]) -> str:
    # A kind of a newer version is left to the workers that know it.
    return KINDS[kind].summary(payload) if kind in KINDS else ""


class Bell:
    """Rings when jobs are accepted."""

    def __init__(self, connection: Connection) -> None:
        self._driver = connection.connection.driver_connection

    def wait(self, seconds: float) -> bool:
        """Wait until it rings, at most this long; tell whether it did."""
        assert self._driver is not None  # noqa: S101  as above
        return any(self._driver.notifies(timeout=seconds, stop_after=1))
