"""One transaction per attempt, on a real ledger."""

from secrets import token_hex
from threading import Event, Thread

import pytest
from sqlalchemy import Engine

from adapters.postgres.queries import JobQueries
from adapters.postgres.unit_of_work import PostgresUnitOfWork
from domain.errors import StaleDecision, Unavailable
from domain.jobs.errors import IdempotencyConflict
from domain.jobs.model import JobState, Submission
from tests.jobs import Probe, Script, accept, build_executor, find, probe_kinds, submission


class Broken(Exception):
    """A bug."""


def breaks(_: PostgresUnitOfWork) -> None:
    raise Broken("what is not there")


@pytest.fixture
def script() -> Script:
    return Script(acts={"break": breaks})


class TestAMessageThatCarriesItsPayload:
    def test_runs_and_leaves_its_result_in_the_ledger(self, engine: Engine, script: Script) -> None:
        report = build_executor(engine, probe_kinds(script)).run_submitted(
            submission("a"), redelivered=False
        )
        assert report.job.result == {"job": "a"}
        stored = find(engine, "a")
        assert (stored.state, stored.result, stored.attempts) == (
            JobState.SUCCEEDED,
            {"job": "a"},
            1,
        )

    def test_is_answered_from_the_ledger_the_second_time(
        self, engine: Engine, script: Script
    ) -> None:
        executor = build_executor(engine, probe_kinds(script))
        first = executor.run_submitted(submission("a"), redelivered=False)
        second = executor.run_submitted(submission("a"), redelivered=True)
        assert second.job.result == first.job.result
        assert script.batches == [["a"]]

    def test_with_another_payload_is_a_conflict_that_changes_nothing(
        self, engine: Engine, script: Script
    ) -> None:
        executor = build_executor(engine, probe_kinds(script))
        executor.run_submitted(submission("a"), redelivered=False)
        with pytest.raises(IdempotencyConflict, match="job id a was used before"):
            executor.run_submitted(submission("a", "refuse"), redelivered=False)
        assert find(engine, "a").state is JobState.SUCCEEDED

    def test_ends_rejected_where_the_business_says_no(self, engine: Engine, script: Script) -> None:
        report = build_executor(engine, probe_kinds(script)).run_submitted(
            submission("a", "refuse"), redelivered=False
        )
        assert report.job.state is JobState.REJECTED
        error = find(engine, "a").error
        assert error is not None
        assert (error.type, error.message, error.details) == ("Refused", "no", {"why": "asked to"})
        assert error.traceback is None

    def test_ends_rejected_where_the_payload_does_not_fit(
        self, engine: Engine, script: Script
    ) -> None:
        report = build_executor(engine, probe_kinds(script)).run_submitted(
            Submission(job_id="a", kind=Probe.kind, payload={"dose": 1}), redelivered=False
        )
        assert report.job.error is not None
        assert report.job.error.type == "InvalidPayload"
        assert "dose: Unexpected keyword argument" in report.job.error.message
        assert script.batches == []

    def test_leaves_no_refused_payload_of_a_person(self, engine: Engine, script: Script) -> None:
        executor = build_executor(engine, probe_kinds(script, personal=True))
        wrong = Submission(job_id="a", kind=Probe.kind, payload={"password": "hunter2"})
        executor.run_submitted(wrong, redelivered=True)
        assert find(engine, "a").payload == {}
        assert executor.run_submitted(wrong, redelivered=False).job.state is JobState.REJECTED


class TestAnAttemptThatFails:
    def test_is_recorded_and_due_again(self, engine: Engine, script: Script) -> None:
        report = build_executor(engine, probe_kinds(script)).run_submitted(
            submission("a", "break"), redelivered=False
        )
        assert isinstance(report.exception, Broken)
        stored = find(engine, "a")
        assert (stored.state, stored.attempts) == (JobState.RETRY, 1)
        assert stored.run_after is not None
        [failure] = JobQueries(engine).failures("a")
        assert (failure.attempt, failure.worker, failure.error.message) == (
            1,
            "test:1",
            "what is not there",
        )
        assert failure.error.traceback is not None
        assert "breaks" in failure.error.traceback

    def test_leaves_nothing_of_its_effect(self, engine: Engine, script: Script) -> None:
        def half_done(work: PostgresUnitOfWork) -> None:
            work.stock.introduce(["HALF"])
            raise Broken

        script.acts["half"] = half_done
        build_executor(engine, probe_kinds(script)).run_submitted(
            submission("a", "half"), redelivered=False
        )
        with engine.connect() as connection:
            assert not connection.exec_driver_sql("SELECT FROM product").all()

    def test_is_dead_after_the_last_one_with_its_reason(
        self, engine: Engine, script: Script
    ) -> None:
        executor = build_executor(engine, probe_kinds(script, max_attempts=3))
        states = [
            executor.run_submitted(submission("a", "break"), redelivered=False).job.state
            for _ in range(4)
        ]
        assert states == [JobState.RETRY, JobState.RETRY, JobState.DEAD, JobState.DEAD]
        stored = find(engine, "a")
        assert stored.attempts == 3
        assert stored.error is not None
        assert stored.error.type == "Broken"
        assert len(script.batches) == 3

    def test_succeeds_once_the_reason_is_gone(self, engine: Engine, script: Script) -> None:
        executor = build_executor(engine, probe_kinds(script))
        executor.run_submitted(submission("a", "break"), redelivered=False)
        script.acts["break"] = lambda _: None
        executor.run_dispatched(Probe.kind, ["a"], redelivered=False)
        stored = find(engine, "a")
        assert (stored.state, stored.attempts, stored.error) == (JobState.SUCCEEDED, 2, None)


class TestABatch:
    def test_is_handled_in_one_transaction(self, engine: Engine, script: Script) -> None:
        accept(engine, *(submission(f"j{n}") for n in range(5)))
        reports = build_executor(engine, probe_kinds(script)).run_dispatched(
            Probe.kind, [f"j{n}" for n in range(5)], redelivered=False
        )
        assert {report.job.state for report in reports} == {JobState.SUCCEEDED}
        assert len(script.batches) == 1

    def test_is_halved_until_the_bad_job_stands_alone(self, engine: Engine, script: Script) -> None:
        ids = [f"j{n}" for n in range(8)]
        accept(engine, *(submission(i, "break" if i == "j5" else "succeed") for i in ids))
        reports = build_executor(engine, probe_kinds(script)).run_dispatched(
            Probe.kind, ids, redelivered=False
        )
        assert {r.job.id: r.job.state for r in reports} == {
            i: JobState.RETRY if i == "j5" else JobState.SUCCEEDED for i in ids
        }
        assert ["j5"] in script.batches

    def test_leaves_out_ids_that_the_ledger_does_not_know(
        self, engine: Engine, script: Script
    ) -> None:
        accept(engine, submission("real"))
        reports = build_executor(engine, probe_kinds(script)).run_dispatched(
            Probe.kind, ["forged", "real"], redelivered=False
        )
        assert [report.job.id for report in reports] == ["real"]

    def test_leaves_out_what_another_worker_holds(self, engine: Engine, script: Script) -> None:
        accept(engine, submission("held"), submission("free"))
        executor = build_executor(engine, probe_kinds(script))
        with engine.connect() as other:
            other.exec_driver_sql("SELECT FROM job WHERE id = 'held' FOR UPDATE")
            reports = executor.run_dispatched(Probe.kind, ["held", "free"], redelivered=False)
        assert [report.job.id for report in reports] == ["free"]
        assert find(engine, "held").state is JobState.QUEUED

    def test_mixes_refusals_with_successes(self, engine: Engine, script: Script) -> None:
        accept(engine, submission("yes"), submission("no", "refuse"))
        build_executor(engine, probe_kinds(script)).run_dispatched(
            Probe.kind, ["yes", "no"], redelivered=False
        )
        assert find(engine, "yes").state is JobState.SUCCEEDED
        assert find(engine, "no").state is JobState.REJECTED


class TestASuspect:
    def test_counts_its_attempt_before_it_runs(self, engine: Engine, script: Script) -> None:
        seen: list[int] = []
        script.acts["look"] = lambda _: seen.append(find(engine, "a").attempts)
        accept(engine, submission("a", "look"))
        build_executor(engine, probe_kinds(script)).run_dispatched(
            Probe.kind, ["a"], redelivered=True
        )
        assert seen == [1]
        assert find(engine, "a").attempts == 1

    def test_that_kills_its_worker_each_time_is_dead_with_the_reason(
        self, engine: Engine, script: Script
    ) -> None:
        class Killed(BaseException):
            """Stands for SIGKILL: nothing in the executor may catch it."""

        def kill(_: PostgresUnitOfWork) -> None:
            raise Killed

        script.acts["kill"] = kill
        accept(engine, submission("a", "kill"), submission("b"))
        executor = build_executor(engine, probe_kinds(script, max_attempts=3))
        for _ in range(3):
            with pytest.raises(Killed):
                executor.run_dispatched(Probe.kind, ["a", "b"], redelivered=True)
        reports = executor.run_dispatched(Probe.kind, ["a", "b"], redelivered=True)
        assert {r.job.id: r.job.state for r in reports} == {
            "a": JobState.DEAD,
            "b": JobState.SUCCEEDED,
        }
        error = find(engine, "a").error
        assert error is not None
        assert error.type == "WorkerLost"
        assert "died in each of 3 attempts" in error.message

    def test_is_every_job_that_was_dispatched_before(self, engine: Engine, script: Script) -> None:
        accept(engine, submission("a"), submission("b"))
        with engine.begin() as connection:
            connection.exec_driver_sql("UPDATE job SET dispatches = 2 WHERE id = 'a'")
        counted: list[str] = []
        executor = build_executor(engine, probe_kinds(script), reached=counted.append)
        executor.run_dispatched(Probe.kind, ["a", "b"], redelivered=False)
        assert counted.count("attempt.counted") == 2
        assert script.batches == [["a"], ["b"]]

    def test_whose_attempt_fails_is_counted_once(self, engine: Engine, script: Script) -> None:
        accept(engine, submission("a", "break"))
        build_executor(engine, probe_kinds(script)).run_dispatched(
            Probe.kind, ["a"], redelivered=True
        )
        stored = find(engine, "a")
        assert (stored.state, stored.attempts) == (JobState.RETRY, 1)


class TestADecisionThatWentStale:
    def test_is_made_again_with_locks_first(self, engine: Engine, script: Script) -> None:
        seen: list[bool] = []

        def stale_once(work: PostgresUnitOfWork) -> None:
            seen.append(work.locks_first)
            if not work.locks_first:
                raise StaleDecision("moved")

        script.acts["decide"] = stale_once
        build_executor(engine, probe_kinds(script)).run_submitted(
            submission("a", "decide"), redelivered=False
        )
        assert seen == [False, True]
        assert find(engine, "a").state is JobState.SUCCEEDED

    def test_for_ever_counts_as_a_failed_attempt(self, engine: Engine, script: Script) -> None:
        def stale(_: PostgresUnitOfWork) -> None:
            raise StaleDecision("moved")

        script.acts["decide"] = stale
        report = build_executor(engine, probe_kinds(script)).run_submitted(
            submission("a", "decide"), redelivered=False
        )
        assert report.job.state is JobState.RETRY
        assert isinstance(report.exception, StaleDecision)


class TestTheSameJobDeliveredTwiceAtOnce:
    def test_waits_for_the_first_and_gives_its_answer(
        self, patient: Engine, script: Script
    ) -> None:
        first_runs, go_on = Event(), Event()

        def wait(_: PostgresUnitOfWork) -> None:
            first_runs.set()
            assert go_on.wait(60)

        script.acts["wait"] = wait
        executor = build_executor(patient, probe_kinds(script))
        answers: list[object] = []

        def deliver() -> None:
            answers.append(
                executor.run_submitted(submission("a", "wait"), redelivered=False).job.result
            )

        first, second = Thread(target=deliver), Thread(target=deliver)
        first.start()
        assert first_runs.wait(60)
        second.start()
        go_on.set()
        first.join(60)
        second.join(60)
        assert answers == [{"did": "wait"}] * 2
        assert script.batches == [["a"]]


class TestPostgresAway:
    def test_decides_nothing_and_burns_no_attempt(
        self, database_url: str, engine: Engine, script: Script
    ) -> None:
        def drop(work: PostgresUnitOfWork) -> None:
            with engine.connect() as other:
                other.exec_driver_sql(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
            work.stock.introduce(["X"])

        script.acts["drop"] = drop
        accept(engine, submission("a", "drop"))
        with pytest.raises(Unavailable, match="PostgreSQL is away"):
            build_executor(engine, probe_kinds(script)).run_dispatched(
                Probe.kind, ["a"], redelivered=False
            )
        stored = find(engine, "a")
        assert (stored.state, stored.attempts) == (JobState.QUEUED, 0)


class TestAFailureOfAPersonalJob:
    def test_keeps_the_place_but_not_the_reason(self, engine: Engine, script: Script) -> None:
        email = f"{token_hex(4)}@example.org"

        def quotes(_: PostgresUnitOfWork) -> None:
            raise Broken(email)

        script.acts["break"] = quotes
        build_executor(engine, probe_kinds(script, personal=True)).run_submitted(
            submission("a", "break"), redelivered=False
        )
        error = find(engine, "a").error
        assert error is not None
        assert error.type == "Broken"
        assert error.traceback is not None
        assert "quotes" in error.traceback
        assert email not in error.message + error.traceback
