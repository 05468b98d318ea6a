"""Orders that kill who places them, among many that do not: `python -m tests.chaos.poison`.

Prints how many good orders were placed, with what reason each poisonous one is dead, and how long
it took; ends with 1 where a good order was not placed, or a bad one is anything but dead.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import psycopg
from celery import Celery
from psycopg.rows import class_row
from rich.console import Console
from rich.table import Table

from adapters.embedded.servers import EmbeddedServers
from adapters.postgres import schema
from adapters.postgres.engine import create
from tests.chaos.poisoned import MARK, REASONS, SORTS
from tests.chaos.programs import Programs
from tests.e2e.pipeline import KIND, order
from tests.e2e.processes import eventually
from worker.producer import Producer

SKU = "LAMP"
STOCK = 1_000_000
SETTINGS: Mapping[str, object] = {
    "soft_time_limit_seconds": 4,
    "time_limit_seconds": 12,
    "visibility_timeout_seconds": 30,
    "retry_base_seconds": 0.2,
    "retry_cap_seconds": 1,
}
"""Limits that are soon reached, and attempts that are soon due again.

Not sooner: who meets the first must have time to say so before the second, on a busy machine too.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dose:
    """Orders by both doors in turn; `poison` is their sorts, spread among the good ones."""

    good: int
    poison: Sequence[str]

    def order_ids(self) -> Iterator[str]:
        """Return what is handed over, in order."""
        every = max(1, self.good // (len(self.poison) + 1))
        bad = (f"{sort}{MARK}{number}" for number, sort in enumerate(self.poison))
        for number in range(self.good):
            if number % every == every // 2 and (poison := next(bad, None)):
                yield poison
            yield f"good-{number}"
        yield from bad


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a job has ended."""

    id: str
    door: str
    state: str
    attempts: int
    max_attempts: int
    reason: str | None
    """Type of its error."""
    message: str | None
    after: float
    """Seconds from when the first job was handed over."""

    @property
    def sort(self) -> str | None:
        """Return the sort of poison that it was, if it was any."""
        sort, mark, _ = self.id.partition(MARK)
        return sort if mark else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """How all of them have ended, and what they have taken from the stock."""

    jobs: Sequence[Ended]
    allocated: int

    @property
    def good(self) -> list[Ended]:
        return [job for job in self.jobs if job.sort is None]

    @property
    def poison(self) -> list[Ended]:
        return [job for job in self.jobs if job.sort is not None]

    def problems(self, dose: Dose) -> list[str]:
        """Say what is not as it must be."""
        placed = [job for job in self.good if job.state == "succeeded"]
        found = []
        if len(placed) != dose.good:
            found.append(f"{len(placed)} of {dose.good} good orders are placed")
        if self.allocated != dose.good:
            found.append(f"{self.allocated} units are allocated to {dose.good} orders of one")
        if len(self.poison) != len(dose.poison):
            found.append(f"{len(self.poison)} of {len(dose.poison)} poisonous orders are on record")
        found += [
            f"{job.id} is {job.state} after {job.attempts} attempts, with {job.reason}"
            for job in self.poison
            if (job.state, job.attempts, job.reason)
            != ("dead", job.max_attempts, REASONS[job.sort or ""])
        ]
        return found


def take(dose: Dose, programs: Programs, *, within: float) -> Findings:
    """Hand the orders over to a real worker and wait until each has ended.

    Raises:
        TimeoutError: Some have not ended `within` so many seconds.
    """
    with (
        programs,
        Producer.at(programs.database_url) as producer,
        Celery(broker=programs.broker_url, set_as_current=False) as client,
        psycopg.connect(_plain(programs.database_url), autocommit=True) as ledger,
    ):
        programs.start("worker", module="tests.chaos.poisoned")
        programs.start("relay")
        _stock(producer)
        began = time.time()
        order_ids = list(dose.order_ids())
        producer.submit_many(
            producer.submission(KIND, order(order_id, SKU), job_id=order_id)
            for order_id in order_ids[::2]
        )
        for order_id in order_ids[1::2]:
            client.send_task(
                KIND,
                kwargs=order(order_id, SKU),
                task_id=order_id,
                queue="allocation",
                ignore_result=True,
            )
        eventually(
            lambda: _ended(ledger) == len(order_ids), what="all orders have ended", within=within
        )
        return _findings(ledger, began)


def _stock(producer: Producer) -> None:
    batch = {"reference": "B", "sku": SKU, "quantity": STOCK}
    job_id = producer.submit("allocation.create_batch", batch).job_id
    eventually(
        lambda: (job := producer.find(job_id)) is not None and job.state.is_terminal,
        what="stock is on record",
    )


def _ended(ledger: psycopg.Connection[tuple[Any, ...]]) -> int:
    [count] = ledger.execute(
        "SELECT count(*) FROM job WHERE kind = %s AND finished_at IS NOT NULL", [KIND]
    ).fetchall()[0]
    return int(count)


def _findings(ledger: psycopg.Connection[tuple[Any, ...]], began: float) -> Findings:
    with ledger.cursor(row_factory=class_row(Ended)) as cursor:
        jobs = cursor.execute(
            """SELECT id, door, state, attempts, max_attempts, error ->> 'type' AS reason,
                      error ->> 'message' AS message,
                      extract(epoch FROM finished_at)::float - %s AS after
               FROM job WHERE kind = %s ORDER BY finished_at""",
            [began, KIND],
        ).fetchall()
    [allocated] = ledger.execute("SELECT sum(allocated)::integer FROM batch").fetchall()[0]
    return Findings(jobs=jobs, allocated=int(allocated))


def _plain(url: str) -> str:
    return url.replace("postgresql+psycopg://", "postgresql://")


def main() -> None:
    """Run it on servers of its own, and print what came of it."""
    parser = argparse.ArgumentParser(prog="tests.chaos.poison", description=__doc__)
    parser.add_argument("--good", type=int, default=10_000)
    parser.add_argument("--poison", type=int, default=24)
    parser.add_argument("--sorts", nargs="+", choices=list(SORTS), default=list(SORTS))
    parser.add_argument("--concurrency", type=int, default=4)
    parser.add_argument("--within", type=float, default=600.0, help="seconds")
    options = parser.parse_args()
    dose = Dose(good=options.good, poison=list(islice(cycle(options.sorts), options.poison)))
    with tempfile.TemporaryDirectory(prefix="tallyman-poison-") as folder:
        embedded = EmbeddedServers(Path(folder))
        try:
            servers = embedded.start()
            engine = create(servers.database_url)
            schema.upgrade(engine)
            engine.dispose()
            programs = Programs(
                folder=Path(folder),
                database_url=servers.database_url,
                broker_url=servers.broker_url,
                settings={**SETTINGS, "concurrency": options.concurrency},
            )
            findings = take(dose, programs, within=options.within)
        finally:
            embedded.remove_data()
    show(findings)
    if problems := findings.problems(dose):
        sys.exit("\n".join(problems))


def show(findings: Findings) -> None:
    """Print what came of it."""
    console = Console()
    table = Table(title="Poison")
    for column in ("order", "door", "state", "attempts", "reason", "after"):
        table.add_column(column)
    for job in findings.poison:
        table.add_row(
            job.id, job.door, job.state, str(job.attempts), job.reason, f"{job.after:.1f} s"
        )
    console.print(table)
    placed = sum(job.state == "succeeded" for job in findings.good)
    last = max((job.after for job in findings.good), default=0.0)
    everything = max(job.after for job in findings.jobs)
    console.print(f"{placed:,} good orders are placed, the last after {last:.1f} s")
    console.print(f"the last order of all ended after {everything:.1f} s")


if __name__ == "__main__":
    main()
