"""What a board shows of the database: looked up by index, bounded, and without a lock."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import psycopg.errors
import sqlalchemy.exc
from sqlalchemy import Connection, Row

from adapters.postgres.engine import create
from adapters.postgres.queue_gauges import PostgresQueueGauges
from domain.errors import Unavailable
from domain.imports.runs import RunState
from domain.jobs.model import JobState
from domain.jobs.queues import Queue

LOOK_SECONDS = 3
"""A look that takes longer is given up: the database has better things to do."""
MOST_FINISHED = 100_000
"""Finished jobs that one look counts, the newest of them."""
MOST_FAILURES = 500
"""Failed attempts, and dead jobs, whose errors one look compares."""
MOST_COUNTED = 100_000
"""Where there are more dead jobs, messages or events, more than that is all that is said."""
MOST_IMPORTS = 20
FAILING_MINUTES = 15
"""A kind is failing while an attempt failed no longer ago than this."""
RATE_SECONDS = 30
"""Rows a second of an import are those of so many last seconds."""

# By index, newest first, so that a day's millions cost no more than the last of them.
_FINISHED = """
SELECT date_trunc('second', finished_at) AS second, state, count(*) AS jobs
FROM (
    SELECT finished_at, state FROM job WHERE finished_at >= %(since)s
    ORDER BY finished_at DESC LIMIT %(most)s
) AS newest
GROUP BY second, state ORDER BY second"""

_FAILURES = """
SELECT job.kind, failure.error ->> 'type' AS type, count(*) AS jobs,
       (array_agg(failure.error ->> 'message' ORDER BY failure.id DESC))[1] AS message
FROM (
    SELECT id, job_id, error, failed_at FROM job_failure ORDER BY id DESC LIMIT %(most)s
) AS failure
JOIN job ON job.id = failure.job_id
WHERE failed_at > now() - %(minutes)s * interval '1 minute'
GROUP BY job.kind, type ORDER BY jobs DESC, type"""

_DEAD = """
SELECT kind, error ->> 'type' AS type, count(*) AS jobs,
       (array_agg(error ->> 'message' ORDER BY finished_at DESC))[1] AS message
FROM (
    SELECT kind, error, finished_at FROM job WHERE state = 'dead'
    ORDER BY finished_at DESC LIMIT %(most)s
) AS dead
GROUP BY kind, type ORDER BY jobs DESC, type"""

_IMPORTS = """
SELECT import_run.id, target, file_name, import_run.state, rows, rows_done, reason,
       (SELECT sum(import_chunk.rows) FROM import_chunk
        WHERE run_id = import_run.id
          AND import_chunk.finished_at > now() - %(seconds)s * interval '1 second')
       / extract(epoch FROM least(now() - import_run.created_at,
                                  %(seconds)s * interval '1 second'))::float8 AS rows_per_second
FROM import_run LEFT JOIN LATERAL (
    SELECT job.error ->> 'type' AS reason FROM job
    WHERE correlation_id = import_run.id AND job.id <> import_run.id AND job.state = 'dead' LIMIT 1
) AS dead ON true
WHERE import_run.state IN ('checking', 'running')
ORDER BY import_run.created_at DESC LIMIT %(most)s"""

_LEFT_OVER = """
SELECT now() AS now,
       (SELECT count(*) FROM (SELECT FROM job WHERE state = 'dead' LIMIT %(most)s) AS dead) AS dead,
       (SELECT count(*) FROM (SELECT FROM parked_message WHERE closed_at IS NULL LIMIT %(most)s)
            AS parked) AS parked,
       (SELECT count(*) FROM (SELECT FROM outbox WHERE published_at IS NULL LIMIT %(most)s)
            AS unpublished) AS events,
       (SELECT now() - occurred_at FROM outbox WHERE published_at IS NULL ORDER BY id LIMIT 1)
            AS events_age"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """Jobs that ended in one state within one second."""

    second: datetime
    state: JobState
    jobs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FailingKind:
    """A kind whose attempts failed lately, or of which jobs are dead."""

    kind: str
    failures: int
    """Attempts that failed in the last minutes, of those that were looked at."""
    dead: int
    error: str
    """Name of the commonest error, of the failures or else of the dead."""
    message: str
    """What it said when it was last seen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenImport:
    """A run that has rows to go."""

    id: str
    target: str
    file_name: str
    state: RunState
    rows: int
    rows_done: int
    rows_per_second: float | None
    """None where no chunk was done lately."""
    reason: str | None
    """Name of the error of a dead chunk, which holds the run up."""

    @property
    def seconds_left(self) -> float | None:
        if not self.rows_per_second or self.reason:
            return None
        return max(0, self.rows - self.rows_done) / self.rows_per_second


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """What the database showed in one look."""

    now: datetime
    """By the database's clock, as every other moment here."""
    since: datetime
    """Finished jobs are all there from this second on."""
    finished: Sequence[Finished]
    queues: Sequence[Queue]
    failing: Sequence[FailingKind]
    imports: Sequence[OpenImport]
    dead: int
    parked: int
    events: int
    """Events that wait to be published."""
    events_age: timedelta | None
    """How long the first of them waits."""


class PostgresBoard:
    """Looks at the database over one connection of its own."""

    def __init__(self, url: str) -> None:
        self._engine = create(
            url, application="tallyman top", statement_timeout_ms=1_000 * LOOK_SECONDS
        )
        self._reading = self._engine.execution_options(
            isolation_level="REPEATABLE READ", postgresql_readonly=True
        )

    def look(self, queues: Sequence[str], *, since: datetime | None, back: timedelta) -> Sight:
        """Look once; finished jobs from `since` on, or as far `back` as that is cheap.

        Raises:
            Unavailable: It takes too long.
        """
        try:
            # One after the other on the pool's one connection.
            levels = PostgresQueueGauges(self._engine).view(queues)
            with self._reading.connect() as connection:
                return _look(connection, levels, since=since, back=back)
        except sqlalchemy.exc.OperationalError as error:
            if isinstance(error.orig, psycopg.errors.QueryCanceled):
                raise Unavailable(
                    f"PostgreSQL needs more than {LOOK_SECONDS} seconds to tell"
                ) from error
            raise

    def close(self) -> None:
        """Let go of the connection."""
        self._engine.dispose()


def _look(
    connection: Connection, queues: Sequence[Queue], *, since: datetime | None, back: timedelta
) -> Sight:
    found = connection.exec_driver_sql(_LEFT_OVER, {"most": MOST_COUNTED + 1}).one()
    since = max(since or found.now - back, found.now - back).replace(microsecond=0)
    finished = [
        Finished(second=row.second, state=JobState(row.state), jobs=row.jobs)
        for row in connection.exec_driver_sql(_FINISHED, {"since": since, "most": MOST_FINISHED})
    ]
    if finished and sum(each.jobs for each in finished) >= MOST_FINISHED:
        # There were more: the first second is not whole.
        since = finished[0].second + timedelta(seconds=1)
        finished = [each for each in finished if each.second >= since]
    failures, dead = (
        connection.exec_driver_sql(
            statement, {"most": MOST_FAILURES, "minutes": FAILING_MINUTES}
        ).all()
        for statement in (_FAILURES, _DEAD)
    )
    runs = connection.exec_driver_sql(_IMPORTS, {"seconds": RATE_SECONDS, "most": MOST_IMPORTS})
    return Sight(
        now=found.now,
        since=since,
        finished=finished,
        queues=queues,
        failing=_failing(failures, dead),
        imports=[
            OpenImport(**{**row._mapping, "state": RunState(row.state)})  # noqa: SLF001  its public way to a dict
            for row in runs
        ],
        dead=found.dead,
        parked=found.parked,
        events=found.events,
        events_age=found.events_age,
    )


def _failing(failures: Sequence[Row[Any]], dead: Sequence[Row[Any]]) -> list[FailingKind]:
    """Sum up by kind; rows come with the commonest error first."""
    kinds: dict[str, Row[Any]] = {}
    for row in (*failures, *dead):
        kinds.setdefault(row.kind, row)
    failed, died = _sums(failures), _sums(dead)
    return sorted(
        (
            FailingKind(
                kind=kind,
                failures=failed.get(kind, 0),
                dead=died.get(kind, 0),
                error=row.type,
                message=row.message,
            )
            for kind, row in kinds.items()
        ),
        key=lambda each: (-each.failures, -each.dead, each.kind),
    )


def _sums(rows: Sequence[Row[Any]]) -> Mapping[str, int]:
    sums: dict[str, int] = {}
    for row in rows:
        sums[row.kind] = sums.get(row.kind, 0) + row.jobs
    return sums
