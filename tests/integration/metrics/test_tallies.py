"""What is tallied beside jobs: exact whatever fails, and the same when many rows become few."""

import pytest
from sqlalchemy import Engine

from adapters.postgres import tallies
from adapters.postgres.job_tally import BOUNDS
from adapters.postgres.operations import JobOperations
from adapters.postgres.tallies import MANY, EventTally, Folding, JobTally, Tallies
from adapters.postgres.unit_of_work import BeginPostgresWork
from domain.jobs.errors import Expired
from domain.jobs.executor import Executor
from domain.jobs.model import Failure, JobState, Submission
from domain.kinds import KINDS
from tests.integration.metrics.conftest import do, scalar
from tests.jobs import Script, accept, build_executor, probe_kinds, submission

FAILURE = Failure(type="RuntimeError", module="builtins", message="a bug")


def read(engine: Engine) -> Tallies:
    with engine.connect() as connection:
        return tallies.read(connection)


def ends(engine: Engine) -> dict[tuple[str, str | None], int]:
    """Add up the jobs by state and error."""
    found: dict[tuple[str, str | None], int] = {}
    for tally in read(engine).jobs:
        key = tally.state, tally.error
        found[key] = found.get(key, 0) + tally.jobs
    return found


def events(engine: Engine) -> dict[tuple[str, str], tuple[int, int]]:
    found = read(engine)
    return {
        (tally.name, tally.label): (tally.number, tally.units)
        for tally in (*found.events, *found.stock_outs)
    }


def fail() -> None:
    raise RuntimeError("a bug")


@pytest.fixture
def script() -> Script:
    return Script(acts={"fail": lambda _: fail()})


@pytest.fixture
def executor(engine: Engine, script: Script) -> Executor:
    return build_executor(engine, probe_kinds(script, max_attempts=2))


class TestJobTally:
    def test_counts_each_end_in_the_transaction_of_its_job(
        self, engine: Engine, executor: Executor
    ) -> None:
        accept(engine, *(submission(f"s{n}") for n in range(20)), max_attempts=2)
        executor.run_dispatched("test.probe", [f"s{n}" for n in range(20)], redelivered=False)
        executor.run_submitted(submission("no", "refuse"), redelivered=False)
        for _ in range(2):
            executor.run_submitted(submission("bad", "fail"), redelivered=False)
        executor.run_submitted(submission("s1"), redelivered=True)
        assert ends(engine) == {
            ("succeeded", None): 20,
            ("rejected", "Refused"): 1,
            ("retry", "RuntimeError"): 1,
            ("dead", "RuntimeError"): 1,
        }

    def test_agrees_with_the_ledger_on_times(self, engine: Engine, executor: Executor) -> None:
        accept(engine, *(submission(f"s{n}") for n in range(50)))
        do(engine, "UPDATE job SET created_at = now() - random() * interval '2 hours'")
        executor.run_dispatched("test.probe", [f"s{n}" for n in range(50)], redelivered=False)
        tallied: dict[float, int] = {}
        for tally in read(engine).jobs:
            assert tally.waited_below is not None
            tallied[tally.waited_below] = tallied.get(tally.waited_below, 0) + tally.jobs
        for bound in (*BOUNDS, float("inf")):
            so_far = sum(jobs for below, jobs in tallied.items() if below <= bound)
            assert so_far == scalar(
                engine,
                "SELECT count(*) FROM job"
                f" WHERE extract(epoch FROM finished_at - created_at) < '{bound}'::float8",
            )
        waited = sum(tally.waited for tally in read(engine).jobs)
        assert waited == pytest.approx(
            scalar(
                engine,
                "SELECT sum(extract(epoch FROM finished_at - created_at))::float8 FROM job",
            )
        )

    def test_counts_nothing_of_what_is_rolled_back(
        self, engine: Engine, executor: Executor
    ) -> None:
        accept(engine, submission("s"))
        with BeginPostgresWork(engine=engine)() as work:
            [job] = work.jobs.claim(["s"], wait=True)
            work.jobs.fail(
                job,
                FAILURE,
                worker="w",
                counted=False,
                spare=False,
            )
        assert ends(engine) == {}

    def test_counts_what_kills_its_worker(self, engine: Engine, executor: Executor) -> None:
        accept(engine, submission("s"), max_attempts=2)
        do(engine, "UPDATE job SET attempts = 2, dispatches = 2")
        executor.run_dispatched("test.probe", ["s"], redelivered=True)
        assert ends(engine) == {("dead", "WorkerLost"): 1}

    def test_counts_what_operators_do(self, engine: Engine, executor: Executor) -> None:
        accept(engine, submission("dead", "fail"), submission("open"), max_attempts=1)
        executor.run_dispatched("test.probe", ["dead"], redelivered=False)
        operations = JobOperations(engine)
        operations.retry(["dead"])
        operations.cancel(["open"])
        operations.cancel(["open"])
        assert ends(engine) == {
            ("dead", "RuntimeError"): 1,
            ("queued", None): 1,
            ("cancelled", None): 1,
        }

    def test_counts_what_came_too_late(self, engine: Engine, executor: Executor) -> None:
        moment = scalar(engine, "SELECT now()")
        for _ in range(2):
            executor.cancel_expired(submission("late"), expired=Expired.at(moment))
        assert ends(engine) == {("cancelled", "Expired"): 1}

    def test_does_not_take_waiting_for_its_time_for_waiting(
        self, engine: Engine, executor: Executor
    ) -> None:
        executor.postpone(submission("later"), run_after=scalar(engine, "SELECT now()"))
        do(engine, "UPDATE job SET created_at = now() - interval '1 day'")
        executor.run_dispatched("test.probe", ["later"], redelivered=False)
        [tally] = read(engine).jobs
        assert tally.waited < 3_600


class TestEventTally:
    def test_adds_up_lines_and_units(self, engine: Engine) -> None:
        executor = build_executor(engine, KINDS)
        run(executor, "allocation.create_batch", reference="b", sku="CHAIR", quantity=10)
        run(executor, "allocation.allocate_order", order_id="o", lines=lines(CHAIR=4))
        run(executor, "allocation.allocate_order", order_id="p", lines=lines(CHAIR=7))
        run(
            executor,
            "allocation.allocate_order",
            order_id="q",
            lines=lines(CHAIR=8),
            policy="backorder",
        )
        run(
            executor,
            "users.register",
            user_id="u",
            username="ann",
            email="a@x.example",
            name="A",
        )
        found = events(engine)
        assert found["BatchCreated", ""] == (1, 10)
        assert found["LineAllocated", ""][0] >= 1
        assert found["OrderAllocated", ""] == (1, 0)
        assert found["line_refused", ""] == (1, 7)
        assert found["LineBackordered", ""][0] == 1
        assert found["UserRegistered", ""] == (1, 0)
        short = 7 + found["LineBackordered", ""][1]
        assert found["stock_out", "CHAIR"] == (2, short)
        assert scalar(engine, "SELECT count(*) FROM outbox") == sum(
            number
            for (name, _), (number, _) in found.items()
            # A line that is allocated as it is placed is told of in OrderAllocated.
            if name[0].isupper() and name != "LineAllocated"
        )

    def test_names_the_products_that_ran_out_most_often_within_a_day(self, engine: Engine) -> None:
        this_hour = "floor(extract(epoch FROM now()) / 3600)::integer"
        do(
            engine,
            "INSERT INTO event_tally (name, label, hour, number, units)"
            f" SELECT 'stock_out', 'SKU-' || n, {this_hour} - mod(n, 2), n, n"
            " FROM generate_series(1, 30) AS n",
        )
        do(
            engine,
            "INSERT INTO event_tally (name, label, hour, number, units)"
            f" VALUES ('stock_out', 'LONG-AGO', {this_hour} - 24, 99, 99)",
        )
        found = [tally.label for tally in read(engine).stock_outs]
        assert found == [f"SKU-{n}" for n in range(30, 10, -1)]


class TestFolding:
    def test_changes_no_sum(self, engine: Engine, executor: Executor) -> None:
        folding = Folding(engine=engine)
        for number in range(8):
            executor.run_submitted(submission(f"s{number}"), redelivered=False)
        do(
            engine,
            "INSERT INTO job_tally (kind, state, waited_below, took_below, jobs, waited, took)"
            " SELECT kind, state, waited_below, took_below, 3 * jobs, waited, took"
            f" FROM job_tally, generate_series(1, {MANY // 4})",
        )
        do(
            engine,
            "INSERT INTO event_tally (name, number, units)"
            f" SELECT 'LineAllocated', 2, n FROM generate_series(1, {MANY}) AS n",
        )
        before = rounded(read(engine))
        assert folding.fold() > MANY
        assert rounded(read(engine)) == before
        assert scalar(engine, "SELECT count(*) FROM job_tally") == len(before[0])
        assert scalar(engine, "SELECT count(*) FROM event_tally") == 1

    def test_is_left_out_where_there_is_little_to_gain(self, engine: Engine) -> None:
        do(
            engine,
            "INSERT INTO event_tally (name, label, number)"
            f" SELECT 'stock', n::text, 1 FROM generate_series(1, {2 * MANY}) AS n",
        )
        folding = Folding(engine=engine)
        assert folding.fold() == 2 * MANY
        # Every row has a key of its own: to write them all again gains nothing.
        assert folding.fold() == 0

    def test_forgets_the_hours_of_yesterday(self, engine: Engine) -> None:
        do(
            engine,
            "INSERT INTO event_tally (name, label, hour, number)"
            f" SELECT 'stock_out', 'CHAIR', n, 1 FROM generate_series(1, {MANY}) AS n",
        )
        Folding(engine=engine).fold()
        assert scalar(engine, "SELECT count(*) FROM event_tally") == 0

    def test_loses_nothing_that_is_tallied_meanwhile(
        self, engine: Engine, executor: Executor
    ) -> None:
        do(
            engine,
            "INSERT INTO job_tally (kind, state, jobs)"
            f" SELECT 'test.probe', 'succeeded', 1 FROM generate_series(1, {MANY})",
        )
        with BeginPostgresWork(engine=engine)() as work:
            job = work.jobs.claim_submitted(submission("s"), queue="allocation", max_attempts=2)
            work.jobs.fail(job, FAILURE, worker="w", counted=False, spare=False)
            # An older row number, which is committed later.
            Folding(engine=engine).fold()
            work.commit()
        assert ends(engine) == {("succeeded", None): MANY, ("retry", "RuntimeError"): 1}


def rounded(found: Tallies) -> tuple[list[JobTally], list[EventTally]]:
    jobs = [
        JobTally(
            kind=tally.kind,
            state=tally.state,
            error=tally.error,
            waited_below=tally.waited_below,
            took_below=tally.took_below,
            jobs=tally.jobs,
            waited=round(tally.waited, 6),
            took=round(tally.took, 6),
        )
        for tally in found.jobs
    ]
    return sorted(jobs, key=str), sorted(found.events, key=str)


def lines(**quantities: int) -> list[dict[str, object]]:
    return [{"sku": sku, "quantity": quantity} for sku, quantity in quantities.items()]


def run(executor: Executor, kind: str, **payload: object) -> None:
    number = len(payload)
    job_id = f"{kind} {payload} {number}"
    report = executor.run_submitted(
        Submission(job_id=job_id[:255], kind=kind, payload=payload), redelivered=False
    )
    assert report.job.state in (JobState.SUCCEEDED, JobState.REJECTED), report
