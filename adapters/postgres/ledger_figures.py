"""What metrics tell of the ledger: some figures at a glance, others from a census."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, Row

from adapters.postgres import queue_gauges, queue_settings, tallies
from adapters.postgres.tallies import Tallies
from domain.jobs.queues import QueueLevel, QueueSettings

MOST_COUNTED = 1_000_000
"""Events and dead jobs are counted to no more than this."""

_ACTIVITY = """
SELECT count(*) FILTER (WHERE starts_with(application_name, 'tallyman watch ')) AS workers,
       coalesce(extract(epoch FROM clock_timestamp() - min(xact_start)), 0)::float8
           AS oldest_transaction
FROM pg_stat_activity
WHERE datname = current_database() AND backend_type = 'client backend'
  AND pid <> pg_backend_pid()"""

# Where a job is: handed out, due to be, or not to be handed out before a later time. A job that
# is kept for the end of an import is not late, however old.
_OPEN = """
SELECT queue, kind, state,
       CASE WHEN dispatches > 0 AND next_dispatch < 'infinity' THEN 'dispatched'
            WHEN next_dispatch <= now() THEN 'queued'
            ELSE 'later' END AS place,
       count(*) AS jobs,
       extract(epoch FROM now() - min(coalesce(run_after, created_at)))::float8 AS oldest,
       extract(epoch FROM now() - min(next_dispatch) FILTER (WHERE next_dispatch <= now()))::float8
           AS lag
FROM job WHERE state IN ('queued', 'retry') GROUP BY 1, 2, 3, 4"""

_DEAD = f"""
SELECT kind, count(*) AS jobs
FROM (SELECT kind FROM job WHERE state = 'dead' LIMIT {MOST_COUNTED}) AS dead GROUP BY 1"""

_OUTBOX = f"""
SELECT (SELECT count(*) FROM (
           SELECT FROM outbox WHERE published_at IS NULL LIMIT {MOST_COUNTED}
       ) AS waiting) AS events,
       coalesce(extract(epoch FROM now() - (
           SELECT occurred_at FROM outbox WHERE published_at IS NULL ORDER BY id LIMIT 1
       )), 0)::float8 AS lag"""

_PARKED = """
SELECT queue, reason, count(*) AS messages FROM parked_message WHERE closed_at IS NULL
GROUP BY 1, 2"""

_IMPORTS = """
SELECT target, state, count(*) AS runs,
       coalesce(sum(rows - rows_done) FILTER (WHERE state IN ('checking', 'running')), 0)::bigint
           AS rows_left,
       coalesce(extract(epoch FROM now() - min(coalesce(
           (SELECT finished_at FROM import_chunk
            WHERE run_id = import_run.id AND number = import_run.next_chunk - 1),
           created_at
       )) FILTER (WHERE state IN ('checking', 'running'))), 0)::float8 AS stalled
FROM import_run GROUP BY 1, 2"""

_SIZES = """
SELECT relname AS name, pg_total_relation_size(relid)::bigint AS bytes FROM pg_stat_user_tables
WHERE relname = ANY(%(tables)s)"""

_DATABASE = "SELECT pg_database_size(current_database())"

TABLES = ("allocation", "import_chunk", "job", "job_failure", "outbox", "stock_movement")
"""The tables that grow with what is done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Glance:
    """What is read at each look."""

    tallies: Tallies
    settings: Mapping[str, QueueSettings]
    levels: Mapping[str, QueueLevel]
    workers: int
    """Workers that are connected to this database."""
    oldest_transaction: float


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenJobs:
    """Jobs of one kind and state that have not finished, at one place."""

    queue: str
    kind: str
    state: str
    place: str
    """`queued` (due), `dispatched` (a message tells of it, or a worker has it) or `later`."""
    jobs: int
    oldest: float
    """Seconds since the first of them was accepted, or was to run."""
    lag: float | None
    """Seconds since the first of them was to be handed out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportRuns:
    """Runs for one target, in one state."""

    target: str
    state: str
    runs: int
    rows_left: int
    stalled: float
    """Seconds since that one of them last got on that has waited longest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Census:
    """What takes longer the more waits."""

    open_jobs: tuple[OpenJobs, ...]
    dead: Mapping[str, int]
    outbox_events: int
    outbox_lag: float
    parked: Mapping[tuple[str, str], int]
    """Messages by queue and reason."""
    imports: tuple[ImportRuns, ...]
    table_bytes: Mapping[str, int]
    database_bytes: int


class LedgerFigures:
    """Reads them; each call is a transaction of its own."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def close(self) -> None:
        """Close the connections; the next look opens another."""
        self._engine.dispose()

    def glance(self) -> Glance:
        with self._engine.connect() as connection:
            activity = connection.exec_driver_sql(_ACTIVITY).one()
            return Glance(
                tallies=tallies.read(connection),
                settings=queue_settings.read(connection),
                levels=queue_gauges.levels(connection),
                workers=activity.workers,
                oldest_transaction=activity.oldest_transaction,
            )

    def census(self) -> Census:
        with self._engine.connect() as connection:
            outbox = connection.exec_driver_sql(_OUTBOX).one()
            return Census(
                open_jobs=tuple(map(_open_jobs, connection.exec_driver_sql(_OPEN))),
                dead={row.kind: row.jobs for row in connection.exec_driver_sql(_DEAD)},
                outbox_events=outbox.events,
                outbox_lag=outbox.lag,
                parked={
                    (row.queue, row.reason): row.messages
                    for row in connection.exec_driver_sql(_PARKED)
                },
                imports=tuple(map(_import_runs, connection.exec_driver_sql(_IMPORTS))),
                table_bytes=_table_bytes(connection),
                database_bytes=connection.exec_driver_sql(_DATABASE).scalar_one(),
            )


def _table_bytes(connection: Connection) -> dict[str, int]:
    sizes = connection.exec_driver_sql(_SIZES, {"tables": list(TABLES)})
    return {row.name: row.bytes for row in sizes}


def _open_jobs(row: Row[Any]) -> OpenJobs:
    return OpenJobs(
        queue=row.queue,
        kind=row.kind,
        state=row.state,
        place=row.place,
        jobs=row.jobs,
        oldest=max(row.oldest, 0.0),
        lag=row.lag,
    )


def _import_runs(row: Row[Any]) -> ImportRuns:
    return ImportRuns(
        target=row.target,
        state=row.state,
        runs=row.runs,
        rows_left=row.rows_left,
        stalled=row.stalled,
    )
