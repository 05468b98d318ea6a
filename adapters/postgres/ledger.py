"""The ledger of jobs, within one transaction."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from datetime import datetime
from typing import Any

import orjson

from adapters.postgres.job_tally import TALLY, TALLY_FINISHED, TIMES
from adapters.postgres.rows import as_array, as_json, as_rows
from adapters.postgres.statements import Statements
from domain.jobs.errors import IdempotencyConflict
from domain.jobs.executor import failure_of
from domain.jobs.model import Door, Failure, Job, JobState, Receipt, Submission
from domain.jobs.outcomes import Outcome, Rejected, Succeeded
from domain.jobs.retries import Backoff

CHANNEL = "tallyman_job"
"""PostgreSQL notification channel that wakes the relay when jobs are accepted."""

LEASE = "interval '60 seconds'"
"""How long a dispatched job may go unfinished before it is dispatched again."""

_COLUMNS = """id, kind, door, payload, payload_hash, state, attempts, max_attempts,
    dispatches, run_after, result, error, correlation_id, traceparent,
    CASE WHEN attempts > 0 THEN (
        SELECT traceparent FROM job_failure WHERE job_id = job.id
        ORDER BY job_failure.id DESC LIMIT 1
    ) END AS failed_traceparent"""

_SUBMITTED = """
    AS submitted (id text, kind text, queue text, priority smallint, payload jsonb,
                  payload_hash text, max_attempts smallint, correlation_id text,
                  traceparent text, parent_id text)"""

_ACCEPT = f"""
INSERT INTO job (id, kind, queue, door, priority, payload, payload_hash, max_attempts,
                 correlation_id, traceparent, parent_id, next_dispatch)
SELECT id, kind, queue, 'ledger', priority, payload, decode(payload_hash, 'hex'), max_attempts,
       correlation_id, traceparent, parent_id, now()
FROM jsonb_to_recordset(%(rows)s::jsonb) {_SUBMITTED}
ON CONFLICT (id) DO NOTHING
RETURNING id"""

_CLAIM = f"""
SELECT {_COLUMNS} FROM job WHERE id = ANY(%(ids)s::text[]) ORDER BY id FOR NO KEY UPDATE"""

_CLAIM_SUBMITTED = f"""
INSERT INTO job (id, kind, queue, door, priority, payload, payload_hash, max_attempts,
                 correlation_id, traceparent, parent_id, dispatches, next_dispatch)
VALUES (%(id)s, %(kind)s, %(queue)s, 'celery', %(priority)s, %(payload)s::jsonb, %(hash)s,
        %(max_attempts)s, %(correlation_id)s, %(traceparent)s, %(parent_id)s, 1,
        now() + {LEASE})
ON CONFLICT (id) DO NOTHING
RETURNING {_COLUMNS}"""

_CLAIM_NEW = f"""
INSERT INTO job (id, kind, queue, door, priority, payload, payload_hash, max_attempts,
                 correlation_id, traceparent, parent_id, dispatches, next_dispatch)
SELECT id, kind, queue, 'celery', priority, payload, decode(payload_hash, 'hex'), max_attempts,
       correlation_id, traceparent, parent_id, 1, now() + {LEASE}
FROM jsonb_to_recordset(%(rows)s::jsonb) {_SUBMITTED}
ORDER BY id
ON CONFLICT (id) DO NOTHING
RETURNING {_COLUMNS}"""

_PUT_OFF = f"""
WITH written AS (
    INSERT INTO job (id, kind, queue, door, priority, payload, payload_hash, max_attempts,
                     correlation_id, traceparent, parent_id, state, error, run_after, next_dispatch,
                     finished_at)
    VALUES (%(id)s, %(kind)s, %(queue)s, 'celery', %(priority)s, %(payload)s::jsonb, %(hash)s,
            %(max_attempts)s, %(correlation_id)s, %(traceparent)s, %(parent_id)s,
            CASE WHEN %(run_after)s::timestamptz IS NULL THEN 'cancelled' ELSE 'queued' END,
            %(cancelled)s::jsonb, %(run_after)s, %(run_after)s,
            CASE WHEN %(run_after)s::timestamptz IS NULL THEN now() END)
    ON CONFLICT (id) DO NOTHING
    RETURNING {_COLUMNS}
), done AS (
    SELECT kind, state, error FROM written WHERE state = 'cancelled'
), tallied AS ({TALLY})
SELECT * FROM written"""

# A job keeps its place among those that wait, and goes to the queue that its kind is in now.
_RELEASE = """
UPDATE job SET
    queue = %(queue)s,
    dispatches = CASE WHEN %(suspected)s THEN dispatches ELSE greatest(dispatches - 1, 0) END,
    next_dispatch = coalesce(run_after, created_at)
WHERE id = ANY(%(ids)s)"""

_BEGIN = f"""
WITH begun AS (
    UPDATE job SET
        attempts = least(attempts + 1, max_attempts),
        state = CASE WHEN attempts >= max_attempts THEN 'dead' ELSE state END,
        error = CASE WHEN attempts >= max_attempts THEN %(lost)s::jsonb ELSE error END,
        finished_at = CASE WHEN attempts >= max_attempts THEN now() END,
        run_after = NULL,
        next_dispatch = CASE WHEN attempts >= max_attempts THEN NULL ELSE now() + {LEASE} END
    WHERE id = %(id)s
    RETURNING {_COLUMNS}
), done AS (
    SELECT kind, state, error FROM begun WHERE state = 'dead'
), tallied AS ({TALLY})
SELECT * FROM begun"""

_FINISH = f"""
WITH done AS (
    UPDATE job SET
        state = finished.state,
        result = finished.result,
        error = finished.error,
        payload = CASE WHEN finished.forget THEN '{{}}'::jsonb ELSE job.payload END,
        scrubbed_at = CASE WHEN finished.forget THEN now() END,
        attempts = job.attempts + %(count)s,
        run_after = NULL,
        next_dispatch = NULL,
        began_at = now(),
        finished_at = clock_timestamp()
    FROM jsonb_to_recordset(%(rows)s::jsonb)
        AS finished (id text, state text, result jsonb, error jsonb, forget boolean,
                     since timestamptz)
    WHERE job.id = finished.id
      -- Whatever plan a session keeps that was made while the table was empty: by key.
      AND job.id = ANY(%(ids)s::text[])
    RETURNING job.kind, job.state, job.error ->> 'type' AS error, {TIMES}
)
{TALLY_FINISHED}"""

_TAKE_BACK = "UPDATE job SET attempts = attempts - 1 WHERE id = %(id)s AND attempts > 0"

_FAIL = f"""
WITH done AS (
    UPDATE job SET
        attempts = tries,
        dispatches = 0,
        traceparent = coalesce(traceparent, %(traceparent)s),
        state = CASE WHEN dead THEN 'dead' ELSE 'retry' END,
        error = %(error)s::jsonb,
        run_after = CASE WHEN NOT dead THEN due END,
        next_dispatch = CASE WHEN NOT dead THEN due END,
        finished_at = CASE WHEN dead THEN clock_timestamp() END
    FROM (
        SELECT tries, tries >= max_attempts AS dead,
               clock_timestamp() + random() * interval '1 second'
                   * least(%(cap)s, %(base)s * 2.0 ^ (tries - 1)) AS due
        FROM (
            SELECT max_attempts, least(attempts + %(count)s, max_attempts - %(spared)s) AS tries
            FROM job WHERE id = %(id)s
        ) AS counted
    ) AS next
    WHERE id = %(id)s
    RETURNING {_COLUMNS}
), tallied AS ({TALLY})
SELECT * FROM done"""

_FAILURE = """
INSERT INTO job_failure (job_id, attempt, error, worker, traceparent)
VALUES (%(id)s, %(attempt)s, %(error)s::jsonb, %(worker)s, %(traceparent)s)"""

_KEEP_WAITING = "UPDATE job SET next_dispatch = 'infinity' WHERE id = %(id)s AND state = 'queued'"

_MAKE_DUE = """
UPDATE job SET next_dispatch = now()
WHERE id = %(id)s AND state = 'queued' AND next_dispatch = 'infinity'"""

_CANCEL = f"""
WITH done AS (
    UPDATE job SET state = 'cancelled', finished_at = now(), next_dispatch = NULL, run_after = NULL
    WHERE id = %(id)s AND state IN ('queued', 'retry')
    RETURNING kind, state, error
)
{TALLY}"""

_FORGET_FAILURES = """
UPDATE job_failure
SET error = error || '{"message": "scrubbed", "details": {}, "traceback": null}'::jsonb
WHERE job_id = ANY(%(ids)s)"""


_FIELDS = tuple(field.name for field in fields(Job))
"""Fields of a Job, which `_COLUMNS` gives in their order."""

# To look one up takes a tenth of the time of asking the enumeration for it.
_DOORS = {door.value: door for door in Door}
_STATES = {state.value: state for state in JobState}


class PostgresLedger:
    """Meets `domain.jobs.ports.Jobs`."""

    def __init__(
        self, statements: Statements, *, backoff: Backoff, place: Callable[[Job], str | None]
    ) -> None:
        self._statements = statements
        self._backoff = backoff
        self._place = place
        self.claimed: dict[str, Job] = {}
        """The jobs that were claimed here, for the events that they cause."""

    def accept(self, submissions: Sequence[tuple[Submission, str, int]]) -> list[Receipt]:
        # What a job hands over goes on where it is, in a trace.
        origin = self._place(*self.claimed.values()) if len(self.claimed) == 1 else None
        written = self._statements.ask(
            _ACCEPT,
            {"rows": as_rows(_submitted(*each, origin=origin) for each in submissions)},
        )
        new = {row.id for row in written}
        known = self._known([s.job_id for s, _, _ in submissions if s.job_id not in new])
        receipts: list[Receipt] = []
        conflicts: list[str] = []
        first: dict[str, bytes] = {}
        for submission, _, _ in submissions:
            job_id, digest = submission.job_id, submission.payload_hash()
            state, stored = known.get(job_id, (JobState.QUEUED, first.get(job_id, digest)))
            if stored != digest:
                conflicts.append(job_id)
            receipts.append(
                Receipt(job_id=job_id, state=state, is_new=job_id in new and job_id not in first)
            )
            first.setdefault(job_id, digest)
        if conflicts:
            raise IdempotencyConflict.of(*conflicts)
        if new:
            self._statements.tell(f"NOTIFY {CHANNEL}")
        return receipts

    def _known(self, job_ids: Sequence[str]) -> dict[str, tuple[JobState, bytes]]:
        if not job_ids:
            return {}
        rows = self._statements.ask(
            "SELECT id, state, payload_hash FROM job WHERE id = ANY(%(ids)s)", {"ids": job_ids}
        )
        return {row.id: (JobState(row.state), row.payload_hash) for row in rows}

    def keep_waiting(self, job_id: str) -> None:
        self._statements.tell(_KEEP_WAITING, {"id": job_id})

    def make_due(self, job_id: str) -> None:
        self._statements.tell(_MAKE_DUE, {"id": job_id})
        self._statements.tell(f"NOTIFY {CHANNEL}")

    def cancel(self, job_id: str) -> None:
        self._statements.tell(_CANCEL, {"id": job_id})

    def claim(self, job_ids: Sequence[str], *, wait: bool) -> list[Job]:
        rows = self._statements.ask(
            _CLAIM if wait else f"{_CLAIM} SKIP LOCKED", {"ids": as_array(job_ids)}
        )
        return [self._claimed(row) for row in rows]

    def claim_submitted(self, submission: Submission, *, queue: str, max_attempts: int) -> Job:
        return self._write_or_claim(
            _CLAIM_SUBMITTED, submission, {"queue": queue, "max_attempts": max_attempts}
        )

    def claim_new(
        self, submissions: Sequence[Submission], *, queue: str, max_attempts: int
    ) -> list[Job]:
        rows = as_rows(_submitted(submission, queue, max_attempts) for submission in submissions)
        return [self._claimed(row) for row in self._statements.ask(_CLAIM_NEW, {"rows": rows})]

    def put_off(
        self,
        submission: Submission,
        *,
        queue: str,
        max_attempts: int,
        run_after: datetime | None,
        cancelled: Failure | None,
    ) -> Job:
        return self._write_or_claim(
            _PUT_OFF,
            submission,
            {
                "queue": queue,
                "max_attempts": max_attempts,
                "run_after": run_after,
                "cancelled": _json(asdict(cancelled)) if cancelled else None,
            },
        )

    def _write_or_claim(
        self, statement: str, submission: Submission, terms: dict[str, object]
    ) -> Job:
        digest = submission.payload_hash()
        rows = self._statements.ask(
            statement,
            {
                "id": submission.job_id,
                "kind": submission.kind,
                "priority": submission.priority,
                "payload": submission.text,
                "hash": digest,
                "correlation_id": submission.correlation_id,
                "traceparent": submission.traceparent,
                "parent_id": submission.parent_id,
                **terms,
            },
        )
        if not rows:
            rows = self._statements.ask(_CLAIM, {"ids": as_array([submission.job_id])})
            if rows[0].payload_hash != digest:
                raise IdempotencyConflict.of(submission.job_id)
        return self._claimed(rows[0])

    def release(self, job_ids: Sequence[str], *, queue: str, suspected: bool) -> None:
        self._statements.tell(
            _RELEASE, {"ids": list(job_ids), "queue": queue, "suspected": suspected}
        )

    def begin_attempt(self, job: Job, *, lost: Failure) -> Job:
        [row] = self._statements.ask(_BEGIN, {"id": job.id, "lost": _json(asdict(lost))})
        return self._claimed(row)

    def finish(self, outcomes: Sequence[tuple[Job, Outcome]], *, counted: bool) -> None:
        self._statements.tell(
            _FINISH,
            {
                "ids": as_array(job.id for job, _ in outcomes),
                "rows": as_rows(_finished(job, outcome) for job, outcome in outcomes),
                "count": int(not counted),
            },
        )
        forgotten = [job.id for job, outcome in outcomes if _is_forgotten(outcome)]
        if forgotten:
            self._statements.tell(_FORGET_FAILURES, {"ids": forgotten})

    def take_back_attempt(self, job: Job) -> None:
        self._statements.tell(_TAKE_BACK, {"id": job.id})

    def fail(self, job: Job, failure: Failure, *, worker: str, counted: bool, spare: bool) -> Job:
        error = _json(asdict(failure))
        traceparent = self._place(job)
        [row] = self._statements.ask(
            _FAIL,
            {
                "id": job.id,
                "count": int(not counted),
                "spared": int(spare),
                "error": error,
                "traceparent": traceparent,
                "base": self._backoff.base_seconds,
                "cap": self._backoff.cap_seconds,
            },
        )
        self._statements.tell(
            _FAILURE,
            {
                "id": job.id,
                "attempt": row.attempts,
                "error": error,
                "worker": worker,
                "traceparent": traceparent,
            },
        )
        return self._claimed(row)

    def _claimed(self, row: Sequence[Any]) -> Job:
        job = Job(**job_fields(_FIELDS, row))
        self.claimed[job.id] = job
        return job


def job_fields(names: Sequence[str], row: Sequence[Any]) -> dict[str, Any]:
    """Return what a row of `job` holds in columns of these names, as the fields of a Job."""
    values: dict[str, Any] = dict(zip(names, row, strict=True))
    values["door"] = _DOORS[values["door"]]
    values["state"] = _STATES[values["state"]]
    if values["error"]:
        values["error"] = Failure(**values["error"])
    return values


def _submitted(
    submission: Submission, queue: str, max_attempts: int, *, origin: str | None = None
) -> dict[str, object]:
    return {
        "id": submission.job_id,
        "kind": submission.kind,
        "queue": queue,
        "priority": submission.priority,
        "payload": as_json(submission.text),
        "payload_hash": submission.payload_hash().hex(),
        "max_attempts": max_attempts,
        "correlation_id": submission.correlation_id,
        "traceparent": submission.traceparent or origin,
        "parent_id": submission.parent_id,
    }


def _finished(job: Job, outcome: Outcome) -> dict[str, object]:
    # A job that was to run later was not waited for until then; the wait for a retry counts.
    since = job.run_after if job.state is JobState.QUEUED else None
    match outcome:
        case Succeeded(result=result):
            return {
                "id": job.id,
                "state": JobState.SUCCEEDED,
                "result": result,
                "forget": False,
                "since": since,
            }
        case Rejected(error=error, forget_payload=forget):
            return {
                "id": job.id,
                "since": since,
                "state": JobState.REJECTED,
                "error": asdict(failure_of(error)),
                "forget": forget,
            }


def _is_forgotten(outcome: Outcome) -> bool:
    return isinstance(outcome, Rejected) and outcome.forget_payload


def _json(value: object) -> str:
    return orjson.dumps(value).decode()
