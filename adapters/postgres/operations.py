"""What operators do to jobs: retry what is dead, cancel what has not run."""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Engine

from adapters.postgres.job_filter import JobFilter
from adapters.postgres.job_tally import TALLY
from adapters.postgres.ledger import CHANNEL
from domain.errors import DomainError
from domain.jobs.errors import JobNotFound, JobNotOpen
from domain.jobs.model import JobState

CHUNK = 1_000
"""Jobs changed in one transaction, so that locks stay short."""
PICK = 20_000
"""Jobs looked up at once."""

_RUNNING = "is running now; look again when it is done"

# A worker holds the row of the job that it runs: what is locked is left alone, not waited for.
_REVIVE = f"""
WITH done AS (
    UPDATE job SET
        state = 'queued', attempts = 0, dispatches = 0, next_dispatch = now(),
        run_after = NULL, error = NULL, result = NULL, finished_at = NULL
    WHERE id = ANY(%(ids)s)
    RETURNING id, kind, state, error
), tallied AS ({TALLY})
SELECT id FROM done"""

_HURRY = """
UPDATE job SET
    next_dispatch = CASE WHEN run_after > now() THEN now() ELSE next_dispatch END,
    run_after = least(run_after, now())
WHERE id = ANY(%(ids)s)
RETURNING id"""

_CANCEL = f"""
WITH done AS (
    UPDATE job SET state = 'cancelled', finished_at = now(), next_dispatch = NULL, run_after = NULL
    WHERE id = ANY(%(ids)s)
    RETURNING id, kind, state, error
), tallied AS ({TALLY})
SELECT id FROM done"""

_STANDING = "SELECT id, state, scrubbed_at FROM job WHERE id = ANY(%(ids)s)"

_FITS = "SELECT id FROM job WHERE {fits} AND {may_change} LIMIT %(pick)s"
_COUNT = "SELECT count(*) FROM job WHERE {fits} AND {may_change}"
_LOCK = """
SELECT id FROM job WHERE id = ANY(%(ids)s) AND {fits} AND {may_change} FOR UPDATE SKIP LOCKED"""

# Of what an operation does to jobs, some may come to fit again: each is changed once.
_MAY_BE_REVIVED = "state = 'dead' AND scrubbed_at IS NULL AND finished_at <= %(began)s"
_MAY_BE_HURRIED = "state = 'retry' AND run_after > now()"
_MAY_BE_CANCELLED = "state IN ('queued', 'retry') AND created_at <= %(began)s"


@dataclass(frozen=True, slots=True, kw_only=True)
class Operated:
    """What became of the jobs that an operation was asked for."""

    done: tuple[str, ...]
    refused: tuple[tuple[str, DomainError], ...]
    """Ids with JobNotFound or JobNotOpen, in the order asked for."""


class JobOperations:
    """Changes jobs from outside of workers; each call is one transaction, or several short ones."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def retry(self, job_ids: Sequence[str]) -> Operated:
        """Queue dead jobs anew, with all their attempts; make due now those that wait for one."""
        with self._engine.begin() as connection:
            held = _standings(connection, f"{_STANDING} FOR UPDATE SKIP LOCKED", job_ids)
            dead = [job_id for job_id, job in held.items() if job.can_be_revived]
            waiting = [job_id for job_id, job in held.items() if job.state is JobState.RETRY]
            done = {*_change(connection, _REVIVE, dead), *_change(connection, _HURRY, waiting)}
            if dead or waiting:
                connection.exec_driver_sql(f"NOTIFY {CHANNEL}")
            return _operated(connection, job_ids, done, _why_not_retried)

    def retry_all(self, which: JobFilter) -> Iterator[int]:
        """Retry those of these jobs that are dead, or wait for an attempt.

        Yields how many, after each transaction: who stops there has retried these for good.
        """
        yield from self._change_all(which, _MAY_BE_REVIVED, _REVIVE)
        yield from self._change_all(which, _MAY_BE_HURRIED, _HURRY)

    def cancel_all(self, which: JobFilter) -> Iterator[int]:
        """Withdraw those of these jobs that have not finished and do not run.

        Yields how many, as `retry_all` does.
        """
        return self._change_all(which, _MAY_BE_CANCELLED, _CANCEL)

    def count_retriable(self, which: JobFilter) -> int:
        """Count what `retry_all` would retry."""
        return self._count(which, _MAY_BE_REVIVED) + self._count(which, _MAY_BE_HURRIED)

    def count_cancellable(self, which: JobFilter) -> int:
        """Count what `cancel_all` would withdraw, were none of it running."""
        return self._count(which, _MAY_BE_CANCELLED)

    def cancel(self, job_ids: Sequence[str]) -> Operated:
        """Withdraw jobs that have not run; one that is running is let run."""
        with self._engine.begin() as connection:
            held = _standings(connection, f"{_STANDING} FOR UPDATE SKIP LOCKED", job_ids)
            still_open = [job_id for job_id, job in held.items() if not job.state.is_terminal]
            done = _change(connection, _CANCEL, still_open)
            return _operated(connection, job_ids, set(done), _why_not_cancelled)

    def _count(self, which: JobFilter, may_change: str) -> int:
        with self._engine.connect() as connection:
            statement = _COUNT.format(fits=which.condition(), may_change=may_change)
            parameters = {**which.parameters(), "began": _now(connection)}
            return int(connection.exec_driver_sql(statement, parameters).scalar_one())

    def _change_all(self, which: JobFilter, may_change: str, change: str) -> Iterator[int]:
        fit, lock = (
            statement.format(fits=which.condition(), may_change=may_change)
            for statement in (_FITS, _LOCK)
        )
        with self._engine.connect() as connection:
            parameters = {**which.parameters(), "began": _now(connection), "pick": PICK}
        while True:
            with self._engine.connect() as connection:
                picked = list(connection.exec_driver_sql(fit, parameters).scalars())
            changed = 0
            for start in range(0, len(picked), CHUNK):
                ids = picked[start : start + CHUNK]
                with self._engine.begin() as connection:
                    held = connection.exec_driver_sql(lock, {**parameters, "ids": ids}).scalars()
                    done = _change(connection, change, list(held))
                    if done:
                        connection.exec_driver_sql(f"NOTIFY {CHANNEL}")
                changed += len(done)
                yield len(done)
            # What is left runs now, or is in the hands of another operator.
            if len(picked) < PICK or not changed:
                return


@dataclass(frozen=True, slots=True, kw_only=True)
class _Standing:
    state: JobState
    is_scrubbed: bool

    @property
    def can_be_revived(self) -> bool:
        return self.state is JobState.DEAD and not self.is_scrubbed


def _now(connection: Connection) -> datetime:
    now: datetime = connection.exec_driver_sql("SELECT now()").scalar_one()
    return now


def _standings(
    connection: Connection, statement: str, job_ids: Collection[str]
) -> dict[str, _Standing]:
    rows = connection.exec_driver_sql(statement, {"ids": list(job_ids)})
    return {
        row.id: _Standing(state=JobState(row.state), is_scrubbed=row.scrubbed_at is not None)
        for row in rows
    }


def _change(connection: Connection, statement: str, job_ids: Sequence[str]) -> list[str]:
    if not job_ids:
        return []
    return list(connection.exec_driver_sql(statement, {"ids": list(job_ids)}).scalars())


def _operated(
    connection: Connection,
    job_ids: Sequence[str],
    done: Collection[str],
    why_not: Callable[[str, _Standing], JobNotOpen],
) -> Operated:
    asked_for = list(dict.fromkeys(job_ids))
    left = [job_id for job_id in asked_for if job_id not in done]
    # What is locked is read as it was before: open, for it would not be locked otherwise.
    standings = _standings(connection, _STANDING, left) if left else {}
    return Operated(
        done=tuple(job_id for job_id in asked_for if job_id in done),
        refused=tuple(
            (
                job_id,
                why_not(job_id, standings[job_id])
                if job_id in standings
                else JobNotFound.of(job_id),
            )
            for job_id in left
        ),
    )


def _why_not_retried(job_id: str, job: _Standing) -> JobNotOpen:
    match job.state:
        case JobState.QUEUED:
            why = "is queued and runs without help"
        case JobState.RETRY:
            why = _RUNNING
        case JobState.DEAD:
            why = (
                "has lost its payload to the erasure of a user"
                if job.is_scrubbed
                else "is being changed by somebody else; look at it again"
            )
        case JobState.SUCCEEDED | JobState.REJECTED | JobState.CANCELLED:
            why = f"is {job.state}, which is final; submit it under a new id"
    return _not_open(job_id, job, why)


def _why_not_cancelled(job_id: str, job: _Standing) -> JobNotOpen:
    why = f"is {job.state} already" if job.state.is_terminal else _RUNNING
    return _not_open(job_id, job, why)


def _not_open(job_id: str, job: _Standing, why: str) -> JobNotOpen:
    return JobNotOpen(f"job {job_id!r} {why}", {"job_id": job_id, "state": job.state})
