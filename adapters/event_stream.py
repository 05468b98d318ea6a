"""The stream of events for other systems: a Redis Stream, trimmed, at least once."""

from collections.abc import Sequence

import redis
import redis.backoff
import redis.retry
from redis.typing import EncodableT, FieldT

from domain.jobs.publishing import RecordedEvent

STREAM = "tallyman:events"
SCHEMA_VERSION = "1"


class StreamAway(Exception):
    """Redis did not take the events; they stay in the outbox."""


class RedisEventStream:
    """Appends events to `tallyman:events`, the oldest of about `length` making room."""

    def __init__(self, url: str, *, length: int) -> None:
        self._length = length
        self._redis = redis.Redis.from_url(
            url,
            socket_timeout=10,
            socket_connect_timeout=5,
            retry=redis.retry.Retry(redis.backoff.NoBackoff(), 1),
        )

    def append(self, events: Sequence[RecordedEvent]) -> None:
        """Append in order, in one round trip.

        Raises:
            StreamAway: Some may have been appended: append all again, consumers know them by id.
        """
        pipeline = self._redis.pipeline(transaction=False)
        for event in events:
            pipeline.xadd(STREAM, _fields(event), maxlen=self._length, approximate=True)
        try:
            pipeline.execute()
        except (redis.RedisError, OSError) as error:
            raise StreamAway(str(error)) from error


def _fields(event: RecordedEvent) -> dict[FieldT, EncodableT]:
    return {
        "schema": SCHEMA_VERSION,
        "event_id": event.event_id,
        "name": event.name,
        "aggregate": event.aggregate,
        "payload": event.payload,
        "job_id": event.job_id,
        "correlation_id": event.correlation_id or "",
        "occurred_at": event.occurred_at.isoformat(),
    }
