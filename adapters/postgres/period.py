"""A period summed up: what finished, how fast, and what went wrong."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg.errors
import sqlalchemy.exc
from sqlalchemy import Connection, Engine, Row

from adapters.postgres import period_sql
from domain.errors import Unavailable
from domain.imports.runs import RunState
from domain.jobs.model import JobState

POINTS = (0.5, 0.95, 0.99)
"""The percentiles: half of the jobs were no slower than the first, and so on."""
MOST_ERRORS, MOST_SKUS, MOST_RUNS, MOST_DEAD = 20, 20, 20, 50
LONGEST_TRANSACTION = timedelta(hours=1)
"""Ids are in the order of time but for transactions that overlapped; none takes that long."""
ORIGIN = datetime(2001, 1, 1, tzinfo=UTC)
"""A Monday at midnight: parts of days and weeks begin where one expects."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """Jobs of one kind that ended in one state within one part of the period."""

    begin: datetime
    kind: str
    state: JobState
    jobs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """How long jobs took, in seconds, at the points; None where no job tells."""

    jobs: int
    jobs_that_waited: int
    """Those of door (b): how long a message of Celery's waited, nobody knows."""
    waited: Sequence[float] | None
    """From being accepted to the beginning of the attempt that decided it."""
    ran: Sequence[float] | None
    """From then to its outcome; jobs that were handed out as a group ran as one."""
    took: Sequence[float] | None
    """From being accepted to its outcome."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedAttempts:
    """Attempts that failed within one part of the period."""

    begin: datetime
    is_last: bool
    """Whether none was left."""
    attempts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorSum:
    """Jobs of a kind that were refused, or attempts that failed, with one error."""

    kind: str
    error: str
    is_refusal: bool
    """Whether the business said no; else an attempt failed."""
    times: int
    example: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Shortness:
    """How often a product was short."""

    sku: str
    refused: int
    """Lines of orders that were refused, or cut short."""
    waiting: int
    """Lines that were put on the list of those who wait."""
    units: int
    """Units that all of these lacked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSum:
    """A run, and what became of its rows."""

    id: str
    target: str
    file_name: str
    state: RunState
    rows: int
    rows_done: int
    ends: Mapping[str, int]
    created_at: datetime
    finished_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadJob:
    """A job that died in the period, and is dead still."""

    id: str
    kind: str
    attempts: int
    died_at: datetime
    error: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """All figures of a period; of the longer lists the head, and how long each is."""

    since: datetime
    until: datetime
    width: timedelta
    """Of each part but the first and the last, which the period may cut."""
    accepted: int
    ended: Sequence[Ended]
    times_by_part: Mapping[datetime, Times]
    """Jobs of imports are left out: they are kept waiting for one another."""
    times_by_kind: Mapping[str, Times]
    failed: Sequence[FailedAttempts]
    errors: Sequence[ErrorSum]
    errors_in_all: int
    short: Sequence[Shortness]
    skus_in_all: int
    runs: Sequence[RunSum]
    runs_in_all: int
    dead: Sequence[DeadJob]
    dead_in_all: int


class PostgresPeriods:
    """Sums up periods; each in one transaction that reads, so that all its figures agree."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine.execution_options(
            isolation_level="REPEATABLE READ", postgresql_readonly=True
        )

    def now(self) -> datetime:
        """Return the time by the database's clock, by which all is noted."""
        with self._engine.connect() as connection:
            now: datetime = connection.exec_driver_sql("SELECT now()").scalar_one()
        return now

    def sum_up(self, *, since: datetime, until: datetime, width: timedelta) -> Period:
        """Sum up a period in parts of equal width.

        Raises:
            Unavailable: It takes too long.
        """
        try:
            with self._engine.connect() as connection:
                return _sum_up(connection, since=since, until=until, width=width)
        except sqlalchemy.exc.OperationalError as error:
            if isinstance(error.orig, psycopg.errors.QueryCanceled):
                raise Unavailable(
                    "PostgreSQL takes too long to sum this period up: ask for a shorter one"
                ) from error
            raise


def _sum_up(
    connection: Connection, *, since: datetime, until: datetime, width: timedelta
) -> Period:
    period = {"since": since, "until": until, "width": width, "origin": ORIGIN}

    def read(statement: str, **parameters: object) -> Sequence[Row[Any]]:
        return connection.exec_driver_sql(statement, {**period, **parameters}).all()

    points = list(POINTS)
    first_failure = _first_id(connection, "job_failure", "failed_at", since)
    errors = read(period_sql.ERRORS, first=first_failure, most=MOST_ERRORS)
    short = read(
        period_sql.SHORT,
        first=_first_id(connection, "outbox", "occurred_at", since),
        most=MOST_SKUS,
    )
    runs = read(period_sql.RUNS, most=MOST_RUNS)
    dead = read(period_sql.DEAD, most=MOST_DEAD)
    return Period(
        since=since,
        until=until,
        width=width,
        accepted=read(period_sql.ACCEPTED)[0][0],
        ended=[
            Ended(begin=row.begin, kind=row.kind, state=JobState(row.state), jobs=row.jobs)
            for row in read(period_sql.ENDED)
        ],
        times_by_part={
            row.grouped: _times(row) for row in read(period_sql.TIMES_BY_PART, points=points)
        },
        times_by_kind={
            row.grouped: _times(row) for row in read(period_sql.TIMES_BY_KIND, points=points)
        },
        failed=[
            FailedAttempts(begin=row.begin, is_last=row.is_last, attempts=row.attempts)
            for row in read(period_sql.FAILED, first=first_failure)
        ],
        errors=[
            ErrorSum(
                kind=row.kind,
                error=row.type,
                is_refusal=row.is_refusal,
                times=row.jobs,
                example=row.example,
            )
            for row in errors
        ],
        errors_in_all=errors[0].kinds_of_errors if errors else 0,
        short=[
            Shortness(sku=row.sku, refused=row.refused, waiting=row.waiting, units=int(row.units))
            for row in short
        ],
        skus_in_all=short[0].skus if short else 0,
        runs=[
            RunSum(
                id=row.id,
                target=row.target,
                file_name=row.file_name,
                state=RunState(row.state),
                rows=row.rows,
                rows_done=row.rows_done,
                ends=row.ends,
                created_at=row.created_at,
                finished_at=row.finished_at,
            )
            for row in runs
        ],
        runs_in_all=runs[0].runs if runs else 0,
        dead=[
            DeadJob(
                id=row.id,
                kind=row.kind,
                attempts=row.attempts,
                died_at=row.died_at,
                error=row.type,
                message=row.message,
            )
            for row in dead
        ],
        dead_in_all=dead[0].dead if dead else 0,
    )


def _times(row: Row[Any]) -> Times:
    return Times(
        jobs=row.jobs,
        jobs_that_waited=row.jobs_that_waited,
        waited=row.waited,
        ran=row.ran,
        took=row.took,
    )


def _first_id(connection: Connection, table: str, time: str, since: datetime) -> int:
    """Return an id before which nothing of the period can be, by halving what is in question."""
    low, high = connection.exec_driver_sql(period_sql.FIRST_ID.format(table=table)).one()
    statement = period_sql.TIME_OF.format(table=table, time=time)
    while low < high:
        middle = (low + high) // 2
        moment = connection.exec_driver_sql(statement, {"id": middle}).scalar_one()
        if moment < since - LONGEST_TRANSACTION:
            low = middle + 1
        else:
            high = middle
    return int(low)
