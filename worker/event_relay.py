"""The event relay: moves what happened from the outbox to the stream, in order."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

import structlog

from adapters.event_stream import RedisEventStream, StreamAway
from adapters.postgres.outbox_feed import OutboxReader, PostgresOutboxFeed
from adapters.postgres.persistence import is_outage
from worker.tracing.untraced import Untraced

log = structlog.get_logger()

CHUNK = 1_000
"""Events published at once, and published again if the relay dies before it notes them."""
COMPANY_SECONDS = 0.02
"""How long to wait for further events where there were few: each look takes as long as hundreds."""
IDLE_SECONDS = 0.2
STANDBY_SECONDS = 1.0
AWAY_SECONDS = 1.0


@dataclass(kw_only=True)
class EventRelay:
    """Publishes events at least once; of many relays one works and the others stand by."""

    feed: PostgresOutboxFeed
    stream: RedisEventStream
    stopping: threading.Event = field(default_factory=threading.Event)
    traces: Untraced = field(default_factory=Untraced)
    reached: Callable[[str], None] = lambda _: None
    """Told the name of each boundary as it is reached; tests interrupt there."""
    _held_until: datetime | None = None
    """Until when the stream held what was published, at the last look."""

    def run(self) -> None:
        """Relay until `stopping` is set, whatever goes away meanwhile."""
        while not self.stopping.is_set():
            try:
                with self.feed.reading() as reader:
                    if reader is None:
                        self.stopping.wait(STANDBY_SECONDS)
                    else:
                        self._run_as(reader)
            except StreamAway as away:
                log.warning("event_stream_away", error=str(away))
                self.stopping.wait(AWAY_SECONDS)
            except Exception as error:
                if not is_outage(error):
                    raise
                log.warning("postgres_away", error=str(error))
                self.stopping.wait(AWAY_SECONDS)

    def _run_as(self, reader: OutboxReader) -> None:
        while not self.stopping.is_set():
            published = self.relay_once(reader)
            if published < CHUNK:
                self.stopping.wait(COMPANY_SECONDS if published else IDLE_SECONDS)

    def relay_once(self, reader: OutboxReader) -> int:
        """Publish the oldest events; return how many."""
        self.notice_lost_memory(reader)
        events = reader.unpublished(limit=CHUNK)
        if events:
            moment = reader.moment()
            with self.traces.telling(events) as told:
                is_there = self.stream.append(told, until=moment)
            if not is_there:
                # The next look notices, and begins further back.
                return 0
            self._held_until = moment
            self.reached("events.published")
            reader.mark_published(events, moment=moment)
        return len(events)

    def notice_lost_memory(self, reader: OutboxReader) -> None:
        """Have a stream that was lost filled again, with as much as it holds.

        And have one that has lost what came last be told of that again: a Redis that was killed
        may have had it in memory alone, a replica that takes over may never have had it.
        """
        held_until = self.stream.look()
        if held_until is None:
            again = reader.forget(at_most=self.stream.length)
            self._held_until = reader.moment()
            self.stream.begin(self._held_until)
            log.info("event_stream_new", events_again=again)
        elif held_until != self._held_until:
            if again := reader.forget_after(held_until):
                log.info("event_stream_behind", events_again=again)
            self._held_until = held_until
