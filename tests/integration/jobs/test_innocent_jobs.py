"""Trouble that a job is not to blame for: it costs time, and never the job."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
from sqlalchemy import Engine

from adapters.postgres.engine import create
from adapters.postgres.persistence import Persistently
from adapters.postgres.queries import JobQueries
from adapters.postgres.unit_of_work import PostgresUnitOfWork
from domain.errors import Unavailable
from domain.jobs.executor import Executor
from domain.jobs.model import JobState
from tests.jobs import Script, accept, build_executor, find, probe_kinds, submission

MAX_ATTEMPTS = 3
LOCK = 4711
PATIENT = "100ms"
"""How long a lock is waited for here at first."""
FULL_DISK = "DO $$ BEGIN RAISE EXCEPTION 'no space left' USING ERRCODE = 'disk_full'; END $$"


def finds_the_disk_full(work: PostgresUnitOfWork) -> None:
    work._statements.ask(FULL_DISK)


def waits_for_a_lock(work: PostgresUnitOfWork) -> None:
    work._statements.ask(f"SELECT pg_advisory_xact_lock({LOCK})")


@pytest.fixture
def script() -> Script:
    return Script(acts={"write": finds_the_disk_full, "wait": waits_for_a_lock})


@pytest.fixture
def patience(script: Script) -> list[str]:
    """Give the times for which locks were waited for."""
    times: list[str] = []

    def waits(work: PostgresUnitOfWork) -> None:
        [(setting,)] = work._statements.ask("SHOW lock_timeout")
        times.append(setting)
        waits_for_a_lock(work)

    script.acts["wait"] = waits
    return times


@pytest.fixture
def impatient(database_url: str) -> Iterator[Engine]:
    """Give an engine that waits for no lock for long."""
    engine = create(database_url, lock_timeout_ms=100)
    yield engine
    engine.dispose()


@pytest.fixture
def executor(impatient: Engine, script: Script) -> Executor:
    """Give an executor that soon takes a first no for an answer."""
    executor = build_executor(impatient, probe_kinds(script, max_attempts=MAX_ATTEMPTS))
    return replace(executor, persistently=Persistently(attempts=2))


class TestAFullDisk:
    @pytest.mark.parametrize("redelivered", [False, True])
    def test_counts_no_attempt(
        self,
        engine: Engine,
        executor: Executor,
        redelivered: bool,  # noqa: FBT001  named by pytest
    ) -> None:
        accept(engine, submission("a", "write"))

        for _ in range(MAX_ATTEMPTS + 1):
            with pytest.raises(Unavailable):
                executor.run_dispatched("test.probe", ["a"], redelivered=redelivered)

        job = find(engine, "a")
        assert (job.state, job.attempts) == (JobState.QUEUED, 0)
        assert JobQueries(engine).failures("a") == []

    def test_leaves_a_job_that_came_as_a_message_to_the_message(
        self, engine: Engine, executor: Executor
    ) -> None:
        for redelivered in (False, True, True, True, True):
            with pytest.raises(Unavailable):
                executor.run_submitted(submission("a", "write"), redelivered=redelivered)

        job = JobQueries(engine).find("a")
        assert job is None or (job.state, job.attempts) == (JobState.QUEUED, 0)


class TestALockThatIsHeldForLong:
    @pytest.mark.parametrize("redelivered", [False, True])
    def test_lets_a_job_wait_and_never_kills_it(
        self,
        engine: Engine,
        executor: Executor,
        script: Script,
        redelivered: bool,  # noqa: FBT001  named by pytest
    ) -> None:
        accept(engine, submission("a", "wait"), max_attempts=MAX_ATTEMPTS)

        with engine.begin() as holder:
            holder.exec_driver_sql(f"SELECT pg_advisory_xact_lock({LOCK})")
            for _ in range(2 * MAX_ATTEMPTS):
                [report] = executor.run_dispatched("test.probe", ["a"], redelivered=redelivered)
                assert report.job.state is JobState.RETRY
                assert report.exception is not None
        [report] = executor.run_dispatched("test.probe", ["a"], redelivered=redelivered)

        assert report.job.state is JobState.SUCCEEDED
        assert find(engine, "a").attempts == MAX_ATTEMPTS
        failures = JobQueries(engine).failures("a")
        assert {failure.error.type for failure in failures} == {"Contended"}
        assert len(failures) == 2 * MAX_ATTEMPTS

    @pytest.mark.parametrize("redelivered", [False, True])
    def test_is_waited_for_once_by_all_jobs_of_a_message(
        self,
        engine: Engine,
        executor: Executor,
        patience: list[str],
        redelivered: bool,  # noqa: FBT001  named by pytest
    ) -> None:
        waiting, others = [f"waits-{n}" for n in range(5)], [f"other-{n}" for n in range(5)]
        mixed = [each for pair in zip(waiting, others, strict=True) for each in pair]
        accept(engine, *(submission(each, "wait") for each in waiting), max_attempts=MAX_ATTEMPTS)
        accept(engine, *map(submission, others))

        with engine.begin() as holder:
            holder.exec_driver_sql(f"SELECT pg_advisory_xact_lock({LOCK})")
            reports = executor.run_dispatched("test.probe", mixed, redelivered=redelivered)

        assert {report.job.id: report.job.state for report in reports} == {
            **dict.fromkeys(waiting, JobState.RETRY),
            **dict.fromkeys(others, JobState.SUCCEEDED),
        }
        # Twice, as the executor tries twice here.
        assert patience[:2] == [PATIENT, PATIENT]
        assert len(patience) > len(waiting)
        assert set(patience[2:]) == {"50ms"}
