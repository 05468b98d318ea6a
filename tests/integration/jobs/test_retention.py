"""What is old is deleted to the last row, a little at a time."""

import pytest
from sqlalchemy import Engine

from adapters.postgres.queries import JobQueries
from adapters.postgres.unit_of_work import BeginPostgresWork
from domain.jobs.commands import PruneLedger
from domain.jobs.model import JOB_ID_LENGTH, JobState, Submission
from domain.kinds import KINDS
from tests.jobs import build_executor, find

OLD = 25

FINISHED = """
INSERT INTO job (id, kind, queue, door, payload, payload_hash, max_attempts, state, result, error,
                 created_at, finished_at)
SELECT state || '-' || n, 'k', 'q', 'ledger', '{}', '', 5, state,
       CASE state WHEN 'succeeded' THEN '{}'::jsonb END,
       CASE state WHEN 'dead' THEN '{"type": "X", "module": "m", "message": "x"}'::jsonb END,
       now() - interval '32 days', now() - interval '31 days'
FROM generate_series(1, %s) AS n CROSS JOIN unnest(ARRAY['succeeded', 'dead']) AS state"""

EVENTS = """
INSERT INTO outbox (name, aggregate, payload, job_id, published_at)
SELECT 'E', 'a', '{}', 'j', now() - interval '31 days' FROM generate_series(1, %s)"""


@pytest.fixture
def aged(engine: Engine) -> Engine:
    """Give a database in which jobs and events are due to be deleted."""
    with engine.begin() as connection:
        connection.exec_driver_sql(FINISHED, (OLD,))
        connection.exec_driver_sql(EVENTS, (2 * OLD,))
    return engine


class TestPruning:
    def test_goes_on_until_nothing_is_left_that_is_old(self, aged: Engine) -> None:
        ran = prune(aged, at_most=10)
        assert ran == ["night", *(f"night:part-{number}" for number in range(2, 7))]
        left = {job.id for job in JobQueries(aged).newest(limit=100)}
        # What is dead waits for an operator, however long.
        assert left == {*ran, *(f"dead-{number}" for number in range(1, OLD + 1))}
        assert count(aged, "outbox") == 0

    def test_deletes_no_more_at_once_than_it_may(self, aged: Engine) -> None:
        done = [find(aged, job_id) for job_id in prune(aged, at_most=10)]
        assert [(job.result or {})["jobs"] for job in done] == [10, 10, 5, 0, 0, 0]
        assert [(job.result or {})["events"] for job in done] == [10, 10, 10, 10, 10, 0]

    def test_hands_over_what_is_left_with_what_it_has_done_or_not_at_all(
        self, aged: Engine
    ) -> None:
        submit(aged, at_most=10)

        def die(place: str) -> None:
            if place == "commit.ready":
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            build_executor(aged, KINDS, reached=die).run_dispatched(
                PruneLedger.kind, ["night"], redelivered=False
            )
        assert JobQueries(aged).open_jobs() == 1
        assert count(aged, "outbox") == 2 * OLD

    def test_belongs_together(self, aged: Engine) -> None:
        first, *others = prune(aged, at_most=10)
        assert {find(aged, job_id).correlation_id for job_id in others} == {first}

    def test_takes_a_job_by_the_longest_id(self, aged: Engine) -> None:
        longest = "x" * JOB_ID_LENGTH
        first, *others = prune(aged, at_most=25, job_id=longest)
        assert (first, len(others)) == (longest, 2)

    def test_of_little_is_one_job(self, aged: Engine) -> None:
        assert prune(aged, at_most=1_000) == ["night"]


def submit(engine: Engine, *, at_most: int, job_id: str = "night") -> None:
    job = Submission(
        job_id=job_id,
        kind=PruneLedger.kind,
        payload={"older_than_days": 30, "at_most": at_most},
    )
    with BeginPostgresWork(engine=engine)() as work:
        work.jobs.accept([(job, "maintenance", 5)])
        work.commit()


def prune(engine: Engine, *, at_most: int, job_id: str = "night") -> list[str]:
    """Run a job that prunes, and whatever comes of it; return their ids, in order."""
    submit(engine, at_most=at_most, job_id=job_id)
    executor = build_executor(engine, KINDS)
    ran: list[str] = []
    while found := JobQueries(engine).newest(states=[JobState.QUEUED]):
        [job] = found
        executor.run_dispatched(job.kind, [job.id], redelivered=False)
        ran.append(job.id)
    return ran


def count(engine: Engine, table: str) -> int:
    with engine.connect() as connection:
        return int(connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar_one())
