"""What a worker process asks before it runs a message: may its queue run now?"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from domain.errors import Unavailable
from domain.jobs.ports import Persistence
from domain.jobs.queues import QueueSettings

FRESH_SECONDS = 0.4
"""How long settings are believed: a pause holds within a second, and asking costs nothing."""


@dataclass(kw_only=True)
class QueueGate:
    """Knows what operators have set for queues, as of less than half a second ago."""

    read: Callable[[], Mapping[str, QueueSettings]]
    persistently: Persistence
    clock: Callable[[], float] = time.monotonic
    _settings: Mapping[str, QueueSettings] = field(default_factory=dict)
    _until: float = float("-inf")

    def objection(self, queue: str, *, pace: float | None) -> str | None:
        """Say why a message may not run now that was handed out at `pace`; None where it may.

        Raises:
            Unavailable: Nobody knows: PostgreSQL cannot be reached.
        """
        if self.clock() >= self._until:
            # Reckoned from before the question: what is answered may be as old.
            asked = self.clock()
            self._settings = self._ask()
            self._until = asked + FRESH_SECONDS
        settings = self._settings.get(queue)
        return settings.objection(pace=pace) if settings else None

    def _ask(self) -> Mapping[str, QueueSettings]:
        try:
            return self.persistently(self.read)
        except Unavailable:
            raise
        except Exception as error:
            # Such as a table that is not there yet: the message may be all there is of its job.
            raise Unavailable(f"nobody can tell which queues may run: {error}") from error
