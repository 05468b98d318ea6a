"""The outbox: events, written in the transaction that made them true."""

from collections.abc import Iterable, Mapping

import orjson
from sqlalchemy import Connection

from domain.messages import Event

_INSERT = """
INSERT INTO outbox (name, aggregate, payload, job_id, correlation_id)
SELECT name, aggregate, payload::jsonb, job_id, correlation_id
FROM unnest(%(names)s::text[], %(aggregates)s::text[], %(payloads)s::text[],
            %(job_ids)s::text[], %(correlation_ids)s::text[])
     AS event (name, aggregate, payload, job_id, correlation_id)"""


class PostgresOutbox:
    """Collects the events of one transaction and writes them in one statement."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._events: list[tuple[str, Event]] = []

    def record(self, job_id: str, events: Iterable[Event]) -> None:
        self._events.extend((job_id, event) for event in events)

    def flush(self, correlation_ids: Mapping[str, str | None]) -> None:
        """Write what was recorded since the last flush, in order."""
        if not self._events:
            return
        recorded, self._events = self._events, []
        self._connection.exec_driver_sql(
            _INSERT,
            {
                "names": [event.name for _, event in recorded],
                "aggregates": [event.aggregate for _, event in recorded],
                "payloads": [orjson.dumps(event).decode() for _, event in recorded],
                "job_ids": [job_id for job_id, _ in recorded],
                "correlation_ids": [correlation_ids.get(job_id) for job_id, _ in recorded],
            },
        )
