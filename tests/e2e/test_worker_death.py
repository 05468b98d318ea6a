"""Workers that are killed in the middle of jobs."""

import csv
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import redis
from pytest_celery import CeleryTestSetup
from sqlalchemy import Connection

from domain.jobs.errors import WorkerLost
from domain.jobs.model import JobState
from tests.e2e.pipeline import KIND, Database, Pipeline, order
from tests.e2e.processes import eventually
from tests.stock_audit import Books, read_books

ORDERS = 3_000
PRODUCTS = 20

SLOW = """
CREATE TABLE hanging_order (order_id text PRIMARY KEY, seconds double precision);
CREATE FUNCTION take_time() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    WHILE EXISTS (
        SELECT FROM hanging_order WHERE order_id = NEW.order_id AND seconds IS NULL
    ) LOOP
        PERFORM pg_sleep(0.02);
    END LOOP;
    PERFORM pg_sleep(coalesce(
        (SELECT seconds FROM hanging_order WHERE order_id = NEW.order_id), 0.002
    ));
    RETURN NEW;
END $$;
CREATE TRIGGER take_time BEFORE INSERT ON sales_order FOR EACH ROW EXECUTE FUNCTION take_time();
"""

# A worker names its connections after its process.
HANGING = """
SELECT pid, split_part(application_name, ':', 2)::integer FROM pg_stat_activity
WHERE datname = current_database() AND application_name LIKE 'tallyman %:%'
  AND wait_event = 'PgSleep' AND clock_timestamp() > query_start + interval '0.5 seconds'
"""


@pytest.fixture(scope="module")
def settings() -> Mapping[str, object]:
    """Run enough children that two can hang while others work."""
    return {"concurrency": 4}


@pytest.fixture(autouse=True)
def slow(database: Database) -> Iterator[None]:
    """Have an order take two milliseconds, one that hangs its time, or as long as it is named."""
    database.execute(SLOW)
    yield
    database.execute("DELETE FROM hanging_order")
    # Before the table: who writes orders has to look into that.
    database.execute("DROP FUNCTION take_time CASCADE; DROP TABLE hanging_order")


@dataclass(frozen=True, slots=True, kw_only=True)
class Import:
    """`tallyman import orders` of one file, which waits until all its jobs are done."""

    folder: Path
    environment: Mapping[str, str]

    @property
    def file(self) -> Path:
        return self.folder / "orders.csv"

    def start(self) -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", "worker.command.main", "import", "orders"]
        return subprocess.Popen(
            [*command, str(self.file), "--json"],
            env=self.environment,
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


@pytest.fixture
def orders(environment: Mapping[str, str], tmp_path: Path) -> Import:
    """Give the import of a file that is yet to be written."""
    return Import(folder=tmp_path, environment=environment)


class TestAWorkerKilledInAnImport:
    def test_changes_nothing_about_what_is_imported(
        self,
        pipeline: Pipeline,
        celery_setup: CeleryTestSetup,
        broker_url: str,
        orders: Import,
        connection: Connection,
    ) -> None:
        skus = [f"imported-{number}" for number in range(PRODUCTS)]
        for sku in skus:
            pipeline.has_stock(sku, 10 * ORDERS)
        wanted = _write_orders(orders.file, skus)
        # One in each chunk, so that each is in the middle of its work for as long as it takes.
        stuck = ("imported-1000", f"imported-{ORDERS - 1}")
        for order_id in stuck:
            pipeline.database.execute("INSERT INTO hanging_order VALUES (%s)", [order_id])

        with orders.start() as importing:
            for chunks, order_id in enumerate(stuck):
                eventually(partial(_is_importing, pipeline, chunks), what=f"{chunks} are done")
                celery_setup.worker.kill()
                assert _rows_done(pipeline) < 2 * ORDERS
                pipeline.database.execute(
                    "DELETE FROM hanging_order WHERE order_id = %s", [order_id]
                )
                assert _age_what_is_taken(broker_url) > 0
                celery_setup.worker.restart()
            eventually(
                lambda: _rows_done(pipeline) == 2 * ORDERS or not _holds_messages(broker_url),
                what="the broker has nothing left",
                within=60,
            )
            _end_leases(pipeline)
            printed, complaints = importing.communicate(timeout=120)

        assert importing.returncode == 0, complaints
        summary: dict[str, Any] = json.loads(printed)
        assert (summary["state"], summary["rows"]) == ("finished", 2 * ORDERS)
        assert summary["ends"]["allocated"] == 2 * ORDERS
        books = _read(connection)
        assert {key: line.quantity for key, line in books.lines.items()} == wanted
        assert {line.state for line in books.lines.values()} == {"allocated"}
        assert len(books.allocations) == 2 * ORDERS
        # One for each batch, when it came, and one for each line.
        assert len(books.movements) == PRODUCTS + 2 * ORDERS

        with orders.start() as importing_again:
            printed, _ = importing_again.communicate(timeout=120)

        assert json.loads(printed)["is_new"] is False
        assert _read(connection) == books


class TestAJobThatKillsItsWorker:
    def test_ends_dead_as_worker_lost_while_its_neighbours_finish(
        self, pipeline: Pipeline, connection: Connection
    ) -> None:
        pipeline.has_stock("neighbour", 100)
        neighbours = [f"neighbour-{number}" for number in range(40)]
        killers = ["hanging-message", "hanging-submission"]
        for job_id in killers:
            pipeline.database.execute("INSERT INTO hanging_order VALUES (%s, 60)", [job_id])
        pipeline.by_message("hanging-message", order("hanging-message", "neighbour"))
        pipeline.producer.submit_many(
            pipeline.producer.submission(KIND, order(job_id, "neighbour"), job_id=job_id)
            for job_id in [*neighbours[:20], "hanging-submission", *neighbours[20:]]
        )

        def are_dead() -> bool:
            for backend, child in pipeline.database.execute(HANGING).fetchall():
                # Its connection may outlive it for a moment.
                with suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
                pipeline.database.execute("SELECT pg_terminate_backend(%s)", [backend])
            found = [pipeline.find(job_id) for job_id in killers]
            return all(job is not None and job.state is JobState.DEAD for job in found)

        eventually(are_dead, what="both are dead", within=120)

        for job_id in killers:
            assert pipeline.until(job_id, JobState.DEAD).attempts == 5
            with pytest.raises(WorkerLost, match=f"tallyman jobs retry {job_id}"):
                pipeline.result(job_id).get()
        for job_id in neighbours:
            pipeline.until(job_id, JobState.SUCCEEDED)
        assert pipeline.allocated("neighbour") == len(neighbours)
        _read(connection)


class TestAJobWhoseWorkerDied:
    def test_is_not_lost_while_the_database_still_works_for_the_dead(
        self, pipeline: Pipeline
    ) -> None:
        job = "orphaned"
        pipeline.has_stock(job, 10)
        # Longer than another worker waits for the lock that the dead one's statement holds.
        pipeline.database.execute("INSERT INTO hanging_order VALUES (%s, 8)", [job])
        result = pipeline.by_message(job, order(job, job))
        [(_, child)] = eventually(
            lambda: pipeline.database.execute(HANGING).fetchall(), what="the order hangs"
        )
        pipeline.database.execute("DELETE FROM hanging_order")

        os.kill(child, signal.SIGKILL)

        assert result.get(timeout=90, interval=0.1)["state"] == "allocated"
        assert pipeline.allocated(job) == 1


def _write_orders(file: Path, skus: Sequence[str]) -> dict[tuple[str, str], int]:
    """Write orders of two lines; return what each line wants."""
    wanted: dict[tuple[str, str], int] = {}
    with file.open("w", newline="") as opened:
        writer = csv.writer(opened)
        writer.writerow(["order_id", "sku", "quantity"])
        for number in range(ORDERS):
            for line in (1, 2):
                quantity = 1 + (number + line) % 3
                wanted[f"imported-{number}", str(line)] = quantity
                sku = skus[(number * line + line) % len(skus)]
                writer.writerow([f"imported-{number}", sku, quantity])
    return wanted


def _read(connection: Connection) -> Books:
    """Read the books, which must agree with themselves."""
    books = read_books(connection)
    connection.rollback()
    books.audit()
    return books


def _rows_done(pipeline: Pipeline) -> int:
    [done] = pipeline.one("SELECT coalesce(sum(rows_done), 0) FROM import_run")
    return int(done)


def _is_importing(pipeline: Pipeline, chunks: int) -> bool:
    """Tell whether a chunk is in the middle of its work, after so many were done."""
    [done] = pipeline.one("SELECT count(*) FROM import_chunk WHERE finished_at IS NOT NULL")
    return done >= chunks and bool(pipeline.database.execute(HANGING).fetchall())


def _age_what_is_taken(broker_url: str) -> int:
    """Let the messages that a dead worker held be old enough to come again; count them."""
    with redis.Redis.from_url(broker_url) as client:
        held = client.zrange("unacked_index", 0, -1)
        return len(held) and client.zadd("unacked_index", dict.fromkeys(held, 0), ch=True)


def _holds_messages(broker_url: str) -> bool:
    """Tell whether the broker holds a message, waiting or taken."""
    with redis.Redis.from_url(broker_url) as client:
        return bool(client.llen("imports") or client.hlen("unacked"))


def _end_leases(pipeline: Pipeline) -> None:
    """Let what the broker lost be due again: a minute has passed."""
    pipeline.database.execute(
        "UPDATE job SET next_dispatch = now() WHERE state IN ('queued', 'retry')"
    )
