"""With a million jobs on record, what runs all day finds its rows by index.

Each statement is the product's own, explained at the moment at which the product runs it.
"""

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from itertools import count
from typing import Any

import psycopg
import pytest
from sqlalchemy import Engine

from adapters.payloads import Payloads
from adapters.postgres.dispatches import PostgresDispatches
from adapters.postgres.import_queries import ImportQueries
from adapters.postgres.job_filter import JobFilter
from adapters.postgres.operations import JobOperations
from adapters.postgres.outbox_feed import PostgresOutboxFeed
from adapters.postgres.persistence import Persistently
from adapters.postgres.queries import JobQueries
from adapters.postgres.queue_gauges import PostgresQueueGauges
from adapters.postgres.stock_queries import StockQueries
from adapters.postgres.unit_of_work import BeginPostgresWork
from adapters.postgres.user_queries import UserQueries
from domain.allocation.orders import OrderState
from domain.imports.runs import RunState
from domain.jobs.executor import Executor
from domain.jobs.model import OPEN_STATES, JobState, Submission
from domain.jobs.queues import QUEUES
from domain.kinds import KINDS
from domain.users.status import UserStatus
from tests.conftest import wait_until
from tests.integration.events.test_event_relay import nobody_reads
from tests.integration.plans.plans import watched
from worker.producer import Producer

# The first to ask waits until the database is made.
pytestmark = pytest.mark.xdist_group("plans")

RUNS = 12
"""After five runs a session may take to a plan for any parameters: that is looked at, too."""
FEW_PAGES = 400
"""What finding a page of a list costs, whatever the ledger holds."""
MORE_PAGES = {
    # All stock, and all who wait for it, are added up.
    "stock, of all": 10_000,
    # The dead are looked through, all 1,000.
    "jobs, dead of an error": 2_000,
    "operations, how many of an error to retry": 2_000,
    "operations, retry all of an error": 2_000,
    # A thousand orders are looked through at once.
    "orders, allocated": 20_000,
    "orders, backordered": 20_000,
    "orders, of a product": 4_000,
}
"""Of lists that cost more, but no more where the ledger holds more."""
BATCH_PAGES = 10_000
"""What a batch of jobs costs, likewise."""

ENDS = {JobState.SUCCEEDED, JobState.REJECTED}

numbers = count(1)

Action = Callable[[Engine], object]


def claim(engine: Engine, *, is_idle: bool = False) -> None:
    dispatches = PostgresDispatches(engine)
    due = dispatches.claim_due("allocation", limit=50, is_idle=is_idle)
    dispatches.release([job.job_id for job in due.jobs])


def claim_paced(engine: Engine) -> None:
    PostgresDispatches(engine).claim_paced("users", limit=50, is_idle=True)


def feed(engine: Engine) -> None:
    outbox = PostgresOutboxFeed(engine)
    wait_until(lambda: nobody_reads(outbox))
    with outbox.reading() as reader:
        assert reader
        moment = reader.moment()
        reader.mark_published(reader.unpublished(limit=1_000), moment=moment)
        reader.forget_after(moment)


def prune(engine: Engine) -> None:
    with BeginPostgresWork(engine=engine)() as work:
        work.retention.prune(older_than_days=30, at_most=500)


def submit(engine: Engine) -> None:
    jobs = [_order(f"new-{next(numbers)}") for _ in range(50)]
    producer = Producer(begin_work=BeginPostgresWork(engine=engine), queries=JobQueries(engine))
    producer.submit_many(jobs)
    producer.submit_many(jobs)


def newest_in(state: JobState, engine: Engine) -> None:
    JobQueries(engine).newest(states=[state])


def users_of(status: UserStatus, engine: Engine) -> None:
    UserQueries(engine).newest(status=status)


def orders_in(state: OrderState, engine: Engine) -> None:
    StockQueries(engine).orders(state=state, limit=50)


LISTS: dict[str, Action] = {
    "jobs, one": lambda engine: JobQueries(engine).find("old-77777"),
    "jobs, its failures": lambda engine: JobQueries(engine).failures("old-100"),
    "jobs, known": lambda engine: JobQueries(engine).known(["old-5", "nobody"]),
    "jobs, finished": lambda engine: JobQueries(engine).finished(["old-5", "due-1"]),
    "jobs, newest": lambda engine: JobQueries(engine).newest(),
    "jobs, newest of a kind": lambda engine: JobQueries(engine).newest(
        kind="allocation.allocate_order"
    ),
    "jobs, newest of a queue": lambda engine: JobQueries(engine).newest(queue="allocation"),
    "jobs, next page": lambda engine: JobQueries(engine).newest(after="old-500000"),
    "jobs, next page of the dead": lambda engine: JobQueries(engine).newest(
        states=[JobState.DEAD], after="old-500500"
    ),
    **{f"jobs, {state}": partial(newest_in, state) for state in JobState},
    "jobs, open": lambda engine: JobQueries(engine).newest(states=sorted(OPEN_STATES)),
    "jobs, all that ended otherwise": lambda engine: JobQueries(engine).newest(
        states=[JobState.REJECTED, JobState.DEAD, JobState.CANCELLED]
    ),
    "jobs, of an error": lambda engine: JobQueries(engine).newest(error="OutOfStock"),
    "jobs, of an error of few": lambda engine: JobQueries(engine).newest(error="KeyError"),
    "jobs, of an error of none": lambda engine: JobQueries(engine).newest(error="WorkerLost"),
    "jobs, dead of an error": lambda engine: JobQueries(engine).newest(
        states=[JobState.DEAD], error="OutOfStock"
    ),
    "jobs, old": lambda engine: JobQueries(engine).newest(older_than=timedelta(days=20)),
    "jobs, old and queued": lambda engine: JobQueries(engine).newest(
        states=[JobState.QUEUED], older_than=timedelta(days=20)
    ),
    "jobs, old and dead": lambda engine: JobQueries(engine).newest(
        states=[JobState.DEAD], older_than=timedelta(days=20)
    ),
    "jobs, of a correlation": lambda engine: JobQueries(engine).newest(correlation_id="old-9"),
    "jobs, of an hour": lambda engine: JobQueries(engine).newest(since=timedelta(hours=2)),
    "jobs, dead of an hour": lambda engine: JobQueries(engine).newest(
        states=[JobState.DEAD], since=timedelta(hours=2)
    ),
    "jobs, counts of a correlation": lambda engine: JobQueries(engine).counts(
        correlation_id="old-9"
    ),
    "jobs, open of a correlation": lambda engine: JobQueries(engine).open_jobs(
        correlation_id="old-9"
    ),
    "jobs, reasons": lambda engine: JobQueries(engine).reasons("old-50"),
    "users, one": lambda engine: UserQueries(engine).find("77@example.com"),
    "users, newest": lambda engine: UserQueries(engine).newest(),
    "users, next page": lambda engine: UserQueries(engine).newest(after="user-50000"),
    **{f"users, {status}": partial(users_of, status) for status in UserStatus},
    "orders, one": lambda engine: StockQueries(engine).order("old-3"),
    "orders, newest": lambda engine: StockQueries(engine).orders(limit=50),
    "orders, next page": lambda engine: StockQueries(engine).orders(after="old-500", limit=50),
    **{f"orders, {state}": partial(orders_in, state) for state in OrderState},
    "orders, of a product": lambda engine: StockQueries(engine).orders(sku="SKU-1", limit=50),
    "orders, of no product": lambda engine: StockQueries(engine).orders(sku="none", limit=50),
    "stock, of a product": lambda engine: StockQueries(engine).product("SKU-1"),
    "stock, of all": lambda engine: StockQueries(engine).products(limit=50),
    "stock, batches": lambda engine: StockQueries(engine).batches("SKU-1"),
    "stock, who waits": lambda engine: StockQueries(engine).waiting("SKU-1"),
    "imports, newest": lambda engine: ImportQueries(engine).newest(),
    "imports, running": lambda engine: ImportQueries(engine).newest(states=[RunState.RUNNING]),
    "imports, one": lambda engine: ImportQueries(engine).find("run-1"),
    "imports, reasons": lambda engine: ImportQueries(engine).reasons("run-1"),
    "imports, errors": lambda engine: list(ImportQueries(engine).errors("run-1")),
    "queues, waiting": lambda engine: PostgresQueueGauges(engine).count("allocation", most=10_000),
    "queues, all": lambda engine: PostgresQueueGauges(engine).view(QUEUES),
    "operations, retry": lambda engine: JobOperations(engine).retry(["old-500", "due-10"]),
    "operations, how many to retry": lambda engine: JobOperations(engine).count_retriable(
        JobFilter(since=timedelta(hours=2))
    ),
    "operations, how many of an error to retry": lambda engine: JobOperations(
        engine
    ).count_retriable(JobFilter(states=[JobState.DEAD], error="WorkerLost")),
    "operations, how many old to cancel": lambda engine: JobOperations(engine).count_cancellable(
        JobFilter(states=[JobState.QUEUED], older_than=timedelta(days=20))
    ),
    "operations, retry all of an error": lambda engine: list(
        JobOperations(engine).retry_all(JobFilter(states=[JobState.DEAD], error="WorkerLost"))
    ),
    "operations, cancel all that are old": lambda engine: list(
        JobOperations(engine).cancel_all(
            JobFilter(states=[JobState.QUEUED], older_than=timedelta(days=20))
        )
    ),
    "operations, how many to cancel": lambda engine: JobOperations(engine).count_cancellable(
        JobFilter(queue="allocation")
    ),
}

WORK: dict[str, Action] = {
    "look": lambda engine: PostgresDispatches(engine).look(
        {"allocation": 0, "users": 3}, at_most=200
    ),
    "claim": claim,
    "claim, idle": lambda engine: claim(engine, is_idle=True),
    "claim, limited": claim_paced,
    "broker forgot": lambda engine: PostgresDispatches(engine).forget(),
    "measure queues": lambda engine: PostgresQueueGauges(engine).measure(
        QUEUES, messages={}, every=0
    ),
    "feed events": feed,
    "prune": prune,
    "submit": submit,
}


@pytest.mark.parametrize("name", LISTS)
def test_operators_find_what_they_ask_for_by_index(grown: Engine, name: str) -> None:
    with watched(grown) as watch:
        for _ in range(RUNS):
            LISTS[name](grown)
    watch.add_generic(_session(grown))
    assert watch.scans() == []
    pages, statement = watch.most_pages()
    assert pages <= MORE_PAGES.get(name, FEW_PAGES), f"{pages} pages for {statement}"


@pytest.mark.parametrize("name", WORK)
def test_relays_and_producers_find_what_is_due_by_index(grown: Engine, name: str) -> None:
    with watched(grown) as watch:
        for _ in range(RUNS):
            WORK[name](grown)
    watch.add_generic(_session(grown))
    assert watch.scans() == []
    pages, statement = watch.most_pages()
    assert pages <= BATCH_PAGES, f"{pages} pages for {statement}"


JOBS: dict[str, Callable[[int], tuple[str, dict[str, object]]]] = {
    "an order": lambda n: _an_order(f"O-{n}"),
    "an order that was placed before": lambda n: _an_order(f"old-{n}"),
    "an order that waits": lambda n: (
        "allocation.allocate_order",
        {
            "order_id": f"W-{n}",
            "policy": "backorder",
            "lines": [{"sku": f"SKU-{n % 3000}", "quantity": 900_000_000}],
        },
    ),
    "a batch": lambda n: (
        "allocation.create_batch",
        {"reference": f"NEW-{n}", "sku": f"SKU-{n % 50}", "quantity": 5},
    ),
    "a quantity": lambda n: (
        "allocation.change_batch_quantity",
        {"reference": f"B-{n % 3000}", "quantity": 1_000_000},
    ),
    "a day": lambda n: (
        "allocation.change_batch_eta",
        {"reference": f"B-{n % 3000}", "eta": "2030-01-01"},
    ),
    "a line": lambda n: (
        "allocation.change_line_quantity",
        {"order_id": f"old-{n}", "line_id": "1", "quantity": 3},
    ),
    "a line that goes": lambda n: (
        "allocation.deallocate_line",
        {"order_id": f"old-{100_000 + n}", "line_id": "1"},
    ),
    "an order that goes": lambda n: ("allocation.cancel_order", {"order_id": f"old-{200_000 + n}"}),
    "a user": lambda n: (
        "users.register",
        {"username": f"new{n}", "email": f"new{n}@example.com", "name": "New"},
    ),
    "a user's change": lambda n: ("users.update", {"user_id": f"user-{n}", "name": "Changed"}),
    "a user's status": lambda n: (
        "users.change_status",
        {"user_id": f"user-{1000 + n}", "status": "banned"},
    ),
    "a user who goes": lambda n: ("users.erase", {"user_id": f"user-{2000 + n}"}),
}


@pytest.mark.parametrize("name", JOBS)
def test_jobs_find_their_rows_by_index(grown_worker: Engine, grown: Engine, name: str) -> None:
    executor = _executor(grown_worker)
    with watched(grown_worker) as watch:
        for _ in range(RUNS):
            kind, ids = _accepted(grown, name, jobs=5)
            reports = executor.run_dispatched(kind, ids, redelivered=False)
            assert {report.job.state for report in reports} <= ENDS
        kind, payload = JOBS[name](next(numbers))
        message = Submission(job_id=f"message-{next(numbers)}", kind=kind, payload=payload)
        executor.run_submitted(message, redelivered=True)
    watch.add_generic(_session(grown_worker))
    assert watch.scans() == []
    pages, statement = watch.most_pages()
    assert pages <= BATCH_PAGES, f"{pages} pages for {statement}"


def _session(engine: Engine) -> psycopg.Connection[Any]:
    """Return the one connection of a pool."""
    with engine.connect() as connection:
        driver = connection.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)
    return driver


def _executor(engine: Engine) -> Executor:
    return Executor(
        kinds=KINDS,
        begin_work=BeginPostgresWork(engine=engine),
        decode=Payloads(KINDS).decode,
        persistently=Persistently(),
        worker="tests",
    )


def _accepted(engine: Engine, name: str, *, jobs: int) -> tuple[str, list[str]]:
    submissions = [
        Submission(job_id=f"job-{number}", kind=kind, payload=payload)
        for number in (next(numbers) for _ in range(jobs))
        for kind, payload in (JOBS[name](number),)
    ]
    producer = Producer(begin_work=BeginPostgresWork(engine=engine), queries=JobQueries(engine))
    producer.submit_many(submissions)
    return submissions[0].kind, [submission.job_id for submission in submissions]


def _an_order(order_id: str) -> tuple[str, dict[str, object]]:
    lines = [{"sku": f"SKU-{next(numbers) % 3000}", "quantity": 1}]
    return "allocation.allocate_order", {"order_id": order_id, "lines": lines}


def _order(job_id: str) -> Submission:
    kind, payload = _an_order(job_id)
    return Submission(job_id=job_id, kind=kind, payload=payload)
