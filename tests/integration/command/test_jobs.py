"""`tallyman jobs`: look, retry, cancel."""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from psycopg.types.json import Jsonb
from sqlalchemy import Engine

from adapters.postgres import operations
from adapters.postgres.queries import JobQueries, JobView
from domain.jobs.model import JobState, Request
from domain.jobs.outcomes import Outcome
from domain.kinds import KINDS
from tests.integration.command.conftest import RunJobs, Tallyman
from worker.command import job_changes

BATCH = "allocation.create_batch"
PAYLOAD = '{"reference": "b1", "sku": "LAMP", "quantity": 5}'
REGISTER = "users.register"
ADA = '{"username": "ada", "email": "ada@example.com", "name": "Ada"}'


def _break(requests: Sequence[Request[Any]], work: object) -> Sequence[Outcome]:
    raise RuntimeError(f"cannot do {len(requests)}")


_MANY_DEAD = """
INSERT INTO job (id, kind, queue, door, payload, payload_hash, max_attempts, state, error,
                 finished_at)
SELECT 'd' || n, 'k', 'q', 'ledger', '{{}}', '', 5, 'dead', '{{"type": "E"}}', now()
FROM generate_series(1, {}) AS n"""

BROKEN = {BATCH: replace(KINDS[BATCH], handler=_break)}


@pytest.fixture
def queued(tallyman: Tallyman) -> str:
    return tallyman("submit", BATCH, PAYLOAD, "--id", "j1").out.strip()


@pytest.fixture
def waiting(queued: str, run_jobs: RunJobs) -> str:
    run_jobs(BROKEN)
    return queued


@pytest.fixture
def dead(waiting: str, run_jobs: RunJobs) -> str:
    while run_jobs(BROKEN):
        pass
    return waiting


def found(engine: Engine, job_id: str) -> JobView:
    job = JobQueries(engine).find(job_id)
    assert job is not None
    return job


class TestList:
    def test_shows_jobs_that_fit(self, tallyman: Tallyman, dead: str) -> None:
        tallyman("submit", BATCH, PAYLOAD, "--id", "j2", "--correlation-id", "c")
        [job] = tallyman("jobs", "list", "--state", "dead", "--json").json
        assert (job["id"], job["error"]["type"]) == (dead, "RuntimeError")
        [job] = tallyman("jobs", "list", "--correlation-id", "c", "--json").json
        assert job["id"] == "j2"
        [job] = tallyman("jobs", "list", "--correlation-id", "j1", "--json").json
        assert job["id"] == "j1"
        assert tallyman("jobs", "list", "--kind", REGISTER, "--json").json == []
        assert [job["id"] for job in tallyman("jobs", "list", "--limit", "1", "--json").json] == [
            "j2"
        ]

    def test_picks_by_queue_error_and_age(
        self, tallyman: Tallyman, engine: Engine, dead: str
    ) -> None:
        def ids(*arguments: str) -> list[str]:
            return [job["id"] for job in tallyman("jobs", "list", "--json", *arguments).json]

        with engine.begin() as connection:
            connection.exec_driver_sql(
                "UPDATE job SET created_at = now() - interval '9 days',"
                " finished_at = now() - interval '3 hours'"
            )
        tallyman("submit", REGISTER, ADA, "--id", "u1")
        assert ids("--queue", "users") == ["u1"]
        assert ids("--error", "RuntimeError") == [dead]
        assert ids("--error", "WorkerLost") == []
        # What has ended is as old as its end, and what has not as its beginning.
        assert ids("--since", "2h") == ["u1"]
        assert ids("--since", "4h") == ["u1", dead]
        assert ids("--older-than", "2h", "--since", "1d") == [dead]
        assert ids("--older-than", "4h") == []

    @pytest.mark.parametrize("time", ["", "5", "h", "-1h", "1.5h", "1w", "9999999d", "1h30m"])
    def test_takes_lengths_of_time_alone(self, tallyman: Tallyman, time: str) -> None:
        assert tallyman("jobs", "list", "--since", time).code == 2

    def test_finds_the_newest_of_many_by_their_index(self, engine: Engine) -> None:
        with engine.begin() as connection:
            connection.exec_driver_sql(
                "INSERT INTO job (id, kind, queue, door, payload, payload_hash, max_attempts,"
                " next_dispatch, created_at) SELECT 'j' || n, 'k', 'q', 'ledger', '{}', '', 5,"
                " now(), now() + n * interval '1 second' FROM generate_series(1, 2000) AS n"
            )
            connection.exec_driver_sql("ANALYZE job")
            plan = connection.exec_driver_sql(
                "EXPLAIN SELECT * FROM job WHERE true ORDER BY created_at DESC, id DESC LIMIT 50"
            )
            told = "\n".join(plan.scalars())
        assert "Scan Backward using ix_job_created_at" in told
        assert "Seq Scan" not in told

    def test_tells_people_why_a_job_failed(self, tallyman: Tallyman, dead: str) -> None:
        assert "RuntimeError: cannot do 1" in tallyman("jobs", "list").out


class TestShow:
    def test_tells_the_last_line_of_each_failed_attempt(
        self, tallyman: Tallyman, dead: str
    ) -> None:
        ran = tallyman("jobs", "show", dead)
        assert ran.code == 0
        assert ran.out.count("failed at") == KINDS[BATCH].max_attempts
        assert "RuntimeError: cannot do 1" in ran.out
        assert "in _break" in ran.out
        assert "Traceback" not in ran.out

    def test_tells_of_each_error_once_and_a_line(self, tallyman: Tallyman, engine: Engine) -> None:
        tallyman("submit", BATCH, PAYLOAD, "--id", "j1")
        error = {
            "type": "DataError",
            "module": "sqlalchemy.exc",
            "message": "out of range\nCONTEXT: the second line",
            "details": {},
            "traceback": "Traceback (most recent call last):\n"
            '  File "/venv/lib/python3.11/site-packages/celery/worker/request.py", line 1, in a\n'
            '  File "/venv/lib/python3.11/site-packages/adapters/postgres/stock.py", line 2, in b\n'
            '  File "/venv/lib/python3.11/site-packages/psycopg/cursor.py", line 3, in c\n'
            "DataError: out of range\n",
        }
        with engine.begin() as connection:
            connection.exec_driver_sql(
                "UPDATE job SET state = 'retry', attempts = 2, error = %(error)s",
                {"error": Jsonb(error)},
            )
            connection.exec_driver_sql(
                "INSERT INTO job_failure (job_id, attempt, error, worker)"
                " VALUES ('j1', 1, %(error)s, 'w'), ('j1', 2, %(error)s, 'w')",
                {"error": Jsonb(error)},
            )
        shown = tallyman("jobs", "show", "j1").out
        assert shown.count("DataError: out of range …\n") == 1
        assert "second line" not in shown
        assert re.search(
            r'DataError.*\n  File ".*/adapters/postgres/stock.py", line 2, in b\n', shown
        )
        assert shown.count(" on w: the same\n") == 2
        assert tallyman("jobs", "show", "j1", "--traceback").out.count("second line") == 1

    def test_tells_whole_tracebacks_when_asked(self, tallyman: Tallyman, dead: str) -> None:
        assert "Traceback" in tallyman("jobs", "show", dead, "--traceback").out
        shown = tallyman("jobs", "show", dead, "--json").json
        assert len(shown["failed_attempts"]) == KINDS[BATCH].max_attempts

    def test_masks_a_personal_payload_unless_it_is_to_be_revealed(self, tallyman: Tallyman) -> None:
        tallyman("submit", REGISTER, ADA, "--id", "u1")
        for arguments in (("--json",), ()):
            assert "example.com" not in tallyman("jobs", "show", "u1", *arguments).out
            assert "ada@example.com" in tallyman("jobs", "show", "u1", "--reveal", *arguments).out
        assert "example.com" not in tallyman("jobs", "list", "--json").out

    def test_knows_no_other_job(self, tallyman: Tallyman) -> None:
        ran = tallyman("jobs", "show", "none")
        assert (ran.code, ran.err) == (3, "error: the ledger has no job 'none'\n")


def next_of(tallyman: Tallyman, job_id: str) -> str:
    shown = tallyman("jobs", "show", job_id)
    assert shown.code == 0
    told: str = tallyman("jobs", "show", job_id, "--json").json["outlook"]
    assert f"\nnext: {told}\n" in shown.out
    return told


class TestOutlook:
    def test_of_a_dead_job_is_what_a_retry_does(self, tallyman: Tallyman, dead: str) -> None:
        told = next_of(tallyman, dead)
        assert f"`tallyman jobs retry {dead}` gives it {KINDS[BATCH].max_attempts} attempts" in told
        assert "nothing is done twice" in told

    def test_of_a_dead_job_that_cannot_be_retried_says_so(
        self, tallyman: Tallyman, engine: Engine, dead: str
    ) -> None:
        with engine.begin() as connection:
            connection.exec_driver_sql("UPDATE job SET scrubbed_at = now()")
        assert "it cannot be retried" in next_of(tallyman, dead)
        assert tallyman("jobs", "retry", dead).code == 1

    def test_warns_of_a_job_that_ended_its_workers(
        self, tallyman: Tallyman, engine: Engine, waiting: str
    ) -> None:
        with engine.begin() as connection:
            connection.exec_driver_sql(
                "UPDATE job SET state = 'dead', finished_at = now(), next_dispatch = NULL,"
                ' run_after = NULL, error = error || \'{"type": "WorkerLost"}\''
            )
        assert "may end a worker process again" in next_of(tallyman, waiting)

    def test_of_a_job_that_waits_is_its_next_attempt(
        self, tallyman: Tallyman, engine: Engine, waiting: str
    ) -> None:
        with engine.begin() as connection:
            connection.exec_driver_sql(
                "UPDATE job SET dispatches = 0, run_after = '2100-01-01',"
                " next_dispatch = '2100-01-01'"
            )
        attempts = KINDS[BATCH].max_attempts
        assert next_of(tallyman, waiting).startswith(
            f"attempt 2 of {attempts} at 2100-01-01 00:00:00; "
        )
        tallyman("jobs", "retry", waiting)
        assert "a relay has yet to hand it out" in next_of(tallyman, waiting)

    def test_of_a_job_that_is_out_is_who_has_it(
        self, tallyman: Tallyman, engine: Engine, queued: str
    ) -> None:
        with engine.begin() as connection:
            connection.exec_driver_sql(
                "UPDATE job SET dispatches = 1, next_dispatch = '2100-01-01'"
            )
        assert "was handed out" in next_of(tallyman, queued)

    def test_of_a_job_that_an_import_keeps_is_its_import(
        self, tallyman: Tallyman, engine: Engine, queued: str
    ) -> None:
        with engine.begin() as connection:
            connection.exec_driver_sql("UPDATE job SET next_dispatch = 'infinity'")
        assert "its import" in next_of(tallyman, queued)

    def test_of_a_job_whose_queue_is_paused_is_why(self, tallyman: Tallyman, queued: str) -> None:
        tallyman("queues", "pause", "allocation", "--reason", "stock take")
        assert next_of(tallyman, queued) == "it waits, as queue allocation is paused: stock take"

    def test_of_what_has_ended_is_nothing(
        self, tallyman: Tallyman, run_jobs: RunJobs, queued: str
    ) -> None:
        tallyman("submit", BATCH, PAYLOAD, "--id", "j2")
        tallyman("jobs", "cancel", "j2")
        tallyman(
            "submit",
            "allocation.change_batch_quantity",
            '{"reference": "none", "quantity": 1}',
            "--id",
            "j3",
        )
        run_jobs()
        assert "committed" in next_of(tallyman, queued)
        assert "withdrawn" in next_of(tallyman, "j2")
        assert "final" in next_of(tallyman, "j3")


class TestRetry:
    def test_gives_a_dead_job_all_its_attempts_again(
        self, tallyman: Tallyman, engine: Engine, dead: str, run_jobs: RunJobs
    ) -> None:
        assert tallyman("jobs", "retry", dead).out == "retried j1\n"
        job = found(engine, dead)
        assert (job.state, job.attempts, job.dispatches) == (JobState.QUEUED, 0, 0)
        assert (job.error, job.run_after, job.finished_at) == (None, None, None)
        run_jobs()
        assert found(engine, dead).state is JobState.SUCCEEDED

    def test_makes_due_what_waits_for_its_next_attempt(
        self, tallyman: Tallyman, engine: Engine, waiting: str
    ) -> None:
        with engine.begin() as connection:
            connection.exec_driver_sql(
                "UPDATE job SET run_after = now() + interval '1 hour',"
                " next_dispatch = now() + interval '1 hour'"
            )
        assert tallyman("jobs", "retry", waiting).code == 0
        assert _due(engine) == [waiting]
        assert found(engine, waiting).attempts == 1

    def test_takes_all_of_a_state_and_a_kind(
        self, tallyman: Tallyman, engine: Engine, dead: str
    ) -> None:
        other = tallyman("jobs", "retry", "--state", "dead", "--kind", REGISTER)
        assert other.out == "0 jobs retried\n"
        assert tallyman("jobs", "retry", "--state", "dead", "--json").json == {"retried": 1}
        assert tallyman("jobs", "retry", "--state", "retry", "--json").json == {"retried": 0}
        assert _due(engine) == [dead]

    def test_picks_by_queue_error_and_age(
        self, tallyman: Tallyman, engine: Engine, dead: str
    ) -> None:
        def retried(*arguments: str) -> int:
            ran = tallyman("jobs", "retry", "--state", "dead", "--json", *arguments)
            return int(ran.json["retried"])

        assert retried("--queue", "users") == 0
        assert retried("--error", "WorkerLost") == 0
        assert retried("--older-than", "1h") == 0
        assert retried("--correlation-id", "other") == 0
        assert found(engine, dead).state is JobState.DEAD
        assert retried("--queue", "allocation", "--error", "RuntimeError", "--since", "1h") == 1
        assert found(engine, dead).state is JobState.QUEUED

    def test_counts_and_changes_nothing_when_it_is_a_dry_run(
        self, tallyman: Tallyman, engine: Engine, dead: str
    ) -> None:
        ran = tallyman("jobs", "retry", "--state", "dead", "--dry-run")
        assert ran.out == "1 jobs would be retried\n"
        assert found(engine, dead).state is JobState.DEAD

    def test_takes_no_filter_with_ids(self, tallyman: Tallyman) -> None:
        for option in (("--kind", BATCH), ("--error", "E"), ("--since", "1h"), ("--dry-run",)):
            assert tallyman("jobs", "retry", "j1", *option).code == 2
            assert tallyman("jobs", "cancel", "j1", *option).code == 2

    def test_takes_all_of_more_than_are_looked_up_at_once(
        self, tallyman: Tallyman, engine: Engine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(operations, "PICK", 20)
        monkeypatch.setattr(operations, "CHUNK", 6)
        with engine.begin() as connection:
            connection.exec_driver_sql(_MANY_DEAD.format(90))
        # One that is held is left, and does not keep it going for ever.
        with engine.connect() as other:
            other.exec_driver_sql("SELECT FROM job WHERE id = 'd7' FOR UPDATE")
            ran = tallyman("jobs", "retry", "--state", "dead", "--json")
        assert ran.json == {"retried": 89}
        assert tallyman("jobs", "cancel", "--state", "queued", "--json").json == {"cancelled": 89}

    def test_may_be_interrupted_and_goes_on_when_it_is_run_again(
        self, tallyman: Tallyman, engine: Engine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(operations, "CHUNK", 2)
        with engine.begin() as connection:
            connection.exec_driver_sql(_MANY_DEAD.format(5))
        shown: list[int] = []

        @contextmanager
        def interrupted(_: str, *, total: int) -> Iterator[Callable[[int], None]]:
            assert total == 5

            def show(done: int) -> None:
                shown.append(done)
                if done == 4:
                    raise KeyboardInterrupt

            yield show

        with monkeypatch.context() as patch:
            patch.setattr(job_changes, "progress", interrupted)
            ran = tallyman("jobs", "retry", "--state", "dead")
        assert (ran.code, ran.out, shown) == (130, "", [2, 4])
        assert "4 of 5 jobs retried" in ran.err
        assert tallyman("jobs", "retry", "--state", "dead").out == "1 jobs retried\n"

    def test_refuses_what_is_final_or_not_there(
        self, tallyman: Tallyman, queued: str, run_jobs: RunJobs
    ) -> None:
        run_jobs()
        ran = tallyman("jobs", "retry", queued, "none", "--json")
        assert ran.code == 1
        assert [each["code"] for each in ran.json["refused"]] == ["JobNotOpen", "JobNotFound"]
        assert tallyman("jobs", "retry", "none").code == 3

    def test_refuses_a_job_whose_payload_was_erased(
        self, tallyman: Tallyman, engine: Engine, dead: str
    ) -> None:
        with engine.begin() as connection:
            connection.exec_driver_sql("UPDATE job SET payload = '{}', scrubbed_at = now()")
        assert "erasure" in tallyman("jobs", "retry", dead).err
        assert tallyman("jobs", "retry", "--state", "dead", "--json").json == {"retried": 0}

    def test_wakes_the_relay(self, tallyman: Tallyman, engine: Engine, dead: str) -> None:
        with engine.connect() as connection:
            connection.exec_driver_sql("LISTEN tallyman_job")
            connection.commit()
            tallyman("jobs", "retry", dead)
            driver = connection.connection.driver_connection
            assert driver is not None
            assert list(driver.notifies(timeout=60, stop_after=1))

    def test_needs_ids_or_a_state(self, tallyman: Tallyman) -> None:
        assert tallyman("jobs", "retry").code == 2
        assert tallyman("jobs", "retry", "--state", "succeeded").code == 2


class TestCancel:
    def test_withdraws_what_has_not_run(
        self, tallyman: Tallyman, engine: Engine, queued: str, run_jobs: RunJobs
    ) -> None:
        assert tallyman("jobs", "cancel", queued).out == "cancelled j1\n"
        job = found(engine, queued)
        assert (job.state, job.finished_at is None) == (JobState.CANCELLED, False)
        assert run_jobs() == 0

    def test_withdraws_what_waits_for_its_next_attempt(
        self, tallyman: Tallyman, engine: Engine, waiting: str
    ) -> None:
        assert tallyman("jobs", "cancel", waiting).code == 0
        assert found(engine, waiting).state is JobState.CANCELLED

    def test_withdraws_all_that_fit_and_do_not_run(
        self, tallyman: Tallyman, engine: Engine, waiting: str
    ) -> None:
        for number in range(3):
            tallyman("submit", BATCH, PAYLOAD, "--id", f"c{number}", "--correlation-id", "run")
        cancel = ("jobs", "cancel", "--state", "queued", "--correlation-id", "run")
        assert tallyman(*cancel, "--queue", "users").out == "0 jobs cancelled\n"
        assert tallyman(*cancel, "--dry-run", "--json").json == {"would_be_cancelled": 3}
        with engine.connect() as running:
            running.exec_driver_sql("SELECT FROM job WHERE id = 'c1' FOR NO KEY UPDATE")
            assert tallyman(*cancel, "--json").json == {"cancelled": 2}
        assert found(engine, "c1").state is JobState.QUEUED
        retrying = tallyman("jobs", "cancel", "--state", "retry", "--error", "RuntimeError")
        assert retrying.out == "1 jobs cancelled\n"
        assert found(engine, waiting).state is JobState.CANCELLED

    def test_needs_ids_or_a_state_in_which_jobs_may_be_withdrawn(self, tallyman: Tallyman) -> None:
        assert tallyman("jobs", "cancel").code == 2
        assert tallyman("jobs", "cancel", "--state", "dead").code == 2
        assert tallyman("jobs", "cancel", "j1", "--state", "queued").code == 2

    def test_lets_a_job_run_that_runs(
        self, tallyman: Tallyman, engine: Engine, queued: str
    ) -> None:
        with engine.connect() as running:
            running.exec_driver_sql("SELECT FROM job FOR NO KEY UPDATE")
            ran = tallyman("jobs", "cancel", queued)
        assert ran.code == 1
        assert "is running now" in ran.err
        assert found(engine, queued).state is JobState.QUEUED

    def test_refuses_what_has_finished(
        self, tallyman: Tallyman, queued: str, run_jobs: RunJobs
    ) -> None:
        run_jobs()
        ran = tallyman("jobs", "cancel", queued)
        assert (ran.code, ran.err) == (1, "error: job 'j1' is succeeded already\n")


class TestCounts:
    def test_count_by_kind_and_state(self, tallyman: Tallyman, dead: str) -> None:
        tallyman("submit", BATCH, PAYLOAD, "--id", "j2", "--correlation-id", "c")
        assert tallyman("jobs", "counts", "--json").json == [
            {"kind": BATCH, "state": "dead", "jobs": 1},
            {"kind": BATCH, "state": "queued", "jobs": 1},
        ]
        [count] = tallyman("jobs", "counts", "--correlation-id", "c", "--json").json
        assert count["state"] == "queued"
        assert "dead" in tallyman("jobs", "counts").out


def _due(engine: Engine) -> list[str]:
    with engine.connect() as connection:
        rows = connection.exec_driver_sql("SELECT id FROM job WHERE next_dispatch <= now()")
        return list(rows.scalars())
