"""A producer process of `benchmarks.latency`: hands jobs over when they are due."""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from celery import Celery

from benchmarks.celery_contenders import KIND, QUEUE
from benchmarks.orders import Load
from benchmarks.peers.gate import wait_for_start
from worker import collector
from worker.producer import Producer

MOST = 200_000
"""Orders that are made up before the clock starts, at the most."""

HandOver = Callable[[str, dict[str, Any]], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """When jobs are due: so many a second, or, at no rate, as soon as the one before is gone."""

    rate: float
    seconds: float

    @property
    def jobs(self) -> int:
        return int(self.rate * self.seconds) if self.rate else MOST

    def wait(self, number: int, *, began: float) -> float | None:
        """Wait until a job is due; return when it was; None where time is up."""
        due = began + number / self.rate if self.rate else time.time()
        if due > began + self.seconds:
            return None
        time.sleep(max(0.0, due - time.time()))
        return due


def main() -> None:
    """Hand over, and write down when each job was due."""
    door, folder, rate, seconds, first, number = sys.argv[1:]
    pace = Pace(rate=float(rate), seconds=float(seconds))
    start = int(first) + int(number) * MOST
    load = Load(orders=1 + min(pace.jobs, 20_000), first=start, seed=start)
    jobs = [(f"job-{payload['order_id']}", payload) for payload in load.payloads()]
    due: dict[str, float] = {}
    with _by_submit() if door == "tallyman-b" else _by_message() as hand_over:
        # By the first, which counts for nothing, connections are made.
        hand_over(*jobs[0])
        # What looks for cycles among all these orders would hand over late.
        collector.calm()
        wait_for_start()
        began = time.time()
        for index, (job_id, payload) in enumerate(jobs[1:]):
            moment = pace.wait(index, began=began)
            if moment is None:
                break
            hand_over(job_id, payload)
            due[job_id] = moment
    (Path(folder) / number).write_text(json.dumps(due))


@contextmanager
def _by_submit() -> Iterator[HandOver]:
    with Producer.at(os.environ["BENCH_DATABASE_URL"]) as producer:
        yield lambda job_id, payload: producer.submit(KIND, payload, job_id=job_id)


@contextmanager
def _by_message() -> Iterator[HandOver]:
    app = Celery(broker=os.environ["BENCH_BROKER_URL"])
    with app.producer_or_acquire() as producer:
        yield lambda job_id, payload: app.send_task(
            KIND, kwargs=payload, task_id=job_id, queue=QUEUE, producer=producer
        )


if __name__ == "__main__":
    main()
