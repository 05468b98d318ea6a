"""The outbox: events, written in the transaction that made them true."""

from collections.abc import Callable, Iterable, Mapping

from adapters.postgres.event_tally import TALLY_EVENTS, tally_rows
from adapters.postgres.rows import as_rows
from adapters.postgres.statements import Statements
from domain.jobs.model import Job
from domain.measures import measure
from domain.messages import Event

_INSERT = f"""
WITH tallied AS ({TALLY_EVENTS})
INSERT INTO outbox (name, aggregate, payload, job_id, correlation_id, traceparent)
SELECT * FROM jsonb_to_recordset(%(rows)s::jsonb)
    AS event (name text, aggregate text, payload jsonb, job_id text, correlation_id text,
              traceparent text)"""


class PostgresOutbox:
    """Collects the events of one transaction and writes them in one statement."""

    def __init__(self, statements: Statements) -> None:
        self._statements = statements
        self._events: list[tuple[str, Event]] = []

    def record(self, job_id: str, events: Iterable[Event]) -> None:
        self._events.extend((job_id, event) for event in events)

    def pending(self) -> list[tuple[str, Event]]:
        """Return what is not yet written, to `restore` it."""
        return list(self._events)

    def restore(self, events: list[tuple[str, Event]]) -> None:
        """Forget what was recorded since `pending` was asked."""
        self._events = events

    def flush(self, jobs: Mapping[str, Job], place: Callable[[Job], str | None]) -> None:
        """Write what was recorded since the last flush, in order.

        `place` says where in a trace a job is that is at work.
        """
        if not self._events:
            return
        recorded, self._events = self._events, []
        places = {job_id: place(jobs[job_id]) for job_id, _ in recorded if job_id in jobs}
        self._statements.tell(
            _INSERT,
            {
                "rows": as_rows(
                    {
                        "name": event.name,
                        "aggregate": event.aggregate,
                        "payload": event,
                        "job_id": job_id,
                        "correlation_id": jobs[job_id].correlation_id if job_id in jobs else None,
                        "traceparent": places.get(job_id),
                    }
                    for job_id, event in recorded
                ),
                "tallies": tally_rows(measure(event for _, event in recorded)),
            },
        )
