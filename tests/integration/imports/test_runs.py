"""Runs: a file's rows take effect once, in its order, whatever dies."""

import random
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from celery import Celery
from sqlalchemy import Connection, Engine

from adapters.postgres.import_queries import ImportQueries
from adapters.postgres.operations import JobOperations
from adapters.postgres.queries import JobQueries
from adapters.postgres.unit_of_work import BeginPostgresWork
from adapters.result_backend import PROGRESS, LedgerBackend
from domain.imports.errors import RunNotFound, RunNotOpen
from domain.imports.runs import RowPolicy, RunState
from domain.imports.steering import cancel_run, resume_run
from domain.imports.targets import Target
from domain.jobs.model import JobState, Submission
from domain.kinds import KINDS
from tests.integration.imports.conftest import Importing, batches
from tests.jobs import build_executor
from tests.stock_audit import Books, read_books

HEADER = "order_id,sku,quantity"


class Killed(BaseException):
    """Stands for a process that dies here: nothing in the product may catch it."""


def orders(count: int, *, products: int = 20, seed: int = 1) -> list[str]:
    """Return a file of orders of one to five lines."""
    source = random.Random(seed)
    return [
        HEADER,
        *(
            f"O-{number},SKU-{source.randrange(products)},{source.randint(1, 9)}"
            for number in range(count)
            for _ in range(source.randint(1, 5))
        ),
    ]


def books(engine: Engine) -> Books:
    with engine.connect() as connection:
        read = read_books(connection)
    read.audit()
    return read


def granted(read: Books) -> dict[tuple[str, str, str], int]:
    return {key: allocation.quantity for key, allocation in read.allocations.items()}


def counted(ends: Mapping[str, int]) -> dict[str, int]:
    return {end: rows for end, rows in ends.items() if rows}


class TestARun:
    def test_gives_orders_what_single_jobs_in_the_order_of_the_file_would(
        self, importing: Importing, engine: Engine
    ) -> None:
        stock, lines = batches(products=20, quantity=900), orders(1_500)
        importing.finished(Target.BATCHES, stock)
        run = importing.finished(Target.ORDERS, lines)
        assert run.state is RunState.FINISHED
        assert run.chunks > 1
        assert sum(run.ends.values()) == run.rows == len(lines) - 1
        imported = books(engine)
        assert counted(run.ends).keys() == {"allocated", "refused"}

        with engine.begin() as connection:
            _forget_everything(connection)
        importing.finished(Target.BATCHES, stock, label="again")
        _one_by_one(engine, lines)
        assert granted(books(engine)) == granted(imported)

    def test_keeps_an_order_whole_at_the_edge_of_a_chunk(self, importing: Importing) -> None:
        importing.finished(Target.BATCHES, batches(products=1, quantity=100_000))
        lines = [f"O-{number // 3},SKU-0,1" for number in range(9_000)]
        run = importing.finished(Target.ORDERS, [HEADER, *lines])
        assert run.chunks > 3
        assert counted(run.ends) == {"allocated": 9_000}

    def test_finds_the_rows_of_an_order_that_do_not_stand_together(
        self, importing: Importing, engine: Engine
    ) -> None:
        importing.finished(Target.BATCHES, batches(products=2))
        importing.finished(Target.ORDERS, [HEADER, "1,SKU-0,1", "2,SKU-0,1", "1,SKU-1,1"])
        assert {key[:2] for key in granted(books(engine))} == {("1", "1"), ("1", "2"), ("2", "1")}

    def test_refuses_rows_that_come_too_late_for_their_order(self, importing: Importing) -> None:
        importing.finished(Target.BATCHES, batches(products=1, quantity=100_000))
        lines = [f"O-{number},SKU-0,1" for number in range(5_000)]
        run = importing.finished(Target.ORDERS, [HEADER, *lines, "O-0,SKU-0,2"])
        assert counted(run.ends) == {"allocated": 5_000, "refused": 1}
        [late] = ImportQueries(importing.engine).errors(run.id)
        assert (late.code, late.line) == ("OrderConflict", 5_002)

    def test_of_a_header_alone_is_finished_at_once(self, importing: Importing) -> None:
        run = importing.finished(Target.ORDERS, [HEADER])
        assert (run.state, run.rows) == (RunState.FINISHED, 0)
        job = JobQueries(importing.engine).find(run.id)
        assert job is not None
        assert job.state is JobState.SUCCEEDED

    def test_says_what_was_so_before(self, importing: Importing) -> None:
        importing.finished(Target.BATCHES, batches(products=3))
        again = importing.finished(Target.BATCHES, batches(products=4), label="again")
        assert counted(again.ends) == {"created": 1, "unchanged": 3}
        first = importing.finished(Target.ORDERS, [HEADER, "1,SKU-0,1"])
        twice = importing.finished(Target.ORDERS, [HEADER, "1,SKU-0,1"], label="again")
        assert (counted(first.ends), counted(twice.ends)) == ({"allocated": 1}, {"unchanged": 1})

    def test_ends_in_an_event(self, importing: Importing, connection: Connection) -> None:
        run = importing.finished(Target.BATCHES, batches(products=3))
        [event] = connection.exec_driver_sql(
            "SELECT payload, aggregate FROM outbox WHERE name = 'ImportEnded'"
        )
        assert event.aggregate == f"import:{run.id}"
        assert (event.payload["state"], event.payload["ends"]) == ("finished", {"created": 3})


class TestABadRow:
    def test_that_breaks_the_database_fails_alone(
        self, importing: Importing, engine: Engine
    ) -> None:
        importing.finished(Target.BATCHES, batches(products=1, quantity=10_000))
        with engine.begin() as connection:
            _break_order(connection, "O-77")
        lines = [f"O-{number},SKU-0,1" for number in range(3_000)]
        run = importing.finished(Target.ORDERS, [HEADER, *lines])
        assert counted(run.ends) == {"allocated": 2_999, "failed": 1}
        [error] = ImportQueries(engine).errors(run.id)
        assert (error.line, error.code) == (79, "InternalError")
        assert len(books(engine).orders) == 2_999

    def test_stops_a_run_where_the_policy_says_so(
        self, importing: Importing, engine: Engine
    ) -> None:
        lines = [*batches(products=6_000), "bad,SKU-1,-1"]
        run = importing.finished(Target.BATCHES, lines, policy=RowPolicy.REJECT_FILE)
        assert (run.state, books(engine).batches) == (RunState.REFUSED, {})
        job = JobQueries(engine).find(run.id)
        assert job is not None
        assert job.state is JobState.REJECTED
        assert job.error is not None
        assert job.error.type == "ImportRefused"


class TestAProcessThatDies:
    @pytest.mark.parametrize(
        "boundary",
        ["job.claimed", "stock.before_move", "commit.ready", "job.finished", "job.committed"],
    )
    def test_changes_nothing_about_the_end(
        self, importing: Importing, engine: Engine, boundary: str
    ) -> None:
        importing.finished(Target.BATCHES, batches(products=20, quantity=900))
        lines = orders(2_500)
        taken = importing.take(Target.ORDERS, lines)
        for passes in range(2):
            visits = iter(range(passes))

            def die(name: str, visits: Iterator[int] = visits) -> None:
                if name == boundary and next(visits, None) is None:
                    raise Killed

            with pytest.raises(Killed):
                importing.work(reached=die)
        importing.work()
        killed = importing.run(taken.run_id)
        assert killed.state is RunState.FINISHED
        assert sum(killed.ends.values()) == len(lines) - 1
        disturbed = granted(books(engine))

        with engine.begin() as connection:
            _forget_everything(connection)
        importing.finished(Target.BATCHES, batches(products=20, quantity=900), label="again")
        importing.finished(Target.ORDERS, lines, label="again")
        assert granted(books(engine)) == disturbed


class TestSteering:
    def test_cancels_and_resumes(self, importing: Importing, engine: Engine) -> None:
        taken = importing.take(Target.BATCHES, batches(products=9_000))
        importing.work(jobs=2)
        _steer(engine, cancel_run, taken.run_id)
        assert importing.run(taken.run_id).state is RunState.CANCELLED
        job = JobQueries(engine).find(taken.run_id)
        assert job is not None
        assert job.state is JobState.CANCELLED
        importing.work()
        assert importing.run(taken.run_id).rows_done == 4_000

        _steer(engine, resume_run, taken.run_id)
        importing.work()
        run = importing.run(taken.run_id)
        assert (run.state, counted(run.ends)) == (RunState.FINISHED, {"created": 9_000})
        assert len(books(engine).batches) == 9_000

    def test_resumes_a_check_as_a_check(self, importing: Importing, engine: Engine) -> None:
        taken = importing.take(
            Target.BATCHES, batches(products=5_000), policy=RowPolicy.REJECT_FILE
        )
        importing.work(jobs=1)
        _steer(engine, cancel_run, taken.run_id)
        _steer(engine, resume_run, taken.run_id)
        assert importing.run(taken.run_id).state is RunState.CHECKING
        importing.work()
        assert counted(importing.run(taken.run_id).ends) == {"created": 5_000}

    def test_refuses_what_is_over_or_not_there(self, importing: Importing, engine: Engine) -> None:
        run = importing.finished(Target.BATCHES, batches(products=1))
        with pytest.raises(RunNotOpen):
            _steer(engine, cancel_run, run.id)
        with pytest.raises(RunNotOpen):
            _steer(engine, resume_run, run.id)
        with pytest.raises(RunNotFound):
            _steer(engine, cancel_run, "nowhere")


class TestTheJobOfARun:
    def test_shows_its_progress_and_then_its_account(
        self, importing: Importing, engine: Engine, database_url: str
    ) -> None:
        taken = importing.take(Target.BATCHES, batches(products=5_000))
        with Celery(set_as_current=False) as app:
            backend = LedgerBackend(app, url=database_url)
            importing.work(jobs=1)
            meta = backend.get_task_meta(taken.run_id)
            assert (meta["status"], meta["result"]["rows_done"]) == (PROGRESS, 2_000)
            assert meta["result"]["ends"] == {"created": 2_000}
            importing.work()
            meta = backend.get_task_meta(taken.run_id)
            backend.ledger.close()
        assert (meta["status"], meta["result"]["created"]) == ("SUCCESS", 5_000)
        assert importing.run(taken.run_id).rows_done == 5_000
        assert JobOperations(engine).cancel([taken.run_id]).refused

    def test_is_not_ended_by_a_forged_message(self, importing: Importing, engine: Engine) -> None:
        taken = importing.take(Target.BATCHES, batches(products=1))
        executor = build_executor(engine, KINDS)
        [report] = executor.run_dispatched("imports.import_file", [taken.run_id], redelivered=False)
        assert report.job.state is JobState.QUEUED
        importing.work()
        assert counted(importing.run(taken.run_id).ends) == {"created": 1}

    def test_leaves_out_a_chunk_that_is_asked_for_by_somebody_else(
        self, importing: Importing, engine: Engine
    ) -> None:
        taken = importing.take(Target.BATCHES, batches(products=1))
        forged = Submission(
            job_id="forged",
            kind="imports.import_chunk",
            payload={"run_id": taken.run_id, "number": 1},
        )
        report = build_executor(engine, KINDS).run_submitted(forged, redelivered=False)
        assert report.job.result == {"run_id": taken.run_id, "chunk": 1, "left_out": "running"}
        importing.work()
        assert counted(importing.run(taken.run_id).ends) == {"created": 1}


def _steer(engine: Engine, ask: Any, run_id: str) -> None:  # noqa: ANN401  one of two services
    with BeginPostgresWork(engine=engine)() as work:
        ask(run_id, work)
        work.commit()


def _one_by_one(engine: Engine, lines: list[str]) -> None:
    placed: dict[str, list[dict[str, object]]] = {}
    for line in lines[1:]:
        order_id, sku, quantity = line.split(",")
        placed.setdefault(order_id, []).append({"sku": sku, "quantity": int(quantity)})
    executor = build_executor(engine, KINDS)
    for order_id, wanted in placed.items():
        job = Submission(
            job_id=f"single-{order_id}",
            kind="allocation.allocate_order",
            payload={"order_id": order_id, "lines": wanted},
        )
        executor.run_submitted(job, redelivered=False)


def _forget_everything(connection: Connection) -> None:
    connection.exec_driver_sql("ALTER TABLE stock_movement DISABLE TRIGGER USER")
    connection.exec_driver_sql(
        "TRUNCATE product, batch, sales_order, order_line, allocation, stock_movement"
    )
    connection.exec_driver_sql("ALTER TABLE stock_movement ENABLE TRIGGER USER")


def _break_order(connection: Connection, order_id: str) -> None:
    connection.exec_driver_sql(
        f"""
        CREATE FUNCTION break_order() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION 'on fire' USING ERRCODE = 'internal_error';
        END $$;
        CREATE TRIGGER break_order BEFORE INSERT ON sales_order FOR EACH ROW
        WHEN (NEW.order_id = '{order_id}') EXECUTE FUNCTION break_order()"""
    )
