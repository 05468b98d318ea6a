"""One frame: all that the board knows at a moment, and the same for programs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from adapters.postgres.board import Sight
from domain.jobs.model import OPEN_STATES, JobState
from domain.jobs.queues import Queue, held_back_by
from worker.board.crew import Crew
from worker.board.history import BACK, History
from worker.board.observing import Away
from worker.told import told

PARTS = 60
"""Parts into which the last minutes are cut for programs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """What was seen last, and of which of the two nothing is seen now."""

    sight: Sight
    history: History
    crew: Crew | None
    """None where no broker has answered yet."""
    database_away: Away | None
    broker_away: Away | None

    @property
    def is_measured(self) -> bool:
        """Whether a relay is at work: it measures the queues."""
        return all(queue.level.is_good for queue in self.sight.queues)

    def running(self, queue: Queue) -> int | None:
        """Return the jobs of a queue that are in workers' hands; None where they cannot say."""
        if self.crew is None or self.broker_away:
            return None
        return self.crew.running.get(queue.settings.name, 0)

    def notes(self, queue: Queue) -> Sequence[str]:
        """Say what is set for a queue, or holds it up, the worst first."""
        settings, found = queue.settings, []
        if settings.paused_at is not None:
            why = f": {settings.pause_reason}" if settings.pause_reason else ""
            found.append(f"paused{why}")
        if ahead := held_back_by(queue, self.sight.queues):
            found.append(f"waits for {', '.join(ahead)}")
        if settings.jobs_per_second is not None:
            found.append(f"at most {settings.jobs_per_second:g}/s")
        if settings.most_waiting is not None:
            full = "FULL: " if queue.level.waiting >= settings.most_waiting else ""
            found.append(f"{full}takes {settings.most_waiting:,}")
        if settings.priority:
            found.append(f"priority {settings.priority}")
        return found

    def age_of(self, queue: Queue) -> float | None:
        """Return for how many seconds the job is due that waits longest to be handed out."""
        since = queue.level.due_since
        return None if since is None else max(0.0, (self.sight.now - since).total_seconds())

    def describe(self) -> dict[str, Any]:
        """Return all of it as JSON values."""
        sight, history = self.sight, self.history
        return {
            "at": sight.now,
            "database_away": self.database_away,
            "broker_away": self.broker_away,
            "relay_measures": self.is_measured,
            "jobs_per_second": history.jobs_per_second,
            "jobs_per_second_before": {
                "seconds_each": BACK.total_seconds() / PARTS,
                "rates": history.rates(PARTS),
            },
            "finished": {
                "since": history.begin,
                **{state: history.states[state] for state in JobState if state not in OPEN_STATES},
            },
            "dead": sight.dead,
            "parked": sight.parked,
            "events_waiting": sight.events,
            "events_waiting_seconds": sight.events_age and sight.events_age.total_seconds(),
            "queues": [
                {
                    "queue": queue.settings.name,
                    "waiting": queue.level.waiting,
                    "running": self.running(queue),
                    "messages": queue.level.messages,
                    "oldest_seconds": self.age_of(queue),
                    "jobs_per_second": queue.level.jobs_per_second if queue.level.is_good else None,
                    "paused_at": queue.settings.paused_at,
                    "notes": self.notes(queue),
                }
                for queue in sight.queues
            ],
            "failing": [
                {
                    "kind": each.kind,
                    "failures": each.failures,
                    "dead": each.dead,
                    "error": each.error,
                    "message": told(each.kind, each.message),
                }
                for each in sight.failing
            ],
            "imports": sight.imports,
            "workers": self.crew.workers if self.crew else None,
        }
