"""Rows as a run would have left them, at the times that a test names."""

from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import orjson
from sqlalchemy import Engine

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
"""A Monday."""
ORDER = "allocation.allocate_order"
REGISTER = "users.register"

_numbers = count(1)


def seconds(number: float) -> timedelta:
    return timedelta(seconds=number)


def failure(error: str, message: str = "no") -> dict[str, Any]:
    return {"type": error, "module": "test", "message": message, "details": {}, "traceback": None}


def do(engine: Engine, statement: str, **parameters: object) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql(statement, parameters)


def ended(
    engine: Engine,
    *,
    at: datetime,
    state: str = "succeeded",
    kind: str = ORDER,
    queue: str = "allocation",
    door: str = "ledger",
    waited: float = 1.0,
    ran: float = 1.0,
    error: dict[str, Any] | None = None,
    job_id: str | None = None,
    has_began: bool = True,
    jobs: int = 1,
) -> str:
    """Write jobs that ended; return the id of the first."""
    first = job_id or f"job-{next(_numbers)}"
    do(
        engine,
        """
        INSERT INTO job (id, kind, queue, door, payload, payload_hash, max_attempts, attempts,
                         state, result, error, created_at, began_at, finished_at)
        SELECT CASE WHEN number = 1 THEN %(id)s ELSE %(id)s || '-' || number END, %(kind)s,
               %(queue)s, %(door)s, '{}', 'x', 5, 1, %(state)s,
               CASE WHEN %(state)s = 'succeeded' THEN '{}'::jsonb END, %(error)s::jsonb,
               %(created)s, %(began)s, %(finished)s
        FROM generate_series(1, %(jobs)s) AS number""",
        id=first,
        kind=kind,
        queue=queue,
        door=door,
        state=state,
        error=orjson.dumps(error).decode() if error else None,
        created=at - seconds(waited + ran),
        began=at - seconds(ran) if has_began else None,
        finished=at,
        jobs=jobs,
    )
    return first


def attempt_failed(
    engine: Engine, job_id: str, *, at: datetime, attempt: int = 1, error: dict[str, Any]
) -> None:
    do(
        engine,
        "INSERT INTO job_failure (job_id, attempt, error, worker, failed_at)"
        " VALUES (%(id)s, %(attempt)s, %(error)s::jsonb, 'test:1', %(at)s)",
        id=job_id,
        attempt=attempt,
        error=orjson.dumps(error).decode(),
        at=at,
    )


def happened(engine: Engine, name: str, payload: dict[str, Any], *, at: datetime) -> None:
    do(
        engine,
        "INSERT INTO outbox (name, aggregate, payload, job_id, occurred_at)"
        " VALUES (%(name)s, 'test', %(payload)s::jsonb, 'test', %(at)s)",
        name=name,
        payload=orjson.dumps(payload).decode(),
        at=at,
    )


def imported(
    engine: Engine,
    run_id: str,
    *,
    at: datetime,
    file_name: str = "sales.csv",
    state: str = "finished",
    rows: int = 10,
    ends: dict[str, int] | None = None,
    ended_at: datetime | None = None,
) -> None:
    ends = ends if ends is not None else {"allocated": rows}
    do(
        engine,
        """
        INSERT INTO import_run (id, target, file_name, digest, plan, state, is_checked, chunks,
                                rows, rows_done, ends, created_at, finished_at)
        VALUES (%(id)s, 'orders', %(file)s, 'x', '{}', %(state)s, true, 1, %(rows)s, %(done)s,
                %(ends)s::jsonb, %(at)s, %(ended)s)""",
        id=run_id,
        file=file_name,
        state=state,
        rows=rows,
        done=sum(ends.values()),
        ends=orjson.dumps(ends).decode(),
        at=at,
        ended=ended_at or (at + seconds(5) if state == "finished" else None),
    )
