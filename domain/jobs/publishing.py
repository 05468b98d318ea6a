"""Publishing: what other systems are told of what has happened."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedEvent:
    """An event as the outbox holds it."""

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
