"""What the tests say to a running Tallyman, and what they ask of it."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import psycopg
from celery import Celery
from celery.result import AsyncResult

from adapters.postgres.operations import JobOperations
from adapters.postgres.queries import JobQueries, JobView
from domain.jobs.model import JobState
from tests.e2e.processes import eventually
from worker.producer import Producer

KIND = "allocation.allocate_order"
Database: TypeAlias = "psycopg.Connection[tuple[Any, ...]]"
Door: TypeAlias = Callable[[str, Mapping[str, Any]], object]
"""Hands an order over under a job id."""

SABOTAGE = """
CREATE TABLE broken_order (order_id text PRIMARY KEY);
CREATE FUNCTION refuse_broken_order() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM broken_order WHERE order_id = NEW.order_id) THEN
        RAISE EXCEPTION 'the disk of order % is on fire', NEW.order_id
            USING ERRCODE = 'internal_error';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER refuse_broken_order BEFORE INSERT ON sales_order
    FOR EACH ROW EXECUTE FUNCTION refuse_broken_order();
"""


def hangs(table: str, key: str, *, named_in: str) -> str:
    """Have rows of a table wait to be written for as long as they are named in another."""
    return f"""
CREATE TABLE {named_in} ({key} text PRIMARY KEY);
CREATE FUNCTION hang() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    WHILE EXISTS (SELECT FROM {named_in} WHERE {key} = NEW.{key}) LOOP
        PERFORM pg_sleep(0.02);
    END LOOP;
    RETURN NEW;
END $$;
CREATE TRIGGER hang BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION hang();
"""


HANGS = hangs("sales_order", "order_id", named_in="hanging_order")


@dataclass(frozen=True, slots=True, kw_only=True)
class FourJobs:
    """Ids of jobs in the states that every observer must tell."""

    succeeded: str
    rejected: str
    retrying: str
    dead: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Pipeline:
    """A Tallyman of real processes: a worker, a relay, a database and a broker."""

    app: Celery
    producer: Producer
    queries: JobQueries
    operations: JobOperations
    database: Database

    def by_message(self, job_id: str, order: Mapping[str, Any]) -> AsyncResult[Any]:
        """Send an order through door (a)."""
        return self.app.send_task(KIND, kwargs=dict(order), task_id=job_id)

    def by_submission(self, job_id: str, order: Mapping[str, Any]) -> AsyncResult[Any]:
        """Submit an order through door (b)."""
        self.producer.submit(KIND, order, job_id=job_id)
        return self.result(job_id)

    def result(self, job_id: str) -> AsyncResult[Any]:
        return self.app.AsyncResult(job_id)

    def has_stock(self, sku: str, quantity: int) -> None:
        """Put a batch of a product on record and wait until it is."""
        receipt = self.producer.submit(
            "allocation.create_batch",
            {"reference": f"batch-{sku}", "sku": sku, "quantity": quantity},
            job_id=f"stock-{sku}",
        )
        self.until(receipt.job_id, JobState.SUCCEEDED)

    def find(self, job_id: str) -> JobView | None:
        return self.queries.find(job_id)

    def until(self, job_id: str, state: JobState, *, attempts: int = 0) -> JobView:
        """Wait until a job is in this state, after at least so many attempts."""

        def there() -> JobView | None:
            job = self.find(job_id)
            return job if job and job.state is state and job.attempts >= attempts else None

        return eventually(there, what=f"{job_id} is {state}, now {self.find(job_id)}")

    def breaks(self, order_id: str) -> None:
        """Have the database fail each attempt at this order from now on."""
        self.database.execute("INSERT INTO broken_order VALUES (%s)", [order_id])

    def mends(self, order_id: str) -> None:
        self.database.execute("DELETE FROM broken_order WHERE order_id = %s", [order_id])

    @contextmanager
    def hanging_orders(self) -> Iterator[None]:
        """Have orders hang that are named in the table `hanging_order`, as long as they are."""
        self.database.execute(HANGS)
        try:
            yield
        finally:
            self.database.execute("DELETE FROM hanging_order")
            # Before the table: with its trigger it waits for whoever writes orders, who may have to
            # look into the table.
            self.database.execute("DROP FUNCTION hang CASCADE; DROP TABLE hanging_order")

    def is_tried_to_death(self, job_id: str) -> JobView:
        """Let a broken job fail until it is dead."""
        for attempt in range(1, 5):
            self.until(job_id, JobState.RETRY, attempts=attempt)
            self.operations.retry([job_id])
        return self.until(job_id, JobState.DEAD)

    def one(self, query: str, *parameters: object) -> tuple[Any, ...]:
        """Return the only row of a query."""
        [row] = self.database.execute(query, parameters or None).fetchall()
        return row

    def allocated(self, sku: str) -> int:
        """Return what is allocated of a product, which allocations, counters and movements tell."""
        by_counter, by_allocation, by_movement = self.one(
            """
            WITH product AS (SELECT %s AS sku)
            SELECT (SELECT coalesce(sum(allocated), 0) FROM batch JOIN product USING (sku)),
                   (SELECT coalesce(sum(allocation.quantity), 0) FROM allocation
                    JOIN order_line USING (order_id, line_id) JOIN product USING (sku)),
                   (SELECT coalesce(sum(after - before), 0) FROM stock_movement
                    JOIN product USING (sku) WHERE counter = 'allocated')
            """,
            sku,
        )
        assert by_counter == by_allocation == by_movement
        return int(by_counter)

    def with_four_jobs(self, door: Door, prefix: str) -> FourJobs:
        """Bring jobs into the four states."""
        self.has_stock(f"{prefix}-sku", 10)
        jobs = FourJobs(
            succeeded=f"{prefix}-succeeded",
            rejected=f"{prefix}-rejected",
            retrying=f"{prefix}-retrying",
            dead=f"{prefix}-dead",
        )
        self.breaks(jobs.retrying)
        self.breaks(jobs.dead)
        door(jobs.dead, order(jobs.dead, f"{prefix}-sku"))
        door(jobs.retrying, order(jobs.retrying, f"{prefix}-sku"))
        door(jobs.rejected, order(jobs.rejected, f"{prefix}-sku", quantity=11))
        door(jobs.succeeded, order(jobs.succeeded, f"{prefix}-sku", quantity=4))
        self.until(jobs.succeeded, JobState.SUCCEEDED)
        self.until(jobs.rejected, JobState.REJECTED)
        self.until(jobs.retrying, JobState.RETRY)
        self.is_tried_to_death(jobs.dead)
        return jobs


def order(order_id: str, sku: str, quantity: int = 1, **terms: object) -> dict[str, Any]:
    """Build the payload of an order of one line."""
    return {"order_id": order_id, "lines": [{"sku": sku, "quantity": quantity}], **terms}
