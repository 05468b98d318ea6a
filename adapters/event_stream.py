"""The stream of events for other systems: a Redis Stream, trimmed, at least once."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import redis
import redis.backoff
import redis.retry
from uuid6 import uuid7

from adapters.breakers import Breaker, CircuitOpen
from domain.jobs.publishing import RecordedEvent

STREAM = "tallyman:events"
EPOCH_KEY = "tallyman:events:epoch"
"""A key that is gone when Redis was emptied or replaced, and the stream with it."""
SCHEMA_VERSION = "1"


class StreamAway(Exception):
    """Redis did not take the events; they stay in the outbox."""


class RedisEventStream:
    """Appends events to `tallyman:events`, the oldest of about `length` making room."""

    def __init__(self, url: str, *, length: int) -> None:
        self.length = length
        self._redis = redis.Redis.from_url(
            url,
            socket_timeout=5,
            socket_connect_timeout=5,
            retry=redis.retry.Retry(redis.backoff.NoBackoff(), 1),
        )
        self._breaker = Breaker("event_stream", failures=2, seconds=2.0)

    def append(self, events: Sequence[RecordedEvent]) -> bool:
        """Append in order; false where the stream is lost, which is to be filled again first.

        Raises:
            StreamAway: All may have been appended: append them again, consumers know them by id.
        """
        limit = ("MAXLEN", "~", self.length)
        # All or none: a Redis that is nearly full may refuse one event and take the next.
        with self._calling(), self._redis.pipeline(transaction=True) as pipeline:
            # Redis may be emptied at any moment. A new stream that began with these would show a
            # gap to whoever knows what came before them.
            pipeline.watch(EPOCH_KEY)
            if not pipeline.exists(EPOCH_KEY):
                return False
            pipeline.multi()
            for event in events:
                # Not `xadd`, whose checks of its arguments take longer than the rest.
                pipeline.execute_command("XADD", STREAM, *limit, "*", *_fields(event))
            try:
                pipeline.execute()
            except redis.WatchError:
                return False
        return True

    def lost_its_memory(self) -> bool:
        """Tell whether the stream was lost since `remember` was last called.

        Raises:
            StreamAway: Redis cannot be asked.
        """
        with self._calling():
            return not self._redis.exists(EPOCH_KEY)

    def remember(self) -> None:
        """Leave a mark that vanishes with the stream.

        Raises:
            StreamAway: Redis did not take it.
        """
        with self._calling():
            self._redis.set(EPOCH_KEY, str(uuid7()))

    @contextmanager
    def _calling(self) -> Iterator[None]:
        try:
            with self._breaker.calling():
                yield
        except (CircuitOpen, redis.RedisError, OSError) as error:
            raise StreamAway(str(error)) from error


def _fields(event: RecordedEvent) -> Sequence[str]:
    """Return names and values by turns."""
    return (
        *("schema", SCHEMA_VERSION),
        *("event_id", event.event_id),
        *("name", event.name),
        *("aggregate", event.aggregate),
        *("payload", event.payload),
        *("job_id", event.job_id),
        *("correlation_id", event.correlation_id or ""),
        *("occurred_at", event.occurred_at.isoformat()),
        *(("traceparent", event.traceparent) if event.traceparent else ()),
    )
