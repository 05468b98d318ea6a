"""Queues: what operators set for one, and what that means to relays, workers and producers."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from math import ceil

QUEUES = ("allocation", "users", "imports", "maintenance")

CORRELATION = "correlation_id"
"""Header of a message: what its job belongs to."""
PACED = "tallyman_paced"
"""Header of a relay's message: the rate, in jobs a second, at which its jobs were handed out."""
BURST_SECONDS = 0.25
"""A limited queue that was idle hands out at once what its rate allows in this time."""
MOST_PACED_MESSAGES = 16
"""Messages of a limited queue that may wait in the broker: workers take them all at once."""

LEAST_RATE, MOST_RATE = 0.001, 1_000_000.0
MOST_PRIORITY = 9
MOST_LIMIT = 10_000_000
MOST_REASON = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueSettings:
    """What operators have set for a queue; as it stands here, nothing."""

    name: str
    paused_at: datetime | None = None
    pause_reason: str | None = None
    priority: int = 0
    jobs_per_second: float | None = None
    most_waiting: int | None = None
    wait_seconds: float = 0.0
    """Until the rate allows the next job."""

    def objection(self, *, pace: float | None) -> str | None:
        """Say why a message may not run now; None where it may.

        `pace` is the rate that it was handed out at, if at any.
        """
        if self.paused_at is not None:
            return f"queue {self.name} is paused: {self.pause_reason or 'no reason was given'}"
        if self.jobs_per_second is not None and (pace is None or pace > self.jobs_per_second):
            return (
                f"queue {self.name} is limited to {self.jobs_per_second:g} jobs a second:"
                " this one waits for its turn"
            )
        return None

    @property
    def most_messages(self) -> int | None:
        """Messages in the broker beyond which a limited queue is left alone.

        They hold no more than a burst: whatever waits there runs as fast as workers can.
        """
        if self.jobs_per_second is None:
            return None
        return max(1, min(MOST_PACED_MESSAGES, ceil(self.jobs_per_second * BURST_SECONDS)))


def by_priority(
    queues: Iterable[str], settings: Mapping[str, QueueSettings]
) -> list[list[QueueSettings]]:
    """Return the queues that are not paused: those of the highest priority, and so on."""
    found = [settings.get(name) or QueueSettings(name=name) for name in queues]
    running = sorted(
        (each for each in found if each.paused_at is None), key=lambda each: -each.priority
    )
    return [list(level) for _, level in groupby(running, key=lambda each: each.priority)]


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueLevel:
    """How much waits in a queue, as a relay measured it."""

    waiting: int
    """Jobs that were accepted and have not finished."""
    jobs_per_second: float
    """Jobs that finish, on the average of some seconds."""
    due_since: datetime | None = None
    """When the job became due that waits longest to be handed out."""
    messages: int | None = None
    """Messages in the broker; None while it is away."""
    age_seconds: float = 0.0
    is_good: bool = True
    """False where no relay runs: the next measurement is overdue, or there was none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """A queue as operators see it."""

    settings: QueueSettings
    level: QueueLevel

    @property
    def has_backlog(self) -> bool:
        """Tell whether queues of a lower priority wait for this one."""
        if self.settings.paused_at is not None:
            return False
        # What waits for its rate alone leaves workers to others.
        is_due = self.level.due_since is not None and self.settings.jobs_per_second is None
        return is_due or bool(self.level.messages)


def held_back_by(queue: Queue, others: Iterable[Queue]) -> list[str]:
    """Name the queues of a higher priority that jobs of `queue` wait for."""
    return [
        other.settings.name
        for other in others
        if queue.level.waiting
        and other.settings.priority > queue.settings.priority
        and other.has_backlog
    ]
