"""The stream of events for other systems: a Redis Stream, trimmed, at least once."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import cast

import redis
import redis.backoff
import redis.retry

from adapters.breakers import Breaker, CircuitOpen
from domain.jobs.publishing import RecordedEvent

STREAM = "tallyman:events"
EPOCH_KEY = "tallyman:events:epoch"
"""A key that says until which moment the stream holds what was published, and is lost with it."""
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
        self._seen: bytes | None = None
        """What the key held when it was last looked at."""

    def append(self, events: Sequence[RecordedEvent], *, until: datetime) -> bool:
        """Append in order, and note that the stream holds what was published `until` then.

        False where it has not stayed as it was when it was last looked at: look again.

        Raises:
            StreamAway: All may have been appended: append them again, consumers know them by id.
        """
        limit = ("MAXLEN", "~", self.length)
        # All or none: a Redis that is nearly full may refuse one event and take the next.
        with self._calling(), self._redis.pipeline(transaction=True) as pipeline:
            # Redis may be emptied at any moment, or start again without what it had in memory. With
            # these next, the stream would show a gap to whoever knows what came before them.
            pipeline.watch(EPOCH_KEY)
            if self._seen is None or pipeline.get(EPOCH_KEY) != self._seen:
                return False
            pipeline.multi()
            # Together with the events, and so never there without them.
            pipeline.set(EPOCH_KEY, mark := _mark(until))
            for event in events:
                # Not `xadd`, whose checks of its arguments take longer than the rest.
                pipeline.execute_command("XADD", STREAM, *limit, "*", *_fields(event))
            try:
                pipeline.execute()
            except redis.WatchError:
                return False
        self._seen = mark
        return True

    def look(self) -> datetime | None:
        """Return until when the stream holds what was published; None where it is lost.

        Raises:
            StreamAway: Redis cannot be asked.
        """
        with self._calling():
            self._seen = cast("bytes | None", self._redis.get(EPOCH_KEY))
        return None if self._seen is None else _moment(self._seen)

    def begin(self, moment: datetime) -> None:
        """Begin a new stream: what it lacks of what was published by then is not to be missed.

        Raises:
            StreamAway: Redis did not take it.
        """
        with self._calling():
            self._redis.set(EPOCH_KEY, mark := _mark(moment))
        self._seen = mark

    @contextmanager
    def _calling(self) -> Iterator[None]:
        try:
            with self._breaker.calling():
                yield
        except (CircuitOpen, redis.RedisError, OSError) as error:
            raise StreamAway(str(error)) from error


def _mark(moment: datetime) -> bytes:
    return moment.astimezone(UTC).isoformat().encode()


def _moment(mark: bytes) -> datetime:
    try:
        return datetime.fromisoformat(mark.decode())
    except ValueError:
        # Earlier versions noted no moment: all that they published is taken to be there.
        return datetime.max.replace(tzinfo=UTC)


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
