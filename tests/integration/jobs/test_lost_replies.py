"""Commits that PostgreSQL has made, and whose answer is lost on its way: the ledger decides."""

from collections.abc import Iterator
from itertools import count
from urllib.parse import urlsplit

import pytest
from sqlalchemy import Engine

from adapters.postgres.engine import create
from adapters.postgres.queries import JobQueries
from adapters.postgres.unit_of_work import PostgresUnitOfWork
from domain.jobs.model import JobState
from tests.chaos.proxy import Lost, Proxy, Trap
from tests.jobs import Script, accept, build_executor, find, probe_kinds, submission


@pytest.fixture
def proxy(database_url: str) -> Iterator[Proxy]:
    """Give a way to the database on which answers can be lost."""
    port = urlsplit(database_url).port
    assert port is not None
    with Proxy(lambda: port, speaks_postgres=True) as proxy:
        yield proxy


@pytest.fixture
def distant(database_url: str, proxy: Proxy) -> Iterator[Engine]:
    """Give an engine that goes by that way."""
    parts = urlsplit(database_url)
    credentials, _, _ = parts.netloc.rpartition("@")
    there = parts._replace(netloc=f"{credentials}@127.0.0.1:{proxy.port}")
    engine = create(there.geturl(), application="distant")
    yield engine
    engine.dispose()


def losing(*numbers: int, loses: Lost = Lost.REPLY) -> Trap:
    """Catch the first, second, … commit from now on."""
    counter = count(1)
    return Trap(loses=loses, catches=lambda _: next(counter) in numbers)


def breaks(_: PostgresUnitOfWork) -> None:
    raise RuntimeError("a bug")


class TestALostAnswer:
    @pytest.mark.parametrize("lost", [(1,), (1, 2)])
    def test_does_not_count_the_attempt_of_a_suspect_again(
        self, engine: Engine, distant: Engine, proxy: Proxy, lost: tuple[int, ...]
    ) -> None:
        script = Script()
        accept(engine, submission("a"))

        with proxy.losing_commits(losing(*lost)):
            build_executor(distant, probe_kinds(script)).run_dispatched(
                "test.probe", ["a"], redelivered=True
            )

        assert proxy.lost_commits == len(lost)
        job = find(engine, "a")
        assert (job.state, job.attempts) == (JobState.SUCCEEDED, 1)

    @pytest.mark.parametrize("redelivered", [False, True])
    def test_does_not_record_a_failure_twice(
        self,
        engine: Engine,
        distant: Engine,
        proxy: Proxy,
        redelivered: bool,  # noqa: FBT001  named by pytest
    ) -> None:
        script = Script(acts={"break": breaks})
        accept(engine, submission("a", "break"))
        # The commit that records the failure is the first, or that after the attempt was counted.
        number = 2 if redelivered else 1

        with proxy.losing_commits(losing(number)):
            [report] = build_executor(distant, probe_kinds(script)).run_dispatched(
                "test.probe", ["a"], redelivered=redelivered
            )

        assert proxy.lost_commits == 1
        job = find(engine, "a")
        assert (job.state, job.attempts) == (JobState.RETRY, 1)
        assert [failure.attempt for failure in JobQueries(engine).failures("a")] == [1]
        assert (report.job.state, report.job.attempts) == (JobState.RETRY, 1)
        assert isinstance(report.exception, RuntimeError)

    def test_of_an_outcome_is_answered_by_the_ledger(
        self, engine: Engine, distant: Engine, proxy: Proxy
    ) -> None:
        script = Script()
        accept(engine, submission("a"), submission("b"))

        with proxy.losing_commits(losing(1)):
            reports = build_executor(distant, probe_kinds(script)).run_dispatched(
                "test.probe", ["a", "b"], redelivered=False
            )

        assert proxy.lost_commits == 1
        assert {report.job.state for report in reports} == {JobState.SUCCEEDED}
        assert script.batches == [["a", "b"]]


def test_a_lost_request_is_made_again(engine: Engine, distant: Engine, proxy: Proxy) -> None:
    script = Script()
    accept(engine, submission("a"))

    with proxy.losing_commits(losing(1, loses=Lost.REQUEST)):
        build_executor(distant, probe_kinds(script)).run_dispatched(
            "test.probe", ["a"], redelivered=True
        )

    assert proxy.lost_commits == 1
    job = find(engine, "a")
    assert (job.state, job.attempts) == (JobState.SUCCEEDED, 1)
