"""A time limit that strikes while PostgreSQL works for a job."""

import signal
import threading
from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import Engine

from adapters.postgres.unit_of_work import PostgresUnitOfWork
from domain.jobs.model import JobState
from tests.conftest import wait_until
from tests.jobs import Script, build_executor, find, probe_kinds, submission

SLEEPING = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep(%%'"
UNCHECKED = "SELECT set_config('client_connection_check_interval', '0', true)"
"""So that no server finds out by itself, after a while, that nobody waits for its answer."""


class TimeIsUp(Exception):
    """Stands for the exception that Celery's signal raises."""


@pytest.fixture(autouse=True)
def time_limit() -> Iterator[None]:
    def interrupt(*_: object) -> None:
        raise TimeIsUp

    before = signal.signal(signal.SIGVTALRM, interrupt)
    yield
    signal.signal(signal.SIGVTALRM, before)


def wait_for_ever(work: PostgresUnitOfWork) -> None:
    work._statements.ask(UNCHECKED)
    _sleep(work)


def wait_for_ever_after_others(work: PostgresUnitOfWork) -> None:
    """Wait for one statement of several that were sent together."""
    work._statements.ask(UNCHECKED)
    work._statements.tell("SELECT 1")
    _sleep(work)


def _sleep(work: PostgresUnitOfWork) -> None:
    watcher = threading.Thread(target=_interrupt_when_asleep, args=[work._connection.engine])
    watcher.start()
    try:
        work._statements.ask("SELECT pg_sleep(3600)")
    finally:
        watcher.join()


def _interrupt_when_asleep(engine: Engine) -> None:
    wait_until(lambda: _asleep(engine))
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGVTALRM)


def _asleep(engine: Engine) -> int:
    # A transaction of its own: within one, the first look at what others do is all there is.
    with engine.connect() as connection:
        return int(connection.exec_driver_sql(SLEEPING).scalar_one())


class TestAStatementThatIsInterrupted:
    @pytest.mark.parametrize("waits", [wait_for_ever, wait_for_ever_after_others])
    def test_is_given_up_by_the_server_and_fails_the_attempt(
        self,
        engine: Engine,
        caplog: pytest.LogCaptureFixture,
        waits: Callable[[PostgresUnitOfWork], None],
    ) -> None:
        script = Script(acts={"wait": waits})
        executor = build_executor(engine, probe_kinds(script))

        report = executor.run_submitted(submission("a", "wait"), redelivered=False)

        assert type(report.exception) is TimeIsUp
        job = find(engine, "a")
        assert (job.state, job.attempts) == (JobState.RETRY, 1)
        # It is told to, and then does so when it comes to it.
        wait_until(lambda: not _asleep(engine))
        assert not caplog.records
