"""How much waits in each queue: measured by one relay for all who ask."""

from collections.abc import Mapping, Sequence
from math import exp
from typing import Any

from sqlalchemy import Connection, Engine, Row

from adapters.postgres import queue_settings
from adapters.postgres.rows import as_rows
from domain.jobs.queues import MOST_LIMIT, Queue, QueueLevel, QueueSettings

LOCK = 0x7A11_6A06
"""Advisory lock of the relay that measures: one is enough."""
LATE_SECONDS = 1.0
"""Finished jobs are counted until so long ago: by then their transactions have committed."""
MOST_SPAN_SECONDS = 10.0
"""Finished jobs are counted from no longer ago than this."""
MEMORY_SECONDS = 6.0
"""Time in which the average of jobs a second forgets most of what was before."""
GOOD_PERIODS = 3
LEAST_GOOD_SECONDS = 10.0

_BEGIN = """
SELECT pg_try_advisory_xact_lock(%(lock)s) AS is_ours, now() AS now,
       (SELECT extract(epoch FROM now() - max(measured_at)) FROM queue_gauge
        WHERE queue = ANY(%(queues)s))::float8 AS age"""

_FINISHED = """
SELECT queue, count(*) AS jobs FROM job
WHERE finished_at > now() - %(since)s * interval '1 second'
  AND finished_at <= now() - %(until)s * interval '1 second'
GROUP BY queue"""

_COUNT = """
SELECT count(*) FROM (
    SELECT FROM job WHERE queue = {queue} AND state IN ('queued', 'retry') LIMIT {most}
) AS waiting"""

_WAITING = f"""
SELECT asked.queue, ({_COUNT.format(queue="asked.queue", most="%(most)s")}) AS waiting,
       (SELECT min(first.next_dispatch) FROM generate_series(0, 9) AS level (priority)
        CROSS JOIN LATERAL (
            SELECT next_dispatch FROM job
            WHERE queue = asked.queue AND job.priority = level.priority
              AND state IN ('queued', 'retry')
            ORDER BY next_dispatch LIMIT 1
        ) AS first
        WHERE first.next_dispatch <= now()) AS due_since
FROM unnest(%(queues)s::text[]) AS asked (queue)"""

_WRITE = """
INSERT INTO queue_gauge
    (queue, waiting, due_since, jobs_per_second, messages, measured_at, good_until)
SELECT queue, waiting, due_since, jobs_per_second, messages, now(),
       now() + %(good)s * interval '1 second'
FROM jsonb_to_recordset(%(rows)s::jsonb)
    AS measured (queue text, waiting integer, due_since timestamptz,
                 jobs_per_second double precision, messages integer)
ON CONFLICT (queue) DO UPDATE SET
    waiting = excluded.waiting,
    due_since = excluded.due_since,
    jobs_per_second = excluded.jobs_per_second,
    messages = excluded.messages,
    measured_at = excluded.measured_at,
    good_until = excluded.good_until"""

_READ = """
SELECT queue, waiting, due_since, jobs_per_second, messages,
       extract(epoch FROM now() - measured_at)::float8 AS age, good_until > now() AS is_good
FROM queue_gauge"""


class PostgresQueueGauges:
    """Measures queues, and tells what was measured; each call is a transaction of its own."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def measure(self, queues: Sequence[str], *, messages: Mapping[str, int], every: float) -> bool:
        """Measure, unless another does or did less than `every` seconds ago; tell which.

        `messages` are those in the broker, as far as is known.
        """
        with self._engine.begin() as connection:
            begun = connection.exec_driver_sql(_BEGIN, {"lock": LOCK, "queues": list(queues)}).one()
            if not begun.is_ours or (begun.age is not None and begun.age < every):
                return False
            before = levels(connection)
            span = min(begun.age or MOST_SPAN_SECONDS, MOST_SPAN_SECONDS)
            finished = connection.exec_driver_sql(
                _FINISHED, {"since": span + LATE_SECONDS, "until": LATE_SECONDS}
            )
            rates = {row.queue: row.jobs / span for row in finished}
            waiting = connection.exec_driver_sql(
                _WAITING, {"queues": list(queues), "most": MOST_LIMIT + 1}
            )
            rows = [
                {
                    "queue": row.queue,
                    "waiting": row.waiting,
                    "due_since": row.due_since,
                    "jobs_per_second": _average(before.get(row.queue), rates.get(row.queue, 0.0)),
                    "messages": messages.get(row.queue),
                }
                for row in waiting
            ]
            good = max(LEAST_GOOD_SECONDS, GOOD_PERIODS * every)
            connection.exec_driver_sql(_WRITE, {"rows": as_rows(rows), "good": good})
        return True

    def read(self) -> tuple[dict[str, QueueSettings], dict[str, QueueLevel]]:
        """Return what is set for queues, and what was measured of them."""
        with self._engine.connect() as connection:
            return queue_settings.read(connection), levels(connection)

    def count(self, queue: str, *, most: int) -> int:
        """Count the jobs that wait in `queue`, to no more than `most`."""
        with self._engine.connect() as connection:
            statement = _COUNT.format(queue="%(queue)s", most="%(most)s")
            return int(
                connection.exec_driver_sql(statement, {"queue": queue, "most": most}).scalar_one()
            )

    def view(self, queues: Sequence[str]) -> list[Queue]:
        """Return queues as operators see them; what no relay measured lately is counted now."""
        with self._engine.connect() as connection:
            settings = queue_settings.read(connection)
            known = levels(connection)
            unknown = [name for name in queues if name not in known or not known[name].is_good]
            counted = connection.exec_driver_sql(
                _WAITING, {"queues": unknown, "most": MOST_LIMIT + 1}
            )
            known |= {
                row.queue: QueueLevel(
                    waiting=row.waiting, due_since=row.due_since, jobs_per_second=0, is_good=False
                )
                for row in counted
            }
        return [
            Queue(settings=settings.get(name) or QueueSettings(name=name), level=known[name])
            for name in queues
        ]


def levels(connection: Connection) -> dict[str, QueueLevel]:
    """Return what was measured of queues."""
    return {row.queue: _level(row) for row in connection.exec_driver_sql(_READ)}


def _level(row: Row[Any]) -> QueueLevel:
    return QueueLevel(
        waiting=row.waiting,
        jobs_per_second=row.jobs_per_second,
        due_since=row.due_since,
        messages=row.messages,
        age_seconds=row.age,
        is_good=row.is_good,
    )


def _average(before: QueueLevel | None, rate: float) -> float:
    if before is None:
        return rate
    return rate + (before.jobs_per_second - rate) * exp(-before.age_seconds / MEMORY_SECONDS)
