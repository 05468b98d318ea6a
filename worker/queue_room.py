"""Room in queues: whether a producer may hand in more, at next to no cost."""

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from adapters.postgres.queue_gauges import PostgresQueueGauges
from domain.jobs.errors import QueueFull
from domain.jobs.queues import QueueLevel, QueueSettings

MOST_WAITING = 1_000_000
"""Jobs that may wait in a queue for which no operator has said another number."""
FRESH_SECONDS = 0.5
"""How long what was read or counted is believed."""
COUNT_SECONDS = 0.05
"""How long a count made before a refusal is believed."""
SHARE = 20
"""Times as long as counting took passes until it is done again."""
NOTE_SECONDS = 0.1
"""Jobs accepted within this time are noted together."""


@dataclass(kw_only=True)
class _Known:
    """What is known of the jobs that wait in one queue."""

    waiting: int = 0
    since: float = float("-inf")
    """Moment of which `waiting` was true."""
    count_again: float = float("-inf")
    """Moment until which another count would be too soon."""
    accepted: deque[tuple[float, int]] = field(default_factory=deque)
    """Jobs that this producer has handed in: (moment, jobs)."""

    def believe(self, waiting: int, *, since: float) -> None:
        if since <= self.since:
            return
        self.waiting = waiting
        self.since = since
        while self.accepted and self.accepted[0][0] + NOTE_SECONDS < since:
            self.accepted.popleft()

    def note(self, jobs: int, *, moment: float) -> None:
        if self.accepted and moment < self.accepted[-1][0] + NOTE_SECONDS:
            began, noted = self.accepted.pop()
            self.accepted.append((began, noted + jobs))
        else:
            self.accepted.append((moment, jobs))

    @property
    def estimate(self) -> int:
        return self.waiting + sum(jobs for _, jobs in self.accepted)


class QueueRoom:
    """Knows how full queues are: as a relay measured them, and what this producer added since.

    Several producers do not know of each other what they add between two measurements, about a
    second: by so much a limit can be overrun. A refusal is decided on a count.
    """

    def __init__(
        self,
        gauges: PostgresQueueGauges,
        *,
        most_waiting: int = MOST_WAITING,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._gauges = gauges
        self._most_waiting = most_waiting
        self._clock = clock
        self._lock = threading.Lock()
        self._until = float("-inf")
        self._settings: Mapping[str, QueueSettings] = {}
        self._levels: Mapping[str, QueueLevel] = {}
        self._known: dict[str, _Known] = {}

    def refusal(self, wanted: Mapping[str, int]) -> QueueFull | None:
        """Say which queue has no room for so many more jobs; None where all have."""
        with self._lock:
            self._look()
            for queue, jobs in wanted.items():
                known = self._known.setdefault(queue, _Known())
                limit = self._limit(queue)
                level = self._levels.get(queue)
                is_measured = level is not None and level.is_good
                if not is_measured:
                    self._count(queue, known, limit=limit, believed=FRESH_SECONDS)
                if known.estimate + jobs > limit:
                    self._count(queue, known, limit=limit, believed=COUNT_SECONDS)
                if known.estimate + jobs > limit:
                    return QueueFull.of(
                        queue,
                        wanted=jobs,
                        # The count stops above the limit; a measurement does not.
                        waiting=max(
                            known.estimate,
                            level.waiting if level and known.waiting > limit else 0,
                        ),
                        limit=limit,
                        jobs_per_second=self._drains(queue),
                    )
        return None

    def note(self, accepted: Mapping[str, int]) -> None:
        """Note that this producer has handed in so many jobs."""
        with self._lock:
            moment = self._clock()
            for queue, jobs in accepted.items():
                self._known.setdefault(queue, _Known()).note(jobs, moment=moment)

    def _look(self) -> None:
        moment = self._clock()
        if moment < self._until:
            return
        self._settings, self._levels = self._gauges.read()
        self._until = moment + FRESH_SECONDS
        for queue, level in self._levels.items():
            self._known.setdefault(queue, _Known()).believe(
                level.waiting, since=moment - level.age_seconds
            )

    def _limit(self, queue: str) -> int:
        settings = self._settings.get(queue)
        return (settings and settings.most_waiting) or self._most_waiting

    def _drains(self, queue: str) -> float:
        settings, level = self._settings.get(queue), self._levels.get(queue)
        is_paused = settings is not None and settings.paused_at is not None
        return level.jobs_per_second if level and level.is_good and not is_paused else 0

    def _count(self, queue: str, known: _Known, *, limit: int, believed: float) -> None:
        moment = self._clock()
        if moment < max(known.count_again, known.since + believed):
            return
        # One more than the limit will do to refuse.
        known.believe(self._gauges.count(queue, most=limit + 1), since=moment)
        known.count_again = moment + SHARE * (self._clock() - moment)
