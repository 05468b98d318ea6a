"""Handing jobs over at the pace at which their queues have room for them."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf

from domain.jobs.errors import QueueFull
from domain.jobs.model import Receipt, Submission
from worker.producer import CHUNK, Producer

LOOK_SECONDS = 1.0
"""How long to wait for room before looking again, at the most."""
PART = 20
"""A share of the limit, one in so many, that has to be free before more is handed over."""


@dataclass(kw_only=True)
class Patience:
    """Hands jobs over as a producer does, and waits while a queue is full."""

    producer: Producer
    seconds: float = inf
    """How long to wait for room before giving up."""
    is_whole: bool = False
    """All jobs are accepted at once, or none."""
    waits: Callable[[QueueFull], None] = lambda _: None
    """Told each time that there is no room."""
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic

    def submit(self, submission: Submission) -> Receipt:
        """Accept one job.

        Raises:
            QueueFull: There was no room for so long.
        """
        receipts, full = self.submit_many([submission])
        if full:
            raise full
        return receipts[0]

    def submit_many(
        self, submissions: Sequence[Submission]
    ) -> tuple[list[Receipt], QueueFull | None]:
        """Accept jobs, in order, in as many transactions as it takes.

        Return the receipts and, where they are fewer than the jobs, why: there was no room for so
        long, or never is for so many at once.
        """
        receipts: list[Receipt] = []
        left = list(submissions)
        size = whole = len(left) if self.is_whole else CHUNK
        deadline = self.clock() + self.seconds
        while left:
            try:
                receipts += self.producer.submit_many(left[:size])
            except QueueFull as full:
                rest = deadline - self.clock()
                room = self._room(full)
                if 0 < room < min(size, len(left)):
                    size = room
                elif rest <= 0 or (self.is_whole and whole > full.details["limit"]):
                    return receipts, full
                else:
                    self.waits(full)
                    self.sleep(min(rest, LOOK_SECONDS, full.details["retry_after_seconds"]))
                    size = whole
            else:
                left = left[size:]
                size = whole
                deadline = self.clock() + self.seconds
        return receipts, None

    def _room(self, full: QueueFull) -> int:
        """Return how many jobs are worth handing over now."""
        limit, waiting = int(full.details["limit"]), int(full.details["waiting"])
        if self.is_whole or (self.seconds and limit - waiting < limit // PART):
            return 0
        return max(0, limit - waiting)
