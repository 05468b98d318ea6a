"""The relay: tells the workers, through the broker, which jobs of the ledger are due."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog

from adapters.broker import BrokerAway, CeleryBroker
from adapters.postgres.dispatches import Bell, PostgresDispatches
from adapters.postgres.persistence import is_outage
from domain.jobs.dispatching import Grouping, group

log = structlog.get_logger()

CLAIM = 5_000
"""Jobs claimed at once: few enough that the first are published soon."""
PAUSE_SECONDS = 1.0
"""How long to wait while PostgreSQL or the broker is away."""
FULL_SECONDS = 0.05
"""How long to wait while a queue is full."""
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
    """Told after each look at the ledger and the broker."""

    def run(self) -> None:
        """Relay until `stopping` is set, whatever goes away meanwhile."""
        log.info("relay_started", queues=self.queues)
        while not self.stopping.is_set():
            try:
                with self.dispatches.listening() as bell:
                    self._run_connected(bell)
            except BrokerAway as away:
                log.warning("broker_away", error=str(away))
                self.stopping.wait(PAUSE_SECONDS)
            except Exception as error:
                if not is_outage(error):
                    raise
                log.warning("postgres_away", error=str(error))
                self.stopping.wait(PAUSE_SECONDS)
        log.info("relay_stopped")

    def _run_connected(self, bell: Bell) -> None:
        while not self.stopping.is_set():
            self.notice_lost_memory()
            published, is_full = self.relay_once()
            self.alive()
            if is_full and not published:
                self.stopping.wait(FULL_SECONDS)
            elif not published:
                self._rest(bell)

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
            self.broker.remember()
            log.info("broker_memory_new", jobs_due_again=again)

    def relay_once(self) -> tuple[int, bool]:
        """Publish what is due; return the number of jobs, and whether a queue was full."""
        published = 0
        is_full = False
        for queue in self.queues:
            waiting = self.broker.depth(queue)
            if waiting >= self.depth:
                is_full = True
                continue
            published += self.publish_due(queue, waiting=waiting)
        return published, is_full

    def publish_due(self, queue: str, *, waiting: int) -> int:
        """Publish what is due in `queue`, where messages wait already; return the number of jobs.

        Raises:
            BrokerAway: The broker took not all; what it did not take is due again.
        """
        room = (self.depth - waiting) * self.grouping.most
        due = self.dispatches.claim_due(queue, limit=min(CLAIM, room), is_idle=not waiting)
        messages = group(due, self.grouping)
        done = self.broker.publish(messages, queue=queue)
        if done < len(messages):
            left = [job_id for message in messages[done:] for job_id in message.job_ids]
            self.dispatches.release(left)
            raise BrokerAway(f"{len(left)} jobs are due again")
        return sum(len(message.job_ids) for message in messages)
