"""Handing jobs over while a queue is full, and has room again."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from math import inf
from typing import cast

import pytest

from domain.jobs.errors import QueueFull
from domain.jobs.model import JobState, Receipt, Submission
from worker.handing_over import LOOK_SECONDS, PART, Patience
from worker.producer import CHUNK, Producer


@dataclass(kw_only=True)
class Queue:
    """A producer and its queue, from which some jobs finish a second."""

    limit: int
    jobs_per_second: float = 0
    waiting: float = 0
    parts: list[int] = field(default_factory=list)
    """Jobs accepted at once, each time."""
    moment: float = 0
    told: int = 0

    def submit_many(self, submissions: Iterable[Submission]) -> list[Receipt]:
        jobs = list(submissions)
        if self.waiting + len(jobs) > self.limit:
            raise QueueFull.of(
                "q",
                wanted=len(jobs),
                waiting=int(self.waiting),
                limit=self.limit,
                jobs_per_second=self.jobs_per_second,
            )
        self.waiting += len(jobs)
        self.parts.append(len(jobs))
        return [Receipt(job_id=job.job_id, state=JobState.QUEUED, is_new=True) for job in jobs]

    def sleep(self, seconds: float) -> None:
        assert 0 < seconds <= LOOK_SECONDS
        self.moment += seconds
        self.waiting = max(0, self.waiting - seconds * self.jobs_per_second)

    def tell(self, _: QueueFull) -> None:
        self.told += 1

    def patience(self, *, seconds: float = inf, is_whole: bool = False) -> Patience:
        return Patience(
            producer=cast("Producer", self),
            seconds=seconds,
            is_whole=is_whole,
            waits=self.tell,
            sleep=self.sleep,
            clock=lambda: self.moment,
        )


def jobs(count: int) -> list[Submission]:
    return [Submission(job_id=f"j{number}", kind="k", payload={}) for number in range(count)]


class TestPatience:
    def test_hands_over_at_once_what_there_is_room_for(self) -> None:
        queue = Queue(limit=100_000)
        receipts, full = queue.patience().submit_many(jobs(CHUNK + 1))
        assert (len(receipts), full, queue.parts, queue.told) == (CHUNK + 1, None, [CHUNK, 1], 0)

    def test_hands_over_the_rest_in_order_as_room_is_made(self) -> None:
        queue = Queue(limit=100, jobs_per_second=10, waiting=30)
        receipts, full = queue.patience().submit_many(jobs(300))
        assert full is None
        assert [receipt.job_id for receipt in receipts] == [job.job_id for job in jobs(300)]
        assert queue.parts[0] == 70
        assert queue.told > 0
        # Not one by one: each part but the last is worth a transaction.
        assert min(queue.parts[:-1]) >= 100 // PART

    def test_fills_a_queue_that_takes_one_job(self) -> None:
        queue = Queue(limit=1, jobs_per_second=1)
        receipts, full = queue.patience().submit_many(jobs(5))
        assert (len(receipts), full) == (5, None)

    def test_gives_up_after_its_time_and_tells_what_was_accepted(self) -> None:
        queue = Queue(limit=10, waiting=8)
        receipts, full = queue.patience(seconds=3).submit_many(jobs(5))
        assert (len(receipts), queue.moment) == (2, 3)
        assert full is not None

    def test_begins_to_wait_anew_when_there_was_room(self) -> None:
        queue = Queue(limit=10, waiting=10, jobs_per_second=1)
        receipts, full = queue.patience(seconds=2).submit_many(jobs(20))
        assert (len(receipts), full) == (20, None)
        assert queue.moment > 2

    def test_waits_for_room_for_all_where_they_belong_together(self) -> None:
        queue = Queue(limit=10, waiting=8, jobs_per_second=1)
        receipts, _ = queue.patience(is_whole=True).submit_many(jobs(5))
        assert (len(receipts), queue.parts) == (5, [5])

    def test_does_not_wait_for_room_that_never_will_be(self) -> None:
        queue = Queue(limit=10, jobs_per_second=1)
        receipts, full = queue.patience(is_whole=True).submit_many(jobs(11))
        assert (receipts, queue.moment) == ([], 0)
        assert full is not None

    def test_of_one_job_raises_what_it_waited_for_in_vain(self) -> None:
        queue = Queue(limit=1, waiting=1)
        with pytest.raises(QueueFull):
            queue.patience(seconds=0).submit(jobs(1)[0])
