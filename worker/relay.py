"""The relay: tells the workers, through the broker, which jobs of the ledger are due."""

import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf

import structlog

from adapters.broker import BrokerAway, CeleryBroker
from adapters.postgres.dispatches import Bell, PostgresDispatches
from adapters.postgres.persistence import is_outage
from domain.jobs.dispatching import Dispatch, Grouping, group
from domain.jobs.queues import QueueSettings, by_priority

log = structlog.get_logger()

CLAIM = 2_000
"""Jobs claimed at once: few enough that the first are published soon."""
PAUSE_SECONDS = 1.0
"""How long to wait while PostgreSQL or the broker is away."""
ENOUGH_WAITING = 4
"""Messages in a queue while which few jobs are kept back: what comes meanwhile goes together."""
KEPT_SECONDS = 0.002
"""How long to wait at first while jobs are kept back; then twice as long each time, as long as
while a queue is full: nobody may be there to take what waits."""
COMPANY_SECONDS = 0.000_25
"""How long to wait for each job that was just published: the more come, the more of them soon go
together, which spares workers, relay and PostgreSQL more than it costs each."""
MOST_COMPANY_SECONDS = 0.003
"""How long to wait for that at the most."""
IN_HAND_SECONDS = 0.04
"""How long a message that was sent counts as one that waits: where so many are sent, jobs come fast
enough to go together."""
FULL_SECONDS = 0.05
"""How long to wait while a queue is full, or has to wait for another or for its rate."""
MEMORY_SECONDS = 0.1
"""How long the broker may have forgotten what it was told before that is noticed."""
NOTICE_SECONDS = 0.5
"""How long `stopping` may go unnoticed while nothing is due."""


@dataclass(kw_only=True)
class Relay:
    """Moves due jobs to the broker until told to stop; any number of relays may run."""

    dispatches: PostgresDispatches
    broker: CeleryBroker
    queues: tuple[str, ...]
    grouping: Grouping
    depth: int
    """Messages in a queue beyond which it is left alone."""
    poll_seconds: float
    stopping: threading.Event = field(default_factory=threading.Event)
    alive: Callable[[], None] = lambda: None
    """Told after each look at the ledger and the broker, in vain or not."""
    reached: Callable[[str], None] = lambda _: None
    """Told the name of each boundary as it is reached; tests interrupt there."""
    tells_messages: bool = False
    """Log each message that is sent."""
    messages: dict[str, int] = field(default_factory=dict)
    """Messages in each queue at the last look; empty while the broker is away."""
    objection: str | None = "it has not looked yet"
    """Why it hands out nothing; None where it does."""
    _due: Mapping[str, int] = field(default_factory=dict)
    """Jobs due in each queue at the last look, counted up to a message full."""
    _keeps_back: bool = False
    _paced_at: dict[str, float] = field(default_factory=dict)
    _sent_at: dict[str, deque[float]] = field(default_factory=lambda: defaultdict(deque))
    """When messages were sent to a queue, of late."""

    def run(self) -> None:
        """Relay until `stopping` is set, whatever goes away meanwhile."""
        log.info("relay_started", queues=self.queues)
        while not self.stopping.is_set():
            try:
                with self.dispatches.listening() as bell:
                    self._run_connected(bell)
            except BrokerAway as away:
                self.messages = {}
                log.warning("broker_away", error=str(away))
                self._pause("the broker is away")
            except Exception as error:
                if not is_outage(error):
                    raise
                log.warning("postgres_away", error=str(error))
                self._pause("PostgreSQL is away")
        log.info("relay_stopped")

    def _pause(self, objection: str) -> None:
        self.objection = objection
        # It is at work all the same: to start it again would help nobody.
        self.alive()
        self.stopping.wait(PAUSE_SECONDS)

    def _run_connected(self, bell: Bell) -> None:
        kept = KEPT_SECONDS
        noticed_at = -inf
        while not self.stopping.is_set():
            if time.monotonic() >= noticed_at + MEMORY_SECONDS:
                self.notice_lost_memory()
                noticed_at = time.monotonic()
            published, is_full = self.relay_once()
            self.objection = None
            self.alive()
            if published or not self._keeps_back:
                kept = KEPT_SECONDS
            if is_full and not published:
                self.stopping.wait(min(kept, FULL_SECONDS) if self._keeps_back else FULL_SECONDS)
                kept *= 2
            elif not published:
                self._rest(bell)
            elif published < self.grouping.most:
                self.stopping.wait(min(published * COMPANY_SECONDS, MOST_COMPANY_SECONDS))

    def _rest(self, bell: Bell) -> None:
        until = time.monotonic() + self.poll_seconds
        while not self.stopping.is_set() and (left := until - time.monotonic()) > 0:
            if bell.wait(min(left, NOTICE_SECONDS)):
                break
            self.alive()

    def notice_lost_memory(self) -> None:
        """Make due again what a broker that forgot was told."""
        if self.broker.lost_its_memory():
            again = self.dispatches.forget()
            self.reached("relay.forgot")
            self.broker.remember()
            log.info("broker_memory_new", jobs_due_again=again)

    def relay_once(self) -> tuple[int, bool]:
        """Publish what is due and may run; return the number of jobs.

        Tell, too, whether more is soon to come: a queue was full, or waited for its workers, its
        rate or for queues of a higher priority.
        """
        published = 0
        is_full = self._keeps_back = False
        self.messages = self.broker.depths(self.queues)
        settings, self._due = self.dispatches.look(self.messages, at_most=self.grouping.most)
        levels = by_priority(self.queues, settings)
        for level in levels:
            looks = [self._look(queue) for queue in level]
            published += sum(look.published for look in looks)
            is_full = is_full or any(look.is_full for look in looks)
            if level is not levels[-1] and any(look.has_backlog for look in looks):
                # Whatever is less urgent waits until there is no more of this.
                is_full = True
                break
        return published, is_full

    def _look(self, queue: QueueSettings) -> "_Look":
        waiting = self.messages[queue.name]
        if waiting >= min(self.depth, queue.most_messages or self.depth):
            return _Look(is_full=True, has_backlog=True)
        if not self._due[queue.name]:
            return _Look(has_backlog=waiting > 0)
        if waiting >= ENOUGH_WAITING and self._due[queue.name] < self.grouping.most:
            self._keeps_back = True
            return _Look(is_full=True, has_backlog=True)
        if queue.jobs_per_second is None:
            published = self.publish_due(queue.name, waiting=waiting)
            return _Look(published=published, has_backlog=bool(waiting or published))
        moment = time.monotonic()
        turn_in = max(
            queue.wait_seconds, self._paced_at.get(queue.name, 0.0) + FULL_SECONDS - moment
        )
        if turn_in > 0:
            # It is not the workers that it waits for: others may have them meanwhile.
            return _Look(is_full=turn_in < self.poll_seconds, has_backlog=waiting > 0)
        self._paced_at[queue.name] = moment
        published = self.publish_due(queue.name, waiting=waiting, is_paced=True)
        return _Look(published=published, has_backlog=bool(waiting or published))

    def publish_due(self, queue: str, *, waiting: int, is_paced: bool = False) -> int:
        """Publish what is due in `queue`, where messages wait already; return the number of jobs.

        Raises:
            BrokerAway: The broker took not all; what it did not take is due again.
        """
        limit = min(CLAIM, (self.depth - waiting) * self.grouping.most)
        claim = self.dispatches.claim_paced if is_paced else self.dispatches.claim_due
        due = claim(queue, limit=limit, is_idle=not waiting)
        if due.jobs:
            self.reached("relay.claimed")
        messages = group(due.jobs, self.grouping, waiting=waiting + self._in_hand(queue))
        done = self.broker.publish(messages, queue=queue, pace=due.pace)
        if done < len(messages):
            left = [job_id for message in messages[done:] for job_id in message.job_ids]
            self.dispatches.release(left)
            raise BrokerAway(f"{len(left)} jobs are due again")
        if messages:
            self._sent_at[queue] += [time.monotonic()] * len(messages)
            self.reached("relay.published")
            self._tell(messages, queue)
        return len(due.jobs)

    def _in_hand(self, queue: str) -> int:
        """Count the messages that were sent a moment ago: workers are likely at them."""
        sent_at = self._sent_at[queue]
        while sent_at and sent_at[0] < time.monotonic() - IN_HAND_SECONDS:
            sent_at.popleft()
        return len(sent_at)

    def _tell(self, messages: Sequence[Dispatch], queue: str) -> None:
        if not self.tells_messages:
            return
        for message in messages:
            alone = {"job_id": message.job_ids[0], "correlation_id": message.correlation_id}
            log.debug(
                "message_sent",
                queue=queue,
                kind=message.kind,
                **(alone if len(message.job_ids) == 1 else {"jobs": len(message.job_ids)}),
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    """What came of a look at one queue."""

    published: int = 0
    is_full: bool = False
    has_backlog: bool = False
    """Queues of a lower priority have to wait for it."""
