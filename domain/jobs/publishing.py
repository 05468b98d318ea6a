"""Publishing: what other systems are told of what has happened."""

from datetime import datetime
from typing import NamedTuple


class RecordedEvent(NamedTuple):
    """An event as the outbox holds it: thousands a second, so a tuple."""

    outbox_id: int
    event_id: str
    name: str
    aggregate: str
    payload: str
    """JSON."""
    job_id: str
    correlation_id: str | None
    occurred_at: datetime
    traceparent: str | None = None
    """Where in a trace it has happened."""
