"""Jobs, as operators and producers ask for them: by SQL, never through a broker."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Engine, Row

from adapters.postgres.job_filter import OF_CORRELATION, JobFilter
from adapters.postgres.ledger import job_fields
from adapters.postgres.roles import may_read
from domain.jobs.errors import JobNotFound
from domain.jobs.model import Failure, Job, JobState

_JOB = """
SELECT id, kind, door, {told}, state, attempts, max_attempts, dispatches,
       run_after, result, error, correlation_id, traceparent, NULL AS failed_traceparent,
       queue, priority, created_at, finished_at,
       nullif(next_dispatch, 'infinity') AS next_dispatch,
       scrubbed_at IS NOT NULL AS is_scrubbed
FROM job"""

_NEWEST = "ORDER BY created_at DESC, id DESC LIMIT %(limit)s"
# The planner would look through all that are newer, and are in another state, where it takes few
# to be many. So no order is asked for that the index on `created_at` has, but that of the states
# of few jobs, or none: then it is the open jobs that are looked through.
_NEWEST_OF_FEW = f"ORDER BY state DESC, {_NEWEST.removeprefix('ORDER BY ')}"
_NEWEST_OF_OPEN = _NEWEST.replace("created_at", "created_at + interval '0'")

# Jobs that were accepted together share a moment: ids keep them in order.
_FURTHER = "(created_at, id) < (%(reached)s, %(after)s)"

_TOLD = "payload, payload_hash"
_NOT_TOLD = "'{}'::jsonb AS payload, ''::bytea AS payload_hash"


@dataclass(slots=True, kw_only=True)
class JobView(Job):
    """A job with all that is known of its life.

    Its payload is empty, and so is the hash of it, where the login may not read payloads.
    """

    queue: str
    priority: int
    created_at: datetime
    finished_at: datetime | None
    next_dispatch: datetime | None
    """When it is handed out, or handed out again; none where it has finished, or is kept."""
    is_scrubbed: bool
    """What it was told is gone, with a person who was erased."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptView:
    """An attempt that failed."""

    attempt: int
    error: Failure
    worker: str
    failed_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class JobCount:
    """Jobs of one kind in one state."""

    kind: str
    state: JobState
    jobs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReasonCount:
    """Jobs that ended in one state for one reason."""

    state: JobState
    code: str
    """Name of the error."""
    jobs: int
    example: str
    """What the first of them was told."""


class JobQueries:
    """Reads the ledger; each call is a transaction of its own."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._may_read_payloads: bool | None = None

    def find(self, job_id: str) -> JobView | None:
        rows = self._read(f"{self._job()} WHERE id = %(id)s", id=job_id)
        return _job_view(rows[0]) if rows else None

    def failures(self, job_id: str) -> list[AttemptView]:
        """Return the failed attempts of a job, first to last."""
        rows = self._read(
            "SELECT attempt, error, worker, failed_at FROM job_failure"
            " WHERE job_id = %(id)s ORDER BY id",
            id=job_id,
        )
        return [
            AttemptView(
                attempt=row.attempt,
                error=Failure(**row.error),
                worker=row.worker,
                failed_at=row.failed_at,
            )
            for row in rows
        ]

    def newest(
        self,
        *,
        states: Sequence[JobState] = (),
        kind: str | None = None,
        queue: str | None = None,
        error: str | None = None,
        correlation_id: str | None = None,
        since: timedelta | None = None,
        older_than: timedelta | None = None,
        after: str | None = None,
        limit: int = 50,
    ) -> list[JobView]:
        """Return the jobs that fit, the newest first; see `JobFilter` for what fits.

        Where a job is named that they come `after`, the list goes on there.

        Raises:
            JobNotFound: There is none of that name.
        """
        which = JobFilter(
            states=states,
            kind=kind,
            queue=queue,
            error=error,
            correlation_id=correlation_id,
            since=since,
            older_than=older_than,
        )
        fits = f"{{}} AND {_FURTHER}" if after is not None else "{}"
        reached = self._accepted_at(after) if after is not None else None
        # Each state by itself: there are few jobs in some, and they are found by another index.
        lists = [
            f"{self._job()} WHERE {fits.format(each.condition())} {_newest(each.states)}"
            for each in which.by_state()
        ]
        rows = self._read(
            lists[0] if len(lists) == 1 else f"({') UNION ALL ('.join(lists)}) {_NEWEST}",
            **which.parameters(),
            after=after,
            reached=reached,
            limit=limit,
        )
        return [_job_view(row) for row in rows]

    def _accepted_at(self, job_id: str) -> datetime:
        rows = self._read("SELECT created_at FROM job WHERE id = %(id)s", id=job_id)
        if not rows:
            raise JobNotFound.of(job_id)
        moment: datetime = rows[0].created_at
        return moment

    def counts(self, *, correlation_id: str | None = None) -> list[JobCount]:
        """Count jobs by kind and state."""
        rows = self._read(
            "SELECT kind, state, count(*) AS jobs FROM job"
            f" WHERE {OF_CORRELATION if correlation_id else 'true'}"
            " GROUP BY kind, state ORDER BY kind, state",
            correlation_id=correlation_id,
        )
        return [JobCount(kind=row.kind, state=JobState(row.state), jobs=row.jobs) for row in rows]

    def open_jobs(self, *, correlation_id: str | None = None) -> int:
        """Count the jobs that have not finished."""
        [row] = self._read(
            "SELECT count(*) AS jobs FROM job WHERE state IN ('queued', 'retry')"
            f" AND {OF_CORRELATION if correlation_id else 'true'}",
            correlation_id=correlation_id,
        )
        return int(row.jobs)

    def reasons(self, correlation_id: str) -> list[ReasonCount]:
        """Count the refused and the dead jobs of one correlation id by code, most first."""
        rows = self._read(
            "SELECT state, error ->> 'type' AS code, count(*) AS jobs,"
            " (array_agg(error ->> 'message' ORDER BY finished_at))[1] AS example"
            f" FROM job WHERE state IN ('rejected', 'dead') AND {OF_CORRELATION}"
            " GROUP BY state, code ORDER BY jobs DESC, code",
            correlation_id=correlation_id,
        )
        return [
            ReasonCount(
                state=JobState(row.state), code=row.code, jobs=row.jobs, example=row.example
            )
            for row in rows
        ]

    def known(self, job_ids: Sequence[str]) -> set[str]:
        """Return those of these ids that the ledger has."""
        rows = self._read("SELECT id FROM job WHERE id = ANY(%(ids)s)", ids=list(job_ids))
        return {row.id for row in rows}

    def finished(self, job_ids: Sequence[str]) -> dict[str, JobState]:
        """Return the state of those of these jobs that have finished."""
        rows = self._read(
            "SELECT id, state FROM job WHERE id = ANY(%(ids)s) AND finished_at IS NOT NULL",
            ids=list(job_ids),
        )
        return {row.id: JobState(row.state) for row in rows}

    @property
    def may_read_payloads(self) -> bool:
        """Tell whether this login may see what jobs were told, which may be of persons."""
        if self._may_read_payloads is None:
            with self._engine.connect() as connection:
                self._may_read_payloads = may_read(connection, "job", "payload")
        return self._may_read_payloads

    def _job(self) -> str:
        return _JOB.format(told=_TOLD if self.may_read_payloads else _NOT_TOLD)

    def _read(self, statement: str, **parameters: Any) -> Sequence[Row[Any]]:
        with self._engine.connect() as connection:
            return connection.exec_driver_sql(statement, parameters).all()


def _newest(states: Sequence[JobState]) -> str:
    match states:
        case [JobState.QUEUED]:
            return _NEWEST_OF_OPEN
        case [JobState.RETRY | JobState.REJECTED | JobState.DEAD | JobState.CANCELLED]:
            return _NEWEST_OF_FEW
        case _:
            return _NEWEST


def _job_view(row: Row[Any]) -> JobView:
    return JobView(**job_fields(row._fields, row))
